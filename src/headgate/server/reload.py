"""Going by a changed configuration while serving: read, check, build and start first, then swap at once.

Until the swap nothing of what serves is touched; whatever goes wrong before it leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from headgate.backends.registry import Registry
from headgate.config.schema import Settings
from headgate.core.errors import HeadgateError, Unavailable
from headgate.policy.keys import check_exposure
from headgate.policy.memory import MemoryGuard
from headgate.routing.route import Router
from headgate.server.build import Built, declare, make_routes, report, start_routes
from headgate.server.changes import Changes, changes, in_effect
from headgate.server.gateway import Gateway
from headgate.server.retiring import close_all
from headgate.server.standing import Standing

log = logging.getLogger("headgate.reload")


class Reloader:
    """Reloads one gateway, one reload at a time. Used from the event loop's thread only.

    Args:
        read: the configuration as it is now. Blocks; runs on a thread. Raises ConfigError.
        keep_going: models that did not serve before may stay broken; one that serves is never lost.
    """

    def __init__(
        self,
        gateway: Gateway,
        read: Callable[[], Settings],
        *,
        registry: Registry | None = None,
        offline: bool = False,
        keep_going: bool = False,
    ) -> None:
        self._gateway = gateway
        self._read = read
        self._registry = registry if registry is not None else Registry()
        self._offline = offline
        self._keep_going = keep_going
        self._running: asyncio.Task[Changes] | None = None
        self._next: asyncio.Task[Changes] | None = None
        self._opened = asyncio.Event()
        self._closed = False
        gateway.reload = self.reload

    def open(self) -> None:
        """The gateway has started: begin what was asked for meanwhile."""
        self._opened.set()

    async def reload(self) -> Changes:
        """Read the configuration again and go by it; what that changed. Who stops waiting stops nothing.

        Raises:
            ConfigError: it is wrong, or something of it can't start. Nothing has changed.
        """
        return await asyncio.shield(self.begin())

    def begin(self) -> asyncio.Task[Changes]:
        """Start a reload; its outcome is in the log too. While one runs, all who ask share the next one."""
        if self._closed:
            raise Unavailable("The server is stopping; nothing is reloaded any more")
        if self._next is not None:  # it has not begun yet
            return self._next
        if self._running is None or self._running.done():
            self._running = self._start(None)
            return self._running
        self._next = self._start(self._running)
        return self._next

    def _start(self, after: asyncio.Task[Changes] | None) -> asyncio.Task[Changes]:
        task = asyncio.get_running_loop().create_task(self._run(after), name="reload")
        task.add_done_callback(_seen)
        return task

    async def close(self) -> None:
        """Stop what is under way, and start nothing more."""
        self._closed = True
        tasks = [task for task in (self._running, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, after: asyncio.Task[Changes] | None) -> Changes:
        if after is not None:
            await asyncio.wait({after})
            self._running, self._next = self._next, None
        await self._opened.wait()
        try:
            changed = await self._reload()
        except HeadgateError as error:
            log.error("not reloaded, nothing has changed: %s", error.message)
            raise
        except Exception:
            log.exception("not reloaded, nothing has changed")
            raise
        log.info("reloaded: %s", changed.in_words())
        if changed.restart:
            log.warning("a restart is needed for %s", ", ".join(changed.restart))
        return changed

    async def _reload(self) -> Changes:
        gateway = self._gateway
        said = await asyncio.to_thread(self._read)
        settings = in_effect(said, gateway.settings.server)
        for server in (said.server, settings.server):  # what `check` would refuse, and what would be open now
            check_exposure(server.host, keyed=bool(server.keys), allow_no_keys=server.allow_no_keys)
        if settings.server.max_memory is not None:
            MemoryGuard(settings.server.max_memory).look()
        # Comparing takes time where there are many targets, and making backends may import their modules.
        built = await asyncio.to_thread(self._build, settings)
        try:
            router = await self._started(built)
            changed = await asyncio.to_thread(changes, gateway.settings, said, built.broken)
        except BaseException:
            await asyncio.shield(close_all(built.fresh))
            raise
        self._swap(settings, router, built)
        serving = {id(target.backend) for target in router.targets}
        await close_all(backend for backend in built.fresh if id(backend) not in serving)
        return changed

    def _build(self, settings: Settings) -> Built:
        """Runs on a thread: it reads what serves, which nobody but a reload changes."""
        gateway = self._gateway
        standing = Standing(gateway.settings, gateway.router, gateway.failed)
        return make_routes(settings, self._registry, gateway.pools, offline=self._offline, standing=standing)

    async def _started(self, built: Built) -> Router:
        """The routes that serve, once their new backends have started; what can't is added to `broken`."""
        broken, self._failed = await start_routes(built.router, built.fresh)
        built.broken.update(broken)
        lost = built.broken.keys() & self._gateway.router.routes.keys()
        router = built.router.without(broken)
        report(built.broken, self._keep_going and not lost, left=len(router.routes))
        return router

    def _swap(self, settings: Settings, router: Router, built: Built) -> None:
        """No call comes in between: nothing here gives the event loop a turn."""
        gateway = self._gateway
        gateway.adopt(settings, router, built.broken)
        gateway.failed = self._failed
        for adjust in built.adjustments:
            adjust()
        declare(gateway)


def _seen(task: asyncio.Task[Changes]) -> None:
    """Who started it may not wait for it: its failure is in the log."""
    if not task.cancelled():
        task.exception()
