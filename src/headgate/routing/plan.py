"""Which targets answer a call, best first: a pure function of the route, its targets' health and the call."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from math import log

from headgate.core.call import Call
from headgate.core.errors import HeadgateError, InvalidRequest, RateLimited, Unavailable, UpstreamError
from headgate.core.record import record
from headgate.routing.health import Circuit
from headgate.routing.quota import Quota
from headgate.routing.route import Balance, Route
from headgate.routing.target import Target

EXPLORE = 0.05
"""Share of the calls that go to a target drawn by weight although another one is faster: paces change."""
_TIE = 0.1
"""Calls in flight within which a draw by weight decides."""
_MULTIPLIER = 0x7FB5D329728EA185
"""Odd, its bits half set and in no pattern."""
_RANGE = 2.0**64
_MASK = (1 << 64) - 1


@record(frozen=True, slots=True)
class Plan:
    """Each target that can do the call is in one of the three; those that an operator drained are in none.

    Args:
        order: to be tried in this order.
        cooling: their quota is spent for a while.
        kept_back: their circuit is open; a last resort.
    """

    order: Sequence[Target]
    cooling: Sequence[Target] = ()
    kept_back: Sequence[Target] = ()


def plan(route: Route, call: Call, now: float, rng: random.Random) -> Plan:
    """The order in which `route`'s targets are tried for `call`.

    The model's own targets, then those of its fallback models. Within a model tiers by priority; within a
    tier by the route's way of balancing, or by the call's affinity. A target whose queue is in use, or whose
    quota is all but spent, comes after every one of its model that is free, of whatever tier. When nothing
    else is left, those that open circuits keep back are tried after all.
    """
    order: list[Target] = []
    cooling: list[Target] = []
    kept_back: list[Target] = []
    picks = route.examines or call.origin is not None
    for stage in route.stages(call.operation):
        strained: list[Target] = []
        for tier in stage:
            ready: list[Target] = []
            for target in _able(tier, call) if picks else tier:
                health = target.health
                if health.available(now):
                    admission = target.admission
                    if now < health.quota.low_until or (admission is not None and admission.full):
                        strained.append(target)
                    else:
                        ready.append(target)
                elif not health.drained:
                    (cooling if now < health.quota.until else kept_back).append(target)
            order += ready if len(ready) < 2 else _balanced(route, call, ready, now, rng)
        if strained:
            order += _by_queue(route, call, strained, now, rng)
    if kept_back:
        kept_back.sort(key=_probe_time)
        if not order:
            order, kept_back = kept_back, order
    return Plan(order, cooling, kept_back)


def _able(tier: Sequence[Target], call: Call) -> Iterator[Target]:
    return (target for target in tier if unfit(target, call) is None)


def unfit(target: Target, call: Call) -> str | None:
    """Why `target`, however well it is, is not one for `call`; None when it is."""
    if not target.performs(call.operation):
        return f"it does not do {call.operation.value}"
    if call.origin is not None and target.name != call.origin:
        return f"only {call.origin} has what the request refers to"
    return target.abilities.missing(call)


def _by_queue(
    route: Route, call: Call, strained: list[Target], now: float, rng: random.Random
) -> Sequence[Target]:
    """Without a queue first, then by how many wait for each of a target's places."""
    if len(strained) > 1:
        strained = _balanced(route, call, strained, now, rng)
        strained.sort(key=_queue_length)
    return strained


def _queue_length(target: Target) -> float:
    admission = target.admission
    return (admission.waiting + 1) / admission.limit if admission is not None and admission.full else 0.0


def _probe_time(target: Target) -> float:
    return target.health.opened_until


