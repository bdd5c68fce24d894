"""A whole Headgate in a process of its own, with a watch on its event loop.

Of its own, so that what a test does to ask for much can't hold up the loop that is watched.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from headgate.backends.registry import Registry
from headgate.config.load import load
from tests.support.process import write_config
from tests.support.server import Running

LIMIT = 0.25
"""Seconds for which the loop may be away at a stretch."""


def _waited() -> float:
    """Seconds for which this thread was ready to run and the machine had no core for it (Linux; else 0)."""
    try:
        stat = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text()
    except OSError:
        return 0.0
    return int(stat.split()[1]) / 1e9


class Watch:
    """Ticks on a loop and notes the longest time between two ticks.

    Less the time in which the kernel ran something else: what a loaded machine does is not the loop's doing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._last = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self._longest = 0.0

    def start(self) -> float:
        self._last = self._now()
        self._longest = 0.0
        self._tick()
        return 0.0

    def _now(self) -> float:
        return time.perf_counter() - _waited()

    def _tick(self) -> None:
        now = self._now()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        self._handle = self._loop.call_later(0.002, self._tick)

    def stop(self) -> float:
        """The longest time, in seconds."""
        if self._handle is not None:
            self._handle.cancel()
        return max(self._longest, self._now() - self._last)

    def block(self) -> float:
        """What must never happen."""
        time.sleep(LIMIT + 0.05)  # noqa: TID251
        return 0.0


class Watched:
    """`with Watched(folder, content) as server:` serves until the block ends."""

    def __init__(self, folder: Path, content: dict[str, Any], *, fast: bool = True) -> None:
        content.setdefault("server", {})["port"] = 0
        path = write_config(folder, content)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.watched", path, "fast" if fast else "asgi"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.port = 0

    def __enter__(self) -> Self:
        self.port = int(self._answer())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(timeout=30)
        finally:
            self._process.kill()  # only where it did not end
            self._process.wait(30)

    def ask(self, what: str) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the server ended with {self._process.wait(30)}"
        return line

    @contextmanager
    def stays_free(self, what: str) -> Iterator[None]:
        """Fails when the event loop was away for longer than `LIMIT` within the block."""
        self.ask("start")
        yield
        longest = self.ask("stop")
        print(f"{what}: longest gap {longest * 1000:.0f} ms")
        assert longest < LIMIT, f"{what}: the event loop was away for {longest * 1000:.0f} ms"


def main(path: str, lane: str) -> None:
    with Running(load(Path(path), backends=Registry()), fast=lane == "fast") as server:
        loop = server.gateway.loop
        watch = Watch(loop)
        actions: dict[str, Callable[[], float]] = {
            "start": watch.start,
            "stop": watch.stop,
            "block": watch.block,
        }

        async def act(what: str) -> float:
            return actions[what]()

        print(server.port, flush=True)
        for line in sys.stdin:
            print(asyncio.run_coroutine_threadsafe(act(line.strip()), loop).result(30), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
