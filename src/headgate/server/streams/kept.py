"""One stream that can be resumed: its events, by number, and those who listen to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from headgate.core.errors import Cancelled, HeadgateError, InvalidRequest, StreamBroken
from headgate.routing.route import Resume
from headgate.server.client import Client, Ongoing
from headgate.server.streams.numbering import EventSplitter

HIGH_WATER = 256 * 1024
"""Bytes that may wait for the listener who is furthest ahead, before the upstream is made to wait."""
BATCH = 64 * 1024
"""Bytes, about, that a listener is written at once of what it has missed."""
OVERHEAD = 64
"""Bytes that an event takes besides its own."""

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class StreamHead:
    """What is known of a stream when it begins.

    Args:
        dialect: of its events; `numbered`: they carry ids.
        headers: of the answer that anyone who resumes it gets too.
        lifetime: seconds for which it may be under way at most.
        unattended: it is made to its end, whether or not anybody listens.
    """

    id: str
    owner: str
    model: str
    dialect: str
    numbered: bool
    headers: Headers
    resume: Resume
    lifetime: float
    unattended: bool = False


class Shelf(Protocol):
    """Where a stream stands with the others, as it sees it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def weigh(self, stream: KeptStream, size: int) -> bool:
        """`size` bytes more are held (or fewer). False: all streams together hold more than they may."""
        ...

    def on_end(self, stream: KeptStream) -> None: ...

    def on_expiry(self, stream: KeptStream) -> None:
        """It is not kept any longer."""
        ...

    def left_alone(self, stream: KeptStream) -> None:
        """Nobody has listened to it for its grace period. `give_up` or `wait_on`."""
        ...


def expired(first: int, last: int) -> InvalidRequest:
    there = f"events {first} to {last} are there" if last >= first else "none is there"
    return InvalidRequest(
        f"The events that follow the given one are not all kept any more: {there}; ask anew, or resume after"
        f" {first - 1}",
        code="stream_expired",
        status=410,
    )


class Listener:
    """Somebody whom a stream is written to: the call, as its client sees it."""

    __slots__ = ("attached", "client", "full", "passed", "position", "stream")

    def __init__(self, stream: KeptStream, client: Client, position: int, passed: int) -> None:
        self.stream = stream
        self.client = client
        self.position = position
        """The number of the next event it gets."""
        self.passed = passed
        """Bytes of the stream before that."""
        self.full = False
        self.attached = True

    def pause(self) -> None:
        if not self.full and self.attached:
            self.full = True
            self.stream.balance()

    def resume(self) -> None:
        if self.full and self.attached:
            self.full = False
            self.stream.pump(self)
            self.stream.balance()

    def cancel(self) -> None:
        self.stream.leave(self)

    def abandon(self, error: HeadgateError) -> None:
        """The server stops: cut, so that nothing seems complete; it may be resumed elsewhere."""
        self.stream.leave(self)
        self.client.abort()


