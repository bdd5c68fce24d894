"""Somebody comes back for a stream: where it was left, and what is written to them from there."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from headgate.core.backend import RawHeaders
from headgate.core.call import Principal
from headgate.core.errors import HeadgateError, InvalidRequest
from headgate.server.client import Client
from headgate.server.failures import internal
from headgate.server.gateway import Gateway
from headgate.server.streams.archive import StreamRecord
from headgate.server.streams.distant import DistantListener
from headgate.server.streams.kept import KeptStream, Listener

log = logging.getLogger("headgate.streams")

_EVENT_ID = re.compile(rb"(str-[\w-]{1,60}):([0-9]{1,10})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a stream: behind the event with the number `after`."""

    stream: str
    after: int


def place_in(headers: RawHeaders) -> Place | None:
    """What `Last-Event-ID` says; None where it is not there, or no id of ours.

    Raises:
        InvalidRequest: it names a stream, and no event.
    """
    for name, value in headers:
        if name == b"last-event-id" and value.startswith(b"str-"):
            found = _EVENT_ID.fullmatch(value.strip())
            if found is None:
                raise InvalidRequest(
                    "Last-Event-ID must be the id of an event: the stream's, a colon, a number",
                    param="Last-Event-ID",
                )
            return Place(found[1].decode("ascii"), int(found[2]))
    return None


class Resumption:
    """One who listens again: a client as the stream sees it, a call as the caller's side does.

    It starts in the loop's next turn, when the caller's side knows it.

    Args:
        rid: the id of the request with which it came back.
        refuse: answers the caller with an error.
        ended: called once at the end of what was not refused, with the seconds it took.
    """

    def __init__(
        self,
        gateway: Gateway,
        client: Client,
        rid: str,
        refuse: Callable[[HeadgateError], None],
        ended: Callable[[float], None],
    ) -> None:
        self._gateway = gateway
        self._client = client
        self._rid = rid
        self._refuse = refuse
        self._ended = ended
        self._began = monotonic()
        self._inner: Listener | DistantListener | None = None
        self._task: asyncio.Task[None] | None = None
        self._full = self._over = self._begun = False

    def start(self, place: Place, principal: Principal) -> None:
        """Find the stream, and listen to it."""
        self._run(self._find(place, principal))

    def start_with(self, found: KeptStream | StreamRecord, after: int) -> None:
        self._run(self._listen(found, after))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._gateway.streams.listening.add(self)
        self._task = self._gateway.loop.create_task(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except HeadgateError as error:
            self._fail(error)
        except Exception:
            log.exception("a stream could not be resumed", extra={"request_id": self._rid})
            self._fail(internal(self._rid))

    async def _find(self, place: Place, principal: Principal) -> None:
        await self._listen(await self._gateway.streams.find(place.stream, principal), place.after)

    async def _listen(self, found: KeptStream | StreamRecord, after: int) -> None:
        rid = (b"x-request-id", self._rid.encode("ascii"))
        if isinstance(found, KeptStream):
            listener = found.attach(self, after, [*found.head.headers, rid])
            self._inner = None if self._over else listener
            if self._full:
                listener.pause()
            return
        archive = self._gateway.streams.archive
        assert archive is not None
        self._inner = distant = DistantListener(archive, found, self, after)
        await distant.run([*found.headers, rid])

    def _fail(self, error: HeadgateError) -> None:
        if self._over:
            return
        if self._begun:
            self.abort()
        else:
            self._close()
            self._refuse(error)

    def _close(self) -> None:
        self._over = True
        self._inner = None
        self._gateway.streams.listening.discard(self)

    # As the stream sees it.

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self._finish()
        self._client.respond(status, headers, body)

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        self._begun = True
        self._client.begin(status, headers, data)

    def write(self, data: bytes) -> None:
        self._client.write(data)

    def end(self) -> None:
        if not self._over:
            self._finish()
            self._client.end()

    def abort(self) -> None:
        if not self._over:
            self._finish()
            self._client.abort()

    def _finish(self) -> None:
        self._close()
        self._ended(monotonic() - self._began)

    # As the caller's side sees it.

    def pause(self) -> None:
        self._full = True
        if self._inner is not None:
            self._inner.pause()

    def resume(self) -> None:
        self._full = False
        if self._inner is not None:
            self._inner.resume()

    def cancel(self) -> None:
        if not self._over:
            inner, task = self._inner, self._task
            self._finish()
            if task is not None:
                task.cancel()
            if isinstance(inner, Listener):
                inner.cancel()

    def abandon(self, error: HeadgateError) -> None:
        """The server stops. What comes from a call of this process ends with that; the rest is cut."""
        if isinstance(self._inner, Listener) and not self._inner.stream.done:
            return
        task = self._task
        if task is not None:
            task.cancel()
        self._fail(error)
