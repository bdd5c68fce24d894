"""Which targets answer a call, best first: a pure function of the route, its targets' health and the call."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from headgate.core.call import Call
from headgate.core.errors import HeadgateError, InvalidRequest, RateLimited, Unavailable, UpstreamError
from headgate.routing.health import Circuit, Quota
from headgate.routing.route import Balance, Route
from headgate.routing.target import Target

EXPLORE = 0.05
"""Share of the calls that go to a target drawn by weight although another one is faster: paces change."""
_MASK = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Plan:
    """Targets to try in this order, and those whose quota is spent for a while."""

    order: Sequence[Target]
    cooling: Sequence[Target] = ()


def plan(route: Route, call: Call, now: float, rng: random.Random) -> Plan:
    """The order in which `route`'s targets are tried for `call`.

    Tiers by priority; within one by the route's way of balancing, or by the call's affinity. A target whose
    queue is in use, or whose quota is all but spent, comes after every one that is free, of whatever tier.
    When every circuit is open, those
    that open circuits keep back are tried after all: nothing else is left.
    """
    tiers = route.tiers(call.operation)
    if len(tiers) == 1 and len(tiers[0]) == 1 and call.origin is None:
        target = tiers[0][0]
        if target.health.available(now) and (not target.abilities or not target.abilities.missing(call)):
            return Plan(tiers[0])
    order: list[Target] = []
    busy: list[Target] = []
    cooling: list[Target] = []
    kept_back: list[Target] = []
    for tier in tiers:
        ready: list[Target] = []
        for target in tier:
            if target.abilities and target.abilities.missing(call):
                continue
            if call.origin is not None and target.name != call.origin:
                continue
            health = target.health
            if health.available(now):
                admission = target.admission
                strained = (admission is not None and admission.full) or now < health.quota.low_until
                (busy if strained else ready).append(target)
            elif not health.drained:
                (cooling if now < health.quota.until else kept_back).append(target)
        order += ready if len(ready) < 2 else _balanced(route, call, ready, now, rng)
    busy.sort(key=_queue_length)
    order += busy
    if not order:
        order = sorted(kept_back, key=_probe_time)
    return Plan(order, cooling)


def _queue_length(target: Target) -> int:
    return target.admission.waiting if target.admission is not None else 0


def _probe_time(target: Target) -> float:
    return target.health.opened_until


def _balanced(route: Route, call: Call, ready: list[Target], now: float, rng: random.Random) -> list[Target]:
    if call.affinity is not None:
        key = call.affinity
        return sorted(ready, key=lambda target: _distance(key, target))
    balance = route.balance
    if balance is Balance.LATENCY and rng.random() < EXPLORE:
        balance = Balance.WEIGHT
    if balance is Balance.WEIGHT:
        # The order of exponential draws with rate w is a draw without replacement by weight.
        scores = [
            (-log(1.0 - rng.random()) / (target.weight * target.health.share(now)), number)
            for number, target in enumerate(ready)
        ]
    elif balance is Balance.LEAST_IN_FLIGHT:
        scores = [
            ((t.health.in_flight + 1 + rng.random() / 8) / (t.weight * t.health.share(now)), number)
            for number, t in enumerate(ready)
        ]
    else:
        # A target that nobody has measured yet has pace 0: it is tried first. Calls under way count, or all
        # would go to the fastest until it is the slowest.
        scores = [
            ((t.health.pace or 0.0) * (t.health.in_flight + 1) / t.health.share(now) + rng.random() * 1e-9, n)
            for n, t in enumerate(ready)
        ]
    scores.sort()
    return [ready[number] for _, number in scores]


def _distance(key: int, target: Target) -> float:
    """Rendezvous hashing by weight: a target that comes or goes moves only its own share of the keys."""
    mixed = (key ^ target.name_hash) & _MASK
    mixed = (mixed ^ mixed >> 31) * 0x7FB5D329728EA185 & _MASK
    mixed = (mixed ^ mixed >> 27) * 0x81DADEF4BC2DD44D & _MASK
    mixed ^= mixed >> 33
    return -log((mixed + 1) / 0x10000000000000001) / target.weight


@dataclass(frozen=True, slots=True)
class Considered:
    """One target in an explanation: its place in the order, or why it has none."""

    target: Target
    place: int | None
    reason: str


def explain(route: Route, call: Call, now: float, rng: random.Random) -> list[Considered]:
    """Every target of `route`: first those that would be tried, in order, then the others."""
    order = plan(route, call, now, rng).order
    found = [Considered(each, place, _merit(route, call, each, now)) for place, each in enumerate(order, 1)]
    others = [target for target in route.every_target if target not in order]
    return found + [Considered(each, None, obstacle(each, call, now) or "") for each in others]


def obstacle(target: Target, call: Call, now: float) -> str | None:
    """Why `target` is not tried for `call`; None where nothing stands against it."""
    if not target.performs(call.operation):
        return f"it does not do {call.operation.value}"
    if call.origin is not None and target.name != call.origin:
        return f"only {call.origin} has what the request refers to"
    return target.abilities.missing(call) or target.health.obstacle(now)


def _merit(route: Route, call: Call, target: Target, now: float) -> str:
    health = target.health
    if (against := health.obstacle(now)) is not None:
        return f"nothing else is left, although {against}"
    parts = [f"priority {target.priority}"]
    if target.admission is not None and target.admission.full:
        parts.append(f"its queue is in use ({target.admission.waiting} waiting)")
    elif now < health.quota.low_until:
        parts.append(f"its quota is all but spent for another {health.quota.low_until - now:.1f} s")
    elif call.affinity is not None:
        parts.append("by affinity")
    elif route.balance is Balance.WEIGHT:
        parts.append(f"weight {target.weight:g}")
    elif route.balance is Balance.LEAST_IN_FLIGHT:
        parts.append(f"{health.in_flight} in flight")
    else:
        parts.append(
            "never measured" if health.pace is None else f"first event in {health.pace * 1000:.0f} ms"
        )
    if (share := health.share(now)) < 1.0:
        parts.append(f"back since a moment ago, at {share:.0%} of its weight")
    if health.circuit is not Circuit.CLOSED:
        parts.append("as a probe: its circuit is half open")
    return ", ".join(parts)


def nobody(route: Route, call: Call, now: float) -> HeadgateError:
    """What to tell a caller for whom no target is left: 400 where the request is why, else 429 or 503."""
    able = [target for target in route.every_target if target.performs(call.operation)]
    if not able:
        does = ", ".join(sorted(route.operations)) or "nothing"
        return InvalidRequest(
            f"The model {route.model!r} does not {call.operation.value}; it does: {does}",
            param="model",
            code="unsupported_operation",
        )
    unfit = [reason for target in able if (reason := target.abilities.missing(call)) is not None]
    if len(unfit) == len(able):
        reasons = "; ".join(dict.fromkeys(unfit))
        return InvalidRequest(f"No target of the model {route.model!r} can take this request: {reasons}")
    cooling = [t.health.quota for t in able if now < t.health.quota.until and not t.health.drained]
    if cooling:
        return _refused_again(min(cooling, key=lambda each: each.until), now)
    return Unavailable(
        f"The model {route.model!r} is out of service for now; try again later", retry_after=5.0
    )


def _refused_again(quota: Quota, now: float) -> HeadgateError:
    """The upstream's own refusal, which still holds."""
    wait = max(1.0, quota.until - now)
    refusal = quota.refusal
    if isinstance(refusal, UpstreamError):
        return UpstreamError(
            refusal.message,
            status=refusal.status,
            param=refusal.param,
            code=refusal.code,
            retry_after=wait,
            type=refusal.upstream_type,
        )
    return RateLimited("The model's quota is spent for now; try again later", retry_after=wait)
