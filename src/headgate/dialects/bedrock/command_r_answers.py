"""An upstream's answers of Cohere's Command R models, whole and streamed.

Source: Amazon Bedrock user guide, "Cohere Command R and Command R+ models"; Cohere API reference, "Chat" (v1)
and "Chat with streaming" (v1).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from typing_extensions import override

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken
from headgate.core.events import (
    ChatEvent,
    Finished,
    FinishReason,
    PartCited,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.fold import fold
from headgate.core.messages import Citation, Extensions, Text, ToolCall
from headgate.core.result import ChatResult
from headgate.dialects import sse
from headgate.dialects.bedrock.command_r_requests import NAME
from headgate.dialects.bedrock.heard import METRICS, Heard, Metrics, counted, error_within
from headgate.dialects.sse_answers import SseAnswerDecoder, decode_event

_json = msgspec.json.encode

_REASONS: Mapping[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "ERROR_LIMIT": "context_length",
    "ERROR_TOXIC": "content_filter",
}
_KNOWN = frozenset(
    {
        "chat_history",  # what the request said, and the answer's text once more
        "citations",
        "event_type",
        "finish_reason",
        "generation_id",
        "is_finished",
        "meta",
        "prompt",
        "response",
        "response_id",
        "text",
        "tool_calls",
        METRICS,
    }
)


def stop_from_word(word: object, calls: bool) -> Stop:
    if not isinstance(word, str):
        return Stop("other")
    reason = _REASONS.get(word, "other")
    return Stop("tool_calls" if calls and reason == "stop" else reason, native=word)


def _usage(value: dict[str, Any]) -> Usage | None:
    """`meta.tokens`, `meta.billed_units`, or Bedrock's own count."""
    meta = value.get("meta")
    for place in (meta.get("tokens"), meta.get("billed_units")) if isinstance(meta, dict) else ():
        if isinstance(place, dict):
            return counted(_count(place.get("input_tokens")), _count(place.get("output_tokens")), None)
    metrics = value.get(METRICS)
    if not isinstance(metrics, dict):
        return None
    return counted(_count(metrics.get("inputTokenCount")), _count(metrics.get("outputTokenCount")), None)


def _count(value: object) -> int | None:
    """Cohere writes counts as decimal numbers too."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    return int(value) if is_number and isinstance(value, int | float) else None


def _rest(value: dict[str, Any]) -> Extensions:
    rest = {key: value[key] for key in value.keys() - _KNOWN if value[key] not in (None, False, [], {})}
    return {NAME: rest} if rest else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _citation(value: dict[str, Any]) -> Citation:
    start, end = value.get("start"), value.get("end")
    return Citation(
        "document",
        start=start if type(start) is int else None,
        end=end if type(end) is int else None,
        extensions={NAME: value},
    )


def decode_result(body: bytes) -> ChatResult:
    """An upstream's answer of status 200. Calls get ids from that of the answer.

    Raises:
        StreamBroken: it is not an answer of Command R.
        UpstreamError: it holds an error instead.
    """
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream's answer is not JSON, or was cut.") from None
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        if (error := error_within(value)) is not None:
            raise error
        raise StreamBroken("The upstream's answer is not one of Command R: it has no 'text'.")
    events: list[ChatEvent] = []
    answer = _Answer(events)
    answer.start(value)
    answer.say(value["text"])
    answer.end(value)
    return fold(events)


class _Answer:
    """An answer as it is read: events are added to the list that is given with each piece."""

    def __init__(self, events: list[ChatEvent]) -> None:
        self.events = events
        self.started = False
        self.said = False
        self._id = ""
        self._parts = 0
        self._calls: list[tuple[str, str]] = []

    def start(self, value: dict[str, Any]) -> None:
        if not self.started:
            self.started = True
            self._id = _text(value.get("generation_id"))
            self.events.append(Started(self._id, "", 0))

    def say(self, text: str) -> None:
        if text and not self.said:
            self.said = True
            self._parts = 1
            self.events.append(PartStarted(0, Text("")))
        if text:
            self.events.append(PartDelta(0, text))

    def cite(self, values: object) -> None:
        if self.said:
            self.events += [PartCited(0, _citation(value)) for value in _dicts(values)]

    def call(self, values: object) -> None:
        """Tool calls; told once in a stream, and once more at its end."""
        if not self._calls:
            self._calls = [
                (_text(each.get("name")), _json(each.get("parameters") or {}).decode())
                for each in _dicts(values)
            ]

    def end(self, value: dict[str, Any]) -> None:
        """The last words. A stream's hold the whole answer under `response`."""
        response = value.get("response")
        whole = {**value, **response} if isinstance(response, dict) else value
        if value is whole:  # a stream told its citations before
            self.cite(whole.get("citations"))
        self.call(whole.get("tool_calls"))
        if self.said:
            self.events.append(PartEnded(0))
        identity = self._id or uuid.uuid4().hex
        for number, (name, arguments) in enumerate(self._calls):
            index = self._parts + number
            call = ToolCall(f"call_{identity}_{number}", name, "", extensions={NAME: {}})  # of a made id
            self.events.append(PartStarted(index, call))
            self.events += [PartDelta(index, arguments, field="arguments"), PartEnded(index)]
        usage = _usage(whole)
        if usage is not None:
            self.events.append(UsageReported(usage))
        self.events.append(
            Finished((stop_from_word(whole.get("finish_reason"), bool(self._calls)),), _rest(whole))
        )


