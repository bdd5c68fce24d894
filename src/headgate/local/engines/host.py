"""The child process of a local engine: a small ASGI app on uvicorn behind a Unix socket.

An engine module calls `run(load)`; everything else is here: arguments, the watch on the parent, health,
reading bodies, errors in OpenAI's shape, stopping the work when the client goes, a bounded queue.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

import msgspec
import uvicorn
from typing_extensions import override

from headgate.core.errors import (
    ConfigError,
    HeadgateError,
    Internal,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    PayloadTooLarge,
)

logger = logging.getLogger("headgate.engine.host")

BODY_LIMIT = 128 * 1024 * 1024
EXIT_CONFIGURATION = 2
PR_SET_PDEATHSIG = 1

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_encode = msgspec.json.Encoder().encode


class Reply:
    """The answer to one request: one JSON document, or a stream of server-sent events."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def json(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
        body = _encode(content)
        await self._start(status, "application/json", {"content-length": str(len(body)), **(headers or {})})
        await self._send({"type": "http.response.body", "body": body})

    async def event(self, content: Any) -> None:
        """Send one `data:` event, and the head before the first."""
        await self.event_bytes(_encode(content))

    async def event_bytes(self, data: bytes) -> None:
        if not self.started:
            await self._start(200, "text/event-stream", {"cache-control": "no-cache"})
        await self._send({"type": "http.response.body", "body": b"data: %b\n\n" % data, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    async def error(self, error: HeadgateError) -> None:
        """As a response, or as a last event when the stream has begun."""
        if self.started:
            await self.event(error_body(error))
            await self.end()
            return
        headers = {} if error.retry_after is None else {"retry-after": f"{max(1, round(error.retry_after))}"}
        await self.json(error.status, error_body(error), headers)

    async def _start(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        self.started = True
        pairs = [(b"content-type", content_type.encode())]
        pairs += [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})


class Engine(Protocol):
    """What an engine module loads. `routes` maps paths to POST handlers."""

    @property
    def info(self) -> Mapping[str, Any]:
        """For GET /health: plain facts about the loaded model."""
        ...

    @property
    def routes(self) -> Mapping[str, Handler]: ...


class Handler(Protocol):
    async def __call__(self, body: Mapping[str, Any], reply: Reply) -> None:
        """Answer one request whose body is the JSON object `body`. Cancelled when the client goes."""
        ...


class Slots:
    """A bounded queue in front of `limit` places. Use as `async with slots.taken()`."""

    def __init__(self, limit: int, max_queue: int) -> None:
        self._places = asyncio.Semaphore(limit)
        self._max_queue = max_queue
        self._waiting = 0
        self._running = 0

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for a place. Raises Overloaded at once when `max_queue` requests wait already."""
        if self._places.locked():
            if self._waiting >= self._max_queue:
                raise Overloaded(
                    f"the model is busy and {self._waiting} requests wait already: try again shortly",
                    retry_after=1,
                )
            self._waiting += 1
            try:
                await self._places.acquire()
            finally:
                self._waiting -= 1
        else:
            await self._places.acquire()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._places.release()

    @property
    def info(self) -> Mapping[str, int]:
        """Requests that run and that wait, for GET /health."""
        return {"running": self._running, "waiting": self._waiting}


def error_body(error: HeadgateError) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def application(engine: Engine) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The ASGI app of a loaded engine."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        reply = Reply(send)
        if scope["path"] == "/health" and scope["method"] == "GET":
            await reply.json(200, {"status": "ok", "pid": os.getpid(), **engine.info})
            return
        try:
            handler = engine.routes.get(scope["path"])
            if handler is None:
                raise NotFound(f"this engine has no route {scope['path']}")
            if scope["method"] != "POST":
                raise MethodNotAllowed(f"{scope['path']} takes POST")
            body = await _read_object(receive)
            if body is not None:
                await _until_client_goes(handler(body, reply), receive)
        except HeadgateError as error:
            await reply.error(error)
        except Exception:
            logger.exception("a request failed")
            await reply.error(Internal("the engine failed on this request; its log has the rest"))

    return app


async def _read_object(receive: Receive) -> Mapping[str, Any] | None:
    """The body as a JSON object; None when the client went before it was whole."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT:
            raise PayloadTooLarge(f"the body is larger than {BODY_LIMIT} bytes")
        if not message.get("more_body"):
            break
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(decoded, dict):
        raise InvalidRequest("the body must be a JSON object", code="invalid_json")
    return decoded


async def _until_client_goes(work: Awaitable[None], receive: Receive) -> None:
    """Run `work`, cancelled as soon as the connection is closed."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working = asyncio.ensure_future(work)  # noqa: TID251 - awaited below, and ended with this scope
    watching = asyncio.create_task(watch())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
        if not working.cancelled():
            working.result()
    finally:
        watching.cancel()
        working.cancel()


def run(load: Callable[[Mapping[str, Any], Path], Engine]) -> NoReturn:
    """Be an engine process: `python -m MODULE --options JSON --socket PATH`. Ends with an exit code.

    `load` gets the options and the socket's private folder; it raises ConfigError.

    0: told to stop. 1: an unexpected failure. 2: it can't start as configured; the last line of the output
    says why.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--options", type=msgspec.json.decode, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
    _die_with_parent()
    try:
        engine = load(arguments.options, arguments.socket.parent)
    except ConfigError as error:
        sys.stderr.write(f"ERROR: {error.message}\n")
        sys.exit(EXIT_CONFIGURATION)
    arguments.socket.unlink(missing_ok=True)
    config = uvicorn.Config(
        application(engine),
        uds=str(arguments.socket),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    _Server(config).run()
    sys.exit(0)


class _Server(uvicorn.Server):
    """uvicorn that ends with exit code 0 on SIGTERM, and leaves Ctrl-C to the parent."""

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.handle_exit)
        yield


def _die_with_parent() -> None:
    """End when the parent does, however it ends: by signal on Linux, by the end of stdin everywhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    threading.Thread(target=_exit_at_end_of_input, name="parent watch", daemon=True).start()


def _exit_at_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)
