"""What a server that nobody asks anything should not have: tasks, timers, descriptors, calls in memory."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import Context
from pathlib import Path
from typing import Any, Self

import uvloop
from typing_extensions import TypeVarTuple, Unpack, override

from headgate.server.fastlane import FastLaneProtocol, HotCycle
from headgate.server.intake import Intake
from headgate.server.lanes import translated
from headgate.server.lanes.in_process import ChatLane, ResultLane
from headgate.server.lanes.passthrough import PassThrough
from headgate.server.relay import Relay
from headgate.server.trial import Trial
from headgate.upstream.http import HttpExchange
from tests.support.server import Running

OF_A_CALL = (
    FastLaneProtocol,
    HotCycle,
    Intake,
    Relay,
    Trial,
    PassThrough,
    translated.TranslatedChat,
    translated.TranslatedResult,
    ChatLane,
    ResultLane,
    HttpExchange,
)
"""What holds the bytes of a call, or stands for one."""
OF_THE_SERVER = (
    "Pool._sweep",
    "HttpToolsProtocol.timeout_keep_alive_handler",
    "_set_result_unless_cancelled",
)
"""Timers that go on while nothing is asked: connections are kept for the next request, and the main task of
uvicorn sleeps by turns."""
PATIENCE = 5.0
Arguments = TypeVarTuple("Arguments")


class TimedLoop(uvloop.Loop):
    """Knows its timers."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: list[tuple[asyncio.TimerHandle, float, str]] = []
        self._most = 1000

    @override
    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Arguments]], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = super().call_later(delay, callback, *args, context=context)
        name = getattr(callback, "__qualname__", repr(callback))
        self._timers.append((handle, self.time() + delay, name))
        if len(self._timers) > self._most:
            self._timers = list(self._pending())
            self._most = 2 * len(self._timers) + 1000
        return handle

    def _pending(self) -> Iterator[tuple[asyncio.TimerHandle, float, str]]:
        now = self.time()
        return (each for each in self._timers if not each[0].cancelled() and each[1] > now)

    @property
    def timers(self) -> list[str]:
        """What is to be called later."""
        return [name for _, _, name in self._pending()]


class Residue:
    """`with Residue(server) as residue:` nothing is under way; `residue.found()` tells what is there later
    and was not there then."""

    _watching = 0

    def __init__(self, server: Running) -> None:
        self._server = server
        self._loop = server.gateway.loop
        assert isinstance(self._loop, TimedLoop)
        self._tasks = self._on_loop(asyncio.all_tasks)
        gc.collect()  # what earlier tests let go of
        self._descriptors = _descriptors()

    def __enter__(self) -> Self:
        gc.freeze()  # what is there by now is not looked at again
        Residue._watching += 1
        return self

    def __exit__(self, *_: object) -> None:
        Residue._watching -= 1
        if not Residue._watching:
            gc.unfreeze()

    def found(self) -> list[str]:
        """Connections are kept for further requests: two descriptors for each, as both ends are here."""
        gateway = self._server.gateway
        checks: dict[str, Callable[[], Any]] = {
            "callers": lambda: self._server.connections,
            "calls": lambda: gateway.in_flight,
            "tasks": lambda: self._on_loop(self._new_tasks),
            "timers": lambda: self._on_loop(self._new_timers),
            "descriptors": lambda: max(0, self._more_descriptors()),
        }
        left = [f"{what}: {there}" for what, check in checks.items() if (there := settled(check))]
        gc.collect()
        kept = [type(each).__name__ for each in gc.get_objects() if isinstance(each, OF_A_CALL)]
        if kept:
            left.append(f"in memory: {sorted(kept)}")
        return left

    def _more_descriptors(self) -> int:
        """Below zero where something of earlier tests was closed meanwhile."""
        return _descriptors() - self._descriptors - 2 * self._server.gateway.pools.open_connections

    def _new_tasks(self) -> list[str]:
        return [
            repr(task) for task in asyncio.all_tasks() - self._tasks if task is not asyncio.current_task()
        ]

    def _new_timers(self) -> list[str]:
        assert isinstance(self._loop, TimedLoop)
        return [name for name in self._loop.timers if name not in OF_THE_SERVER]

    def _on_loop(self, what: Callable[[], Any]) -> Any:
        async def ask() -> Any:
            return what()

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result(30)


def settled(check: Callable[[], Any]) -> Any:
    """What `check` finds, once it finds nothing or patience is at an end: sockets close in their own time."""
    until = time.monotonic() + PATIENCE
    never = threading.Event()
    while (there := check()) and time.monotonic() < until:
        never.wait(0.01)
    return there


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
