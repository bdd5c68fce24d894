"""Answers of Cohere's Command R models: whole and streamed, both ways.

Source: Amazon Bedrock user guide, "Cohere Command R and Command R+ models"; Cohere API reference, "Chat" (v1)
and "Chat with streaming" (v1).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, assert_never

import msgspec
from typing_extensions import override

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken
from headgate.core.events import (
    ChatEvent,
    Failed,
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
from headgate.core.loss import Loss
from headgate.core.messages import Citation, Extensions, Part, Refusal, Text, ToolCall
from headgate.core.result import ChatResult
from headgate.dialects import sse
from headgate.dialects.answer_losses import note, note_all, note_sequence, note_stop
from headgate.dialects.bedrock.command_r_requests import NAME
from headgate.dialects.bedrock.errors import encode_error_body, stream_error_type
from headgate.dialects.bedrock.heard import METRICS, Heard, Metrics, counted, error_within, metrics_of
from headgate.dialects.bedrock.prompt_answers import usage_losses
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.sse_answers import SseAnswerDecoder, decode_event

_json = msgspec.json.encode

_REASONS: Mapping[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "ERROR_LIMIT": "context_length",
    "ERROR_TOXIC": "content_filter",
}
_WORDS: Mapping[FinishReason, str] = {
    "length": "MAX_TOKENS",
    "context_length": "ERROR_LIMIT",
    "content_filter": "ERROR_TOXIC",
    "refusal": "ERROR_TOXIC",
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
MAX_TEXT = 16 * 1024 * 1024
"""Characters of a stream that are told again at its end."""


def _stop(word: object, calls: bool) -> Stop:
    if not isinstance(word, str):
        return Stop("other")
    reason = _REASONS.get(word, "other")
    return Stop("tool_calls" if calls and reason == "stop" else reason, native=word)


def _word(stop: Stop) -> str:
    return _WORDS.get(stop.reason, "COMPLETE")


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
            self.events.append(PartStarted(index, ToolCall(f"call_{identity}_{number}", name, "")))
            self.events += [PartDelta(index, arguments, field="arguments"), PartEnded(index)]
        usage = _usage(whole)
        if usage is not None:
            self.events.append(UsageReported(usage))
        self.events.append(Finished((_stop(whole.get("finish_reason"), bool(self._calls)),), _rest(whole)))


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
        value = decode_event(event.data)
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


# For callers.


def encode_result(result: ChatResult, options: AnswerOptions) -> tuple[bytes, list[Loss]]:
    """The answer's body, and what of the answer has no place in it. Of several choices the first is told.

    `chat_history`, which repeats the request, is not written.
    """
    losses: list[Loss] = []
    note_all(result, NAME, losses)
    text, citations, calls, stop = "", list[dict[str, Any]](), list[dict[str, Any]](), Stop("other")
    for choice in result.choices:
        path = f"choices[{choice.index}]"
        if choice is not result.choices[0]:
            losses.append(Loss(path, "the dialect gives one answer"))
            continue
        stop = choice.stop
        for index, part in enumerate(choice.parts):
            where = f"{path}.parts[{index}]"
            _lose(losses, _loss_of(part, where))
            if isinstance(part, ToolCall):
                calls.append(_written(part, where, losses))
            elif isinstance(part, Text | Refusal):
                told = len(text)
                text += part.text
                for citation in part.citations if isinstance(part, Text) else ():
                    citations += _cited(citation, part.text, told, where, losses)
        if choice.logprobs is not None:
            losses.append(Loss(f"{path}.logprobs", "the dialect has no log probabilities"))
    usage = result.usage or Usage()
    losses += usage_losses(usage)
    wire = _final(options.id or result.id, text, citations, calls, stop, usage, losses)
    return _json(wire | dict(result.extensions.get(NAME, {}))), losses


def _final(
    identity: str,
    text: str,
    citations: list[dict[str, Any]],
    calls: list[dict[str, Any]],
    stop: Stop,
    usage: Usage,
    losses: list[Loss],
) -> dict[str, Any]:
    word = _word(stop)
    note_sequence(stop, losses)
    note_stop(stop, word, _stop(word, bool(calls)).reason, losses)
    units = {"input_tokens": usage.input_tokens or 0, "output_tokens": usage.output_tokens or 0}
    wire: dict[str, Any] = {"response_id": identity, "text": text, "generation_id": identity}
    wire["finish_reason"] = word
    wire["meta"] = {"api_version": {"version": "1"}, "billed_units": units}
    if citations:
        wire["citations"] = citations
    if calls:
        wire["tool_calls"] = calls
    return wire


def _loss_of(part: Part, path: str) -> Loss | None:
    if isinstance(part, Refusal):
        return Loss(path, "a refusal is told as any other text")
    if isinstance(part, Text | ToolCall):
        return None
    return Loss(path, f"a {type(part).__name__.lower()} part has no place in this dialect")


def _written(part: ToolCall, path: str, losses: list[Loss]) -> dict[str, Any]:
    try:
        parameters = msgspec.json.decode(part.arguments or "{}")
    except (ValueError, RecursionError):
        parameters = None
    if not isinstance(parameters, dict):
        _lose(losses, Loss(f"{path}.arguments", "they are no JSON object: told under the name 'input'"))
        parameters = {"input": part.arguments}
    return {"name": part.name, "parameters": parameters}


def _cited(citation: Citation, text: str, told: int, path: str, losses: list[Loss]) -> list[dict[str, Any]]:
    """Cohere's own form whole; of another a place in the answer, which begins with `told` characters more."""
    if (own := citation.extensions.get(NAME)) is not None:
        return [dict(own)]
    if citation.start is None or citation.end is None:
        _lose(losses, Loss(f"{path}.citations", "citations without a place in the text have none here"))
        return []
    for name in ("url", "title", "quote", "source"):
        if getattr(citation, name) is not None:
            _lose(losses, Loss(f"{path}.citations.{name}", "citations of the dialect have no such field"))
    start, end = citation.start, citation.end
    return [{"start": told + start, "end": told + end, "text": text[start:end], "document_ids": []}]


