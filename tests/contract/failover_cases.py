"""Which faults meet which pairs, alone and with a healthy second target; and a server that has them all."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from typing_extensions import override

from headgate.core.call import Operation
from headgate.dialects.registry import dialect as find_dialect
from headgate.routing.target import Target
from headgate.server.build import Observers
from tests.contract.dialect_cases import PAIRS, Form, Pair, wire_of
from tests.contract.dialect_faults import FAULTS, Fault
from tests.contract.fault_answers import Case, Told, ask
from tests.contract.more_faults import HUGE_EVENT, MORE_FAULTS, NO_TEXT, NO_TEXT_WHOLE
from tests.support.ended import EndedCalls
from tests.support.residue import Residue, TimedLoop
from tests.support.server import Running, settings_of
from tests.support.upstream import Seen, Step, Upstream

AT_ONCE = 64
EVERY_FAULT = {**FAULTS, **MORE_FAULTS}
GOOD_FAULT = FAULTS["nothing"]


@dataclass
class FailoverCase(Case):
    """A case whose model may have a second target, which is well; `second` says what kind of one."""

    second: Pair | None = None

    @property
    @override
    def id(self) -> str:
        return f"{super().id}-{self.second.backend if self.second is not None else 'alone'}"

    @property
    def moves(self) -> bool:
        """The second target's answer is what the caller gets."""
        if self.second is None:
            return False
        return self.kind == "refused" or (self.fault.moves and self.pair.form.stream)

    def settings(self, port: int, healthy: int) -> dict[str, Any]:
        """Every queue there is, so that a place which is not given back is seen."""
        first = {**self.target(port), "max_concurrency": 2, "timeouts": self.fault.timeouts}
        if "base_url" in first:
            first["base_url"] = self.fault.url.format(port=port)
        model: dict[str, Any] = {"max_in_flight": 2, **self.fault.settings}
        if self.second is None:
            return {**model, "targets": [first], "retry": {"attempts": 1}}
        second = {**self.second.settings(healthy), "priority": 2, "max_concurrency": 2}
        if self.second.backend != "scripted":
            second |= {"headers": {"x-case": str(self.number)}, "quota": f"{self.model} second"}
        return {**model, "targets": [first, second]}


def _pairs() -> dict[Form, list[Pair]]:
    """As elsewhere, and upstreams that speak OpenAI's Responses for every caller of a chat."""
    found: dict[Form, list[Pair]] = {}
    for pair in PAIRS:
        if not pair.repeats:
            found.setdefault(pair.form, []).append(pair)
    for form, pairs in found.items():
        if form.endpoint.operation is Operation.CHAT and all(pair.backend != "openai" for pair in pairs):
            wire = wire_of("openai", Operation.CHAT, form.endpoint.speaks)
            assert wire is not None
            pairs.append(Pair(form, "openai", find_dialect(wire.dialect)))
    return found


BY_FORM = _pairs()


def every_case(caller: str) -> list[FailoverCase]:
    """All there is for one dialect of callers: each form, alone and with each kind of healthy target."""
    numbers = count()
    return [
        FailoverCase(next(numbers), pair, name, fault, second=second)
        for (speaks, _), pairs in _by_dialects().items()
        if speaks == caller
        for pair in pairs
        for name, fault in EVERY_FAULT.items()
        if _meet(pair, name)
        for second in (None, *_others(pair))
    ]


def some_cases() -> dict[str, list[FailoverCase]]:
    """By the caller's dialect: each kind of upstream with each fault once. The form, and alone or with what
    second target, are drawn; alone only what no other test has alone.
    """
    numbers, drawn = count(), random.Random(1)
    found: dict[str, list[FailoverCase]] = {}
    for (caller, _), pairs in _by_dialects().items():
        for name, fault in EVERY_FAULT.items():
            concerned = [pair for pair in pairs if _meet(pair, name)]
            if not concerned:
                continue
            pair = drawn.choice(concerned)
            alone = (name in MORE_FAULTS or pair not in PAIRS) and drawn.random() < 0.4
            second = None if alone else drawn.choice(_others(pair))
            found.setdefault(caller, []).append(FailoverCase(next(numbers), pair, name, fault, second=second))
    return found