def _balanced(route: Route, call: Call, ready: list[Target], now: float, rng: random.Random) -> list[Target]:
    balance = route.balance
    if call.affinity is not None:
        scores = _by_affinity(call.affinity, ready, now)
    elif balance is Balance.WEIGHT or (balance is Balance.LATENCY and rng.random() < EXPLORE):
        scores = _by_weight(ready, now, rng)
    elif balance is Balance.LEAST_IN_FLIGHT:
        scores = _by_in_flight(ready, now, rng)
    else:
        scores = _by_latency(ready, call.stream, now, rng)
    # Numbers, because targets have no order of their own where scores are the same.
    return [ready[number] for _, number in sorted(zip(scores, range(len(ready)), strict=True))]


def _by_weight(ready: list[Target], now: float, rng: random.Random) -> list[float]:
    """The order of exponential draws with rate w is a draw without replacement by weight."""
    draw = rng.random
    return [-log(1.0 - draw()) / (target.weight * target.health.share(now)) for target in ready]


def _by_in_flight(ready: list[Target], now: float, rng: random.Random) -> list[float]:
    """Calls in flight for each unit of weight; where they are the same, as on an idle server, by weight."""
    draw = rng.random
    return [
        (target.health.in_flight - _TIE * log(1.0 - draw())) / (target.weight * target.health.share(now))
        for target in ready
    ]


def _by_latency(ready: list[Target], stream: bool, now: float, rng: random.Random) -> list[float]:
    """Time to the first event times calls under way, or all would go to the fastest until it is the slowest.

    Who has not been measured yet gets one call to be measured by; until that is answered it counts as slow.
    """
    draw = rng.random
    paces = [target.health.pace(stream).seconds for target in ready]
    slowest = max((pace for pace in paces if pace is not None), default=1.0)
    scores = []
    for target, pace in zip(ready, paces, strict=True):
        health = target.health
        if pace is None:
            pace = slowest if health.in_flight else 0.0
        score = (pace * (health.in_flight + 1) + draw() * 1e-9) / (target.weight * health.share(now))
        scores.append(score)
    return scores


def _by_affinity(key: int, ready: list[Target], now: float) -> list[float]:
    """Rendezvous hashing by weight: a target that comes or goes moves only its own share of the keys.

    One that has just recovered gets its keys back little by little, as its share grows.
    """
    scores = []
    for target in ready:
        # Key and name are hashes already; one round of folding and multiplying makes pairs of them so.
        mixed = key ^ target.name_hash
        mixed = (mixed ^ mixed >> 32) * _MULTIPLIER & _MASK
        scores.append(-log((mixed | 1) / _RANGE) / (target.weight * target.health.share(now)))
    return scores


@record(frozen=True, slots=True)
class Considered:
    """One target in an explanation: its place in the order, or why it has none."""

    target: Target
    place: int | None
    reason: str


def explain(route: Route, call: Call, now: float, rng: random.Random) -> list[Considered]:
    """Every target of `route`, each once: first those that would be tried, in order, then the others."""
    order = plan(route, call, now, rng).order
    found = [Considered(each, place, _merit(route, call, each, now)) for place, each in enumerate(order, 1)]
    others = [target for target in route.every_target if target not in order]
    return found + [Considered(each, None, obstacle(each, call, now) or "") for each in others]


def obstacle(target: Target, call: Call, now: float) -> str | None:
    """Why `target` is not tried for `call`, unless nothing else is left; None where nothing is against it."""
    return unfit(target, call) or target.health.obstacle(now)


def _merit(route: Route, call: Call, target: Target, now: float) -> str:
    health = target.health
    if (against := health.obstacle(now)) is not None:
        return f"nothing else is left, although {against}"
    parts = [f"priority {target.priority}"]
    if target not in route.targets:
        parts.insert(0, "of a fallback model")
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
        pace = health.pace(call.stream).seconds
        parts.append("never measured" if pace is None else f"first event in {pace * 1000:.0f} ms")
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
    fit = [target for target in able if unfit(target, call) is None]
    if not fit:
        reasons = "; ".join(dict.fromkeys(filter(None, (unfit(target, call) for target in able))))
        return InvalidRequest(f"No target of the model {route.model!r} can take this request: {reasons}")
    cooling = [t.health.quota for t in fit if now < t.health.quota.until and not t.health.drained]
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
