"""The hot routes, answered in the HTTP protocol itself.

A subclass of uvicorn's httptools protocol: a request for a hot route goes from the parser's callbacks to
a relay and from the relay's callbacks to the socket, with no ASGI scope, task or queue between. Whatever
is out of the ordinary (another route, HTTP/1.0, `Expect`, an upgrade, a pipelined request) goes on to the
ASGI application, which serves the same routes through the same relay.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import Any

import httptools
from typing_extensions import override
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from headgate.core.errors import HeadgateError, InvalidRequest, PayloadTooLarge
from headgate.observe.logs import request_id
from headgate.server.calls import begin
from headgate.server.client import Ongoing
from headgate.server.endpoints import Match
from headgate.server.failures import answer, internal
from headgate.server.gateway import Gateway

log = logging.getLogger("headgate.server")

LINGER = 5.0
"""Seconds for which the rest of a refused body is read and thrown away."""

MAX_HEAD = 64 * 1024
"""Bytes, beyond one read, that may come before a request's head is whole, or between pieces of its body."""

_HOP = frozenset({b"connection", b"upgrade", b"http2-settings"})


class HotCycle:
    """One hot request and its answer. Also what uvicorn's protocol sees where its own cycle would be."""

    __slots__ = (
        "body",
        "disconnected",
        "headers",
        "keep_alive",
        "length",
        "match",
        "message_event",
        "more_body",
        "protocol",
        "received",
        "relay",
        "response_complete",
        "waiting_for_100_continue",
    )

    def __init__(
        self,
        protocol: FastLaneProtocol,
        match: Match,
        headers: list[tuple[bytes, bytes]],
        keep_alive: bool,
    ) -> None:
        self.protocol = protocol
        self.match = match
        self.headers = headers
        self.keep_alive = keep_alive
        self.body: list[bytes] = []
        self.received = 0
        self.relay: Ongoing | None = None
        self.response_complete = False
        # Read or set by uvicorn's protocol on whatever stands in `cycle`.
        self.disconnected = False
        self.more_body = True
        self.waiting_for_100_continue = False
        self.message_event = _NOBODY_WAITS

    # headgate.server.relay.Client

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        if not self.disconnected:
            parts = self._head(status, headers)
            parts.append(b"content-length: %d\r\n\r\n" % len(body))
            parts.append(body)
            self.protocol.transport.write(b"".join(parts))
            self._complete()

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        if not self.disconnected:
            parts = self._head(status, headers)
            parts.append(b"transfer-encoding: chunked\r\ncache-control: no-cache\r\n\r\n")
            if data:
                parts += (b"%x\r\n" % len(data), data, b"\r\n")
            self.protocol.transport.write(b"".join(parts))

    def write(self, data: bytes) -> None:
        if not self.disconnected and data:
            self.protocol.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        if not self.disconnected:
            self.protocol.transport.write(b"0\r\n\r\n")
            self._complete()

    def abort(self) -> None:
        self.response_complete = True
        self.protocol.transport.abort()

    def _head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        parts = [STATUS_LINE[status]]
        for name, value in self.protocol.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        return parts

    def _complete(self) -> None:
        self.response_complete = True
        self.protocol.hot_response_complete(self)


class _NobodyWaits:
    """In place of an event that uvicorn sets when a client leaves: a hot cycle is told directly."""

    def set(self) -> None: ...


_NOBODY_WAITS = _NobodyWaits()


class FastLaneProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with the hot routes taken out. `uvicorn --http` takes it as a class."""

    gateway: Gateway
    """Set by a subclass made for one gateway (`headgate.server.run.uvicorn_config`)."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._hot: HotCycle | None = None
        """The hot request that is being answered."""
        self._receiving: HotCycle | None = None
        """The hot request whose body is being read. Pipelined requests may follow the one being answered."""
        self._running: RequestResponseCycle | None = None
        """The request that the ASGI application is answering; `cycle` may be a later, pipelined one."""
        self._holding = False
        """No request is read, because answers wait to be."""
        self._lingering = False
        self._unread = 0
        """Bytes since the parser last had something to tell: what it holds of a head or of trailers."""
        self._declining = False
        """The request being parsed asks for another protocol: it is read again without that."""

    @override
    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._unread += len(data)
        try:
            while data:
                try:
                    self.parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    data = self._without_upgrade() + data[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:
            self._refuse_http(self._defect(error))
        except httptools.HttpParserError as error:
            self._refuse_http(
                InvalidRequest(f"This is not an HTTP/1.1 request: {error}", code="invalid_http")
            )
        else:
            if self._unread > MAX_HEAD:
                self._refuse_http(
                    InvalidRequest(
                        f"The request's head is over the limit of {MAX_HEAD} bytes",
                        code="head_too_large",
                        status=431,
                    )
                )

    def _defect(self, error: httptools.HttpParserCallbackError) -> HeadgateError:
        """A callback raised: because of a target without a path, or through a defect of ours."""
        try:
            readable = httptools.parse_url(self.url).path is not None
        except httptools.HttpParserInvalidURLError:
            readable = False
        if not readable:
            return InvalidRequest("The request's target has no path that can be read", code="invalid_http")
        rid = request_id(self.headers)
        log.error("a request could not be begun", exc_info=error, extra={"request_id": rid})
        return internal(rid)

    def _without_upgrade(self) -> bytes:
        """The head just parsed, without its wish for another protocol (RFC 9110 7.8: it may be ignored).

        llhttp stops at such a head and leaves the body to the other protocol, but clients that try HTTP/2
        in the clear send one with the body of an ordinary request.

        Raises:
            httptools.HttpParserError: it asks for a tunnel, which can't be ignored.
        """
        self._declining = False
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise httptools.HttpParserError("this server is no proxy")
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [name + b": " + value for name, value in self.headers if name not in _HOP]
        if not self.parser.should_keep_alive():
            lines.append(b"connection: close")
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*lines, b"", b""])

    def _refuse_http(self, error: HeadgateError) -> None:
        """What came is not HTTP, and so where the next request begins is not known: answer and close.

        An answer that is under way can't be followed by another one: then closing is all there is.
        """
        cycle: HotCycle | RequestResponseCycle | None = self.cycle  # None until the first request
        if isinstance(cycle, RequestResponseCycle):
            answerable = cycle.more_body and not cycle.response_started and self._running is cycle
        else:
            answerable = cycle is not None and cycle.more_body
        if cycle is None or cycle.response_complete:
            answerable = not self._lingering
        if answerable:
            if cycle is not None:
                cycle.disconnected = True
            wire = answer(self.url.decode("latin-1"), error)
            parts = [STATUS_LINE[wire.status]]
            length = (b"content-length", b"%d" % len(wire.body))
            fields = [*self.server_state.default_headers, *wire.headers, length]
            for name, value in [*fields, (b"x-request-id", request_id(()).encode("ascii"))]:
                parts += (name, b": ", value, b"\r\n")
            parts += (b"connection: close\r\n\r\n", wire.body)
            self.transport.write(b"".join(parts))
            self.gateway.metrics.http_request("_invalid", None, wire.status, 0.0)
        self.transport.close()

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        running, self._running = self._running, None
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        hot, self._hot = self._hot, None
        if hot is not None:
            hot.disconnected = True
            relay, hot.relay = hot.relay, None
            if relay is not None:
                relay.cancel()

    @override
    def on_headers_complete(self) -> None:
        self._unread = 0
        if self.parser.should_upgrade():
            self._declining = True
            return
        match = self.gateway.endpoints.match(self.url, self.headers)
        if match is None or match.endpoint.stateful or not self._plain_post():
            self._receiving = None
            super().on_headers_complete()
            self.headers = []
            return
        hot = HotCycle(self, match, self.headers, self.parser.should_keep_alive())
        self.headers = []  # trailers end up here: they are not the head's fields (RFC 9110 6.5.1)
        self.cycle = hot  # type: ignore[assignment]
        self._hot = self._receiving = hot
        for name, value in hot.headers:
            if name == b"content-length" and int(value) > self.gateway.max_body:
                self._refuse_body(hot)

    @override
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _plain_post(self) -> bool:
        cycle: HotCycle | RequestResponseCycle | None = self.cycle  # None until the first request
        return (
            self.parser.get_method() == b"POST"
            and (cycle is None or cycle.response_complete)
            and not self.root_path
            and not self.expect_100_continue
            and self.parser.get_http_version() == "1.1"
        )

    @override
    def on_body(self, body: bytes) -> None:
        self._unread = 0
        hot = self._receiving
        if hot is None:
            super().on_body(body)
        elif not hot.response_complete:
            hot.received += len(body)
            if hot.received > self.gateway.max_body:
                self._refuse_body(hot)
            else:
                hot.body.append(body)

    @override
    def on_message_complete(self) -> None:
        self._unread = 0
        if self._declining:
            return
        hot, self._receiving = self._receiving, None
        if hot is None:
            super().on_message_complete()
            return
        if hot.response_complete:
            if self._lingering:
                self.transport.close()
            return
        hot.more_body = False
        parts = hot.body
        hot.body = []
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        try:
            relay = begin(self.gateway, hot.match, hot.headers, body, hot)
        except Exception:
            rid = request_id(hot.headers)
            log.exception("a request could not be begun", extra={"request_id": rid})
            self.gateway.refuse(hot.match.endpoint, hot.headers, internal(rid), hot)
            return
        if relay is not None and not hot.response_complete:
            hot.relay = relay
            if self.flow.write_paused:  # by an answer before, which the caller has not read
                relay.pause()

    def _refuse_body(self, hot: HotCycle) -> None:
        """Too large: say so while it arrives, and close, since the rest would have to be read."""
        hot.body = []
        hot.keep_alive = False
        error = PayloadTooLarge(self.gateway.too_large_message)
        self.gateway.refuse(hot.match.endpoint, hot.headers, error, hot)

    def hot_response_complete(self, hot: HotCycle) -> None:
        """The answer is written: close, or get ready for the connection's next request."""
        self._hot = None
        hot.relay = None  # which holds the cycle: without the circle both are freed at once
        if hot.more_body:
            # Closing on unread bytes resets the connection, and the caller never sees the refusal
            # (RFC 9112 9.6): take in the rest for a while, keep none of it.
            self._lingering = True
            self.loop.call_later(LINGER, self.transport.close)
            return
        if not hot.keep_alive:
            self.transport.close()
        self.on_response_complete()
        if self.flow.write_paused and self.timeout_keep_alive_task is not None:
            # The caller does not read its answers: no further request is taken until it does.
            self._unset_keepalive_if_required()
            self._holding = True
            self.flow.pause_reading()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._hot is not None and self._hot.relay is not None:
            self._hot.relay.pause()

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._hot is not None and self._hot.relay is not None:
            self._hot.relay.resume()
        if self._holding:
            self._holding = False
            self.flow.resume_reading()
            if self.cycle.response_complete:
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
