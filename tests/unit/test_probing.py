"""Active probes: when targets are asked, what an answer and a failure change, and how they start and stop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec

import pytest
from typing_extensions import override

from headgate.backends.scripted import ScriptedBackend, ScriptedSettings
from headgate.core.errors import HeadgateError, Unavailable
from headgate.routing.health import Breaker, Circuit, Health
from headgate.routing.target import Probe, Target
from headgate.server.probing import AT_ONCE, Probes

P = ParamSpec("P")


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


SOON = Probe(every=0.001, path="/health", timeout=5.0)


class Asked(ScriptedBackend):
    """Notes how it is asked; `answer` may raise, or wait."""

    def __init__(self) -> None:
        super().__init__(ScriptedSettings(backend="scripted"))
        self.paths: list[str | None] = []
        self.under_way = self.most = 0
        self.failure: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.asked = asyncio.Event()

    async def probe(self, path: str | None) -> None:
        self.paths.append(path)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.asked.set()
        try:
            if self.hold is not None:
                await self.hold.wait()
            if self.failure is not None:
                raise self.failure
        finally:
            self.under_way -= 1

    async def times(self, count: int) -> None:
        """Wait until it was asked so many times more."""
        wanted = len(self.paths) + count
        while len(self.paths) < wanted:
            self.asked.clear()
            await self.asked.wait()


def target(probe: Probe | None = SOON, **breaker: float) -> tuple[Target, Asked]:
    backend = Asked()
    health = Health(Breaker(**breaker))  # type: ignore[arg-type]
    return Target("t", backend, "scripted", health=health, probe=probe), backend


def probes() -> Probes:
    return Probes(random.Random(1))


async def until(condition: Callable[[], bool], backend: Asked) -> None:
    while not condition():
        await backend.times(1)


@in_loop
async def test_failures_open_the_circuit_and_an_answer_ends_the_wait() -> None:
    each, backend = target(failures=3, cooldown=600.0)
    backend.failure = Unavailable("no answer")
    running = probes()
    running.follow([each])
    await until(lambda: each.health.circuit is Circuit.OPEN, backend)
    assert each.health.reason == "no answer"
    now = asyncio.get_running_loop().time()
    assert not each.health.available(now)
    backend.failure = None
    await until(lambda: each.health.available(asyncio.get_running_loop().time()), backend)
    assert each.health.circuit is Circuit.OPEN  # the next call finds out
    assert set(backend.paths) == {"/health"}
    await running.close()


@in_loop
async def test_failures_now_and_then_never_add_up() -> None:
    each, backend = target(failures=3)
    running = probes()
    running.follow([each])
    for _ in range(6):
        backend.failure = Unavailable("no answer")
        await backend.times(1)
        backend.failure = None
        await backend.times(2)
        assert each.health.circuit is Circuit.CLOSED
    await running.close()


@in_loop
async def test_a_probe_that_takes_too_long_has_failed_and_none_overlaps() -> None:
    each, backend = target(replace(SOON, timeout=0.005), failures=2)
    backend.hold = asyncio.Event()
    running = probes()
    running.follow([each])
    await until(lambda: each.health.circuit is Circuit.OPEN, backend)
    assert each.health.reason == "a probe was not answered within 0.005 s"
    assert backend.most == 1
    await running.close()
    assert backend.under_way == 0


@in_loop
async def test_a_backend_that_raises_what_it_must_not_is_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    each, backend = target(failures=1)
    backend.failure = ValueError("a defect")
    running = probes()
    running.follow([each])
    await until(lambda: each.health.circuit is Circuit.OPEN, backend)
    await backend.times(2)
    assert each.health.reason == "a probe ended in ValueError; the log has the reason"
    assert "probing t failed" in caplog.text
    await running.close()


@in_loop
async def test_drained_targets_are_left_alone() -> None:
    each, backend = target()
    other, beside = target()
    running = probes()
    running.follow([each, other])
    await backend.times(1)
    each.health.drain()
    await beside.times(1)  # one that was under way has ended
    before = len(backend.paths)
    await beside.times(20)
    assert len(backend.paths) == before
    each.health.enable()
    await backend.times(1)
    await running.close()


@in_loop
async def test_so_many_at_once_and_no_more() -> None:
    class Counted(Asked):
        now = most_of_all = 0

        @override
        async def probe(self, path: str | None) -> None:
            Counted.now += 1
            Counted.most_of_all = max(Counted.most_of_all, Counted.now)
            if Counted.now == AT_ONCE:
                full.set()
            try:
                await super().probe(path)
            finally:
                Counted.now -= 1

    full, hold = asyncio.Event(), asyncio.Event()
    backends = [Counted() for _ in range(AT_ONCE + 10)]
    for backend in backends:
        backend.hold = hold
    running = probes()
    running.follow([Target(f"t{n}", each, "scripted", probe=SOON) for n, each in enumerate(backends)])
    await full.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert Counted.most_of_all == AT_ONCE
    hold.set()
    for backend in backends:
        await backend.times(1)
    assert Counted.most_of_all == AT_ONCE
    await running.close()


@in_loop
async def test_a_reload_starts_stops_and_keeps_probes() -> None:
    kept, kept_backend = target()
    gone, gone_backend = target()
    changed, changed_backend = target(replace(SOON, path="/old"))
    running = probes()
    running.follow([kept, gone, changed])
    kept_backend.hold = asyncio.Event()
    await kept_backend.times(1)
    new, new_backend = target()
    unprobed, unprobed_backend = target(None)
    running.follow([replace(kept, name="renamed", weight=2.0), replace(changed, probe=SOON), new, unprobed])
    kept_backend.hold.set()
    await new_backend.times(1)
    await kept_backend.times(1)
    stopped = len(gone_backend.paths)
    await changed_backend.times(3)
    assert changed_backend.paths[-1] == "/health"
    assert len(gone_backend.paths) == stopped
    assert kept_backend.most == changed_backend.most == 1
    assert unprobed_backend.paths == []
    await running.close()
    assert len(asyncio.all_tasks()) == 1


@in_loop
async def test_nothing_is_asked_at_once_and_targets_drift_apart() -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    each, backend = target(replace(SOON, every=10.0))
    running = probes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headgate.server.probing.asyncio.sleep", noted)
        running.follow([each])
        await backend.times(50)
        await running.close()
    assert 0 <= waits[0] <= 10
    assert all(9 <= wait <= 11 for wait in waits[1:])
    assert len(set(waits)) == len(waits)


def test_an_error_is_told_once_until_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    async def fail_and_recover() -> None:
        each, backend = target()
        backend.failure = HeadgateError("gone")
        running = probes()
        running.follow([each])
        await backend.times(4)
        backend.failure = None
        await backend.times(3)
        await running.close()

    with caplog.at_level("INFO", "headgate.probes"):
        asyncio.run(fail_and_recover())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.messages[0] == "probe of t: gone"
