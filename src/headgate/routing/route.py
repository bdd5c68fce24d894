"""The declared models: each a route to its targets, with how they are tried. And the names that find them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby
from typing import Literal, TypeAlias

from headgate.core.backend import Timeouts
from headgate.core.call import Operation
from headgate.core.errors import ModelNotFound, Overloaded
from headgate.policy.limits import Admission
from headgate.routing.budget import Budget
from headgate.routing.latency import TailLatency
from headgate.routing.target import Target


class Balance(StrEnum):
    """How the targets of one priority share the calls."""

    WEIGHT = "weight"
    LEAST_IN_FLIGHT = "least_in_flight"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Retry:
    """Further tries, before the first byte has gone to the caller. Seconds.

    Args:
        attempts: in all; None: one for each target, two at least, five at most.
        base, cap: a second try at the same target waits up to `base`, doubled each round, `cap` at most.
        budget: second tries at the same targets for each call, on average.
        max_wait: for spent quotas, all of a call's waits together.
    """

    attempts: int | None = None
    base: float = 0.25
    cap: float = 5.0
    budget: float = 0.2
    max_wait: float = 5.0

    def limit(self, targets: int) -> int:
        return self.attempts if self.attempts is not None else min(5, max(2, targets))


@dataclass(frozen=True, slots=True)
class Hedge:
    """A second attempt beside one that is slow; the first of the two to answer is taken.

    Args:
        after: seconds without a first event; None: the 95th percentile of the model's latest answers.
        budget: hedges for each call, on average.
    """

    after: float | None = None
    budget: float = 0.05


@dataclass(frozen=True, slots=True)
class HoldBack:
    """A stream is held until it has proved itself.

    Args:
        characters: of text or arguments after which it goes out.
        time: seconds from its first event after which one that is slower moves to another target, if there
            is one that can take it.
    """

    characters: int
    time: float


@dataclass(frozen=True, slots=True)
class Resume:
    """Streams go on where a connection broke off.

    Args:
        keep: seconds for which one that has ended can be read again.
        grace: seconds for which it is generated on while nobody listens.
        buffer: bytes of one stream that are held.
    """

    keep: float = 300.0
    grace: float = 60.0
    buffer: int = 4_000_000


Stage: TypeAlias = Sequence[Sequence[Target]]
"""One model's targets: tiers of the same priority, best first."""

AffinityBy: TypeAlias = Literal["user", "prompt", "header"]


@dataclass(frozen=True, slots=True)
class Affinity:
    """Calls that belong together go to the same target, as long as it can take them.

    Args:
        by: what they have in common: who asks, how the prompt begins, or the value of `header`.
    """

    by: AffinityBy
    header: bytes | None = None


class Pace:
    """What a route has learnt from its calls. Kept over a reload that leaves the model as it is."""

    __slots__ = ("hedges", "plain", "retries", "streams", "waiting")

    def __init__(self, retry: Retry, hedge: Hedge | None) -> None:
        self.retries = Budget(retry.budget)
        self.hedges = Budget(hedge.budget if hedge is not None else 0.0, start=1.0)
        self.streams = TailLatency()
        self.plain = TailLatency()
        self.waiting = 0
        """Calls that wait for a quota."""

    def tail(self, stream: bool) -> TailLatency:
        return self.streams if stream else self.plain

    def rebudget(self, retry: Retry, hedge: Hedge | None) -> None:
        """Go on with other budgets; what was saved up stays."""
        self.retries.adjust(retry.budget)
        self.hedges.adjust(hedge.budget if hedge is not None else 0.0)


class Leases:
    """Calls under way over a route. What it reaches is needed until the last of them has ended."""

    __slots__ = ("count", "on_end")

    def __init__(self) -> None:
        self.count = 0
        self.on_end: Callable[[], None] | None = None
        """Called when the last one has ended; set once no further call can come."""

    def take(self) -> None:
        self.count += 1

    def give_back(self) -> None:
        self.count -= 1
        if not self.count and self.on_end is not None:
            self.on_end()


