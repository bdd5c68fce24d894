"""Reading along on the pass-through lane: usage, status, id and end of a Responses answer."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken
from headgate.dialects import sse
from headgate.dialects.held_body import HeldBody
from headgate.dialects.openai_responses.vocabulary import usage_from_wire

MAX_BODY = 4 * 1024 * 1024
"""Bytes of a plain answer that are kept: it holds the instructions and the tools, too."""

_DELTAS = tuple(
    head + kind + tail
    for kind in (
        b"output_text.delta",
        b"function_call_arguments.delta",
        b"reasoning_summary_text.delta",
        b"reasoning_text.delta",
        b"custom_tool_call_input.delta",
    )
    for head, tail in (
        (b"event: response.", b"\ndata: "),
        (b'data: {"type":"response.', b'",'),
        (b'data: {"type": "response.', b'",'),
    )
)
_LIFECYCLE = ("response.created", "response.queued", "response.in_progress")


class _Details(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    id: str | None = None
    status: str | None = None
    usage: dict[str, Any] | None = None
    incomplete_details: _Details | None = None
    error: Any = None


class _Event(msgspec.Struct):
    type: str = ""
    response: _Response | None = None
    error: Any = None


_VALUE = json.JSONDecoder()
"""Reads one value with others behind it, which msgspec does not."""
_EVENT = msgspec.json.Decoder(_Event)
_RESPONSE = msgspec.json.Decoder(_Response)


class _Notes:
    """What both observers hold. `response_id`: for routing what refers to this answer to the same target."""

    __slots__ = ("failed", "finish_reason", "response_id", "terminal", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.terminal = False
        self.failed = False
        self.response_id: str | None = None

    def _note(self, response: _Response) -> None:
        """`finish_reason` is the reason of an incomplete answer, else its status."""
        self.response_id = response.id or self.response_id
        usage = usage_from_wire(response.usage)
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage.merged(usage)
        details = response.incomplete_details
        reason = details.reason if details is not None and response.status == "incomplete" else None
        self.finish_reason = reason or response.status
        if response.error or response.status in ("failed", "cancelled"):
            self.failed = True


class StreamObserver(_Notes):
    """For a stream. `terminal`: `response.completed` or `response.incomplete` came."""

    __slots__ = ("_sse",)

    def __init__(self) -> None:
        super().__init__()
        self._sse: sse.Decoder | None = sse.Decoder()

    def feed(self, data: bytes) -> None:
        decoder = self._sse
        if decoder is None:
            return
        # One whole event that is a delta by its own name brings no news.
        if (
            decoder.idle
            and data.startswith(_DELTAS)
            and data.find(b"\n\n") == len(data) - 2
            and b"\r" not in data
        ):
            return
        try:
            events = decoder.feed(data)
        except StreamBroken:  # longer than any event we parse; the bytes pass by all the same
            self._sse = None
            return
        for event in events:
            self._event(event)

    def end(self) -> None:
        if self._sse is not None:
            for event in self._sse.end():
                self._event(event)
            self._sse = None

    def _event(self, event: sse.ServerSentEvent) -> None:
        if event.event is not None and event.event.endswith(".delta"):
            return
        try:
            told = _EVENT.decode(event.data)
        except (ValueError, RecursionError):
            return
        kind = told.type or event.event or ""
        if kind == "error" or (told.error and not kind.startswith("response.")):
            self.failed = True
        elif kind in _LIFECYCLE and told.response is not None:
            self.response_id = told.response.id or self.response_id
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            if told.response is not None:
                self._note(told.response)
            self.failed = self.failed or kind == "response.failed"
            self.terminal = not self.failed


class BodyObserver(_Notes):
    """For a plain answer.

    `terminal`, after `end()`: the JSON is complete; of an answer above MAX_BODY, that it ends in a brace.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        super().__init__()
        self._held = HeldBody(MAX_BODY)

    def feed(self, data: bytes) -> None:
        self._held.feed(data)

    def end(self) -> None:
        body, whole = self._held.take()
        if not whole:
            self.terminal = body.rstrip().endswith(b"}")
            self._read_tail(body)
            return
        try:
            self._note(_RESPONSE.decode(body))
            self.terminal = True
        except (msgspec.ValidationError, RecursionError):
            self.terminal = True
        except ValueError:
            self.terminal = False

    def _read_tail(self, tail: bytes) -> None:
        """Usage of an answer too long to be kept: the last `"usage"` key of its end that reads as one. A
        quote within a JSON string is escaped, so that text can't look like the key."""
        end = len(tail)
        while (start := tail.rfind(b'"usage"', 0, end)) >= 0:
            end = start
            text = tail[start + len(b'"usage"') :].decode("utf-8", "replace").lstrip(" \t\r\n:")
            try:
                usage = usage_from_wire(_VALUE.raw_decode(text)[0])
            except (ValueError, RecursionError):
                continue
            if usage is not None:
                self.usage = usage
                return


def observer(stream: bool, content_type: str) -> StreamObserver | BodyObserver:
    """A stream that was asked for may still be answered by one plain body."""
    stream = stream and not content_type.startswith("application/json")
    return StreamObserver() if stream else BodyObserver()
