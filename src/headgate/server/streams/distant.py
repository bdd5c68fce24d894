"""Listening to a stream that another process makes: it is read from the store that both share."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

from headgate.core.errors import HeadgateError, StreamBroken
from headgate.core.events import Failed
from headgate.dialects.dialect import AnswerOptions, ChatDialect
from headgate.dialects.registry import dialect
from headgate.server.client import Client
from headgate.server.streams.archive import HEARTBEAT, INTERVAL, StreamArchive, StreamRecord, first_of
from headgate.server.streams.kept import BATCH, Headers, expired
from headgate.server.streams.numbering import EventSplitter

log = logging.getLogger("headgate.streams")

POLL = 0.1
"""Seconds between two looks for more."""


class DistantListener:
    """One caller that is written a stream of another process's, now and as it comes.

    Args:
        after: number of the last event that the caller has.
    """

    def __init__(self, archive: StreamArchive, record: StreamRecord, client: Client, after: int) -> None:
        self._archive = archive
        self._record = record
        self._client = client
        self._position = after + 1
        self._key = ""
        """Of the last batch that was read."""
        self._marked = 0.0
        self._heard = -1
        self._flowing = asyncio.Event()
        self._flowing.set()

    def pause(self) -> None:
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    async def run(self, headers: Headers) -> None:
        """Until the stream ends.

        Raises:
            InvalidRequest: with status 410, before anything was written: some events are not kept any more.
            Unavailable: the store can't be read.
        """
        keys = await self._behind()
        if keys and self._position < first_of(keys[0]):
            raise expired(first_of(keys[0]), self._record.last or first_of(keys[-1]))
        self._client.begin(200, headers, b"")
        try:
            await self._follow(keys)
        except HeadgateError as error:
            log.warning("stream %s can't be read on: %s", self._record.id, error.message)
            self._client.abort()

    async def _follow(self, keys: list[str]) -> None:
        archive, identity = self._archive, self._record.id
        while True:
            for key in keys:
                if not await self._pass_on(key):
                    self._client.abort()  # it can be resumed, and is told then what there is
                    return
            record = await archive.find(identity)  # before its batches: what says the end comes with the last
            more = await archive.batches(identity, self._key)
            if more:
                keys = more
                continue
            if record is None:
                self._tell(StreamBroken("The stream was stopped by its owner", code="stream_stopped"))
                return
            if record.done:
                if record.broken:
                    self._client.abort()
                else:
                    self._client.end()
                return
            if not await archive.alive(record.process):
                latest = await archive.find(identity)
                if latest is not None and not latest.done:
                    lost = "The server process that made this stream is gone; ask anew"
                    self._tell(StreamBroken(lost, code="stream_lost"))
                    return
                continue
            await self._mark()
            keys = []
            await asyncio.sleep(POLL)

    async def _behind(self) -> list[str]:
        """The batches from the one on that has the next event wanted."""
        keys = await self._archive.batches(self._record.id)
        start = 0
        for number, key in enumerate(keys):
            if first_of(key) <= self._position:
                start = number
        return keys[start:]

    async def _pass_on(self, key: str) -> bool:
        """Write the events of a batch that the caller has not seen. False: there is a gap."""
        first = first_of(key)
        events = await self._archive.events(key)
        if events is None or first > self._position:
            return False
        self._key = key
        waiting: list[bytes] = []
        size = 0
        for event in events[self._position - first :]:
            waiting.append(event)
            size += len(event)
            if size >= BATCH:
                await self._write(waiting)
                waiting, size = [], 0
        if waiting:
            await self._write(waiting)
        return True

    async def _write(self, events: list[bytes]) -> None:
        while not self._flowing.is_set():
            await self._mark()
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await self._flowing.wait()
            except TimeoutError:
                continue
        self._position += len(events)
        self._client.write(b"".join(events))

    async def _mark(self) -> None:
        """Tell the process that makes the stream that somebody listens."""
        now, heard = monotonic(), self._position - 1
        if now - self._marked >= (INTERVAL if heard > self._heard else HEARTBEAT):
            self._marked, self._heard = now, heard
            await self._archive.mark(self._record.id, heard)

    def _tell(self, error: HeadgateError) -> None:
        """End with an error event of the stream's dialect."""
        record = self._record
        speaks = dialect(record.dialect)
        assert isinstance(speaks, ChatDialect)
        frame = speaks.stream_encoder(AnswerOptions(model=record.model)).encode(Failed(error))
        if record.dialect == "openai_responses":  # its events have numbers of their own, from 0
            number = b'"sequence_number":%d' % (self._position - 1)
            frame = frame.replace(b'"sequence_number":0', number, 1)
        splitter = EventSplitter(record.id if record.numbered else "")
        splitter.last = self._position - 1
        self._client.write(b"".join(splitter.feed(frame)))
        self._client.end()