@dataclass(frozen=True, eq=False)
class Route:
    """A declared model: its targets and how they are tried.

    Args:
        targets: its own.
        reserves: the targets of its fallback models, tried after all of its own, one model after the other.
        admission: the model's own limit of calls at once.
        max_waiting: calls that may wait for a quota at once.
    """

    model: str
    targets: tuple[Target, ...]
    retry: Retry = Retry()
    timeouts: Timeouts = field(default_factory=Timeouts)
    balance: Balance = Balance.WEIGHT
    affinity: Affinity | None = None
    hedge: Hedge | None = None
    hold_back: HoldBack | None = None
    admission: Admission | None = None
    max_waiting: int = 100
    reserves: tuple[tuple[Target, ...], ...] = ()
    resumable: Resume | None = None
    strict: bool = False
    owned_by: str = "headgate"
    created: int = 0
    description: str | None = None
    pace: Pace = field(init=False, repr=False)
    leases: Leases = field(init=False, repr=False)
    examines: bool = field(init=False, repr=False)
    """Planning depends on what is in the request."""
    _stages: dict[Operation, Sequence[Stage]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        own = object.__setattr__
        own(self, "pace", Pace(self.retry, self.hedge))
        own(self, "leases", Leases())
        own(self, "examines", any(target.abilities for target in self.every_target))
        own(self, "_stages", {})

    def inherit(self, pace: Pace) -> None:
        """Go on with what an earlier route to the same targets has learnt. Before the first call."""
        object.__setattr__(self, "pace", pace)

    def with_reserves(self, reserves: tuple[tuple[Target, ...], ...]) -> Route:
        """The same, with the targets of other fallback models. Before the first call."""
        changed = replace(self, reserves=reserves)
        changed.inherit(self.pace)
        return changed

    @property
    def every_target(self) -> Sequence[Target]:
        """Its own and its fallback models', each once."""
        return list(dict.fromkeys([*self.targets, *(target for some in self.reserves for target in some)]))

    @property
    def operations(self) -> frozenset[Operation]:
        return frozenset().union(*(target.backend.operations for target in self.targets))

    def stages(self, operation: Operation) -> Sequence[Stage]:
        """The model's own targets able to do `operation`, then each fallback model's; by priority within.

        A target that stands in more than one place is in the first of them only.
        """
        found = self._stages.get(operation)
        if found is None:
            found = self._stages[operation] = tuple(self._make_stages(operation))
        return found

    def _make_stages(self, operation: Operation) -> Iterator[Stage]:
        placed: set[Target] = set()
        for targets in (self.targets, *self.reserves):
            fresh = [each for each in dict.fromkeys(targets) if each.performs(operation)]
            fresh = sorted((each for each in fresh if each not in placed), key=_priority)
            placed.update(fresh)
            if fresh:
                yield tuple(tuple(tier) for _, tier in groupby(fresh, key=_priority))

    def wait(self) -> None:
        """One more call waits for a quota. Raises Overloaded; `resume` when its wait is over."""
        if self.pace.waiting >= self.max_waiting:
            raise Overloaded(
                f"{self.max_waiting} calls wait for a quota of the model {self.model!r}, its limit;"
                " try again later",
                retry_after=1.0,
            )
        self.pace.waiting += 1

    def resume(self) -> None:
        self.pace.waiting -= 1


def _priority(target: Target) -> int:
    return target.priority


class Router:
    """The declared models and their aliases. A caller's name selects one of them and nothing else."""

    def __init__(self, routes: Mapping[str, Route], aliases: Mapping[str, str]) -> None:
        self.routes = dict(routes)
        self.aliases = dict(aliases)
        self._by_name = {**{alias: self.routes[model] for alias, model in aliases.items()}, **self.routes}

    def find(self, model: str) -> Route:
        """Raises ModelNotFound with near names."""
        route = self._by_name.get(model)
        if route is None:
            raise ModelNotFound(self._unknown(model), param="model")
        return route

    def without(self, models: Collection[str]) -> Router:
        """The other models, with neither these nor their targets as fallbacks."""
        if not models:
            return self
        gone = {target for model in models for target in self.routes[model].targets}
        kept = {}
        for name, route in self.routes.items():
            if name not in models:
                left = tuple(stage for stage in route.reserves if not gone.intersection(stage))
                kept[name] = route if left == route.reserves else route.with_reserves(left)
        return Router(kept, {alias: model for alias, model in self.aliases.items() if model in kept})

    @property
    def targets(self) -> Sequence[Target]:
        """Of all models, in order."""
        return [target for route in self.routes.values() for target in route.targets]

    def _unknown(self, model: str) -> str:
        shown = model if len(model) <= 100 else model[:100] + "…"
        near = difflib.get_close_matches(model[:100], self._by_name, n=3, cutoff=0.6)
        if near:
            return f"The model {shown!r} does not exist; did you mean {' or '.join(map(repr, near))}?"
        return f"The model {shown!r} does not exist; GET /v1/models lists those that do"
