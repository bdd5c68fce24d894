"""One way of answering for a model, with what is known of it: abilities, limits, health."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

from headgate.core.backend import Backend, Timeouts, Wire, WireBackend
from headgate.core.call import Call, Need, Operation
from headgate.policy.limits import Admission
from headgate.routing.health import Health

_SURELY = 0.8
"""Of an estimated size, which may be a fifth off: what may fit is tried, and moves on if it does not."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a target is declared to do. Nothing declared: everything, of any length.

    Args:
        lacks: what it can't take.
        context_length: tokens of prompt and answer together.
    """

    lacks: frozenset[Need] = frozenset()
    context_length: int | None = None

    def __bool__(self) -> bool:
        return bool(self.lacks) or self.context_length is not None

    def missing(self, call: Call) -> str | None:
        """Why it can't serve `call`; None when it can."""
        wanting = call.needs & self.lacks
        if wanting:
            return f"it does not take {', '.join(sorted(wanting))}"
        length = self.context_length
        if length is not None and call.size is not None and call.size * _SURELY > length:
            return f"the prompt has about {call.size} tokens, more than its context of {length}"
        return None


@dataclass(frozen=True, slots=True)
class Probe:
    """How a target is asked whether it is well. Seconds; `path` as `ProbedBackend.probe` has it."""

    every: float = 30.0
    path: str | None = None
    timeout: float = 5.0


@dataclass(frozen=True, eq=False)
class Target:
    """One way of answering for a model. `name` is unique within the server and safe to show."""

    name: str
    backend: Backend
    provider: str
    weight: float = 1.0
    priority: int = 1
    admission: Admission | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    abilities: Abilities = field(default_factory=Abilities)
    health: Health = field(default_factory=Health)
    probe: Probe | None = None
    _wires: dict[tuple[Operation, str], Wire | None] = field(default_factory=dict, repr=False)

    name_hash: int = field(init=False, repr=False, default=0)
    """64 bits, the same in every process: where the target stands for rendezvous hashing."""
    header: bytes = field(init=False, repr=False, default=b"")
    """The name as a header field has it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "header", self.name.encode("ascii", "replace"))
        digest = blake2b(self.name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        object.__setattr__(self, "name_hash", int.from_bytes(digest))

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
