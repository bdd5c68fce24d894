"""Running the server: bind, serve, drain on a signal; and one request without a port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from time import monotonic
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override

from headgate import __version__
from headgate.config.schema import ServerSettings, Settings
from headgate.config.sources import Source
from headgate.core.errors import ConfigError, Unavailable
from headgate.dialects.registry import DIALECTS, dialect
from headgate.observe import logs as logging_setup
from headgate.observe import tracing
from headgate.observe.logs import request_id
from headgate.observe.metrics import Metrics
from headgate.server import build
from headgate.server.failures import answer
from headgate.server.fastlane import FastLaneProtocol
from headgate.server.gateway import Gateway
from headgate.server.reload import Reloader
from headgate.server.watch import watch

log = logging.getLogger("headgate.server")

LARGEST_KEPT = 8 * 1024 * 1024
"""Bytes of the largest block of memory that is used again in place of being given back."""


def serve(
    settings: Settings,
    *,
    source: Source | None = None,
    watched: bool = False,
    keep_going: bool = False,
    offline: bool = False,
) -> int:
    """Serve until a signal; the exit code: 0 after a drained stop, 130 when a second Ctrl-C cut it short, 1
    when the API application could not be composed.

    Args:
        source: where `settings` came from, to reload them; `watched`: also when its files change.

    Raises:
        ConfigError: the address can't be bound, or a model can't start.
    """
    _keep_freed_memory()
    server = settings.server
    logs = logging_setup.setup(server.log_format, server.log_level)
    try:
        with contextlib.closing(bind(server)) as sock:
            access = logs.access if server.access_log else None
            observers = build.Observers(Metrics(), access, tracing.configure())
            gateway = build.build(settings, offline=offline, keep_going=keep_going, observers=observers)
            reloader = None
            if source is not None:
                reloader = Reloader(gateway, source.read, offline=offline, keep_going=keep_going)
            return _run(_serve(gateway, sock, keep_going, reloader, source if watched else None))
    finally:
        logs.close()


def _keep_freed_memory() -> None:
    """Have the C library keep what requests free, up to twice LARGEST_KEPT, for the next ones.

    glibc gives memory back from 128 KiB on, and a request of 100 KB then faults in 40 pages, a third of its
    cost. It raises that limit by itself when it frees a block it had mapped (mallopt(3), M_MMAP_THRESHOLD).
    This one's pages are never touched. Elsewhere nothing happens.
    """
    bytes(LARGEST_KEPT)


def bind(server: ServerSettings) -> socket.socket:
    """A listening socket. Raises ConfigError naming the address and what to do."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((server.host, server.port))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"can't listen on {server.host}:{server.port}: {error.strerror or error};"
            " choose another with --port, HEADGATE_PORT or server.port"
        ) from error
    sock.setblocking(False)
    return sock


def _run(main: Coroutine[Any, Any, int]) -> int:
    factory = asyncio.new_event_loop
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


