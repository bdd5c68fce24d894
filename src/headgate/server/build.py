"""From settings to a running gateway: build backends and routes, start them, stop them."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from headgate.backends.pools import Pools
from headgate.backends.registry import BuildContext, Registry
from headgate.config.schema import ModelSettings, Settings, TargetSettings
from headgate.core.backend import Backend, Timeouts
from headgate.core.errors import ConfigError, HeadgateError
from headgate.observe.logs import AccessLog
from headgate.observe.metrics import Metrics
from headgate.observe.tracing import Tracing
from headgate.policy.keys import KeyRing
from headgate.policy.limits import Admission
from headgate.policy.store import MemoryStore, SqliteStore, Store
from headgate.routing.plan import Retry, Route, Router, Target
from headgate.server.endpoints import HOT_ENDPOINTS, Endpoints
from headgate.server.gateway import Gateway
from headgate.server.responses import ResponseBook

log = logging.getLogger("headgate.server")


@dataclass(frozen=True, slots=True)
class Observers:
    """Where ended calls are reported. All optional but the metrics."""

    metrics: Metrics
    access_log: AccessLog | None = None
    tracing: Tracing | None = None


def build(
    settings: Settings,
    registry: Registry | None = None,
    *,
    offline: bool = False,
    keep_going: bool = False,
    observers: Observers | None = None,
) -> Gateway:
    """Make every backend and route of a configuration. Opens no port and loads no model.

    Raises:
        ConfigError: one message with every model that can't be built; with `keep_going` only when none can.
    """
    registry = registry if registry is not None else Registry()
    observers = observers if observers is not None else Observers(Metrics())
    pools = Pools()
    routes: dict[str, Route] = {}
    broken: dict[str, str] = {}
    for name, model in settings.models.items():
        try:
            routes[name] = _route(name, model, registry, pools, offline)
        except ConfigError as error:
            broken[name] = error.message
    _report(broken, keep_going, left=len(routes))
    aliases = {alias: model for alias, model in settings.aliases.items() if model in routes}
    store = _store(settings)
    gateway = Gateway(
        settings,
        Router(routes, aliases),
        KeyRing(settings.server.keys),
        observers.metrics,
        pools,
        Endpoints(HOT_ENDPOINTS),
        store,
        ResponseBook(store, time.time, ttl=settings.server.keep_responses),
        access_log=observers.access_log,
        tracing=observers.tracing,
        broken=broken,
    )
    _declare(gateway)
    return gateway


def _store(settings: Settings) -> Store:
    """What must survive a restart is in a file where there is one."""
    return SqliteStore(settings.server.state) if settings.server.state is not None else MemoryStore()


def _route(name: str, model: ModelSettings, registry: Registry, pools: Pools, offline: bool) -> Route:
    targets = tuple(
        _target(name, number, model, settings, registry, pools, offline)
        for number, settings in enumerate(model.targets)
    )
    return Route(
        name,
        targets,
        Retry(model.retry.attempts),
        model.timeouts.over(Timeouts()),
        strict=model.strict,
        owned_by=model.owned_by or targets[0].provider,
        created=int(time.time()),
        description=model.description,
    )


def _target(
    model_name: str,
    number: int,
    model: ModelSettings,
    settings: TargetSettings,
    registry: Registry,
    pools: Pools,
    offline: bool,
) -> Target:
    name = model_name if len(model.targets) == 1 else f"{model_name}#{number}"
    timeouts = model.timeouts_of(settings)
    backend = registry.row(settings.backend).build(
        settings, BuildContext(model_name, name, timeouts, pools, offline)
    )
    admission = None
    if settings.max_concurrency is not None:
        admission = Admission(name, settings.max_concurrency, settings.max_queue)
    return Target(name, backend, settings.backend, settings.weight, settings.priority, admission, timeouts)


def _report(broken: dict[str, str], keep_going: bool, left: int) -> None:
    if not broken:
        return
    lines = [f"model {name!r}: {reason}" for name, reason in broken.items()]
    if not keep_going or not left:
        raise ConfigError("\n".join(lines))
    for line in lines:
        log.error("%s (serving the others)", line)


def _declare(gateway: Gateway) -> None:
    metrics = gateway.metrics
    routes = gateway.router.routes
    providers = {t.name: t.provider for route in routes.values() for t in route.targets}
    metrics.declare(routes, providers)
    if gateway.tracing is not None:
        gateway.tracing.declare(providers)
    metrics.watch_models(gateway.statuses)
    for name, route in routes.items():
        queues = [t.admission for t in route.targets if t.admission is not None]
        if queues:
            metrics.watch_queue(name, lambda queues=queues: sum(q.waiting for q in queues))  # type: ignore[misc]


async def start(gateway: Gateway, *, keep_going: bool = False) -> None:
    """Start every backend, all at once.

    Raises:
        ConfigError: one message with every model that failed; with `keep_going` only when all did.
    """
    gateway.bind(asyncio.get_running_loop())
    models = list(gateway.router.routes)
    failures = await asyncio.gather(*(_start_route(gateway.router.routes[name]) for name in models))
    broken = {name: reason for name, reason in zip(models, failures, strict=True) if reason is not None}
    try:
        _report(broken, keep_going, left=len(models) - len(broken))
    except ConfigError:
        await stop(gateway)
        raise
    gateway.retire(broken)
    await gateway.book.recover()
    gateway.started = True


async def _start_route(route: Route) -> str | None:
    """Why the route can't serve, or None. A route serves as long as one of its targets does."""
    reasons = await asyncio.gather(*(_start_backend(target.backend) for target in route.targets))
    failed = [reason for reason in reasons if reason is not None]
    if len(failed) < len(reasons):
        for reason in failed:
            log.error("model %r: a target can't start: %s", route.model, reason)
        return None
    return "; ".join(failed)


async def _start_backend(backend: Backend) -> str | None:
    try:
        await backend.start()
    except HeadgateError as error:
        return error.message
    except Exception as error:
        log.exception("a backend failed to start")
        return f"{type(error).__name__} while starting; the log has the reason"
    return None


async def stop(gateway: Gateway) -> None:
    """End what is under way and close every backend and connection."""
    gateway.draining = True
    gateway.abandon_all()
    await gateway.book.close()
    await gateway.store.close()
    backends = [target.backend for route in gateway.router.routes.values() for target in route.targets]
    for result in await asyncio.gather(*(b.close() for b in backends), return_exceptions=True):
        if isinstance(result, Exception):
            log.error("closing a backend failed", exc_info=result)
    await gateway.pools.close()
    if gateway.tracing is not None:
        await gateway.tracing.close()
