"""Reading along on the pass-through lane: usage, stop reason and end of an answer of Converse.

Content deltas, nearly all of a stream, are not parsed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken
from headgate.dialects import eventstream
from headgate.dialects.bedrock.vocabulary import usage_from_wire
from headgate.dialects.bedrock.wire_events import FrameReader, Reader, SseReader, WireEvent
from headgate.dialects.dialect import Observer
from headgate.dialects.held_body import HeldBody


class _Answer(msgspec.Struct):
    """What is read of a whole answer, of `messageStop` and of `metadata`."""

    stopReason: str | None = None
    usage: dict[str, Any] | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class _Notes:
    """What both observers hold."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.terminal = False
        self.failed = False

    def _note(self, data: bytes) -> bool:
        """Read one JSON text; False if it is not JSON."""
        try:
            answer = _ANSWER.decode(data)
        except (msgspec.ValidationError, RecursionError):
            return True
        except ValueError:
            return False
        self.finish_reason = answer.stopReason or self.finish_reason
        usage = usage_from_wire(answer.usage)
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage.merged(usage)
        return True


class StreamObserver(_Notes):
    """For a stream. `terminal`: `messageStop` came, and nothing failed."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self._reader: Reader | None = reader

    def feed(self, data: bytes) -> None:
        reader = self._reader
        if reader is None or (reader.idle and reader.delta(data) is not None):
            return
        try:
            for event in reader.feed(data):
                self._take(event)
        except StreamBroken:  # nothing can be told any more; the bytes pass by all the same
            self._reader = None

    def end(self) -> None:
        if self._reader is not None:
            try:
                for event in self._reader.end():
                    self._take(event)
            except StreamBroken:
                pass
            self._reader = None

    def _take(self, event: WireEvent) -> None:
        if event.failed:
            self.failed = True
            self.terminal = False
        elif event.name == "messageStop":
            self._note(event.payload)
            self.terminal = not self.failed
        elif event.name == "metadata":
            self._note(event.payload)


class BodyObserver(_Notes):
    """For a plain answer. `terminal`, after `end()`: the JSON is complete; of an answer above MAX_BODY, that
    it ends in a brace. Of such a one only the last bytes are read."""

    def __init__(self) -> None:
        super().__init__()
        self._held = HeldBody()

    def feed(self, data: bytes) -> None:
        self._held.feed(data)

    def end(self) -> None:
        body, whole = self._held.take()
        if whole:
            self.terminal = self._note(body)
            return
        # The fields that are read stand behind the answer's content. A quote within a JSON string is escaped,
        # so that text can't look like the key.
        start = body.rfind(b'"stopReason"')
        readable = self._note(b"{" + body[start:]) if start >= 0 else True
        self.terminal = readable and body.rstrip().endswith(b"}")


def observer(stream: bool, content_type: str) -> Observer:
    """A stream that was asked for may still be answered by one plain body."""
    if not stream or content_type.startswith("application/json"):
        return BodyObserver()
    if content_type.startswith(eventstream.CONTENT_TYPE):
        return StreamObserver(FrameReader())
    return StreamObserver(SseReader())
