"""The caller's side of an answer that is kept: with the caller there, or without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec
from typing_extensions import override

from headgate.core.errors import HeadgateError, StreamBroken
from headgate.dialects import sse
from headgate.server.client import AsgiClient, Client, Ongoing
from headgate.server.responses.run import Run


class DetachedClient:
    """Stands for the caller of a response in the background: everything goes to the run alone."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self._run.answer(status, body)

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        self._run.feed(data)

    def write(self, data: bytes) -> None:
        self._run.feed(data)

    def end(self) -> None:
        self._run.end()

    def abort(self) -> None:
        self._run.end()


class RecordingClient(DetachedClient):
    """A caller whose answer is read along with."""

    def __init__(self, client: Client, run: Run) -> None:
        super().__init__(run)
        self._client = client

    @override
    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        super().respond(status, headers, body)
        self._client.respond(status, headers, body)

    @override
    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        super().begin(status, headers, data)
        self._client.begin(status, headers, data)

    @override
    def write(self, data: bytes) -> None:
        super().write(data)
        self._client.write(data)

    @override
    def end(self) -> None:
        super().end()
        self._client.end()

    @override
    def abort(self) -> None:
        super().abort()
        self._client.abort()


class Ends(Ongoing, Protocol):
    @property
    def done(self) -> bool: ...


class RecordedCall:
    """The call behind a `RecordingClient`, for its caller to stop: a caller that leaves ends the run too,
    unless the call goes on for somebody who may come back."""

    def __init__(self, call: Ends, run: Run) -> None:
        self._call = call
        self._run = run

    def pause(self) -> None:
        self._call.pause()

    def resume(self) -> None:
        self._call.resume()

    def cancel(self) -> None:
        self._call.cancel()
        if self._call.done:
            self._run.cancel()

    def abandon(self, error: HeadgateError) -> None:
        self._call.abandon(error)
        self._run.fail(error)


class InBackground:
    """The work behind a stream of a response in the background: nothing but its owner's wish ends it."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def pause(self) -> None:
        """Nobody is waited for."""

    def resume(self) -> None:
        """It goes on anyway."""

    def cancel(self) -> None:
        self._run.cancel()

    def abandon(self, error: HeadgateError) -> None:
        self._run.cancel()


class Follower:
    """A caller that watches a response in the background: its leaving stops the watching, not the work."""

    def __init__(self, client: AsgiClient, run: Run) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._task = asyncio.get_running_loop().create_task(self._follow(client, run))

    async def _follow(self, client: AsgiClient, run: Run) -> None:
        begun = False
        async for data in run.follow():
            if begun:
                client.write(data)
            else:
                client.begin(200, [(b"content-type", sse.CONTENT_TYPE.encode())], data)
            begun = True
            await self._flowing.wait()
        client.end()

    def pause(self) -> None:
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def cancel(self) -> None:
        self._task.cancel()

    def abandon(self, error: HeadgateError) -> None:
        self._task.cancel()


class _Named(msgspec.Struct):
    id: str | None = None


class _Event(msgspec.Struct):
    response: _Named | None = None


_NAMED = msgspec.json.Decoder(_Named)
_EVENT = msgspec.json.Decoder(_Event)
_FIRST_EVENTS = 64 * 1024
"""Bytes of a stream in which its response's id is looked for; it stands in the first event."""


class NamedClient:
    """A caller whose answer goes through as it is; the id that it bears is told first.

    Args:
        found: called once, with the id, before anything of the answer reaches the caller.
    """

    def __init__(self, client: Client, found: Callable[[str], None]) -> None:
        self._client = client
        self._found = found
        self._sse: sse.Decoder | None = sse.Decoder(_FIRST_EVENTS)
        self._read = 0

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        if status < 300:
            with suppress(ValueError, RecursionError):  # whatever it is, it is the caller's to judge
                self._tell(_NAMED.decode(body).id)
        self._client.respond(status, headers, body)

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        self._look(data)
        self._client.begin(status, headers, data)

    def write(self, data: bytes) -> None:
        if self._sse is not None:
            self._look(data)
        self._client.write(data)

    def end(self) -> None:
        self._client.end()

    def abort(self) -> None:
        self._client.abort()

    def _look(self, data: bytes) -> None:
        assert self._sse is not None
        self._read += len(data)
        try:
            for event in self._sse.feed(data):
                told = _EVENT.decode(event.data)
                if told.response is not None and self._tell(told.response.id):
                    return
        except (StreamBroken, ValueError, RecursionError):
            self._sse = None
        if self._read > _FIRST_EVENTS:
            self._sse = None

    def _tell(self, identity: str | None) -> bool:
        if identity is None:
            return False
        self._sse = None
        self._found(identity)
        return True
