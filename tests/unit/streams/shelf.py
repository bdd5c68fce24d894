"""A stream by itself: a clock that is turned by hand, a caller and a call that note what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

from headgate.core.errors import HeadgateError
from headgate.routing.route import Resume
from headgate.server.streams.kept import KeptStream, StreamHead

STREAM = "str-abc"


class Clock:
    """In place of an event loop: `call_later` and `call_soon` wait for `turn`."""

    def __init__(self) -> None:
        self.now = 0.0
        self._waiting: list[tuple[float, Handle]] = []

    def call_later(self, delay: float, work: Callable[..., None], *arguments: Any) -> Handle:
        handle = Handle(lambda: work(*arguments))
        self._waiting.append((self.now + delay, handle))
        return handle

    def call_soon(self, work: Callable[..., None], *arguments: Any) -> Handle:
        return self.call_later(0.0, work, *arguments)

    def turn(self, seconds: float = 0.0) -> None:
        self.now += seconds
        due = [handle for end, handle in self._waiting if end <= self.now]
        self._waiting = [each for each in self._waiting if each[1] not in due]
        for handle in due:
            if not handle.cancelled:
                handle.work()

    @property
    def pending(self) -> int:
        return sum(not handle.cancelled for _, handle in self._waiting)


class Handle:
    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Shelf:
    def __init__(self) -> None:
        self.clock = Clock()
        self.held = 0
        self.most = 10**9
        self.told: list[str] = []

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return cast(asyncio.AbstractEventLoop, self.clock)

    def weigh(self, stream: KeptStream, size: int) -> bool:
        self.held += size
        return self.held <= self.most

    def on_end(self, stream: KeptStream) -> None:
        self.told.append("end")

    def on_expiry(self, stream: KeptStream) -> None:
        self.told.append("expiry")
        stream.release()

    def left_alone(self, stream: KeptStream) -> None:
        self.told.append("alone")
        stream.give_up()


class Source:
    """The call that feeds a stream."""

    def __init__(self) -> None:
        self.flowing = True
        self.ended: list[HeadgateError | None] = []
        self.stream: KeptStream | None = None

    def pause(self) -> None:
        assert self.flowing
        self.flowing = False

    def resume(self) -> None:
        assert not self.flowing
        self.flowing = True

    def cancel(self) -> None:
        self.ended.append(None)

    def abandon(self, error: HeadgateError) -> None:
        self.ended.append(error)
        assert self.stream is not None
        self.stream.feed(b"data: error %b\n\n" % (error.code or "").encode())
        self.stream.end()


class Caller:
    """A client that has room for `room` writes; `listener` is told when it is full."""

    def __init__(self, room: int = 10**9) -> None:
        self.room = room
        self.got = b""
        self.end_seen = ""
        self.pause: Callable[[], None] = lambda: None

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        raise AssertionError("a stream is no whole answer")

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        assert (status, self.got) == (200, b"")
        self.got = data

    def write(self, data: bytes) -> None:
        assert not self.end_seen
        self.got += data
        self.room -= 1
        if self.room <= 0:
            self.pause()

    def end(self) -> None:
        assert not self.end_seen
        self.end_seen = "end"

    def abort(self) -> None:
        assert not self.end_seen
        self.end_seen = "abort"

    @property
    def numbers(self) -> list[int]:
        lines = [line for line in self.got.split(b"\n") if line.startswith(b"id: ")]
        assert all(line.startswith(b"id: str-abc:") for line in lines)
        return [int(line.rpartition(b":")[2]) for line in lines]


def stream_on(shelf: Shelf, **resume: Any) -> tuple[KeptStream, Source]:
    source = Source()
    head = StreamHead(STREAM, "ann", "gpt", "openai_chat", True, (), Resume(**resume), 600.0)
    source.stream = stream = KeptStream(shelf, head, source)
    return stream, source


def say(stream: KeptStream, count: int, size: int = 10) -> None:
    """`count` events."""
    for _ in range(count):
        stream.feed(b"data: %b\n\n" % (b"x" * size))
