"""An upstream's Responses stream, read into events."""

from __future__ import annotations

from typing import Any

import msgspec
from typing_extensions import override

from headgate.core.events import ChatEvent, PartDelta
from headgate.core.result import ChatResult
from headgate.dialects import sse
from headgate.dialects.openai_responses.output_reader import OutputReader
from headgate.dialects.openai_responses.result_codec import decode_result, ended, started
from headgate.dialects.openai_responses.vocabulary import error_within
from headgate.dialects.sse_answers import SseAnswerDecoder, decode_event

_TEXT_DELTA = b"event: response.output_text.delta\ndata: "
_CALL_DELTA = b"event: response.function_call_arguments.delta\ndata: "
_DELTAS = {
    "response.output_text.delta": ("content", "output_text"),
    "response.refusal.delta": ("content", "refusal"),
    "response.reasoning_text.delta": ("content", "reasoning_text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_text"),
    "response.function_call_arguments.delta": ("input", ""),
    "response.custom_tool_call_input.delta": ("input", ""),
}

_PLACES = {"response.output_text.delta": "content", "response.function_call_arguments.delta": "input"}
"""Where the deltas go that are read the short way."""


class _Delta(msgspec.Struct):
    """The fields of a delta that matter; the rest is skipped unread."""

    delta: str
    output_index: int
    type: str = ""
    content_index: int = 0
    logprobs: list[msgspec.Raw] = []


_DELTA = msgspec.json.Decoder(_Delta)


class StreamDecoder(SseAnswerDecoder):
    """Tolerated: items, content parts and deltas that were left out, if a later event tells the whole; events
    without an `event` line. Not tolerated: an end without `response.completed` or `response.incomplete`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._reader = OutputReader()

    @override
    def _read(self, data: bytes, events: list[ChatEvent]) -> None:
        if not self._sse.idle or not data.endswith(b"\n\n") or b"\r" in data:
            super()._read(data, events)
            return
        for block in data[:-2].split(b"\n\n"):
            if block and not self._repeat(block, events):
                super()._read(block + b"\n\n", events)

    @override
    def _whole(self, body: bytes) -> ChatResult:
        return decode_result(body)

    def _repeat(self, block: bytes, events: list[ChatEvent]) -> bool:
        """Read an ordinary delta of an open part the short way; False if it needs the long one."""
        if self._ended:
            return True
        name: str | None = None
        if block.startswith(_TEXT_DELTA):
            head, name = len(_TEXT_DELTA), "content"
        elif block.startswith(_CALL_DELTA):
            head, name = len(_CALL_DELTA), "input"
        elif block.startswith(b"data: "):
            head = 6
        else:
            return False
        try:
            delta = _DELTA.decode(block[head:])
        except (ValueError, RecursionError):
            return False
        name = name or _PLACES.get(delta.type)
        part = None if name is None else self._reader.find(delta.output_index, (name, delta.content_index))
        if part is None or delta.logprobs or not delta.delta:
            return False
        part.size += len(delta.delta)
        events.append(PartDelta(part.index, delta.delta, 0, part.field))
        return True

    @override
    def _take(self, event: sse.ServerSentEvent, events: list[ChatEvent]) -> None:
        if self._ended or event.data.strip() == b"[DONE]":
            return
        value = decode_event(event.data, self._halves)
        kind = value.get("type")
        kind = kind if isinstance(kind, str) else event.event or ""
        if kind == "error" or (value.get("error") and not kind.startswith("response.")):
            raise error_within(value)
        self._event(kind, value, events)

    def _event(self, kind: str, value: dict[str, Any], events: list[ChatEvent]) -> None:
        index = _index(value.get("output_index"))
        if kind in _DELTAS:
            name, content = _DELTAS[kind]
            delta = value.get("delta")
            if isinstance(delta, str):
                self._start({}, events)
                place = (name, _place(value))
                self._reader.delta(index, place, content, delta, value.get("logprobs"), events)
            return
        match kind:
            case "response.created" | "response.queued" | "response.in_progress":
                self._start(_object(value.get("response")), events)
            case "response.output_item.added" | "response.output_item.done":
                self._start({}, events)
                read = self._reader.added if kind.endswith("added") else self._reader.done
                read(index, _object(value.get("item")), events)
            case "response.content_part.added" | "response.reasoning_summary_part.added":
                name = "content" if kind.startswith("response.content") else "summary"
                part = _object(value.get("part"))
                self._reader.content_added(index, (name, _place(value)), part, events)
            case "response.content_part.done":
                self._reader.part_done(index, ("content", _place(value)), events)
            case "response.output_text.annotation.added":
                place = ("content", _place(value))
                self._reader.cited(index, place, value.get("annotation"), events)
            case "response.completed" | "response.incomplete":
                response = _object(value.get("response"))
                self._start(response, events)
                status = {"status": kind.removeprefix("response.")}
                ended(response | status, self._reader, events)
                self._ended = True
            case "response.failed" | "response.cancelled":
                response = _object(value.get("response"))
                raise error_within(response.get("error"))

    def _start(self, response: dict[str, Any], events: list[ChatEvent]) -> None:
        if not self._started:
            self._started = True
            events.append(started(response))


def _index(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _place(value: dict[str, Any]) -> int:
    """The index of a text within its item, under whichever name the event has it."""
    found = value.get("content_index")
    return _index(value.get("summary_index") if found is None else found)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
