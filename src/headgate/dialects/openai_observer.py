"""Reading along on the pass-through lane: usage, finish reason and end of an answer in OpenAI's JSON.

A chunk that differs from an earlier one only in the text of one string brings no news and is not parsed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken
from headgate.dialects import sse
from headgate.dialects.chunk_template import ANY_TEXT, ChunkTemplate
from headgate.dialects.held_body import HeldBody
from headgate.dialects.openai_usage import usage_from_wire

_CHOICES = 1024
"""Choices of one stream that are told apart; no vendor gives more."""
_NEVER = b"\0 no chunk starts or ends like this"
_LESSONS = 64
"""Attempts to learn the form of a chunk; a stream in which every chunk differs is not worth more."""


class _Choice(msgspec.Struct):
    index: Any = 0
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_USAGE = msgspec.json.Decoder(dict[str, Any])


class _Notes:
    """What both observers hold."""

    __slots__ = ("failed", "finish_reason", "finished", "seen", "terminal", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.terminal = False
        self.failed = False
        self.seen: set[int] = set()
        self.finished: set[int] = set()

    def _note(self, data: bytes) -> bool:
        """Read one JSON text, typed: all but these fields is skipped. False if it is not JSON."""
        try:
            chunk = _CHUNK.decode(data)
        except (msgspec.ValidationError, RecursionError):
            return True
        except ValueError:
            return False
        for choice in chunk.choices or ():
            index = choice.index if type(choice.index) is int and 0 <= choice.index < _CHOICES else 0
            self.seen.add(index)
            if choice.finish_reason:
                self.finish_reason = choice.finish_reason
                self.finished.add(index)
        if chunk.usage is not None:
            self._count(chunk.usage)
        if chunk.error is not None:
            self.failed = True
        return True

    def _count(self, value: dict[str, Any]) -> None:
        usage = usage_from_wire(value)
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage.merged(usage)


class StreamObserver(_Notes):
    """For a stream. `terminal`: `[DONE]` came; after `end()`, a finish reason for each choice that was seen
    does as well."""

    __slots__ = ("_lessons", "_prefix", "_sse", "_suffix")

    def __init__(self) -> None:
        super().__init__()
        self._sse: sse.Decoder | None = sse.Decoder()
        self._lessons = _LESSONS
        self._prefix = _NEVER
        self._suffix = _NEVER

    def feed(self, data: bytes) -> None:
        # Equal to an event seen before but for the text of one JSON string (see ChunkTemplate): no news.
        if (
            data.startswith(self._prefix)
            and data.endswith(self._suffix)
            and data.find(b'"', len(self._prefix), -len(self._suffix)) < 0
        ):
            return
        self._read(data)

    def end(self) -> None:
        if self._sse is not None:
            for event in self._sse.end():
                self._event(event)
            self._sse = None
        self._prefix = _NEVER
        self.terminal = self.terminal or (
            self.finish_reason is not None and self.seen == self.finished and not self.failed
        )

    def _read(self, data: bytes) -> None:
        decoder = self._sse
        if decoder is None:
            return
        from_start = decoder.idle
        try:
            events = decoder.feed(data)
        except StreamBroken:  # longer than any event we parse; the bytes pass by all the same
            self._sse = None
            self._prefix = _NEVER
            return
        for event in events:
            self._event(event)
        if not decoder.idle:
            self._prefix = _NEVER
        elif from_start and len(events) == 1 and self._lessons:
            self._learn(data)

    def _event(self, event: sse.ServerSentEvent) -> None:
        if event.data == b"[DONE]":
            self.terminal = True
            return
        if event.event == "error":
            self.failed = True
        self._note(event.data)

    def _learn(self, data: bytes) -> None:
        self._lessons -= 1
        template = ChunkTemplate.learn(data, ANY_TEXT)
        if template is not None:
            self._prefix, self._suffix = template


class BodyObserver(_Notes):
    """For a plain answer of any operation.

    `terminal`, after `end()`: the JSON is complete; of an answer above MAX_BODY, that it ends in a bracket.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        super().__init__()
        self._held = HeldBody()

    def feed(self, data: bytes) -> None:
        self._held.feed(data)

    def end(self) -> None:
        body, whole = self._held.take()
        if whole:
            self.terminal = self._note(body)
        else:
            self.terminal = body.rstrip().endswith((b"}", b"]"))
            self._read_end(body)

    def _read_end(self, tail: bytes) -> None:
        """Usage stands last in these answers."""
        usage = object_after(tail, b'"usage"')
        if usage is not None:
            self._count(usage)


def object_after(tail: bytes, key: bytes) -> dict[str, Any] | None:
    """The value of the last `key`, quotes included, in a piece of JSON; None if it is no object.

    A quote within a JSON string is escaped, so that text can't look like the key.
    """
    at = tail.rfind(key)
    start = tail.find(b"{", at) if at >= 0 else -1
    depth = 0
    for index in range(start, len(tail) if start >= 0 else start):
        depth += {0x7B: 1, 0x7D: -1}.get(tail[index], 0)
        if depth == 0:
            break
    else:
        return None
    try:
        return _USAGE.decode(tail[start : index + 1])
    except (ValueError, RecursionError):
        return None


def observer(stream: bool, content_type: str) -> StreamObserver | BodyObserver:
    """A stream that was asked for may still be answered by one plain body."""
    stream = stream and not content_type.startswith("application/json")
    return StreamObserver() if stream else BodyObserver()
