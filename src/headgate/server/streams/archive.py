"""Streams in a store that several processes share: written by the one that makes them, read by the others.

What there is of a stream, each entry with its end of life::

    stream:{id}                   StreamRecord
    stream-events:{id}:{number}   some of its events, the first one's number in the key
    stream-name:{name}            another name of it (a response's id)
    stream-mark:{id}              Mark: somebody elsewhere listens, or wants it stopped
    stream-process:{process}      the process that makes it is alive
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

import msgspec

from headgate.core.errors import HeadgateError
from headgate.policy.store import Store
from headgate.server.streams.kept import KeptStream

log = logging.getLogger("headgate.streams")

INTERVAL = 0.25
"""Seconds between two writes."""
URGENT = 64 * 1024
"""Bytes of one stream that are not left waiting for that."""
HEARTBEAT = 1.5
"""Seconds between two signs of life of a process, and of one that listens elsewhere."""
SILENCE = 6.0
"""Seconds without one after which a process, or a listener, is gone."""
WANTED_GONE = 60.0
"""Seconds for which the wish to stop a stream stands."""


class StreamRecord(msgspec.Struct, array_like=True):
    """A stream as other processes know it; `last` is the number of its last event, once it is `done`."""

    id: str
    owner: str
    model: str
    dialect: str
    numbered: bool
    headers: list[tuple[bytes, bytes]]
    process: str
    last: int = 0
    done: bool = False
    broken: bool = False


class Mark(msgspec.Struct, array_like=True):
    """Left by another process: the last event that was heard there; or that the stream is to be stopped."""

    heard: int = 0
    stop: bool = False


_RECORD = msgspec.msgpack.Decoder(StreamRecord)
_EVENTS = msgspec.msgpack.Decoder(list[bytes])
_MARK = msgspec.msgpack.Decoder(Mark)

Entry = tuple[str, bytes, float]


@dataclass(slots=True)
class _Writing:
    """How far a stream has been written."""

    stream: KeptStream
    names: list[str] = field(default_factory=list)
    known: bool = False
    """Its record is there."""
    saved: int = 0
    """Number of the last event that is written."""
    unsaved: int = 0
    """Bytes."""
    alone: bool = False
    """Nobody has listened here for its grace period."""
    batches: deque[tuple[str, int, int]] = field(default_factory=deque)
    """Key, last number and bytes of each."""
    stored: int = 0

    def portion(self, process: str) -> _Portion:
        """What is new since it was written last."""
        stream = self.stream
        head = stream.head
        ttl = head.lifetime + head.resume.keep
        portion = _Portion(self, stream.last, stream.done, names=len(self.names))
        events = stream.between(self.saved)
        if events:
            portion.size = sum(map(len, events))
            portion.key = f"stream-events:{head.id}:{stream.last - len(events) + 1:010d}"
            portion.entries.append((portion.key, msgspec.msgpack.encode(events), ttl))
        portion.entries += [(f"stream-name:{name}", head.id.encode(), ttl) for name in self.names]
        if stream.done or not self.known:
            record = msgspec.msgpack.encode(self._record(process))
            portion.entries.append((f"stream:{head.id}", record, head.resume.keep if stream.done else ttl))
        return portion

    def wrote(self, portion: _Portion) -> None:
        self.known = True
        self.saved = max(self.saved, portion.last)
        self.unsaved = max(0, self.unsaved - portion.size)
        del self.names[: portion.names]
        if portion.key:
            self.batches.append((portion.key, portion.last, portion.size))
            self.stored += portion.size

    def _record(self, process: str) -> StreamRecord:
        stream, head = self.stream, self.stream.head
        headers = [(bytes(name), bytes(value)) for name, value in head.headers]
        return StreamRecord(
            *(head.id, head.owner, head.model, head.dialect, head.numbered, headers, process),
            *(stream.last, stream.done, stream.broken),
        )


@dataclass(slots=True)
class _Portion:
    """What is written of a stream at once."""

    writing: _Writing
    last: int
    done: bool
    names: int
    key: str = ""
    size: int = 0
    entries: list[Entry] = field(default_factory=list)


class StreamArchive:
    """Writes in batches, from a task that is there only while something is to be written.

    Args:
        process: names this process among those that share the store.
        discard: called with a stream that another process wants stopped.
    """

    def __init__(self, store: Store, process: str, discard: Callable[[KeptStream], None]) -> None:
        self.process = process
        self._discard = discard
        self._store = store
        self._live: dict[str, _Writing] = {}
        self._removals: list[str] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._beat = 0.0

    # From the streams.

    def add(self, stream: KeptStream) -> None:
        self._live[stream.head.id] = _Writing(stream)
        self._hurry()

    def name(self, stream: KeptStream, name: str) -> None:
        writing = self._live.get(stream.head.id)
        if writing is not None:
            writing.names.append(name)
            self._hurry()

    def grew(self, stream: KeptStream, size: int) -> None:
        writing = self._live.get(stream.head.id)
        if writing is not None:
            writing.unsaved += size
            if writing.unsaved > URGENT:
                self._wake.set()

    def ended(self) -> None:
        self._wake.set()

    def left_alone(self, stream: KeptStream) -> None:
        """See whether somebody listens elsewhere, and have it go on or give up."""
        writing = self._live.get(stream.head.id)
        if writing is None:
            stream.give_up()
        else:
            writing.alone = True
            self._wake.set()

    def remove(self, identity: str) -> None:
        self._live.pop(identity, None)
        self._removals.append(identity)
        self._hurry()

    async def close(self) -> None:
        """Wait until all that has ended is written."""
        if self._task is not None:
            self._wake.set()
            await self._task

    # Writing.

    def _hurry(self) -> None:
        self._wake.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._live or self._removals:
                self._wake.clear()
                try:
                    await self._write()
                    await self._heed_marks()
                    await self._clear_away()
                except HeadgateError as error:
                    self._give_up(error)
                if self._live:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(INTERVAL):
                            await self._wake.wait()
        except Exception:
            log.exception("streams are not shared with other processes any more")
            self._live.clear()
        finally:
            self._task = None

    async def _write(self) -> None:
        entries: list[Entry] = []
        portions = [writing.portion(self.process) for writing in self._live.values()]
        for portion in portions:
            entries += portion.entries
        now = monotonic()
        beats = bool(self._live) and now - self._beat >= HEARTBEAT
        if beats:
            entries.append((f"stream-process:{self.process}", b"", SILENCE))
        if entries:
            await self._store.put_many(entries)
        if beats:
            self._beat = now
        for portion in portions:
            portion.writing.wrote(portion)
            if portion.done:
                self._live.pop(portion.writing.stream.head.id, None)

    async def _heed_marks(self) -> None:
        """See who listens elsewhere, and how far they are."""
        marks = await self._marks()
        for identity, writing in list(self._live.items()):
            stream, mark = writing.stream, marks.get(identity)
            if mark is not None and mark.stop:
                self._discard(stream)
                continue
            if mark is not None:
                stream.heard(min(mark.heard, writing.saved))
            if writing.alone:
                writing.alone = False
                if mark is not None:
                    stream.wait_on()
                else:
                    stream.give_up()
            while writing.stored > stream.head.resume.buffer and len(writing.batches) > 1:
                key, last, size = writing.batches[0]
                if mark is not None and mark.heard < last:
                    break
                writing.batches.popleft()
                writing.stored -= size
                await self._store.delete(key)

    async def _marks(self) -> dict[str, Mark]:
        found: dict[str, Mark] = {}
        after = ""
        while keys := await self._store.list("stream-mark:", after):
            for key in keys:
                identity = key.removeprefix("stream-mark:")
                value = await self._store.get(key) if identity in self._live else None
                if value is not None:
                    found[identity] = _MARK.decode(value)
            after = keys[-1]
        return found

    async def _clear_away(self) -> None:
        while self._removals:
            identity = self._removals.pop()
            await self._store.delete(f"stream:{identity}")
            prefix = f"stream-events:{identity}:"
            while keys := await self._store.list(prefix):
                for key in keys:
                    await self._store.delete(key)

    def _give_up(self, error: HeadgateError) -> None:
        """What is under way is tried again; what has ended is not kept for others."""
        log.warning("streams can't be shared with other processes now: %s", error.message)
        self._live = {key: each for key, each in self._live.items() if not each.stream.done}
        self._removals.clear()

    # Reading.

    async def find(self, identity: str) -> StreamRecord | None:
        value = await self._store.get(f"stream:{identity}")
        return None if value is None else _RECORD.decode(value)

    async def named(self, name: str) -> str | None:
        value = await self._store.get(f"stream-name:{name}")
        return None if value is None else value.decode()

    async def batches(self, identity: str, after: str = "") -> list[str]:
        """The keys of its batches behind the key `after`, in order."""
        found: list[str] = []
        while keys := await self._store.list(f"stream-events:{identity}:", after):
            found += keys
            after = keys[-1]
        return found

    async def events(self, key: str) -> list[bytes] | None:
        value = await self._store.get(key)
        return None if value is None else _EVENTS.decode(value)

    async def alive(self, process: str) -> bool:
        return await self._store.get(f"stream-process:{process}") is not None

    async def mark(self, identity: str, heard: int) -> None:
        value = msgspec.msgpack.encode(Mark(heard))
        await self._store.put(f"stream-mark:{identity}", value, SILENCE)

    async def ask_to_stop(self, identity: str) -> None:
        value = msgspec.msgpack.encode(Mark(stop=True))
        await self._store.put(f"stream-mark:{identity}", value, WANTED_GONE)
        await self._store.delete(f"stream:{identity}")


def first_of(key: str) -> int:
    """The number of the first event of a batch."""
    return int(key.rpartition(":")[2])
