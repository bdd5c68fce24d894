"""The HTTP/1.1 client's connections without a socket: kept, replaced, stopped, limited in time and number."""

from __future__ import annotations

import asyncio

import pytest

from headgate.core.backend import Timeouts
from headgate.core.errors import ConnectFailed, DeadlineExceeded, StreamBroken
from headgate.upstream import http
from headgate.upstream.heads import request_head
from headgate.upstream.http import Pool
from tests.support.network import HEAD, ORIGIN, Network, Told, run, send


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(http, "open_connection", network.open)
    return network


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


def test_a_stale_connection_that_can_not_be_replaced_is_what_is_told(network: Network) -> None:
    """The request was sent, and may have been read: it is not one that never left."""

    async def main() -> None:
        pool = Pool(ORIGIN)
        await send(pool)
        connection, _ = network.opened[0]
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        _, told = await send(pool)
        network.error = ConnectionRefusedError("nobody there")
        connection.connection_lost(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        (error,) = told.errors
        assert isinstance(error, StreamBroken)
        assert "closed the connection without an answer, and then: can't connect" in error.message

    run(main())


def test_an_upstream_that_hangs_up_on_a_request_it_has_had_for_long_is_not_asked_again(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CROSSING", 0.0)

    async def main() -> None:
        pool = Pool(ORIGIN)
        await send(pool)
        connection, _ = network.opened[0]
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        _, told = await send(pool)
        connection.connection_lost(None)
        await asyncio.sleep(0)
        assert [type(error) for error in told.errors] == [StreamBroken]
        assert len(network.opened) == 1

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


def test_a_pause_before_there_is_a_connection_holds_and_silence_is_ours_then(network: Network) -> None:
    async def main() -> None:
        pool = Pool(ORIGIN)
        told = Told()
        exchange = pool.send(HEAD, b"{}", told, timeouts=Timeouts(first_event=0.02))
        exchange.pause()
        for _ in range(3):
            await asyncio.sleep(0)  # the task that connects
        _, transport = network.opened[0]
        assert not transport.reading
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(told.heard.wait(), 0.1)  # longer than the limit, five times
        exchange.resume()
        assert transport.reading
        await asyncio.wait_for(told.heard.wait(), 5)
        (error,) = told.errors
        assert error.code == "first_event_timeout"

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
        (UnicodeError("label empty or too long"), "label empty or too long"),
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
