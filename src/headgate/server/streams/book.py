"""All streams of one server that can be resumed: opened, found by their owners, bounded, forgotten."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from time import monotonic

from headgate.core.call import Principal
from headgate.core.errors import Cancelled, HeadgateError, NotFound, Overloaded
from headgate.policy.store import Store
from headgate.server.client import Ongoing
from headgate.server.responses.draft import shown
from headgate.server.streams.archive import StreamArchive, StreamRecord
from headgate.server.streams.kept import KeptStream, StreamHead

log = logging.getLogger("headgate.streams")

MAX_STREAMS = 10_000
MAX_BYTES = 256 * 1024 * 1024
JUST_BEGUN = 1.0
"""Seconds within which a stream that another process has just begun is found in the store."""

_ID = re.compile(r"str-([0-9a-f]{8})[\w-]{22}", re.ASCII)


class StreamBook:
    """Used from the event loop's thread only.

    Args:
        store: shared with other processes; None: streams can be resumed in this one only.
        max_streams: that are kept at once, those that have ended included.
        max_bytes: of all of them together.
    """

    def __init__(
        self, store: Store | None = None, *, max_streams: int = MAX_STREAMS, max_bytes: int = MAX_BYTES
    ) -> None:
        self.process = secrets.token_hex(4)
        self.archive = StreamArchive(store, self.process, self._discard) if store is not None else None
        self.held = 0
        """Bytes."""
        self.listening: set[Ongoing] = set()
        """Those who came back for a stream."""
        self._max_streams = max_streams
        self._max_bytes = max_bytes
        self._streams: dict[str, KeptStream] = {}
        self._ended: OrderedDict[str, KeptStream] = OrderedDict()
        """The oldest first."""
        self._names: dict[str, str] = {}
        self._named: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[KeptStream]:
        return iter(list(self._streams.values()))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def mint(self) -> str:
        """An id that nobody can guess. It tells other processes whose it is."""
        return f"str-{self.process}{secrets.token_urlsafe(16)}"

    def open(self, head: StreamHead, source: Ongoing) -> KeptStream | None:
        """None where no further one can be kept."""
        if len(self._streams) >= self._max_streams or self.held >= self._max_bytes:
            self._evict()
        if len(self._streams) >= self._max_streams or self.held >= self._max_bytes:
            log.warning(
                "no room for another resumable stream: %d are kept, %d bytes; this one can't be resumed",
                len(self._streams),
                self.held,
            )
            return None
        stream = KeptStream(self, head, source)
        self._streams[head.id] = stream
        if self.archive is not None:
            self.archive.add(stream)
        return stream

    def name(self, stream: KeptStream, name: str) -> None:
        """It can be found under `name` as well."""
        identity = stream.head.id
        if identity in self._streams:
            self._names[name] = identity
            self._named.setdefault(identity, []).append(name)
            if self.archive is not None:
                self.archive.name(stream, name)

    async def find(self, identity: str, principal: Principal) -> KeptStream | StreamRecord:
        """A stream of this process, or of another one that shares the store.

        Raises:
            NotFound: there is none, or it is another's.
            Unavailable: the store can't be read.
        """
        stream = self.here(identity, principal)
        if stream is not None:
            return stream
        made = _ID.fullmatch(identity)
        if self.archive is not None and made is not None:
            record = await self.archive.find(identity)
            until = monotonic() + (JUST_BEGUN if made[1] != self.process else 0.0)
            while record is None and monotonic() < until:  # it is another process that will write it
                await asyncio.sleep(0.05)
                record = await self.archive.find(identity)
            if record is not None and record.owner == principal.name:
                return record
        raise unknown_stream(identity)

    async def find_named(self, name: str, principal: Principal) -> KeptStream | StreamRecord | None:
        """The stream that has another name `name`."""
        identity = self._names.get(name)
        if identity is None and self.archive is not None:
            identity = await self.archive.named(name)
        if identity is None:
            return None
        try:
            return await self.find(identity, principal)
        except NotFound:
            return None

    def here(self, identity: str, principal: Principal) -> KeptStream | None:
        """A stream of this process. Raises NotFound for another's."""
        stream = self._streams.get(identity)
        if stream is not None and stream.head.owner != principal.name:
            raise unknown_stream(identity)
        return stream

    async def stop(self, identity: str, principal: Principal) -> None:
        """End a stream, and forget it. Raises NotFound."""
        found = await self.find(identity, principal)
        if isinstance(found, KeptStream):
            self._discard(found)
        elif self.archive is not None:
            await self.archive.ask_to_stop(identity)

    async def stop_named(self, name: str, principal: Principal) -> None:
        """`stop` of the stream that has another name `name`, if there is one."""
        found = await self.find_named(name, principal)
        if found is not None:
            await self.stop(found.head.id if isinstance(found, KeptStream) else found.id, principal)

    def admit(self) -> None:
        """Raises Overloaded when nobody else may listen."""
        if len(self.listening) >= self._max_streams:
            raise Overloaded(
                f"{self._max_streams} callers listen to streams again, the limit; try again later",
                retry_after=1.0,
            )

    def abandon_all(self, error: HeadgateError) -> None:
        """The grace period of a stop is over: who came back is let go, after the calls have ended."""
        for each in list(self.listening):
            each.abandon(error)

    def leave_unattended(self) -> None:
        """Nobody can come back any more: what nobody listens to ends, but for other processes' listeners."""
        if self.archive is None:
            for stream in self:
                stream.give_up()

    async def close(self) -> None:
        """Forget all; those of a shared store stay there. Every call must have ended."""
        for stream in self:
            if not stream.done:
                stream.abort()
        if self.archive is not None:
            try:
                await self.archive.close()
            except HeadgateError as error:
                log.warning("streams are not kept: %s", error.message)
        while self._ended:
            self._forget(next(iter(self._ended.values())))

    # From the streams.

    def weigh(self, stream: KeptStream, size: int) -> bool:
        self.held += size
        if size > 0 and self.archive is not None:
            self.archive.grew(stream, size)
        if self.held > self._max_bytes:
            self._evict()
        return self.held <= self._max_bytes

    def on_end(self, stream: KeptStream) -> None:
        if stream.head.id in self._streams:
            self._ended[stream.head.id] = stream
            if self.archive is not None:
                self.archive.ended()

    def on_expiry(self, stream: KeptStream) -> None:
        self._forget(stream)
        if self.archive is not None:
            self.archive.remove(stream.head.id)

    def left_alone(self, stream: KeptStream) -> None:
        if self.archive is not None:
            self.archive.left_alone(stream)
        else:
            stream.give_up()

    # Within.

    def _evict(self) -> None:
        """Make room for one more: the oldest that have ended go first, from this process's memory."""
        while self._ended and (
            len(self._streams) >= self._max_streams or self.held > self._max_bytes * 7 // 8
        ):
            free = (each for each in self._ended.values() if not each.attended)
            stream = next(free, None)
            if stream is None:
                return
            self._forget(stream)

    def _discard(self, stream: KeptStream) -> None:
        stream.stop(Cancelled("The stream was stopped by its owner", code="stream_stopped"))
        self._forget(stream)
        if self.archive is not None:
            self.archive.remove(stream.head.id)

    def _forget(self, stream: KeptStream) -> None:
        identity = stream.head.id
        self._streams.pop(identity, None)
        self._ended.pop(identity, None)
        for name in self._named.pop(identity, ()):
            self._names.pop(name, None)
        stream.release()


def unknown_stream(identity: str) -> NotFound:
    return NotFound(
        f"There is no stream {shown(identity)!r}: it has ended a while ago, or is another key's",
        code="stream_not_found",
    )
