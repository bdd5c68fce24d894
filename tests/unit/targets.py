"""Targets, routes and calls to plan with: no network, no clock."""

from __future__ import annotations

import random
from collections.abc import Mapping

from headgate.backends.scripted import ScriptedBackend, ScriptedSettings
from headgate.core.backend import Backend
from headgate.core.call import Call, Operation
from headgate.core.errors import HeadgateError, StreamBroken, UpstreamError
from headgate.policy.limits import Admission
from headgate.routing.execute import Execution, Step
from headgate.routing.health import Breaker, Circuit, Health
from headgate.routing.plan import plan
from headgate.routing.quota import Quota
from headgate.routing.route import Balance, Retry, Route
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


def route(*targets: Target | str, balance: Balance = Balance.WEIGHT, retry: Retry | None = None) -> Route:
    made = tuple(target(each) if isinstance(each, str) else each for each in targets)
    return Route("m", made, retry or Retry(), balance=balance)


def in_order(*names: str, retry: Retry | None = None) -> Route:
    """Its targets have a priority each, so that they are planned as they stand here."""
    return route(*(target(name, priority=number) for number, name in enumerate(names)), retry=retry)


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


class Calling:
    """One call over a route, with its clock: tries fail as one says, and the targets hear of it."""

    def __init__(self, route: Route, asked: Call | None = None, *, now: float = 100.0, seed: int = 1) -> None:
        self.route = route
        self.call = asked or call()
        self.now = now
        self.rng = random.Random(seed)
        self.plan = plan(route, self.call, now, self.rng)
        self.execution = Execution(route, self.call, self.plan, self.rng)
        self.tried: list[str] = []
        self.waited = 0.0

    def first(self) -> Target:
        return self._go(self.execution.first(self.now))

    def fail(self, target: Target, error: HeadgateError = BROKEN) -> Target | None:
        """The next target that is tried after `target` failed, pauses included; None: there is none."""
        target.health.failed(target.health.begun(self.now), self.now, error, self.rng)
        step = self.execution.after(target, error, self.now)
        return None if step is None else self._go(step)

    def run(self, errors: Mapping[str, HeadgateError] | None = None) -> list[str]:
        """Names of the targets in the order in which they were tried; each fails, as `errors` says."""
        target: Target | None = self.first()
        while target is not None:
            target = self.fail(target, (errors or {}).get(target.name, BROKEN))
        return self.tried

    def _go(self, step: Step) -> Target:
        while step.delay:
            self.waited += step.delay
            self.now += step.delay
            step = self.execution.due(step, self.now)
        self.tried.append(step.target.name)
        return step.target