class _Event(msgspec.Struct, gc=False):
    event_type: str | None = None
    text: str | None = None


_EVENT = msgspec.json.Decoder(_Event)


class StreamDecoder(SseAnswerDecoder):
    """An upstream's events. Calls come whole, and after the text."""

    def __init__(self) -> None:
        super().__init__()
        self._answer = _Answer([])

    @override
    def _whole(self, body: bytes) -> ChatResult:
        return decode_result(body)

    @override
    def _take(self, event: sse.ServerSentEvent, events: list[ChatEvent]) -> None:
        if self._ended or event.data == b"[DONE]":
            return
        answer = self._answer
        answer.events = events
        try:
            found = _EVENT.decode(event.data)
        except (ValueError, RecursionError):
            raise StreamBroken("The upstream sent a garbled event.") from None
        if found.event_type == "text-generation" and answer.started:
            answer.say(found.text or "")
            return
        value = decode_event(event.data, self._halves)
        if found.event_type is None and (error := error_within(value)) is not None:
            raise error
        match found.event_type:
            case "stream-start":
                answer.start(value)
            case "text-generation" | "tool-calls-chunk":
                answer.start(value)
                answer.say(found.text or "")
            case "citation-generation":
                answer.cite(value.get("citations"))
            case "tool-calls-generation":
                answer.start(value)
                if not answer.said:
                    answer.say(found.text or "")
                answer.call(value.get("tool_calls"))
            case "stream-end":
                answer.start(value)
                answer.end(value)
                self._ended = True
            case _:
                pass  # searches, and events of a later version


class _Whole(msgspec.Struct, gc=False):
    finish_reason: str | None = None
    event_type: str | None = None
    text: str | None = None
    meta: Any = None
    response: Any = None
    metrics: Metrics | None = msgspec.field(default=None, name=METRICS)


_WHOLE = msgspec.json.Decoder(_Whole)


def heard(data: bytes) -> Heard:
    """What an answer or event says. Raises StreamBroken, or the error that it is."""
    if data == b"[DONE]":
        return Heard()
    try:
        found = _WHOLE.decode(data)
        if found.finish_reason is None and found.event_type is None:
            value = msgspec.json.decode(data)
            if found.text is None and (error := error_within(value)) is not None:
                raise error
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream sent an answer or event that is not of this form.") from None
    if found.finish_reason is None:
        return Heard(found.text)
    response = found.response if isinstance(found.response, dict) else {}
    usage = _usage({"meta": found.meta, **response}) or counted(None, None, found.metrics)
    return Heard(None, found.finish_reason, usage)
