"""Every hot endpoint × kind of upstream × fault: told once, in the caller's dialect, and counted.

All requests are sent in one go when the module begins; each test looks at one answer, and reads it with the
codec of the caller's dialect.
"""

from __future__ import annotations

import re
import socket
import urllib.request
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import pytest

from headgate.core.call import Outcome
from headgate.dialects.dialect import ChatDialect
from tests.contract.dialect_cases import PAIRS
from tests.contract.dialect_faults import FAULTS, Fault
from tests.contract.fault_answers import Case, Told, ask, broken, refused, whole
from tests.support.server import Running, settings_of
from tests.support.upstream import Seen, Step, Upstream

AT_ONCE = 32


CASES = [
    Case(number, pair, name, FAULTS[name])
    for number, (pair, name) in enumerate(
        (pair, name) for pair in PAIRS for name, fault in FAULTS.items() if fault.concerns(pair)
    )
]


@dataclass
class Served:
    server: Running
    answers: list[Told]
    mistrusted: Upstream
    trusted: Upstream

    @cached_property
    def outcomes(self) -> dict[str, list[tuple[str, str, float]]]:
        """Each model's calls that ended: outcome, status and number."""
        found: dict[str, list[tuple[str, str, float]]] = {}
        pattern = r'^headgate_requests_total{.*model="([^"]+)".*outcome="(\w+)",status="(\w+)"} (\S+)$'
        for model, outcome, status, count in re.findall(pattern, self._metrics, re.MULTILINE):
            if float(count):
                found.setdefault(model, []).append((outcome, status, float(count)))
        return found

    @cached_property
    def in_flight(self) -> dict[str, float]:
        pattern = r'^headgate_requests_in_flight{model="([^"]+)"} (\S+)$'
        return {model: float(count) for model, count in re.findall(pattern, self._metrics, re.MULTILINE)}

    @cached_property
    def _metrics(self) -> str:
        with urllib.request.urlopen(f"{self.server.url}/metrics") as page:
            return b"".join(line for line in page if line.startswith(b"headgate_requests_")).decode()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Two upstreams: one whose connections must not be used again, one whose connections may be."""

    async def plays(seen: Seen) -> AsyncIterator[Step]:
        case = CASES[int(seen.headers["x-case"])]
        async for step in case.play():
            yield step

    with ExitStack() as stack:
        unused = stack.enter_context(socket.socket())
        unused.bind(("127.0.0.1", 0))
        mistrusted, trusted = (stack.enter_context(Upstream(plays)) for _ in range(2))

        def port_for(fault: Fault) -> int:
            if fault.steps is None:
                return int(unused.getsockname()[1])
            return mistrusted.port if fault.frees else trusted.port

        models = {
            case.model: {
                **case.target(port_for(case.fault)),
                "timeouts": case.fault.timeouts,
                "retry": {"attempts": 1},
            }
            for case in CASES
        }
        settings = settings_of({"models": models, "server": {"access_log": False}})
        server = stack.enter_context(Running(settings))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(lambda case: ask(server.port, case), CASES))
        yield Served(server, answers, mistrusted, trusted)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_fault(served: Served, case: Case) -> None:
    told = served.answers[case.number]
    assert told.headers["x-request-id"]
    {"refused": refused, "broken": broken, "whole": whole}[case.kind](case, told)
    outcome = Outcome.OK if case.kind == "whole" else case.fault.outcome
    assert served.outcomes[case.model] == [(outcome, str(told.status), 1.0)]
    assert served.in_flight[case.model] == 0


def test_nothing_is_left(served: Served) -> None:
    """No call is under way, no connection is kept that can't be trusted; the others were used again."""
    assert served.server.gateway.in_flight == 0
    assert served.mistrusted.wait_until(lambda upstream: upstream.open_connections == 0)
    assert 0 < served.trusted.connections < len(served.trusted.seen)


def test_upstreams_are_told_what_is_wanted(served: Served) -> None:
    """On the wire, whoever asks: frames or events where a stream is wanted, else JSON alone."""
    for seen in [*served.mistrusted.seen, *served.trusted.seen]:
        pair = CASES[int(seen.headers["x-case"])].pair
        wanted = "application/json"
        if isinstance(pair.spoken, ChatDialect) and pair.form.stream:
            wanted = next(iter(pair.spoken.stream_types.values()))
        assert seen.headers["accept"].partition(",")[0] == wanted


def test_every_fault_is_told_apart() -> None:
    """The faults that a caller may see differ at least in how they end; the table has no empty row."""
    assert all(any(case.name == name for case in CASES) for name in FAULTS)
