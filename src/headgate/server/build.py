"""From settings to a running gateway: build backends and routes, start them, stop them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

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
from headgate.core.backend import Backend, ProbedBackend, Timeouts
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
from headgate.routing.target import Abilities, Probe, Target
from headgate.server.endpoints import HOT_ENDPOINTS, Endpoints
from headgate.server.gateway import Gateway
from headgate.server.responses import ResponseBook
from headgate.server.retiring import close_all
from headgate.server.standing import QuotaKey, Standing, quota_key
from headgate.server.streams import StreamBook
from headgate.server.targets import budgets, target_states

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
    built = make_routes(settings, registry, pools, offline=offline)
    report(built.broken, keep_going, left=len(built.router.routes))
    store = _store(settings)
    gateway = Gateway(
        settings,
        built.router,
        KeyRing(settings.server.keys),
        observers.metrics,
        pools,
        Endpoints(HOT_ENDPOINTS),
        store,
        ResponseBook(store, time.time, ttl=settings.server.keep_responses),
        access_log=observers.access_log,
        tracing=observers.tracing,
        broken=built.broken,
        streams=StreamBook(store if settings.server.state is not None else None),
    )
    declare(gateway)
    return gateway


@dataclass(slots=True)
class Built:
    """Routes that were made and not started yet.

    Args:
        broken: models that can't be built, with the reason.
        fresh: backends that were made for it, also those of broken models; the others serve already.
        adjustments: what to change in what is kept, once the routes are taken over.
    """

    router: Router
    broken: dict[str, str]
    fresh: list[Backend]
    adjustments: list[Callable[[], None]]


def make_routes(
    settings: Settings,
    registry: Registry,
    pools: Pools,
    *,
    offline: bool = False,
    standing: Standing | None = None,
) -> Built:
    """Routes of all models that can be built.

    Args:
        standing: what serves now, to keep of it what stays as it is. Nothing of it is changed here.
    """
    building = _Building(settings, registry, pools, offline, standing or Standing())
    routes: dict[str, Route] = {}
    broken: dict[str, str] = {}
    for name, model in settings.models.items():
        try:
            routes[name] = building.route(name, model)
        except ConfigError as error:
            broken[name] = error.message
    aliases = {alias: model for alias, model in settings.aliases.items() if model in routes}
    router = Router(_with_fallbacks(routes, settings), aliases)
    return Built(router, broken, building.fresh, building.adjustments)


def _store(settings: Settings) -> Store:
    """What must survive a restart is in a file where there is one."""
    return SqliteStore(settings.server.state) if settings.server.state is not None else MemoryStore()


@dataclass(slots=True)
class _Building:
    """Makes routes and targets; what several of them share is made once, what serves already is kept."""

    settings: Settings
    registry: Registry
    pools: Pools
    offline: bool
    standing: Standing
    quotas: dict[QuotaKey, Quota] = field(default_factory=dict)
    fresh: list[Backend] = field(default_factory=list)
    adjustments: list[Callable[[], None]] = field(default_factory=list)

    def route(self, name: str, model: ModelSettings) -> Route:
        old = self.standing.routes.get(name)
        targets = tuple(self.target(name, number, model) for number in range(len(model.targets)))
        retry = Retry(model.retry.attempts, budget=model.retry.budget, max_wait=model.retry.max_wait)
        hedge = _hedge(model.hedge)
        admission = old.admission if old is not None else None
        route = Route(
            name,
            targets,
            retry,
            model.timeouts.over(Timeouts()),
            balance=Balance(model.balance),
            affinity=_affinity(model.affinity),
            hedge=hedge,
            hold_back=_hold_back(model.hold_back),
            admission=self._admission(admission, name, model.max_in_flight, model.max_waiting),
            max_waiting=model.max_waiting,
            resumable=_resume(model.resumable),
            strict=model.strict,
            owned_by=model.owned_by or targets[0].provider,
            created=old.created if old is not None else int(time.time()),
            description=model.description,
        )
        if old is not None and {each.health for each in targets} == {each.health for each in old.targets}:
            route.inherit(old.pace)
            self.adjustments.append(partial(old.pace.rebudget, retry, hedge))
        return route

    def target(self, model_name: str, number: int, model: ModelSettings) -> Target:
        said = model.targets[number]
        name = model_name if len(model.targets) == 1 else f"{model_name}#{number}"
        timeouts = model.timeouts_of(said)
        kept = self.standing.take(model_name, name, said, timeouts, self.settings)
        breaker = Breaker(**model.breaker.model_dump())
        quota = self._quota(said, name, model_name, kept)
        if kept is None:
            backend = self.registry.row(said.backend).build(
                said, BuildContext(model_name, name, timeouts, self.pools, self.offline)
            )
            self.fresh.append(backend)
            found = Target(name, backend, said.backend, timeouts=timeouts, health=Health(breaker, quota))
        else:
            found = kept
            self.adjustments.append(partial(kept.health.adjust, breaker, quota))
        if said.probe is not None and not isinstance(found.backend, ProbedBackend):
            raise ConfigError(
                f"models.{model_name}: backend {said.backend!r} can't be probed; remove its setting probe"
            )
        return replace(
            found,
            name=name,
            weight=said.weight,
            priority=said.priority,
            admission=self._admission(found.admission, name, said.max_concurrency, said.max_queue),
            abilities=Abilities(frozenset(said.lacks), said.context_length),
            probe=Probe(**said.probe.model_dump()) if said.probe is not None else None,
        )

    def _quota(self, said: TargetSettings, name: str, model_name: str, kept: Target | None) -> Quota:
        key = quota_key(said, model_name)
        shared = self.standing.quotas
        if key is None:
            own = kept.health.quota if kept is not None else None
            return own if own is not None and own not in shared.values() else Quota(name)
        return self.quotas.setdefault(key, shared.get(key) or Quota(said.quota or name))

    def _admission(
        self, old: Admission | None, name: str, limit: int | None, max_queue: int
    ) -> Admission | None:
        if limit is None:
            return None
        if old is None:
            return Admission(name, limit, max_queue)
        self.adjustments.append(partial(old.resize, name, limit, max_queue))
        return old


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
            found[name] = route.with_reserves(tuple(routes[each].targets for each in names))
    return found


def report(broken: dict[str, str], keep_going: bool, left: int) -> None:
    """Log what is broken. Raises ConfigError, with a line for each, unless the `left` ones may be served."""
    if not broken:
        return
    lines = [f"model {name!r}: {reason}" for name, reason in broken.items()]
    if not keep_going or not left:
        raise ConfigError("\n".join(lines))
    for line in lines:
        log.error("%s (serving the others)", line)


def declare(gateway: Gateway) -> None:
    """Tell the observers of the models and targets that there are now."""
    metrics = gateway.metrics
    routes = gateway.router.routes
    providers = {t.name: t.provider for route in routes.values() for t in route.targets}
    metrics.declare(routes, providers)
    if gateway.tracing is not None:
        gateway.tracing.declare(providers)
    metrics.gauges.watch_models(gateway.statuses)
    metrics.gauges.watch_targets(lambda: target_states(gateway.router))
    metrics.gauges.watch_budgets(lambda: budgets(gateway.router))
    metrics.gauges.forget_queues()
    for name, route in routes.items():
        queues = [t.admission for t in route.targets if t.admission is not None]
        if queues:
            metrics.gauges.watch_queue(name, lambda queues=queues: sum(q.waiting for q in queues))  # type: ignore[misc]


async def start(gateway: Gateway, *, keep_going: bool = False) -> None:
    """Start every backend, all at once.

    Raises:
        ConfigError: one message with every model that failed; with `keep_going` only when all did.
    """
    loop = asyncio.get_running_loop()
    gateway.bind(loop)
    if gateway.memory is not None:
        gateway.memory.start(loop)
    router = gateway.router
    broken, gateway.failed = await start_routes(router, [target.backend for target in router.targets])
    try:
        report(broken, keep_going, left=len(router.routes) - len(broken))
    except ConfigError:
        await stop(gateway)
        raise
    gateway.retire(broken)
    await close_all(target.backend for name in broken for target in router.routes[name].targets)
    await gateway.book.recover()
    gateway.probes.follow(gateway.router.targets)
    gateway.started = True


async def start_routes(router: Router, fresh: Iterable[Backend]) -> tuple[dict[str, str], list[Target]]:
    """Start the backends `fresh`, all at once.

    A route serves as long as one of its targets does.

    Returns:
        Models that can't serve, with the reason; and the targets that can't, of those that can.
    """
    starting = {id(backend) for backend in fresh}
    targets = [target for target in router.targets if id(target.backend) in starting]
    reasons = await asyncio.gather(*(_start_backend(target.backend) for target in targets))
    failures = {target: reason for target, reason in zip(targets, reasons, strict=True) if reason is not None}
    broken: dict[str, str] = {}
    failed: list[Target] = []
    for name, route in router.routes.items():
        own = {target: failures[target] for target in route.targets if target in failures}
        if len(own) == len(route.targets):
            broken[name] = "; ".join(own.values())
            continue
        failed += own
        for reason in own.values():
            log.error("model %r: a target can't start: %s", name, reason)
    return broken, failed


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
    await gateway.probes.close()
    gateway.abandon_all()
    if gateway.memory is not None:
        gateway.memory.stop()
    await gateway.book.close()
    await gateway.streams.close()
    await gateway.store.close()
    await close_all(target.backend for target in gateway.router.targets)
    await gateway.retiring.close()
    await gateway.pools.close()
    if gateway.tracing is not None:
        await gateway.tracing.close()