def _lose(losses: list[Loss], loss: Loss | None) -> None:
    if loss is not None and loss not in losses:
        losses.append(loss)


class StreamEncoder:
    """Texts as they come, behind each what it rests on; calls when they are whole; at the end all again.

    After a failure: an exception, and no `stream-end`.
    """

    def __init__(self, options: AnswerOptions) -> None:
        self.losses: list[Loss] = []
        self._options = options
        self._id = ""
        self._usage = Usage()
        self._extra: dict[str, Any] = {}
        self._parts: dict[int, Part] = {}
        self._told: list[str] = []
        self._length = 0
        self._starts: dict[int, int] = {}
        self._rests_on: dict[int, list[Citation]] = {}
        self._arguments: dict[int, list[str]] = {}
        self._citations: list[dict[str, Any]] = []
        self._ended = False

    def encode(self, event: ChatEvent) -> bytes:
        if self._ended:
            return b""
        if not isinstance(event, PartDelta):
            note(event, NAME, self.losses)
        match event:
            case PartDelta() | PartStarted() | PartCited() | PartEnded() if event.choice:
                _lose(self.losses, Loss(f"choices[{event.choice}]", "the dialect gives one answer"))
            case PartDelta():
                return self._delta(event)
            case PartStarted():
                return self._part(event)
            case PartCited():
                self._rests_on.setdefault(event.index, []).append(event.citation)
            case PartEnded():
                return self._cite(event.index)
            case Started():
                self._id = self._options.id or event.id
                self._extra |= dict(event.extensions.get(NAME, {}))
                return self._event("stream-start", {"generation_id": self._id})
            case UsageReported():
                self._usage = self._usage.merged(event.usage)
            case Finished():
                return self._finish(event)
            case Failed():
                self._ended = True
                name, payload = stream_error_type(event.error), encode_error_body(event.error)
                return b'data: {"%b":%b}\n\n' % (name.encode(), payload)
            case _:
                assert_never(event)
        return b""

    def _event(self, kind: str, fields: dict[str, Any], finished: bool = False) -> bytes:
        return sse.encode(_json({"is_finished": finished, "event_type": kind, **fields}))

    def _part(self, event: PartStarted) -> bytes:
        part, path = event.part, f"choices[0].parts[{event.index}]"
        _lose(self.losses, _loss_of(part, path))
        if isinstance(part, ToolCall):
            self._parts[event.index] = part
            self._arguments[event.index] = [part.arguments]
        if not isinstance(part, Text | Refusal):
            return b""
        self._parts[event.index] = part
        self._starts[event.index] = self._length
        if isinstance(part, Text) and part.citations:
            self._rests_on[event.index] = list(part.citations)
        return self._say(part.text) if part.text else b""

    def _delta(self, event: PartDelta) -> bytes:
        if event.logprobs is not None:
            _lose(self.losses, Loss("choices[0].logprobs", "the dialect has no log probabilities"))
        part = self._parts.get(event.index)
        if isinstance(part, ToolCall):
            self._arguments[event.index].append(event.delta)
            return b""
        return b"" if part is None else self._say(event.delta)

    def _say(self, text: str) -> bytes:
        self._length += len(text)
        if self._length <= MAX_TEXT:
            self._told.append(text)
        return b'data: {"is_finished":false,"event_type":"text-generation","text":%b}\n\n' % _json(text)

    def _cite(self, index: int) -> bytes:
        citations, start = self._rests_on.pop(index, []), self._starts.get(index)
        if not citations or start is None:
            return b""
        text, path = "".join(self._told)[start:], f"choices[0].parts[{index}]"
        found = [each for one in citations for each in _cited(one, text, start, path, self.losses)]
        self._citations += found
        return self._event("citation-generation", {"citations": found}) if found else b""

    def _finish(self, event: Finished) -> bytes:
        self._ended = True
        self._extra |= dict(event.extensions.get(NAME, {}))
        calls = [
            _written(
                ToolCall(part.id, part.name, "".join(self._arguments[index])),
                f"choices[0].parts[{index}]",
                self.losses,
            )
            for index, part in self._parts.items()
            if isinstance(part, ToolCall)
        ]
        text = "".join(self._told)
        stop = event.stops[0] if event.stops else Stop("other")
        self.losses += [loss for loss in usage_losses(self._usage) if loss not in self.losses]
        whole = _final(self._id, text, self._citations, calls, stop, self._usage, self.losses)
        out = self._event("tool-calls-generation", {"text": text, "tool_calls": calls}) if calls else b""
        last = {
            "finish_reason": whole["finish_reason"],
            "response": whole | self._extra,
            METRICS: metrics_of(self._usage),
        }
        return out + self._event("stream-end", last, finished=True)


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
