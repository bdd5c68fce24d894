"""The HTTP client's network, without one: connections are made of fake transports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from typing_extensions import override

from headgate.core.backend import RawHeaders, Timeouts
from headgate.core.errors import HeadgateError
from headgate.upstream.http import Connection, HttpExchange, Pool
from headgate.upstream.origin import Origin

ORIGIN = Origin("upstream.test", 8000)
HEAD = b"POST /v1/x HTTP/1.1\r\nhost: upstream.test\r\ncontent-length: 2\r\n\r\n"


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.gone = asyncio.Event()
        self.reading = True

    @property
    def aborted(self) -> bool:
        return self.gone.is_set()

    @override
    def write(self, data: Any) -> None:
        self.written += bytes(data)

    @override
    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    @override
    def abort(self) -> None:
        self.gone.set()

    @override
    def close(self) -> None:
        self.gone.set()

    @override
    def is_closing(self) -> bool:
        return self.aborted

    @override
    def pause_reading(self) -> None:
        self.reading = False

    @override
    def resume_reading(self) -> None:
        self.reading = True


class Network:
    """In place of `open_connection`: each opened connection gets a fake transport."""

    def __init__(self) -> None:
        self.opened: list[tuple[Connection, FakeTransport]] = []
        self.error: Exception | None = None
        self.hangs = False

    async def open(self, origin: Origin, tls: object, protocol: Connection) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        transport = FakeTransport()
        protocol.connection_made(transport)
        self.opened.append((protocol, transport))


class Told:
    """A receiver that notes everything."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.data: list[bytes] = []
        self.ended = 0
        self.errors: list[HeadgateError] = []
        self.heard = asyncio.Event()
        self.on_first_data: Callable[[], None] | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.data)

    @property
    def over(self) -> int:
        return self.ended + len(self.errors)

    def on_head(self, status: int, headers: RawHeaders) -> None:
        assert not self.status, "a second head"
        assert not self.over
        self.status, self.headers = status, list(headers)

    def on_data(self, data: bytes) -> None:
        assert self.status, "data before the head"
        assert not self.over
        assert data
        self.data.append(data)
        if self.on_first_data is not None:
            self.on_first_data()

    def on_end(self) -> None:
        assert self.status
        self.ended += 1

    def on_fail(self, error: HeadgateError) -> None:
        self.errors.append(error)
        self.heard.set()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


async def send(
    pool: Pool, *, timeouts: Timeouts | None = None, deadline: float | None = None
) -> tuple[HttpExchange, Told]:
    told = Told()
    exchange = pool.send(HEAD, b"{}", told, timeouts=timeouts or Timeouts(), deadline=deadline)
    for _ in range(3):
        await asyncio.sleep(0)  # the task that connects
    return exchange, told
