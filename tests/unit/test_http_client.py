"""The HTTP/1.1 client without a socket: answers fed at every byte split."""

from __future__ import annotations

import asyncio

import pytest

from headgate.core.backend import Timeouts
from headgate.core.errors import StreamBroken
from headgate.upstream import http
from headgate.upstream.http import Pool
from tests.support.network import HEAD, ORIGIN, Network, Told, run, send


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(http, "open_connection", network.open)
    return network


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


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("coding", ["gzip", "identity", "Identity ", "br"])
def test_an_answer_that_is_compressed_is_none(network: Network, status: int, coding: str) -> None:
    """We ask for none, and hand on none; what an error says is in its status too."""

    async def main() -> None:
        pool = Pool(ORIGIN)
        _, told = await send(pool)
        connection, transport = network.opened[0]
        head = f"HTTP/1.1 {status} X\r\nContent-Encoding: {coding}\r\ncontent-length: 2\r\n\r\n"
        connection.data_received(head.encode() + b"ab")
        if status == 400 or coding.strip().lower() == "identity":
            assert (told.status, told.body, told.errors) == (status, b"ab", [])
        else:
            assert (told.status, told.body) == (0, b"")
            assert [type(error) for error in told.errors] == [StreamBroken]
            assert transport.aborted

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
