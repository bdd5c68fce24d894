"""From settings to a running gateway: build backends and routes, start them, stop them."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace

from headgate.backends.pools import Pools
from headgate.backends.registry import BuildContext, Registry
from headgate.config.schema import (
    HedgeSettings,
    HoldBackSettings,
    ModelSettings,
    ResumeSettings,
    Settings,
    TargetSettings,
)
from headgate.core.backend import Backend, Timeouts
from headgate.core.errors import ConfigError, HeadgateError
from headgate.observe.logs import AccessLog
from headgate.observe.metrics import Metrics
from headgate.observe.tracing import Tracing
from headgate.policy.keys import KeyRing
from headgate.policy.limits import Admission
from headgate.policy.store import MemoryStore, SqliteStore, Store
from headgate.routing.health import Breaker, Health
from headgate.routing.quota import Quota
from headgate.routing.route import Affinity, Balance, Hedge, HoldBack, Resume, Retry, Route, Router
from headgate.routing.target import Abilities, Target
from headgate.server.endpoints import HOT_ENDPOINTS, Endpoints
from headgate.server.gateway import Gateway
from headgate.server.responses import ResponseBook
from headgate.server.streams import StreamBook

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
    router, broken = make_router(settings, registry, pools, offline=offline)
    _report(broken, keep_going, left=len(router.routes))
    store = _store(settings)
    gateway = Gateway(
        settings,
        router,
        KeyRing(settings.server.keys),
        observers.metrics,
        pools,
        Endpoints(HOT_ENDPOINTS),
        store,
        ResponseBook(store, time.time, ttl=settings.server.keep_responses),
        access_log=observers.access_log,
        tracing=observers.tracing,
        broken=broken,
        streams=StreamBook(store if settings.server.state is not None else None),
    )
    _declare(gateway)
    return gateway


def make_router(
    settings: Settings, registry: Registry, pools: Pools, *, offline: bool = False
) -> tuple[Router, dict[str, str]]:
    """Routes of all models that can be built, and why each of the others can't."""
    building = _Building(registry, pools, offline)
    routes: dict[str, Route] = {}
    broken: dict[str, str] = {}
    for name, model in settings.models.items():
        try:
            routes[name] = building.route(name, model)
        except ConfigError as error:
            broken[name] = error.message
    aliases = {alias: model for alias, model in settings.aliases.items() if model in routes}
    return Router(_with_fallbacks(routes, settings), aliases), broken


def _store(settings: Settings) -> Store:
    """What must survive a restart is in a file where there is one."""
    return SqliteStore(settings.server.state) if settings.server.state is not None else MemoryStore()


@dataclass(slots=True)
class _Building:
    """Makes routes and targets; what several of them share is made once."""

    registry: Registry
    pools: Pools
    offline: bool
    quotas: dict[tuple[object, ...], Quota] = field(default_factory=dict)

    def route(self, name: str, model: ModelSettings) -> Route:
        targets = tuple(self.target(name, number, model) for number in range(len(model.targets)))
        retry = model.retry
        return Route(
            name,
            targets,
            Retry(retry.attempts, budget=retry.budget, max_wait=retry.max_wait),
            model.timeouts.over(Timeouts()),
            balance=Balance(model.balance),
            affinity=_affinity(model.affinity),
            hedge=_hedge(model.hedge),
            hold_back=_hold_back(model.hold_back),
            admission=_admission(name, model.max_in_flight, model.max_waiting),
            max_waiting=model.max_waiting,
            resumable=_resume(model.resumable),
            strict=model.strict,
            owned_by=model.owned_by or targets[0].provider,
            created=int(time.time()),
            description=model.description,
        )

    def target(self, model_name: str, number: int, model: ModelSettings) -> Target:
        settings = model.targets[number]
        name = model_name if len(model.targets) == 1 else f"{model_name}#{number}"
        timeouts = model.timeouts_of(settings)
        backend = self.registry.row(settings.backend).build(
            settings, BuildContext(model_name, name, timeouts, self.pools, self.offline)
        )
        return Target(
            name,
            backend,
            settings.backend,
            settings.weight,
            settings.priority,
            _admission(name, settings.max_concurrency, settings.max_queue),
            timeouts,
            Abilities(frozenset(settings.lacks), settings.context_length),
            Health(Breaker(**model.breaker.model_dump()), self._quota(settings, name, model_name)),
        )

    def _quota(self, settings: TargetSettings, name: str, model_name: str) -> Quota:
        """One for targets with the same address, key and upstream model, unless the operator names it."""
        if settings.quota is not None:
            return self.quotas.setdefault((settings.quota,), Quota(settings.quota))
        own = settings.model_dump()
        account = [own.get(part) for part in ("account", "base_url", "api_key")]
        if not any(account):
            return Quota(name)
        key = (settings.backend, *account, settings.model or model_name)
        return self.quotas.setdefault(key, Quota(name))


def _admission(name: str, limit: int | None, max_queue: int) -> Admission | None:
    return None if limit is None else Admission(name, limit, max_queue)


def _hedge(said: HedgeSettings | None) -> Hedge | None:
    return None if said is None else Hedge(None if said.after == "p95" else said.after, said.budget)


def _resume(said: ResumeSettings | None) -> Resume | None:
    return None if said is None else Resume(said.keep, said.grace, said.buffer)


def _hold_back(said: HoldBackSettings | None) -> HoldBack | None:
    return None if said is None else HoldBack(said.characters, said.time)


def _affinity(said: str | None) -> Affinity | None:
    if said is None:
        return None
    if said == "user":
        return Affinity("user")
    if said == "prompt":
        return Affinity("prompt")
    return Affinity("header", said.removeprefix("header:").lower().encode("ascii"))


def _with_fallbacks(routes: dict[str, Route], settings: Settings) -> dict[str, Route]:
    """Each route with the targets of the models that stand in for it: their own, chains are not followed."""
    found = dict(routes)
    for name, route in routes.items():
        names = [each for each in settings.models[name].fallbacks if each in routes]
        if names:
            found[name] = replace(route, reserves=tuple(routes[each].targets for each in names))
    return found


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
    loop = asyncio.get_running_loop()
    gateway.bind(loop)
    if gateway.memory is not None:
        gateway.memory.start(loop)
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
    if gateway.memory is not None:
        gateway.memory.stop()
    await gateway.book.close()
    await gateway.streams.close()
    await gateway.store.close()
    backends = [target.backend for route in gateway.router.routes.values() for target in route.targets]
    for result in await asyncio.gather(*(b.close() for b in backends), return_exceptions=True):
        if isinstance(result, Exception):
            log.error("closing a backend failed", exc_info=result)
    await gateway.pools.close()
    if gateway.tracing is not None:
        await gateway.tracing.close()
