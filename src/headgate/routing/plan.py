"""From a model's name to the ordered targets that may answer for it."""

from __future__ import annotations

import difflib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headgate.core.backend import Backend, Timeouts, Wire, WireBackend
from headgate.core.call import Operation
from headgate.core.errors import ModelNotFound
from headgate.policy.limits import Admission


@dataclass(frozen=True)
class Target:
    """One way of answering for a model. `name` is unique within the server and safe to show."""

    name: str
    backend: Backend
    provider: str
    weight: float = 1.0
    priority: int = 1
    admission: Admission | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    _wires: dict[tuple[Operation, str], Wire | None] = field(default_factory=dict, repr=False)

    def performs(self, operation: Operation) -> bool:
        """Tokens can be counted, by estimate at least, for whatever chats."""
        able = self.backend.operations
        return operation in able or (operation is Operation.COUNT_TOKENS and Operation.CHAT in able)

    def wire(self, operation: Operation, dialect: str) -> Wire | None:
        """The backend's raw lane for `operation`, in `dialect` if it can, if it has one at all."""
        try:
            return self._wires[operation, dialect]
        except KeyError:
            backend = self.backend
            wire = backend.wire(operation, dialect) if isinstance(backend, WireBackend) else None
            self._wires[operation, dialect] = wire
            return wire


@dataclass(frozen=True)
class Retry:
    """`attempts` counts the first one; delays (seconds) grow from `base` and never pass `cap`."""

    attempts: int = 2
    base: float = 0.25
    cap: float = 5.0


@dataclass(frozen=True)
class Route:
    """A declared model: its targets and how they are tried."""

    model: str
    targets: tuple[Target, ...]
    retry: Retry = Retry()
    timeouts: Timeouts = field(default_factory=Timeouts)
    strict: bool = False
    owned_by: str = "headgate"
    created: int = 0
    description: str | None = None

    @property
    def operations(self) -> frozenset[Operation]:
        return frozenset().union(*(target.backend.operations for target in self.targets))

    def plan(self, operation: Operation, rng: random.Random) -> Sequence[Target]:
        """Targets able to do `operation`, best first: by priority tier, drawn by weight within a tier."""
        if len(self.targets) == 1:
            return self.targets if self.targets[0].performs(operation) else ()
        able = [target for target in self.targets if target.performs(operation)]
        # Efraimidis-Spirakis: the order of u ** (1 / w) is a draw without replacement by weight.
        return sorted(able, key=lambda t: (t.priority, -(rng.random() ** (1.0 / t.weight))))


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

    def _unknown(self, model: str) -> str:
        shown = model if len(model) <= 100 else model[:100] + "…"
        near = difflib.get_close_matches(model[:100], self._by_name, n=3, cutoff=0.6)
        if near:
            return f"The model {shown!r} does not exist; did you mean {' or '.join(map(repr, near))}?"
        return f"The model {shown!r} does not exist; GET /v1/models lists those that do"
