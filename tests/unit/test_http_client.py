"""The HTTP/1.1 client without a socket: answers fed at every byte split through a transport of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import pytest
from typing_extensions import override

from headgate.core.backend import RawHeaders, Timeouts
from headgate.core.errors import ConnectFailed, DeadlineExceeded, HeadgateError, StreamBroken
from headgate.upstream import http
from headgate.upstream.heads import request_head
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


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(http, "open_connection", network.open)
    return network


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


ANSWERS = {
    "length": (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
        b'{"a":1}',
        b'{"a":1}',
    ),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n4;e=1\r\ndefg\r\n0\r\nx-t: 1\r\n\r\n",
        b"abcdefg",
    ),
    "empty": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "informational first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"ok",
    ),
    "error status": (b"HTTP/1.1 429 Slow Down\r\nretry-after: 3\r\ncontent-length: 2\r\n\r\nno", b"no"),
}


@pytest.mark.parametrize(("answer", "body"), ANSWERS.values(), ids=ANSWERS.keys())
def test_answers_at_every_byte_split(network: Network, answer: bytes, body: bytes) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        pieces = [[answer[:at], answer[at:]] for at in range(1, len(answer))]
        pieces += [[answer], [answer[i : i + 1] for i in range(len(answer))]]
        wanted: tuple[int, list[tuple[bytes, bytes]]] | None = None
        for split in pieces:
            _, told = await send(pool)
            connection, transport = network.opened[-1]
            transport.written = b""
            for piece in split:
                assert not told.over
                connection.data_received(piece)
            assert (told.ended, told.errors, told.body) == (1, [], body)
            wanted = wanted or (told.status, told.headers)
            assert (told.status, told.headers) == wanted
            assert all(name == name.lower() for name, _ in told.headers)
        assert len(network.opened) == 1  # kept and used again, every time
        assert pool.open_connections == 1
        await pool.close()
        assert pool.open_connections == 0

    run(main())


def test_one_read_is_told_in_one_call(network: Network) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        _, told = await send(pool)
        network.opened[0][0].data_received(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n"
        )
        assert told.data == [b"abc"]
        await pool.close()

    run(main())


def test_request_as_sent(network: Network) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        await send(pool)
        assert network.opened[0][1].written == HEAD + b"{}"
        large = b"x" * (http.SMALL_BODY + 1)
        pool.send(HEAD, large, Told(), timeouts=Timeouts())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert network.opened[1][1].written == HEAD + large
        await pool.close()

    run(main())


def test_body_without_a_length_ends_with_the_connection(network: Network) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        _, told = await send(pool)
        connection, _ = network.opened[0]
        connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nall of")
        connection.data_received(b" it")
        assert not told.over
        connection.connection_lost(None)
        assert (told.ended, told.errors, told.body) == (1, [], b"all of it")
        assert pool.open_connections == 0

    run(main())


def test_a_reset_never_ends_a_body_properly(network: Network) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        _, told = await send(pool)
        connection, _ = network.opened[0]
        connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nall of")
        connection.connection_lost(ConnectionResetError())
        assert told.ended == 0
        assert isinstance(told.errors[0], StreamBroken)

    run(main())


CUT = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-le",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"H",
    b"",
]


@pytest.mark.parametrize("answer", CUT)
def test_cut_answer_is_broken(network: Network, answer: bytes) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        _, told = await send(pool)
        connection, _ = network.opened[0]
        if answer:
            connection.data_received(answer)
        connection.connection_lost(None)
        assert told.ended == 0
        [error] = told.errors
        assert isinstance(error, StreamBroken)
        assert "upstream.test:8000" in error.message
        assert len(network.opened) == 1  # a fresh connection's failure is the caller's to retry

    run(main())


GARBLED = {
    "not HTTP": b"SSH-2.0-OpenSSH_9\r\n",
    "bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "length and chunked": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %b\r\n" % (i, b"v" * 990) for i in range(70)),
    "switches": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("answer", GARBLED.values(), ids=GARBLED.keys())
@pytest.mark.parametrize("whole", [True, False])
def test_garbled_answer_is_broken_and_its_connection_closed(
    network: Network, answer: bytes, whole: bool
) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        _, told = await send(pool)
        connection, transport = network.opened[0]
        for piece in [answer] if whole else [answer[i : i + 1] for i in range(len(answer))]:
            if not transport.aborted:
                connection.data_received(piece)
        assert transport.aborted
        connection.connection_lost(None)
        assert told.ended == 0
        assert [type(error) for error in told.errors] == [StreamBroken]
        assert pool.open_connections == 0

    run(main())


def test_endless_field_is_bounded(network: Network) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        _, told = await send(pool)
        connection, transport = network.opened[0]
        connection.data_received(b"HTTP/1.1 200 OK\r\nx-a: ")
        fed = 0
        while not transport.aborted and fed < 10_000_000:
            connection.data_received(b"v" * 65_536)
            fed += 65_536
        assert fed < 1_000_000
        assert [type(error) for error in told.errors] == [StreamBroken]

    run(main())


def test_bytes_behind_the_answer_are_not_the_next_answer(network: Network) -> None:
    """Response smuggling: whatever follows a complete answer must not answer the next request."""

    async def main() -> None:
        pool = Pool(ORIGIN)
        one = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none"
        _, told = await send(pool)
        connection, transport = network.opened[0]
        connection.data_received(one + one.replace(b"one", b"two"))
        assert (told.body, told.over) == (b"one", 1)
        assert transport.aborted
        connection.connection_lost(None)
        assert pool.open_connections == 0

        _, told = await send(pool)
        connection, transport = network.opened[1]
        connection.data_received(one)
        assert told.ended == 1
        connection.data_received(one)  # while idle
        assert transport.aborted
        connection.connection_lost(None)
        _, told = await send(pool)
        assert len(network.opened) == 3
        await pool.close()

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
def test_connection_that_is_to_close_is_not_kept(network: Network, answer: bytes) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        _, told = await send(pool)
        connection, transport = network.opened[0]
        connection.data_received(answer)
        assert (told.ended, told.body) == (1, b"ok")
        assert transport.aborted
        assert pool.open_connections == 0

    run(main())


def test_stale_connection_is_replaced_once(network: Network) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        _, told = await send(pool)
        connection, _ = network.opened[0]
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        _, told = await send(pool)
        connection.connection_lost(ConnectionResetError())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(network.opened) == 2
        assert network.opened[1][1].written == HEAD + b"{}"
        assert not told.over
        network.opened[1][0].connection_lost(None)
        assert [type(error) for error in told.errors] == [StreamBroken]
        assert len(network.opened) == 2

    run(main())


def test_abort_is_silent_in_every_state(network: Network) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        network.hangs = True
        exchange, told = await send(pool)
        exchange.abort()
        network.hangs = False
        connecting = told

        exchange, told = await send(pool)
        connection, transport = network.opened[0]
        exchange.abort()
        assert transport.aborted
        connection.connection_lost(None)
        sent = told

        exchange, told = await send(pool)
        connection, transport = network.opened[1]
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
        exchange.abort()
        connection.connection_lost(None)
        exchange.abort()
        exchange.pause()
        exchange.resume()
        await asyncio.sleep(0)
        assert (connecting.over, sent.over, told.over) == (0, 0, 0)
        assert pool.open_connections == 0

    run(main())


def test_abort_from_within_a_callback(network: Network) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        exchange, told = await send(pool)
        told.on_first_data = exchange.abort
        connection, transport = network.opened[0]
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc")
        connection.connection_lost(None)
        assert (told.body, told.over) == (b"abc", 0)
        assert transport.aborted
        assert pool.open_connections == 0

    run(main())


def test_pause_and_resume_reach_the_transport(network: Network) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        exchange, told = await send(pool)
        connection, transport = network.opened[0]
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc")
        exchange.pause()
        assert not transport.reading
        connection.data_received(b"def")  # read before the pause, told after it
        assert told.ended == 1
        assert transport.reading  # the next exchange on it would wait for ever
        await pool.close()

    run(main())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (OSError("Multiple exceptions: …"), "Multiple exceptions"),
        (ConnectFailed("the proxy refused"), "the proxy refused"),
    ],
)
def test_connection_that_can_not_be_made(network: Network, error: Exception, words: str) -> None:
    async def main() -> None:
        network.error = error
        pool = Pool(ORIGIN)
        _, told = await send(pool)
        [failure] = told.errors
        assert isinstance(failure, ConnectFailed)
        assert words in failure.message
        assert pool.open_connections == 0

    run(main())


@pytest.mark.parametrize(
    ("timeouts", "fed", "code"),
    [
        (Timeouts(connect=0.01), None, "connect_timeout"),
        (Timeouts(first_event=0.01), b"", "first_event_timeout"),
        (Timeouts(first_event=0.01), b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n", "first_event_timeout"),
        (Timeouts(idle=0.01), b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc", "idle_timeout"),
    ],
)
def test_limits(network: Network, timeouts: Timeouts, fed: bytes | None, code: str) -> None:
    async def main() -> None:
        network.hangs = fed is None
        pool = Pool(ORIGIN)
        _, told = await send(pool, timeouts=timeouts)
        if fed:
            network.opened[0][0].data_received(fed)
        await told.heard.wait()
        [error] = told.errors
        assert isinstance(error, DeadlineExceeded)
        assert error.code == code
        if fed is not None:
            assert network.opened[0][1].aborted

    run(main())


@pytest.mark.parametrize("fed", [None, b"", b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc"])
def test_deadline_ends_an_exchange_in_every_state(network: Network, fed: bytes | None) -> None:
    async def main() -> None:
        network.hangs = fed is None
        pool = Pool(ORIGIN)
        deadline = asyncio.get_running_loop().time() + 0.02
        _, told = await send(pool, deadline=deadline)
        if fed:
            network.opened[0][0].data_received(fed)
        await told.heard.wait()
        [error] = told.errors
        assert isinstance(error, DeadlineExceeded)
        assert error.code == "total_timeout"

    run(main())


def test_spare_connections_age_out(network: Network) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN, idle_timeout=0.02)
        _, told = await send(pool)
        connection, transport = network.opened[0]
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        assert told.ended == 1
        await transport.gone.wait()
        await pool.close()

    run(main())


def test_spare_connections_are_bounded(network: Network) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN, max_idle=2)
        for _ in range(5):
            await send(pool)
        for connection, _ in network.opened:
            connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        assert [transport.aborted for _, transport in network.opened] == [False, False, True, True, True]
        assert pool.open_connections == 2
        await pool.close()

    run(main())


def test_closing_the_pool_fails_nobody_silently(network: Network) -> None:
    """A closed pool's exchanges hear of it when their connections are lost."""

    async def main() -> None:
        pool = Pool(ORIGIN)
        _, told = await send(pool)
        connection, transport = network.opened[0]
        await pool.close()
        assert transport.aborted
        connection.connection_lost(None)
        assert [type(error) for error in told.errors] == [StreamBroken]

    run(main())


@pytest.mark.parametrize("value", [b"a\r\nb", b"a\nb", b"a\0b"])
def test_line_breaks_in_fields_are_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="'x-a' holds a line break"):
        request_head("POST", "/", "h", [(b"x-a", value)])
