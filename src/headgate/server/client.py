"""The caller's side of a hot request, as a relay sees it, and its form for any ASGI server."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from starlette.types import Message, Send

from headgate.core.errors import HeadgateError


class Client(Protocol):
    """The caller's side of one request."""

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole answer at once."""
        ...

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        """The head of a streamed answer, with its first bytes."""
        ...

    def write(self, data: bytes) -> None: ...

    def end(self) -> None: ...

    def abort(self) -> None:
        """Break the connection: what was begun can't be completed, and must not look complete."""
        ...


class Ongoing(Protocol):
    """The call that writes to a client, as the client sees it."""

    def pause(self) -> None:
        """The caller's side is full."""
        ...

    def resume(self) -> None: ...

    def cancel(self) -> None:
        """The caller has left."""
        ...

    def abandon(self, error: HeadgateError) -> None:
        """The server can't go on with it."""
        ...


class AsgiClient:
    """A caller behind an ASGI server: the relay's writes are queued, `run` sends them.

    The queue is bounded by pausing the relay above `HIGH_WATER` bytes.
    """

    HIGH_WATER = 256 * 1024

    def __init__(self, send: Send) -> None:
        self._send = send
        self._queue: deque[Message] = deque()
        self._queued = 0
        self._more = asyncio.Event()
        self._ended = False
        self._broken = False
        self.relay: Ongoing | None = None

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        length = (b"content-length", str(len(body)).encode())
        self._put({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        self._put({"type": "http.response.body", "body": body})
        self._finish()

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        fields = [*headers, (b"cache-control", b"no-cache")]
        self._put({"type": "http.response.start", "status": status, "headers": fields})
        self.write(data)

    def write(self, data: bytes) -> None:
        self._queued += len(data)
        self._put({"type": "http.response.body", "body": data, "more_body": True})
        if self._queued > self.HIGH_WATER and self.relay is not None:
            self.relay.pause()

    def end(self) -> None:
        self._put({"type": "http.response.body", "body": b""})
        self._finish()

    def abort(self) -> None:
        self._broken = True
        self._finish()

    def leave(self) -> None:
        """The caller has left: nothing is sent any more, and the relay is stopped."""
        self._queue.clear()
        self._finish()
        if self.relay is not None:
            self.relay.cancel()

    def _put(self, message: Message) -> None:
        self._queue.append(message)
        self._more.set()

    def _finish(self) -> None:
        self._ended = True
        self._more.set()

    async def run(self) -> None:
        """Send what comes until the answer ends.

        Raises:
            BrokenAnswer: the answer can't be completed; the ASGI server then closes the connection.
        """
        while True:
            while self._queue:
                message = self._queue.popleft()
                await self._send(message)
                self._queued -= len(message.get("body", b""))
            if self.relay is not None and self._queued <= self.HIGH_WATER // 2:
                self.relay.resume()
            if self._queue:  # what resumed wrote at once
                continue
            if self._ended:
                break
            self._more.clear()
            await self._more.wait()
        if self._broken:
            raise BrokenAnswer("the upstream broke off in mid-answer; the connection is closed to say so")


class BrokenAnswer(Exception):
    """An answer that was begun and can't be completed."""
