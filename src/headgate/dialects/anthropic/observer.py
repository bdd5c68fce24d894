"""Reading along on the pass-through lane: usage, stop reason and end of a Messages answer.

Deltas of blocks bring no news; they are told by how their event begins and are not parsed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken
from headgate.dialects import sse
from headgate.dialects.anthropic.usage import usage_from_wire
from headgate.dialects.held_body import HeldBody

_DELTA = b"event: content_block_delta\ndata: "


class _Message(msgspec.Struct):
    usage: dict[str, Any] | None = None


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    delta: _Delta | None = None
    usage: dict[str, Any] | None = None
    stop_reason: str | None = None


_EVENT = msgspec.json.Decoder(_Event)


class _Notes:
    """What both observers hold."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.terminal = False
        self.failed = False
        self._counts: dict[str, Any] = {}

    def _note(self, data: bytes) -> _Event | None:
        """Read one JSON text, typed: all but the fields above is skipped. None if it is not JSON."""
        try:
            event = _EVENT.decode(data)
        except (msgspec.ValidationError, RecursionError):
            return _Event()
        except ValueError:
            return None
        if event.type == "error":
            self.failed = True
        if event.message is not None and event.message.usage is not None:
            # Its output tokens are a guess at the first few; the true count comes with `message_delta`.
            self._count({**event.message.usage, "output_tokens": None})
        if event.usage is not None:
            self._count(event.usage)
        reason = event.stop_reason or (event.delta.stop_reason if event.delta is not None else None)
        self.finish_reason = reason or self.finish_reason
        return event

    def _count(self, value: dict[str, Any]) -> None:
        """Counts are cumulative, and a report leaves out what has not changed."""
        self._counts |= {key: item for key, item in value.items() if item is not None}
        self.usage = usage_from_wire(self._counts) or self.usage


class StreamObserver(_Notes):
    """For a stream. `terminal`: `message_stop` came."""

    def __init__(self) -> None:
        super().__init__()
        self._sse: sse.Decoder | None = sse.Decoder()

    def feed(self, data: bytes) -> None:
        decoder = self._sse
        if decoder is None:
            return
        try:
            if decoder.idle and data.endswith(b"\n\n") and b"\r" not in data:
                if data.startswith(_DELTA) and data.find(b"\n\n") == len(data) - 2:
                    return
                for block in data[:-2].split(b"\n\n"):
                    if not block.startswith(_DELTA):
                        self._read(decoder.feed(block + b"\n\n"))
            else:
                self._read(decoder.feed(data))
        except StreamBroken:  # longer than any event we parse; the bytes pass by all the same
            self._sse = None

    def end(self) -> None:
        if self._sse is not None:
            self._read(self._sse.end())
            self._sse = None

    def _read(self, events: list[sse.ServerSentEvent]) -> None:
        for event in events:
            if event.event == "content_block_delta":
                continue
            if event.event == "error":
                self.failed = True
            noted = self._note(event.data)
            if noted is not None and noted.type == "message_stop":
                self.terminal = True


class BodyObserver(_Notes):
    """For a plain answer, a count of tokens included.

    `terminal`, after `end()`: the JSON is complete; of an answer above MAX_BODY, that it ends in a brace.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held = HeldBody()

    def feed(self, data: bytes) -> None:
        self._held.feed(data)

    def end(self) -> None:
        body, whole = self._held.take()
        if whole:
            self.terminal = self._note(body) is not None
        else:
            self.terminal = body.rstrip().endswith(b"}")
            self._read_tail(body)

    def _read_tail(self, tail: bytes) -> None:
        """Stop reason and usage stand last in these answers. A quote within a JSON string is escaped, so
        that text can't look like a key."""
        start = max(tail.rfind(b'"stop_reason"'), 0)
        end = tail.rfind(b"}") + 1
        try:
            event = _EVENT.decode(b"{" + tail[start:end]) if start else _Event()
        except (ValueError, RecursionError):
            return
        self.finish_reason = event.stop_reason
        if event.usage is not None:
            self._count(event.usage)


def observer(stream: bool, content_type: str) -> StreamObserver | BodyObserver:
    """A stream that was asked for may still be answered by one plain body."""
    stream = stream and not content_type.startswith("application/json")
    return StreamObserver() if stream else BodyObserver()
