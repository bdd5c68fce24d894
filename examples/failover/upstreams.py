"""The three mock upstreams: real sockets, faults on command, and books of everything they did.

The books are kept so that they can be compared with anybody else's to the request: an upstream that dies
closes its connections in good order and reads what was sent to it until then, so that it knows of every
request that left; where nobody listens no request can arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any

from examples.failover.dialects import Dialect, Tokens

PAUSE = 0.01
"""Seconds between two words."""
THINKING = (0.03, 0.12)
"""Seconds before an answer begins, at least and at most."""
PORTS = range(20_000, 30_000)
"""Below those that outgoing connections get, on Linux and macOS: nobody takes a dead upstream's port."""


class Mood(StrEnum):
    """What an upstream does with the requests that reach it."""

    WELL = "well"
    STALLS = "stalls"
    """Says nothing, or stops in the middle of a stream, and keeps the connection open."""
    LIMITED = "limited"
    """Answers 429 with Retry-After."""
    DEAD = "dead"
    """Cuts its connections, and refuses new ones."""


@dataclass
class Books:
    """What an upstream has done, by its own count.

    Args:
        received: requests; each of them is then in one of the four that follow.
        given_up: those that the caller hung up on.
        tokens: told of, those of answers included that were never finished.
    """

    received: int = 0
    answered: int = 0
    limited: int = 0
    cut: int = 0
    given_up: int = 0
    tokens: Tokens = field(default_factory=Tokens)

    @property
    def settled(self) -> bool:
        """No request is under way."""
        return self.received == self.answered + self.limited + self.cut + self.given_up


class _Cut(Exception):
    """The upstream died under the request."""


class _GivenUp(Exception):
    """The caller hung up."""


class _Line:
    """One connection from a caller."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, died: asyncio.Event
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._died = died

    async def request(self) -> tuple[str, dict[str, Any]] | None:
        """Path and body of the next one; None when the caller has closed."""
        try:
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            body = await self._reader.readexactly(int(fields.get("content-length", 0)))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return lines[0].split(" ")[1], json.loads(body)

    def check(self) -> None:
        """Raises _Cut or _GivenUp where nothing more can be said."""
        if self._died.is_set():
            raise _Cut
        if self._reader.at_eof() or self._writer.transport.is_closing():
            raise _GivenUp

    async def pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._died.wait(), seconds)
        self.check()

    async def hang(self) -> None:
        """Until the caller hangs up, or the upstream dies. Always raises."""
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(self._reader.read(1))
            death = group.create_task(self._died.wait())
            await asyncio.wait((gone, death), return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            death.cancel()
        raise _Cut if self._died.is_set() else _GivenUp

    def say(self, data: bytes) -> None:
        self._writer.write(data)

    def plain(self, status: int, body: bytes, *fields: str) -> None:
        head = [
            f"HTTP/1.1 {status} X",
            "content-type: application/json",
            f"content-length: {len(body)}",
            *fields,
        ]
        self.say("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    def close(self) -> None:
        """The caller reads the end of the connection; what it has sent until then can still be read here."""
        if not self._writer.transport.is_closing():
            self._writer.write_eof()

    def abort(self) -> None:
        self._writer.transport.abort()


class Upstream:
    """One of them. A context manager: entering it listens, leaving it closes everything."""

    def __init__(self, dialect: Dialect, seed: int) -> None:
        self.dialect = dialect
        self.mood = Mood.WELL
        self.books = Books()
        self.port = _free_port()
        self._rng = random.Random(seed)
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._died = asyncio.Event()
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        return self.dialect.name

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def turn(self, mood: Mood) -> None:
        """Change for better or worse. Answers under way go on, unless it dies."""
        if mood is self.mood:
            return
        if self.mood is Mood.DEAD:
            await self._listen()
        self.mood = mood
        if mood is Mood.DEAD:
            self._die()

    async def __aenter__(self) -> Upstream:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._die()
        for line in self._lines:
            line.abort()
        await asyncio.gather(*self._tasks)

    async def _listen(self) -> None:
        self._died = asyncio.Event()
        self._socket = socket.create_server(("127.0.0.1", self.port))
        self._server = await asyncio.start_server(self._connected, sock=self._socket)

    def _die(self) -> None:
        self._died.set()
        if self._socket is not None and self._server is not None:
            with contextlib.suppress(BlockingIOError):
                while True:  # callers who are connected, which nobody has noticed yet
                    self._tasks.add(asyncio.create_task(self._adopt(self._socket.accept()[0])))
            self._server.close()
            self._socket = self._server = None
        for line in self._lines:
            line.close()

    async def _adopt(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        await self._connected(*await asyncio.open_connection(sock=connection))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        line = _Line(reader, writer, self._died)
        self._tasks.add(task)
        self._lines.add(line)
        if self._died.is_set():
            line.close()
        try:
            while (request := await line.request()) is not None:
                self.books.received += 1
                await self._serve(line, *request)
        finally:
            self._lines.discard(line)
            self._tasks.discard(task)
            line.abort()

    async def _serve(self, line: _Line, path: str, body: dict[str, Any]) -> None:
        """One request, and what became of it into the books."""
        try:
            line.check()
            if self.mood is Mood.LIMITED:
                line.plain(429, self.dialect.limited(), "retry-after: 1")
                self.books.limited += 1
                return
            await self._answer(line, path, body, stalls=self.mood is Mood.STALLS)
            self.books.answered += 1
        except _Cut:
            self.books.cut += 1
        except _GivenUp:
            self.books.given_up += 1

    async def _answer(self, line: _Line, path: str, body: dict[str, Any], *, stalls: bool) -> None:
        tokens = Tokens(20 + len(json.dumps(body)) % 50, self._rng.randrange(20, 60))
        streams = self.dialect.streams(path, body)
        await line.pause(self._rng.uniform(*THINKING))
        if not streams:
            if stalls:
                await line.hang()
            line.plain(200, self.dialect.whole(tokens))
            self.books.tokens += tokens
            return
        # Every other stream that stalls has begun.
        words = self._rng.choice((0, self._rng.randrange(1, 10))) if stalls else None
        told = Tokens()
        line.say(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            for number, event in enumerate(self.dialect.events(tokens)):
                await line.pause(PAUSE)
                if number == words:
                    await line.hang()
                line.say(b"%x\r\n%b\r\n" % (len(event.data), event.data))
                told = event.told
        finally:
            self.books.tokens += told
        line.say(b"0\r\n\r\n")


def _free_port() -> int:
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free port among {PORTS}")
