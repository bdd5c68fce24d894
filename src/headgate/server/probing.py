"""Active probes: targets with a `probe` are asked regularly whether they are well, beside the calls."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from time import monotonic

from headgate.core.backend import ProbedBackend
from headgate.core.errors import DeadlineExceeded, HeadgateError
from headgate.routing.health import Health
from headgate.routing.target import Target

log = logging.getLogger("headgate.probes")

AT_ONCE = 16
"""Probes under way at the same time, of all targets."""
_JITTER = 0.1
"""Of the time between two probes, either way: servers that were started together drift apart."""


class Probes:
    """One task for each probed target. Used from the event loop's thread only."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._running: dict[Health, tuple[_Prober, asyncio.Task[None]]] = {}

    def follow(self, targets: Iterable[Target]) -> None:
        """Probe these from now on; those that are probed already in the same way go on undisturbed."""
        wanted = {target.health: target for target in targets if target.probe is not None}
        for health, (prober, task) in list(self._running.items()):
            target = wanted.get(health)
            if target is not None and prober.probes_like(target):
                prober.target = target
                del wanted[health]
            else:
                task.cancel()
                del self._running[health]
        for health, target in wanted.items():
            prober = _Prober(target, self._rng, self._turns)
            task = asyncio.get_running_loop().create_task(prober.run(), name=f"probe {target.name}")
            self._running[health] = prober, task

    async def close(self) -> None:
        tasks = [task for _, task in self._running.values()]
        self._running.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Prober:
    """Asks one target, one probe after the other."""

    def __init__(self, target: Target, rng: random.Random, turns: asyncio.Semaphore) -> None:
        self.target = target
        self._rng = rng
        self._turns = turns
        self._failures = 0
        """In a row, of our own."""

    def probes_like(self, target: Target) -> bool:
        return target.probe == self.target.probe and target.backend is self.target.backend

    async def run(self) -> None:
        probe = self.target.probe
        assert probe is not None
        wait = self._rng.uniform(0, probe.every)
        while True:
            await asyncio.sleep(wait)
            if not self.target.health.drained:
                async with self._turns:
                    await self._once()
            wait = probe.every * self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    async def _once(self) -> None:
        target, probe = self.target, self.target.probe
        assert probe is not None and isinstance(target.backend, ProbedBackend)
        try:
            async with asyncio.timeout(probe.timeout):
                await target.backend.probe(probe.path)
        except TimeoutError:
            self._failed(DeadlineExceeded(f"a probe was not answered within {probe.timeout:g} s"))
        except HeadgateError as error:
            self._failed(error)
        except Exception as error:  # of an outsider's backend: the next probe may do better
            log.exception("probing %s failed", target.name)
            self._failed(HeadgateError(f"a probe ended in {type(error).__name__}; the log has the reason"))
        else:
            self._answered()

    def _failed(self, error: HeadgateError) -> None:
        if not self._failures:
            log.warning("probe of %s: %s", self.target.name, error.message)
        self._failures += 1
        self.target.health.trip(monotonic(), error.message, error.retry_after)

    def _answered(self) -> None:
        if self._failures:
            log.info("probe of %s: it answers again, after %d failures", self.target.name, self._failures)
        self.target.health.revive(monotonic(), self._failures)
        self._failures = 0
