"""The HTTP/1.1 client of the data path: pooled connections, callbacks, no task for each request.

An exchange is one request and its answer on one connection. What arrives in one read is handed to the
receiver in one call, so that it can leave in one write. Only opening a connection uses a coroutine.

Follows RFC 9112 (message framing) and RFC 9110 section 7.6 (hop-by-hop fields) through llhttp.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque

import httptools
from typing_extensions import override

from headgate.core.backend import Receiver, Timeouts
from headgate.core.errors import ConnectFailed, DeadlineExceeded, HeadgateError, StreamBroken
from headgate.upstream.heads import is_encoded, is_framed
from headgate.upstream.origin import Origin, open_connection, reason_of

MAX_HEAD_BYTES = 64 * 1024
SMALL_BODY = 64 * 1024
"""Up to this size head and body are joined for one write; a larger body is not copied."""
SLACK = 0.001
"""Seconds: timers fire up to a millisecond early."""
CROSSING = 0.5
"""Seconds in which a request and the close of its kept connection may cross; later, it was received."""
TOTAL_IS_UP = "the call's total time is up"


class Pool:
    """Keep-alive connections to one origin, used last-in first-out so that spare ones age out.

    Args:
        origin: where to connect, and how.
        max_idle: connections kept open without work.
        idle_timeout: seconds after which an unused connection is closed; below the common 60 s of servers.
    """

    def __init__(self, origin: Origin, *, max_idle: int = 1024, idle_timeout: float = 30.0) -> None:
        self.origin = origin
        self._max_idle = max_idle
        self._idle_timeout = idle_timeout
        self._idle: deque[Connection] = deque()
        self._busy: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    @property
    def open_connections(self) -> int:
        return len(self._idle) + len(self._busy)

    async def start(self) -> None:
        """Build the TLS context off the loop (it reads the CA bundle: 25 ms). Raises ConfigError."""
        if self.origin.tls and self._tls is None:
            self._tls = await asyncio.to_thread(self.origin.tls_context)

    @property
    def busy(self) -> bool:
        """An answer is under way, or a connection for one."""
        return bool(self._busy or self._connecting)

    def retire(self) -> None:
        """Close what is idle, and each other connection as soon as its answer has ended."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._idle):
            connection.abort()
        self._idle.clear()

    async def close(self) -> None:
        self.retire()
        for task in list(self._connecting):
            task.cancel()
        for connection in list(self._busy):
            connection.abort()

    def send(
        self,
        head: bytes,
        body: bytes,
        receiver: Receiver,
        *,
        timeouts: Timeouts,
        deadline: float | None = None,
    ) -> HttpExchange:
        """Send one request; `head` is the request line and fields, with the empty line that ends them."""
        loop = asyncio.get_running_loop()
        exchange = HttpExchange(self, loop, head, body, receiver, timeouts, deadline)
        connection = self._take()
        if connection is not None:
            connection.begin(exchange)
        else:
            self.connect_for(exchange)
        return exchange

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closing:
                self._busy.add(connection)
                return connection
        return None

    def connect_for(self, exchange: HttpExchange) -> None:
        task = exchange.loop.create_task(self._connect(exchange))
        exchange.connecting = task
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, exchange: HttpExchange) -> None:
        try:
            await self.start()
            connection = Connection(self)
            async with asyncio.timeout(exchange.connect_timeout()):
                await open_connection(self.origin, self._tls, connection)
        except TimeoutError:
            exchange.fail(exchange.connect_timed_out())
        except HeadgateError as error:
            exchange.fail(error)
        except (OSError, UnicodeError) as error:  # the second for a name that can't be asked for
            exchange.fail(ConnectFailed(f"can't connect to {self.origin.way}: {reason_of(error)}"))
        else:
            exchange.connecting = None
            self._busy.add(connection)
            connection.begin(exchange)

    def release(self, connection: Connection) -> None:
        """Take back a connection whose exchange is over and that can serve another."""
        self._busy.discard(connection)
        if self._closed or len(self._idle) >= self._max_idle:
            connection.abort()
            return
        connection.idle_since = connection.loop.time()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = connection.loop.call_later(self._idle_timeout, self._sweep)

    def forget(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _sweep(self) -> None:
        self._sweeper = None
        if not self._idle:
            return
        loop = self._idle[0].loop
        oldest_kept = loop.time() - self._idle_timeout
        while self._idle and self._idle[0].idle_since <= oldest_kept:
            self._idle.popleft().abort()
        if self._idle:
            wait = self._idle[0].idle_since - oldest_kept
            self._sweeper = loop.call_later(wait, self._sweep)


class HttpExchange:
    """One request and answer. States: connecting, sent, answering, over."""

    __slots__ = (
        "_deadline",
        "_last_read",
        "_loss",
        "_paused",
        "_timer",
        "body",
        "connected",
        "connecting",
        "connection",
        "got_body",
        "head",
        "loop",
        "over",
        "pool",
        "receiver",
        "timeouts",
    )

    def __init__(
        self,
        pool: Pool,
        loop: asyncio.AbstractEventLoop,
        head: bytes,
        body: bytes,
        receiver: Receiver,
        timeouts: Timeouts,
        deadline: float | None,
    ) -> None:
        self.pool = pool
        self.loop = loop
        self.head = head
        self.body = body
        self.receiver: Receiver | None = receiver
        self.timeouts = timeouts
        self.connection: Connection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.got_body = False
        self.over = False
        self._deadline = deadline
        self._loss: HeadgateError | None = None  # what became of it on a stale connection
        self._paused = False
        self.connected: float | None = None
        self._last_read = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connect_timeout(self) -> float:
        wait = self.timeouts.connect
        if self._deadline is not None:
            wait = min(wait, max(0.0, self._deadline - self.loop.time()))
        return wait

    def connect_timed_out(self) -> DeadlineExceeded:
        if self._deadline is not None and self.loop.time() + SLACK >= self._deadline:
            return DeadlineExceeded(TOTAL_IS_UP, code="total_timeout")
        return DeadlineExceeded(
            f"connecting to {self.pool.origin.way} took longer than {self.timeouts.connect:g} s",
            code="connect_timeout",
        )

    def sent(self, connection: Connection) -> None:
        self.connection = connection
        self.connected = self._last_read = now = self.loop.time()
        self._arm(now, now + self.timeouts.first_event)
        if self._paused:
            connection.pause_reading()

    def first_data(self) -> None:
        """The body has begun: from here the idle limit counts in place of the first-event limit."""
        self.got_body = True
        self._last_read = now = self.loop.time()
        if self._timer is not None:
            self._timer.cancel()
        self._arm(now, now + self.timeouts.idle)

    def touch(self) -> None:
        self._last_read = self.loop.time()

    def _arm(self, now: float, at: float) -> None:
        if self._deadline is not None and self._deadline < at:
            at = self._deadline
        self._timer = self.loop.call_later(max(0.0, at - now), self._expired)

    def _expired(self) -> None:
        """A limit may have passed; reads only note their time, so look again and re-arm if not."""
        now = self.loop.time()
        self._timer = None
        slack = now + SLACK
        limits = self.timeouts
        limit = limits.idle if self.got_body else limits.first_event
        if self._deadline is not None and slack >= self._deadline:
            self._close().on_fail(DeadlineExceeded(TOTAL_IS_UP, code="total_timeout"))
        elif self._paused:
            self._arm(now, now + limit)
        elif slack < self._last_read + limit:
            self._arm(now, self._last_read + limit)
        elif self.got_body:
            silence = f"{self.pool.origin} sent nothing more for {limit:g} s"
            self._close().on_fail(DeadlineExceeded(silence, code="idle_timeout"))
        else:
            silence = f"{self.pool.origin} sent nothing within {limit:g} s"
            self._close().on_fail(DeadlineExceeded(silence, code="first_event_timeout"))

    def _settle(self) -> Receiver:
        """Close the books: no timer, no task, no callback after this but the last one, which is the caller's.

        Receivers hold their exchange: without this circle both are freed at once, by no garbage collection.
        """
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.connection = None
        receiver, self.receiver = self.receiver, None
        assert receiver is not None
        return receiver

    def finish(self) -> None:
        self._settle().on_end()

    def fail(self, error: HeadgateError) -> None:
        if not self.over:
            if self._loss is not None and isinstance(error, ConnectFailed):  # but it had been sent before
                error = StreamBroken(f"{self._loss.message}, and then: {error.message}")
            self._settle().on_fail(error)

    def lost(self, error: HeadgateError, *, retry: bool) -> None:
        """The connection went away under this exchange; on a stale pooled one, try once on a new one."""
        if self.over:
            return
        if retry:
            self._loss = error
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self.connection = None
            self.pool.connect_for(self)
        else:
            self.fail(error)

    def abort(self) -> None:
        if not self.over:
            self._close()

    def _close(self) -> Receiver:
        connection = self.connection
        receiver = self._settle()
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        if connection is not None:
            connection.exchange = None
            connection.abort()
        return receiver

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            if self.connection is not None:
                self.connection.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._last_read = self.loop.time()
            if self.connection is not None:
                self.connection.resume_reading()


class Connection(asyncio.Protocol):
    """One connection; parses answers with llhttp and tells the exchange that has it now."""

    def __init__(self, pool: Pool) -> None:
        self.loop = asyncio.get_running_loop()
        self.idle_since = 0.0
        self.exchange: HttpExchange | None = None
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._reused = False
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        """Ready for the next answer; llhttp itself goes from one message to the next."""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._parts: list[bytes] = []
        self._head_ready = self._head_told = self._complete = False
        self._keep_alive = self._until_close = False
        self._any_bytes = False
        self._unread = 0  # bytes since the parser last had something to tell

    @property
    def closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def begin(self, exchange: HttpExchange) -> None:
        self.exchange = exchange
        transport = self._transport
        if transport is None or transport.is_closing():
            exchange.lost(ConnectFailed(f"{self._pool.origin} closed the connection at once"), retry=False)
            return
        if len(exchange.body) <= SMALL_BODY:
            transport.write(exchange.head + exchange.body)
        else:
            transport.writelines([exchange.head, exchange.body])
        exchange.sent(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    @override
    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:  # an idle connection that talks can't be trusted with a request
            self.abort()
            return
        self._any_bytes = True
        self._unread += len(data)
        broken: StreamBroken | None = None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._until_close = True  # not fit for another request
            broken = StreamBroken(f"{self._pool.origin} sent an invalid HTTP answer: {_parse(error)}")
        if self._unread > MAX_HEAD_BYTES:
            broken = StreamBroken(f"{self._pool.origin} sent header fields over {MAX_HEAD_BYTES} bytes")
        fresh = self._head_ready and not self._head_told
        if fresh and self._parser.get_status_code() < 300 and is_encoded(self._headers):
            broken = StreamBroken(f"{self._pool.origin} compressed its answer, which nobody had asked for")
        elif self._head_ready:
            self._tell(exchange)  # what was sound before the trouble counts
        if broken is not None and not exchange.over:
            self.exchange = None
            self.abort()
            exchange.fail(broken)

    def _tell(self, exchange: HttpExchange) -> None:
        receiver = exchange.receiver
        assert receiver is not None
        if not self._head_told:
            self._head_told = True
            receiver.on_head(self._parser.get_status_code(), self._headers)
        if self._parts and not exchange.over:
            parts, self._parts = self._parts, []
            if not self._complete:
                if exchange.got_body:
                    exchange.touch()
                else:
                    exchange.first_data()
            receiver.on_data(parts[0] if len(parts) == 1 else b"".join(parts))
        if self._complete and not exchange.over:
            self._finish(exchange)

    def _finish(self, exchange: HttpExchange) -> None:
        """Back to the pool before the receiver hears of the end: its next request may use this one."""
        keep = self._keep_alive and not self._until_close and not self.closing
        self.exchange = None
        if exchange._paused:
            self.resume_reading()
        self._reset()
        self._reused = True
        if keep:
            self._pool.release(self)
        else:
            self._pool.forget(self)
            self.abort()
        exchange.finish()

    # llhttp's callbacks, inside feed_data: note what was parsed, tell nobody yet.

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("bytes after the end of the answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_ready:  # trailers: nobody reads them
            return
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError(f"header fields over {MAX_HEAD_BYTES} bytes")
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._unread = 0
        if self._parser.get_status_code() < 200:  # 100 Continue, 103 Early Hints: the answer follows
            return
        self._head_ready = True

    def on_body(self, data: bytes) -> None:
        self._unread = 0
        self._parts.append(data)

    def on_message_complete(self) -> None:
        self._unread = 0
        if not self._head_ready:
            self._headers = []
            return
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()  # llhttp forgets it after this callback

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        exchange, self.exchange = self.exchange, None
        if exchange is None or exchange.over:
            return
        if self._head_told and not self._complete and not is_framed(self._headers):
            self._until_close = True  # RFC 9112 6.3: no length, so the close ends the body
            if exc is None:
                exchange.finish()
                return
        how, stale = "in mid-answer", False
        if not self._head_told:
            how = "without an answer"
            soon = self.loop.time() - (exchange.connected or 0.0) < CROSSING
            stale = self._reused and not self._any_bytes and soon
        exchange.lost(StreamBroken(f"{self._pool.origin} closed the connection {how}"), retry=stale)


def _parse(error: Exception) -> str:
    cause = error.__context__ if isinstance(error.__context__, ValueError) else error
    return str(cause) or type(error).__name__
