"""What a reload has replaced: kept until the last call over it has ended, then closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial

from headgate.core.backend import Backend
from headgate.routing.route import Route, Router

log = logging.getLogger("headgate.server")


class Retiring:
    """Routes that a reload has replaced, and their backends. Used from the event loop's thread only."""

    def __init__(self) -> None:
        self._routes: set[Route] = set()
        """Those with calls under way still."""
        self._backends: list[Backend] = []
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def backends(self) -> int:
        """How many wait for their last call, or are being closed."""
        return len(self._backends) + len(self._closing)

    def replace(self, old: Router, new: Router) -> None:
        """From now on calls go by `new`. What only `old` had is closed when nothing needs it any more."""
        for route in old.routes.values():
            if route.leases.count:
                self._routes.add(route)
                route.leases.on_end = partial(self._ended, route)
        stays = {id(target.backend) for target in new.targets}
        self._backends += [each.backend for each in old.targets if id(each.backend) not in stays]
        self._sweep()

    def _ended(self, route: Route) -> None:
        route.leases.on_end = None
        self._routes.discard(route)
        self._sweep()

    def _sweep(self) -> None:
        """A call may still move to any target of its route: each is needed until it has ended."""
        needed = {id(target.backend) for route in self._routes for target in route.every_target}
        over = [backend for backend in self._backends if id(backend) not in needed]
        self._backends = [backend for backend in self._backends if id(backend) in needed]
        if over:
            task = asyncio.get_running_loop().create_task(close_all(over))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """The server stops: close all of it now."""
        for route in self._routes:
            route.leases.on_end = None
        self._routes.clear()
        self._sweep()
        await asyncio.gather(*self._closing)


async def close_all(backends: Iterable[Backend]) -> None:
    """Close them at once; what fails is logged."""
    closing = (backend.close() for backend in backends)
    for result in await asyncio.gather(*closing, return_exceptions=True):
        if isinstance(result, Exception):
            log.error("closing a backend failed", exc_info=result)