class DeferredApp:
    """The ASGI application, composed on a thread while the hot routes are served already.

    Importing FastAPI takes longer than the rest of the start together, and the fast lane does not need it.
    When that fails, which is a defect of the installation, `on_failure` is called, once; whoever asks for one
    of its routes, the probes included, is told 503.
    """

    def __init__(self, gateway: Gateway, on_failure: Callable[[], None] = lambda: None) -> None:
        self._gateway = gateway
        self._on_failure = on_failure
        self._app: asyncio.Task[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            app = await asyncio.shield(self.compose())
        except Exception:  # in the log already
            await _refuse(scope, send)
        else:
            await app(scope, receive, send)

    def compose(self) -> asyncio.Task[ASGIApp]:
        """Begin, unless it has begun."""
        if self._app is None:
            self._app = asyncio.create_task(asyncio.to_thread(_create_app, self._gateway))
            self._app.add_done_callback(self._composed)
        return self._app

    def _composed(self, task: asyncio.Task[ASGIApp]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            log.critical("the API application can't be composed; the server stops", exc_info=error)
            self._on_failure()
            return
        # On a thread too: importing one takes long enough to hold up the event loop at its first request.
        asyncio.get_running_loop().run_in_executor(None, lambda: [dialect(name) for name in DIALECTS])


async def _refuse(scope: Scope, send: Send) -> None:
    """Without the application: it is what is missing."""
    wire = answer(scope["path"], Unavailable("The server could not be composed and stops; its log says why"))
    own = [
        (b"x-request-id", request_id(scope["headers"]).encode("ascii")),
        (b"content-length", str(len(wire.body)).encode()),
    ]
    await send({"type": "http.response.start", "status": wire.status, "headers": [*wire.headers, *own]})
    await send({"type": "http.response.body", "body": wire.body})


def _create_app(gateway: Gateway) -> ASGIApp:
    from headgate.server.app import create_app

    return create_app(gateway)


class DrainingServer(uvicorn.Server):
    """uvicorn's server with this program's manners on signals: the exit code is ours to give."""

    interrupted = False
    broken = False

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    def give_up(self) -> None:
        """Stop, as at a signal; the exit code tells that it was none."""
        self.broken = self.should_exit = True

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Within the grace period, wait for connections, then for what goes on without one.

        At its end every call is told so. What is no call, like a prediction, uvicorn cancels a little later.
        """
        grace = self._gateway.settings.server.grace
        self.config.timeout_graceful_shutdown = _cut_off(grace)
        until = monotonic() + grace
        end = asyncio.get_running_loop().call_later(grace, self._gateway.abandon_all)
        await super().shutdown(sockets)
        end.cancel()
        if not self.force_exit:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until - monotonic()):
                    await self._gateway.drained()

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """First signal: stop accepting and drain. Second: stop now. Nothing is raised again afterwards."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        if self.should_exit:
            self.interrupted = self.force_exit = True
            self._gateway.abandon_all()
            return
        name = signal.Signals(number).name
        log.info("%s: draining; what is under way may finish (again: stop now)", name)
        self.should_exit = True


@contextlib.asynccontextmanager
async def _reloading(reloader: Reloader, watched: Source | None) -> AsyncIterator[None]:
    """Reload on SIGHUP, where the system has it, and when the files of `watched` change."""
    loop = asyncio.get_running_loop()
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None:
        loop.add_signal_handler(hang_up, reloader.begin)
    watching = loop.create_task(watch(watched, reloader.reload)) if watched is not None else None
    try:
        yield
    finally:
        if hang_up is not None:
            loop.remove_signal_handler(hang_up)
        if watching is not None:
            watching.cancel()


async def _serve(
    gateway: Gateway,
    sock: socket.socket,
    keep_going: bool,
    reloader: Reloader | None,
    watched: Source | None,
) -> int:
    async with _reloading(reloader, watched) if reloader is not None else contextlib.nullcontext():
        await build.start(gateway, keep_going=keep_going)
        try:
            if reloader is not None:
                reloader.open()
            return await _serve_started(gateway, sock)
        finally:
            if reloader is not None:
                await reloader.close()
            await build.stop(gateway)


async def _serve_started(gateway: Gateway, sock: socket.socket) -> int:
    app = DeferredApp(gateway, lambda: server.give_up())
    server = DrainingServer(uvicorn_config(gateway, app), gateway)
    host, port = sock.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    models = ", ".join(gateway.router.routes)
    log.info("headgate %s serves %s on http://%s:%d (API page: /docs)", __version__, models, shown, port)
    app.compose()
    await server.serve(sockets=[sock])
    if server.interrupted:
        return 130
    return 1 if server.broken else 0


def uvicorn_config(gateway: Gateway, app: ASGIApp) -> uvicorn.Config:
    """How uvicorn runs a gateway: the fast lane's protocol, no log lines of its own, a bounded drain."""

    class BoundProtocol(FastLaneProtocol):
        pass

    BoundProtocol.gateway = gateway
    return uvicorn.Config(
        app,
        http=BoundProtocol,
        ws="none",
        lifespan="off",  # the gateway is started before, to report what fails, and stopped after
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_cut_off(gateway.settings.server.grace),
    )


def _cut_off(grace: float) -> int:
    """Seconds after which uvicorn cancels what still runs: a little later than we end the calls."""
    return math.ceil(grace) + 1


async def call(
    settings: Settings, method: str, path: str, body: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> tuple[int, list[tuple[bytes, bytes]], AsyncIterator[bytes]]:
    """One request through the application, with no port. The server is stopped when the body is read out."""
    gateway = build.build(settings)
    app = _create_app(gateway)
    await build.start(gateway)
    raw_path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method.upper(),
        "scheme": "http",
        "path": raw_path,
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [*headers, (b"content-length", str(len(body)).encode())],
        "client": None,
        "server": None,
        "state": {},
    }
    messages: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    sent = False

    async def receive() -> dict[str, object]:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, object]) -> None:
        await messages.put(message)

    task: asyncio.Task[None] = asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]
    task.add_done_callback(lambda _: messages.put_nowait({"type": "end"}))

    async def content() -> AsyncIterator[bytes]:
        try:
            while True:
                message = await messages.get()
                if message["type"] == "end":
                    break
                yield message.get("body", b"")  # type: ignore[misc]
                if not message.get("more_body", False):
                    break
            await task
        finally:
            await build.stop(gateway)

    first = await messages.get()
    if first["type"] != "http.response.start":
        await build.stop(gateway)
        await task
        raise RuntimeError("the application gave no answer")
    return first["status"], list(first["headers"]), content()  # type: ignore[return-value, call-overload]
