"""Targets, routes and calls to plan with: no network, no clock."""

from __future__ import annotations

from headgate.backends.scripted import ScriptedBackend, ScriptedSettings
from headgate.core.backend import Backend
from headgate.core.call import Call, Operation
from headgate.core.errors import HeadgateError, StreamBroken, UpstreamError
from headgate.policy.limits import Admission
from headgate.routing.health import Breaker, Circuit, Health
from headgate.routing.quota import Quota
from headgate.routing.route import Balance, Route
from headgate.routing.target import Abilities, Target

BACKEND = ScriptedBackend(ScriptedSettings(backend="scripted"))
BROKEN = StreamBroken("it broke")


class OnlyEmbeds(ScriptedBackend):
    operations = frozenset({Operation.EMBED})


EMBEDS = OnlyEmbeds(ScriptedSettings(backend="scripted"))


def target(
    name: str,
    weight: float = 1.0,
    priority: int = 1,
    *,
    backend: Backend = BACKEND,
    limit: int | None = None,
    abilities: Abilities | None = None,
    breaker: Breaker | None = None,
    quota: Quota | None = None,
) -> Target:
    """Args:
    limit: of calls at once.
    """
    return Target(
        name,
        backend,
        "scripted",
        weight=weight,
        priority=priority,
        admission=None if limit is None else Admission(name, limit, 100),
        abilities=abilities or Abilities(),
        health=Health(breaker or Breaker(), quota or Quota(name)),
    )


def route(*targets: Target | str, balance: Balance = Balance.WEIGHT) -> Route:
    return Route("m", tuple(target(t) if isinstance(t, str) else t for t in targets), balance=balance)


def call(
    operation: Operation = Operation.CHAT,
    *,
    affinity: int | None = None,
    origin: str | None = None,
    stream: bool = False,
    deadline: float | None = None,
) -> Call:
    return Call(
        "r",
        "m",
        operation,
        "openai_chat",
        0.0,
        affinity=affinity,
        origin=origin,
        stream=stream,
        deadline=deadline,
    )


def limited(retry_after: float | None = None, message: str = "slow down") -> HeadgateError:
    """A vendor's 429."""
    return UpstreamError(message, status=429, retry_after=retry_after)


def open_circuit(target: Target, until: float) -> None:
    target.health.circuit = Circuit.OPEN
    target.health.opened_until = until
    target.health.reason = "it broke"
