"""A whole Headgate on a real socket, run on a thread of the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import uvicorn
import uvloop
import yaml
from typing_extensions import override

from headgate.backends.registry import Registry
from headgate.config.document import Document
from headgate.config.load import load, settings
from headgate.config.problems import Problems
from headgate.config.schema import Settings
from headgate.server import build
from headgate.server.gateway import Gateway
from headgate.server.run import DeferredApp, bind, uvicorn_config


class _Quiet(uvicorn.Server):
    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def settings_from(folder: Path, content: dict[str, Any]) -> Settings:
    """Settings as a user would have them: written to a file and loaded."""
    content.setdefault("server", {}).setdefault("port", 0)
    path = folder / "headgate.yaml"
    path.write_text(yaml.safe_dump(content))
    return load(path, backends=Registry())


def settings_of(content: dict[str, Any]) -> Settings:
    """The same without the file: for thousands of models, of which PyYAML takes half a minute to read."""
    content.setdefault("server", {}).setdefault("port", 0)
    return settings(Document(content, Problems("settings", {})), backends=Registry(), environ={})


class Running:
    """`with Running(settings) as server:` serves until the block ends.

    `edit` may change the gateway first; without `fast` the hot routes go through ASGI.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        keep_going: bool = False,
        fast: bool = True,
        observers: build.Observers | None = None,
        edit: Callable[[Gateway], None] | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
    ) -> None:
        self.gateway = build.build(settings, keep_going=keep_going, observers=observers)
        if edit is not None:
            edit(self.gateway)
        self._keep_going = keep_going
        self._loop_factory = loop_factory
        self.fast = fast
        self._socket = bind(settings.server)
        self.port: int = self._socket.getsockname()[1]
        self._started: Future[None] = Future()
        self._left: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._started.result(timeout=30)
        except BaseException:
            self._thread.join(timeout=30)
            self._socket.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=30)
        assert not self._thread.is_alive(), "the server did not stop"
        self._socket.close()
        assert not self._left, f"tasks go on after the stop: {self._left}"

    @property
    def connections(self) -> int:
        """Callers that are connected."""
        return len(self._server.server_state.connections)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._loop_factory) as runner:
            try:
                runner.run(self._main())
            except BaseException as error:
                if not self._started.done():
                    self._started.set_exception(error)
                else:
                    raise

    async def _main(self) -> None:
        await build.start(self.gateway, keep_going=self._keep_going)
        config = uvicorn_config(self.gateway, DeferredApp(self.gateway))
        if not self.fast:
            config.http = "httptools"
        self._server = _Quiet(config)
        self._started.set_result(None)  # the socket listens: connections wait for the server
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            await build.stop(self.gateway)
            self._left = await _left()


async def _left() -> list[str]:
    """Tasks that a stop has left behind; those that it cancelled get a few turns of the loop to end."""
    for _ in range(10):
        await asyncio.sleep(0)
    return [repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]
