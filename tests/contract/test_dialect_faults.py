"""Every hot endpoint × kind of upstream × fault: told once, in the caller's dialect, and counted.

All requests are sent in one go when the module begins; each test looks at one answer, and reads it with the
codec of the caller's dialect.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest

from headgate.core.backend import RawHeaders
from headgate.core.call import Outcome
from headgate.core.errors import RETRYABLE_STATUSES
from headgate.core.events import ChatEvent, Failed, Finished, PartDelta
from headgate.core.fold import Assembler
from headgate.core.messages import Text
from headgate.dialects.dialect import ChatDialect, CountDialect, EmbedDialect, RerankDialect
from tests.contract.dialect_cases import PAIRS, TEXT, Pair
from tests.contract.dialect_faults import FAULTS, WRONG_TYPE, Fault, told_status
from tests.support.client import Connection
from tests.support.server import Running, settings_from
from tests.support.upstream import Seen, Step, Upstream

AT_ONCE = 32


@dataclass
class Case:
    """One pair with one fault. Its model's name is its own, so that counts don't mix."""

    number: int
    pair: Pair
    name: str
    heard: threading.Event = field(default_factory=threading.Event)

    @property
    def fault(self) -> Fault:
        return FAULTS[self.name]

    @property
    def model(self) -> str:
        return f"case-{self.number}"

    @property
    def id(self) -> str:
        return f"{self.pair.id}-{self.name}"

    def settings(self, port: int) -> dict[str, Any]:
        found = {**self.pair.settings(port), "timeouts": self.fault.timeouts, "retry": {"attempts": 1}}
        if self.pair.backend != "scripted":
            # A quota of its own, so that one case's 429 is not another's.
            return {**found, "headers": {"x-case": str(self.number)}, "quota": self.model}
        return {**found, "fault": self.fault.scripted} if self.fault.scripted else found


CASES = [
    Case(number, pair, name)
    for number, (pair, name) in enumerate(
        (pair, name) for pair in PAIRS for name, fault in FAULTS.items() if fault.concerns(pair)
    )
]


@dataclass
class Told:
    """An answer; `cut`: the connection was closed before its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: bool

    @property
    def raw_headers(self) -> RawHeaders:
        return [(name.encode(), value.encode()) for name, value in self.headers.items()]


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
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two upstreams: one whose connections must not be used again, one whose connections may be."""

    async def plays(seen: Seen) -> AsyncIterator[Step]:
        case = CASES[int(seen.headers["x-case"])]
        async for step in case.fault.play(case.pair, case.heard):
            yield step

    with ExitStack() as stack:
        unused = stack.enter_context(socket.socket())
        unused.bind(("127.0.0.1", 0))
        mistrusted, trusted = (stack.enter_context(Upstream(plays)) for _ in range(2))

        def port_for(fault: Fault) -> int:
            if fault.steps is None:
                return int(unused.getsockname()[1])
            return mistrusted.port if fault.frees else trusted.port

        models = {case.model: case.settings(port_for(case.fault)) for case in CASES}
        settings = settings_from(
            tmp_path_factory.mktemp("faults"), {"models": models, "server": {"access_log": False}}
        )
        server = stack.enter_context(Running(settings))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(lambda case: ask(server.port, case), CASES))
        yield Served(server, answers, mistrusted, trusted)


def ask(port: int, case: Case) -> Told:
    form = case.pair.form
    fields = {"content-type": "application/json", **{k.decode(): v.decode() for k, v in form.headers}}
    with Connection(port, timeout=30) as connection:
        connection.send("POST", form.path(case.model), form.body(case.model), fields)
        status, headers = connection.head()
        body = b""
        try:
            if headers.get("transfer-encoding") != "chunked":
                return Told(status, headers, connection.exactly(int(headers["content-length"])), False)
            while (part := connection.chunk()) is not None:
                body += part
                case.heard.set()
        except ConnectionError:
            return Told(status, headers, body, True)
        return Told(status, headers, body, False)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_fault(served: Served, case: Case) -> None:
    told = served.answers[case.number]
    assert told.headers["x-request-id"]
    kind = case.fault.kind_for(case.pair)
    {"refused": refused, "broken": broken, "whole": whole}[kind](case, told)
    outcome = Outcome.OK if kind == "whole" else case.fault.outcome
    assert served.outcomes[case.model] == [(outcome, str(told.status), 1.0)]
    assert served.in_flight[case.model] == 0


def refused(case: Case, told: Told) -> None:
    """An answer that is an error: its status, its retry information, and the shape of the dialect."""
    fault, dialect = case.fault, case.pair.form.dialect
    spoken = case.pair.spoken
    status = fault.status if fault.status is not None or spoken is None else told_status(spoken)
    assert told.status == status
    assert not told.cut
    error = dialect.decode_error(told.status, told.raw_headers, told.body)
    assert error.status == status
    assert error.retryable == (status in RETRYABLE_STATUSES)
    assert error.retry_after == fault.retry_after
    assert fault.message in (None, error.message)
    assert shape(told.body) == shape(dialect.encode_error(error).body)


def shape(body: bytes) -> Any:
    """The keys of an error, at every depth but that of its details."""
    return _shape(json.loads(body))


def _shape(value: Any) -> Any:
    if not isinstance(value, dict):
        return None
    return {key: _shape(item) for key, item in value.items() if key not in ("details", "request_id")}


def broken(case: Case, told: Told) -> None:
    """A stream that ends in an error, once, and nowhere looks complete."""
    events = decoded(case, told)
    *before, last = events
    assert isinstance(last, Failed)
    assert text_of(before) == TEXT[0]
    assert not any(isinstance(event, Failed | Finished) for event in before)
    if case.fault.message is not None:
        assert last.error.message == case.fault.message
    assert last.error.retryable
    observer = case.pair.form.dialect.observer(True, told.headers["content-type"])
    observer.feed(told.body)
    observer.end()
    assert not observer.terminal


def whole(case: Case, told: Told) -> None:
    dialect = case.pair.form.dialect
    assert told.status == 200
    assert not told.cut
    if isinstance(dialect, EmbedDialect):
        assert len(dialect.decode_result(told.body).vectors) == 1
    elif isinstance(dialect, RerankDialect):
        assert {each.index for each in dialect.decode_result(told.body).ranked} == {0, 1}
    elif isinstance(dialect, CountDialect):
        assert dialect.decode_result(told.body) == 5
    elif case.pair.form.stream:
        *before, last = decoded(case, told)
        assert isinstance(last, Finished)
        assert text_of(before) == "".join(TEXT)
    else:
        assert isinstance(dialect, ChatDialect)
        assert told.headers["content-type"] == "application/json"
        (choice,) = dialect.decode_result(told.body).choices
        assert [part.text for part in choice.parts if isinstance(part, Text)] == ["".join(TEXT)]


def decoded(case: Case, told: Told) -> list[ChatEvent]:
    """The stream's events, checked against the rules of all streams."""
    form = case.pair.form
    dialect = form.dialect
    assert isinstance(dialect, ChatDialect)
    assert told.status == 200
    kind = dialect.stream_types[form.framing]
    assert told.headers["content-type"] == ("text/plain" if case.name == WRONG_TYPE else kind)
    if form.framing == "json_array":
        assert isinstance(json.loads(told.body), list)
    decoder = dialect.stream_decoder(kind)
    events = [*decoder.feed(told.body), *decoder.end()]
    assembler = Assembler()
    for event in events:
        assembler.feed(event)
    return events


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.delta for event in events if isinstance(event, PartDelta))


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