class KeptStream:
    """Fed by a relay from the event loop's thread, as its client.

    A listener is at the stream's end, or full: whoever has room is written what there is at once.

    Args:
        source: the call that feeds it.
    """

    __slots__ = (
        "_cramped",
        "_events",
        "_held_up",
        "_listeners",
        "_shelf",
        "_source",
        "_splitter",
        "_timer",
        "_total",
        "broken",
        "done",
        "first",
        "head",
        "held",
    )

    def __init__(self, shelf: Shelf, head: StreamHead, source: Ongoing) -> None:
        self.head = head
        self.first = 1
        """The number of the oldest event that is held."""
        self.held = 0
        """Bytes held."""
        self.done = False
        self.broken = False
        """It was cut: nothing tells its end."""
        self._shelf = shelf
        self._source: Ongoing | None = source
        self._splitter = EventSplitter(head.id if head.numbered else "")
        self._events: list[bytes] = []
        self._listeners: list[Listener] = []
        self._total = 0
        self._held_up = False
        self._cramped = False
        """All streams together hold more than they may, and nobody takes from this one."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def last(self) -> int:
        """The number of the newest event."""
        return self.first + len(self._events) - 1

    @property
    def attended(self) -> bool:
        return bool(self._listeners)

    @property
    def full(self) -> bool:
        """As much is held as may be, and the source waits."""
        return self._held_up

    # From the relay.

    def feed(self, data: bytes) -> None:
        if self.done:
            return
        try:
            new = self._splitter.feed(data)
        except StreamBroken as error:
            self._shelf.loop.call_soon(self.stop, error)  # not from within what the source is doing
            return
        self._append(new, self._splitter.comments)

    def _append(self, new: list[bytes], comments: bytes) -> None:
        if not new and not comments:
            return
        data = new[0] if len(new) == 1 else b"".join(new)
        size = len(data)
        start = self.last + 1
        self._events += new
        self._total += size
        cost = size + OVERHEAD * len(new)
        self.held += cost
        waiting = not self._listeners
        for listener in tuple(self._listeners):
            if listener.full:
                waiting = True
                continue
            if listener.position != start:  # it has some of them from elsewhere
                self.pump(listener)
                continue
            listener.position += len(new)
            listener.passed += size
            listener.client.write(data + comments if comments else data)
        if not self._shelf.weigh(self, cost):
            waiting = self._cramped = True
        if waiting or self.held > self.head.resume.buffer:
            self.balance()

    def end(self) -> None:
        if not self.done:
            self._append(self._splitter.end(), b"")
            self._end()

    def abort(self) -> None:
        if not self.done:
            self.broken = True
            self._end()

    def _end(self) -> None:
        self.done = True
        self._source = None
        self._start(self.head.resume.keep, self._expire)
        self._shelf.on_end(self)
        for listener in tuple(self._listeners):
            self.pump(listener)

    # Listeners.

    def attach(self, client: Client, after: int, headers: Headers) -> Listener:
        """Write `client` the events behind number `after`, now and as they come.

        Raises:
            InvalidRequest: with status 410: some of them are not held any more.
        """
        if after + 1 < self.first:
            raise expired(self.first, self.last)
        behind = self._events[max(0, after + 1 - self.first) :]
        listener = Listener(self, client, after + 1, self._total - sum(map(len, behind)))
        self._listeners.append(listener)
        self._cramped = False
        if not self.done:
            self._stop_timer()
        data = self._batch(listener)
        client.begin(200, headers, data)
        self.pump(listener)
        self.balance()
        return listener

    def leave(self, listener: Listener) -> None:
        if not listener.attached:
            return
        self._detach(listener)
        if not self.done:
            if not self._listeners and not self.head.unattended:
                self._start(self.head.resume.grace, self._alone)
            self.balance()

    def pump(self, listener: Listener) -> None:
        """Write what `listener` has room for."""
        while not listener.full and listener.attached and listener.position <= self.last:
            listener.client.write(self._batch(listener))
        if listener.position <= self.last:
            return
        listener.passed = self._total
        if self.done and listener.attached:
            self._detach(listener)
            if self.broken:
                listener.client.abort()
            else:
                listener.client.end()

    def _detach(self, listener: Listener) -> None:
        listener.attached = False
        self._listeners.remove(listener)

    def _batch(self, listener: Listener) -> bytes:
        start = stop = listener.position - self.first
        size = 0
        events = self._events
        while stop < len(events) and size < BATCH:
            size += len(events[stop])
            stop += 1
        if stop > start:
            listener.position += stop - start
            listener.passed += size
        return b"".join(events[start:stop])

    def balance(self) -> None:
        """Have the source wait while nobody has room, and go on otherwise."""
        source = self._source
        if source is None:
            return
        limit = self.head.resume.buffer
        if (self.held > limit or self._cramped) and (self._listeners or self.head.unattended):
            self._drop_oldest(limit)
        if self._listeners:
            unread = self._total - max(each.passed for each in self._listeners)
            hold = unread >= min(HIGH_WATER, limit) and all(each.full for each in self._listeners)
        else:
            hold = self.held >= limit or self._cramped
        if hold != self._held_up:
            self._held_up = hold
            if hold:
                source.pause()
            else:
                source.resume()

    def between(self, after: int) -> list[bytes]:
        """The events behind number `after` that are held."""
        return self._events[max(0, after + 1 - self.first) :]

    def heard(self, number: int) -> None:
        """Somebody elsewhere has the events up to `number`: they make room if it is short."""
        if not self._listeners and self._held_up:
            self._drop(min(number, self.last))
            self.balance()

    # Its end.

    def stop(self, error: HeadgateError) -> None:
        """End the call that feeds it; whoever listens is told in the dialect's own way."""
        if self._source is not None:
            self._source.abandon(error)
        if not self.done:  # it had nothing to say
            self.abort()

    def release(self) -> None:
        """Hold nothing any longer; who listens still is cut off. It must have ended."""
        for listener in tuple(self._listeners):
            self._detach(listener)
            listener.client.abort()
        self._stop_timer()
        self._shelf.weigh(self, -self.held)
        self.held = 0
        self.first, self._events = self.last + 1, []

    def wait_on(self) -> None:
        """Somebody listens elsewhere: another grace period."""
        if not self.done and not self._listeners:
            self._start(self.head.resume.grace, self._alone)

    def give_up(self) -> None:
        """Nobody listens, and nobody will."""
        if not self.done and not self._listeners and not self.head.unattended:
            self.stop(Cancelled("Nobody listened to the stream any more", code="stream_abandoned"))

    def _alone(self) -> None:
        self._timer = None
        self._shelf.left_alone(self)

    def _expire(self) -> None:
        self._timer = None
        if self._listeners:  # slow ones
            self._start(self.head.resume.keep, self._expire)
        else:
            self._shelf.on_expiry(self)

    def _start(self, delay: float, what: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._shelf.loop.call_later(delay, what)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Room.

    def _drop_oldest(self, limit: int) -> None:
        """Too much is held: the oldest events go, as far as nobody is waiting for them.

        Who is full and behind is cut off where another listener has room: a dead connection must not hold up
        the one that came in its place.
        """
        size = self.held - limit + limit // 16
        wanted = self._oldest(max(size, self.held // 2) if self._cramped else size)
        self._cramped = False
        if any(not each.full for each in self._listeners):
            for listener in [each for each in self._listeners if each.position <= wanted]:
                self._detach(listener)
                listener.client.abort()
        self._drop(min([wanted, *(each.position - 1 for each in self._listeners)]))

    def _oldest(self, size: int) -> int:
        """The number of the event with which `size` bytes of the oldest are reached."""
        number = self.first - 1
        for event in self._events:
            if size <= 0:
                break
            size -= len(event) + OVERHEAD
            number += 1
        return number

    def _drop(self, number: int) -> None:
        """Hold the events up to `number` no longer."""
        count = number + 1 - self.first
        if count > 0:
            freed = sum(map(len, self._events[:count])) + OVERHEAD * count
            del self._events[:count]
            self.first += count
            self.held -= freed
            self._shelf.weigh(self, -freed)
