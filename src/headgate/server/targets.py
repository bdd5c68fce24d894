"""Targets as their operators see them: in the admin API, in `/health` and in `/metrics`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from headgate.observe.gauges import Budgets, TargetState
from headgate.routing.route import Route, Router
from headgate.routing.target import Target


def describe(target: Target, now: float) -> dict[str, Any]:
    """One target's state as JSON values: times in seconds from now, `reason` as `obstacle` has it.

    `pace` is the moving average of the time to the first event, of streams and of plain answers.
    """
    health, admission = target.health, target.admission
    quota = health.quota
    return {
        "target": target.name,
        "provider": target.provider,
        "priority": target.priority,
        "weight": target.weight,
        "circuit": health.circuit.value,
        "drained": health.drained,
        "reason": health.obstacle(now) or health.reason,
        "cooldown": _seconds(max(0.0, health.back_at() - now)),
        "in_flight": health.in_flight,
        "waiting": admission.waiting if admission is not None else 0,
        "share": round(health.share(now), 3),
        "pace": {"stream": _seconds(health.streams.seconds), "plain": _seconds(health.plain.seconds)},
        "quota": {
            "name": quota.name,
            "spent_for": _seconds(max(0.0, quota.until - now)),
            "low_for": _seconds(max(0.0, quota.low_until - now)),
        },
        "probed": target.probe is not None,
    }


def _seconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def describe_route(route: Route) -> list[dict[str, Any]]:
    """Its own targets; those of its fallback models are theirs."""
    now = monotonic()
    return [describe(target, now) for target in route.targets]


def target_states(router: Router) -> Sequence[TargetState]:
    now = monotonic()
    return [
        TargetState(
            target.name,
            target.health.circuit.value,
            target.health.in_flight,
            max(0.0, target.health.back_at() - now),
            target.health.drained,
        )
        for target in router.targets
    ]


def budgets(router: Router) -> Mapping[str, Budgets]:
    return {
        name: Budgets(route.pace.retries.left, route.pace.hedges.left)
        for name, route in router.routes.items()
    }
