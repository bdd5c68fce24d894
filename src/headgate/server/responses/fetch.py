"""Asking an upstream for what it keeps: its answer as it is, streamed where it streams."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from time import monotonic

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from headgate.core.backend import Archive, Exchange, RawHeaders
from headgate.core.errors import DeadlineExceeded, HeadgateError, StreamBroken
from headgate.core.events import Failed
from headgate.dialects import sse
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_responses import StreamEncoder, StreamObserver, decode_error
from headgate.server.client import BrokenAnswer

HIGH_WATER = 256 * 1024
"""Bytes of a stream that wait for a slow caller before the upstream is paused."""
MAX_HELD = 4 * 1024 * 1024
"""A plain answer up to this size is held until it is whole, so that one that breaks off is not begun."""
_KEPT_PREFIXES = (b"x-ratelimit-", b"openai-")


class Reply:
    """One answer of an upstream on its way from callbacks to a coroutine. Receives an exchange."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: RawHeaders = ()
        self._exchange: Exchange | None = None
        self._parts: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._streams = False
        self._ended = False
        self._error: HeadgateError | None = None
        self._changed = asyncio.Event()

    def begin(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def abort(self) -> None:
        if self._exchange is not None:
            self._exchange.abort()

    def on_head(self, status: int, headers: RawHeaders) -> None:
        self.status = status
        self.headers = headers
        self._streams = status < 300 and self.kind.startswith(sse.CONTENT_TYPE.encode())
        self._changed.set()

    def on_data(self, data: bytes) -> None:
        self._parts.append(data)
        self._held += len(data)
        if self._full and not self._paused and self._exchange is not None:
            self._paused = True
            self._exchange.pause()
        self._changed.set()

    def on_end(self) -> None:
        self._ended = True
        self._changed.set()

    def on_fail(self, error: HeadgateError) -> None:
        self._error = error
        self._changed.set()

    @property
    def kind(self) -> bytes:
        """The content type in lower case."""
        return next((value.lower() for name, value in self.headers if name == b"content-type"), b"")

    @property
    def streams(self) -> bool:
        """It is a stream of events; known with the head."""
        return self._streams

    async def head(self) -> None:
        """Wait for status and header fields. Raises what went wrong before them."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._change()

    @property
    def _full(self) -> bool:
        return self._held > (HIGH_WATER if self._streams else MAX_HELD)

    async def whole(self) -> bytes | None:
        """The body; None where it is too large to be held. Raises what went wrong."""
        while not self._ended:
            if self._error is not None:
                raise self._error
            if self._full:
                return None
            await self._change()
        return b"".join(self._parts)

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises what went wrong."""
        while True:
            while self._parts:
                part = self._parts.popleft()
                self._held -= len(part)
                if self._paused and self._held <= HIGH_WATER // 2 and self._exchange is not None:
                    self._paused = False
                    self._exchange.resume()
                yield part
            if self._error is not None:
                raise self._error
            if self._ended:
                return
            await self._change()

    async def _change(self) -> None:
        await self._changed.wait()
        self._changed.clear()


async def ask(
    archive: Archive, method: str, path: str, query: str, fields: RawHeaders, *, total: float
) -> Response:
    """Ask an upstream for something that it keeps, and answer with what it says.

    Args:
        path, query: as of `Archive.ask`.
        fields: header fields that go with the request.
        total: seconds in all.

    Raises:
        HeadgateError: the upstream's own, or what kept it from answering.
    """
    deadline = monotonic() + total
    reply = Reply()
    try:
        async with asyncio.timeout_at(deadline):
            if not archive.ready:
                await archive.prepare()
        reply.begin(archive.ask(method, path, query, fields, deadline, reply))
        await reply.head()
        if reply.streams:
            return _Passing(reply, _events(reply))
        body = await reply.whole()
    except TimeoutError:
        raise DeadlineExceeded(f"The call took longer than its {total:g} s", code="total_timeout") from None
    except BaseException:
        reply.abort()
        raise
    if reply.status >= 300:
        reply.abort()
        raise decode_error(reply.status, reply.headers, body or b"")
    if body is None:
        return _Passing(reply, _large(reply))
    return Response(body, reply.status, _kept(reply), reply.kind.decode("latin-1") or None)


class _Passing(StreamingResponse):
    """An answer that goes through as it comes."""

    def __init__(self, reply: Reply, parts: AsyncGenerator[bytes, None]) -> None:
        headers = {**_kept(reply), "cache-control": "no-cache"}
        super().__init__(parts, reply.status, headers, reply.kind.decode("latin-1") or None)
        self._reply = reply

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._reply.abort()


def _kept(reply: Reply) -> dict[str, str]:
    """Header fields that the caller gets."""
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in reply.headers
        if name.startswith(_KEPT_PREFIXES)
    }


async def _events(reply: Reply) -> AsyncGenerator[bytes, None]:
    """Events as they come; what breaks off ends in an error event. Nothing at all may be an answer too."""
    observer = StreamObserver()
    last = b""
    error: HeadgateError | None = None
    try:
        async for data in reply.parts():
            observer.feed(data)
            last = data
            yield data
    except HeadgateError as broken:
        error = broken
    observer.end()
    if observer.terminal or observer.failed:
        return
    if error is None and last:
        error = StreamBroken("The upstream ended its answer before it was complete")
    if error is not None:
        cut = last and not last.endswith((b"\n\n", b"\r\n\r\n"))
        framed = StreamEncoder(AnswerOptions()).encode(Failed(error))
        yield b"\n\n" + framed if cut else framed


async def _large(reply: Reply) -> AsyncGenerator[bytes, None]:
    """A plain answer as it comes. Raises BrokenAnswer, on which the connection is closed."""
    try:
        async for data in reply.parts():
            yield data
    except HeadgateError as error:
        raise BrokenAnswer(f"the upstream broke off in mid-answer: {error.message}") from None
