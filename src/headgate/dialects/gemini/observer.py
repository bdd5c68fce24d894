"""Reading along on the pass-through lane: usage, finish reason and end of an answer of the Gemini API.

Counts stand in every chunk of a stream and only the last ones matter: of a chunk that can hold nothing else
of interest the bytes are kept, and read when somebody asks.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken
from headgate.dialects import sse
from headgate.dialects.gemini.json_array import ArrayDecoder
from headgate.dialects.gemini.usage import usage_from_wire
from headgate.dialects.held_body import HeldBody


class _Candidate(msgspec.Struct):
    finishReason: str | None = None


class _Chunk(msgspec.Struct):
    candidates: list[_Candidate] | None = None
    promptFeedback: Any = None
    usageMetadata: dict[str, Any] | None = None
    error: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_ENDS = (b"\n\n", b"\r\n\r\n")
_UNSPECIFIED = "FINISH_REASON_UNSPECIFIED"


class _Notes:
    """What both observers hold."""

    __slots__ = ("_usage", "failed", "finish_reason", "terminal")

    def __init__(self) -> None:
        self._usage: Usage | None = None
        self.finish_reason: str | None = None
        self.terminal = False
        self.failed = False

    def _note(self, data: bytes) -> bool:
        """Read one JSON text, typed: all but these fields is skipped. False if it is not JSON."""
        try:
            chunk = _CHUNK.decode(data)
        except (msgspec.ValidationError, RecursionError):
            return True
        except ValueError:
            return False
        for candidate in chunk.candidates or ():
            if candidate.finishReason and candidate.finishReason != _UNSPECIFIED:
                self.finish_reason = candidate.finishReason
        match chunk.promptFeedback:
            case {"blockReason": str(reason)} if reason:
                self.finish_reason = reason
        self._count(chunk.usageMetadata)
        if chunk.error is not None:
            self.failed = True
        return True

    def _count(self, value: object) -> None:
        counted = usage_from_wire(value)
        if counted is not None:
            self._usage = counted[0] if self._usage is None else self._usage.merged(counted[0])


class StreamObserver(_Notes):
    """For a stream of either framing.

    `terminal`, after `end()`: a finish reason came and no error; of an array: it was closed, too.
    """

    __slots__ = ("_array", "_fresh", "_last", "_sse")

    def __init__(self) -> None:
        super().__init__()
        self._sse: sse.Decoder | None = sse.Decoder()
        self._array: ArrayDecoder | None = None
        self._fresh = True
        self._last = b""

    @property
    def usage(self) -> Usage | None:
        self._look()
        return self._usage

    def feed(self, data: bytes) -> None:
        decoder = self._sse
        if (
            decoder is not None
            and decoder.idle
            and data.startswith(b"data: ")
            and data.endswith(_ENDS)
            and b"Reason" not in data
            and b'"error"' not in data
        ):
            self._fresh = False
            if b'"usageMetadata"' in data:
                self._last = data
            return
        self._read(data)

    def end(self) -> None:
        if self._sse is not None:
            for event in self._sse.end():
                self._event(event.data)
            self._sse = None
        self._look()
        whole = self._array is None or self._array.complete
        self.terminal = whole and self.finish_reason is not None and not self.failed

    def _look(self) -> None:
        if self._last:
            last, self._last = self._last, b""
            with contextlib.suppress(StreamBroken):
                for event in sse.Decoder().feed(last):
                    self._note(event.data)

    def _read(self, data: bytes) -> None:
        if self._fresh:
            data = data.lstrip(b" \t\r\n")
            if not data:
                return
            self._fresh = False
            if data[:1] in (b"[", b"{"):
                self._array, self._sse = ArrayDecoder(), None
        try:
            if self._sse is not None:
                for event in self._sse.feed(data):
                    self._event(event.data)
            elif self._array is not None:
                for element in self._array.feed(data):
                    self._event(element)
        except StreamBroken:  # longer than any event we parse, or none at all; the bytes pass by all the same
            self._sse, self._array = None, None

    def _event(self, data: bytes) -> None:
        self._look()
        self._note(data)


class BodyObserver(_Notes):
    """For a plain answer of any operation.

    `terminal`, after `end()`: the JSON is complete; of an answer above MAX_BODY, that it ends in a brace.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        super().__init__()
        self._held = HeldBody()

    @property
    def usage(self) -> Usage | None:
        return self._usage

    def feed(self, data: bytes) -> None:
        self._held.feed(data)

    def end(self) -> None:
        body, whole = self._held.take()
        if whole:
            self.terminal = self._note(body)
        else:
            self.terminal = body.rstrip().endswith(b"}")
            self._read_tail(body)

    def _read_tail(self, tail: bytes) -> None:
        """Counts stand last in these answers, behind the parts. A quote within a JSON string is escaped, so
        that text can't look like the key."""
        start = tail.find(b"{", tail.rfind(b'"usageMetadata"'))
        end = start
        while start >= 0 and (end := tail.find(b"}", end + 1)) >= 0:
            try:
                self._count(_OBJECT.decode(tail[start : end + 1]))
            except ValueError:
                continue
            return


def observer(stream: bool, content_type: str) -> StreamObserver | BodyObserver:
    """A stream may be an array, whose content type is that of a plain answer: what was asked for decides."""
    return StreamObserver() if stream else BodyObserver()