def _meet(pair: Pair, name: str) -> bool:
    """What passes has no largest event; what frames hold is the caller's to read; vectors hold no text."""
    if name == HUGE_EVENT:
        return not pair.passes and pair.form.stream and pair.form.endpoint.speaks == "openai_chat"
    if name == NO_TEXT and pair.passes and pair.form.framing == "eventstream":
        return False
    if name == NO_TEXT_WHOLE and pair.form.endpoint.operation is not Operation.CHAT:
        return False
    return EVERY_FAULT[name].concerns(pair)


def _by_dialects() -> dict[tuple[str, str], list[Pair]]:
    """By what the caller speaks, and the kind of the first target."""
    found: dict[tuple[str, str], list[Pair]] = {}
    for pairs in BY_FORM.values():
        for pair in pairs:
            if pair.backend != "scripted":
                found.setdefault((pair.form.endpoint.speaks, pair.backend), []).append(pair)
    return found


def _others(pair: Pair) -> list[Pair]:
    """The same form at targets of another kind."""
    pairs = BY_FORM[pair.form]
    return [each for each in pairs if each.backend != pair.backend] or pairs


@dataclass
class Served:
    """One server with a model for each case, and four upstreams: well; can't be trusted with a second
    request; can; says no word of TLS."""

    server: Running
    ended: EndedCalls
    healthy: Upstream
    mistrusted: Upstream
    trusted: Upstream
    residue: Residue
    pool: ThreadPoolExecutor

    def ask(self, cases: Sequence[FailoverCase]) -> list[Told | Exception]:
        """All at once. What a caller gets, or why it gets nothing that can be read."""

        def told(case: FailoverCase) -> Told | Exception:
            try:
                return ask(self.server.port, case)
            except Exception as error:
                return error

        return list(self.pool.map(told, cases))

    def targets(self, case: FailoverCase) -> Sequence[Target]:
        return self.server.gateway.router.routes[case.model].targets

    def left(self) -> list[str]:
        """What is left where nothing should be, when all that was asked is answered."""
        found = self.residue.found()
        if not self.mistrusted.wait_until(lambda upstream: upstream.open_connections == 0):
            found.append("connections that can't be trusted are kept")
        return found


@contextmanager
def serving(cases: Sequence[FailoverCase], *, fast: bool = True) -> Iterator[Served]:
    by_number = {case.number: case for case in cases}

    async def plays(seen: Seen) -> AsyncIterator[Step]:
        async for step in by_number[int(seen.headers["x-case"])].play():
            yield step

    async def plays_well(seen: Seen) -> AsyncIterator[Step]:
        case = by_number[int(seen.headers["x-case"])]
        assert case.second is not None
        async for step in GOOD_FAULT.play(case.second, case.heard, case.reached):
            yield step

    with ExitStack() as stack:
        mistrusted, trusted = (stack.enter_context(Upstream(plays)) for _ in range(2))
        healthy = stack.enter_context(Upstream(plays_well))
        no_tls = stack.enter_context(Upstream(plays, greeting=b"220 mail.example ESMTP\r\n"))
        closed = stack.enter_context(_closed_port())

        def port_for(fault: Fault) -> int:
            if fault.url.startswith("https"):
                return no_tls.port
            if fault.steps is None:
                return closed
            return mistrusted.port if fault.frees else trusted.port

        models = {case.model: case.settings(port_for(case.fault), healthy.port) for case in cases}
        settings = settings_of({"models": models, "server": {"access_log": False}})
        ended = EndedCalls()
        server = stack.enter_context(
            Running(settings, fast=fast, observers=Observers(ended), loop_factory=TimedLoop)
        )
        residue = stack.enter_context(Residue(server))
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        yield Served(server, ended, healthy, mistrusted, trusted, residue, pool)


@contextmanager
def _closed_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody will."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield int(unused.getsockname()[1])
