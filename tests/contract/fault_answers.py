"""What a caller gets of a fault: asked as the form of its case asks, read with the codec of its dialect."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from headgate.core.backend import RawHeaders
from headgate.core.errors import RETRYABLE_STATUSES
from headgate.core.events import ChatEvent, Failed, Finished, PartDelta
from headgate.core.fold import Assembler
from headgate.core.messages import Text
from headgate.dialects.dialect import ChatDialect, CountDialect, EmbedDialect, RerankDialect
from tests.contract.dialect_cases import TEXT, Pair
from tests.contract.dialect_faults import WRONG_TYPE, Fault, Kind, told_status
from tests.support.client import Connection
from tests.support.upstream import Step


@dataclass
class Case:
    """One pair with one fault. Its model's name is its own, so that counts don't mix.

    `heard` is set when the caller has the first piece of a stream, `reached` when the upstream says so.
    """

    number: int
    pair: Pair
    name: str
    fault: Fault
    heard: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    left: float = 0.0
    """When the caller left, by `time.monotonic`."""

    @property
    def model(self) -> str:
        return f"case-{self.number}"

    @property
    def id(self) -> str:
        return f"{self.pair.id}-{self.name}"

    @property
    def kind(self) -> Kind:
        return self.fault.kind_for(self.pair)

    def target(self, port: int) -> dict[str, Any]:
        """Settings of the target that has the fault."""
        found = self.pair.settings(port)
        if self.pair.backend == "scripted":
            return {**found, "fault": self.fault.scripted} if self.fault.scripted else found
        # A quota of its own, so that one case's 429 is not another's.
        return {**found, "headers": {"x-case": str(self.number)}, "quota": self.model}

    def play(self) -> AsyncIterator[Step]:
        return self.fault.play(self.pair, self.heard, self.reached)


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


def ask(port: int, case: Case) -> Told:
    try:
        return _ask(port, case)
    finally:
        case.heard.set()  # lest a thread of the upstream goes on waiting for what will not be


def _ask(port: int, case: Case) -> Told:
    form, fault = case.pair.form, case.fault
    fields = {"content-type": "application/json", **{k.decode(): v.decode() for k, v in form.headers}}
    with Connection(port, timeout=30, reads=fault.reads or 65536) as connection:
        connection.send("POST", form.path(case.model), form.body(case.model), fields)
        if fault.kind == "left" and (not fault.reads or not form.stream):
            assert case.reached.wait(30)
            case.left = monotonic()
            return Told(0, {}, b"", True)
        status, headers = connection.head()
        body = b""
        try:
            if headers.get("transfer-encoding") != "chunked":
                return Told(status, headers, connection.exactly(int(headers["content-length"])), False)
            while (part := connection.chunk()) is not None:
                body += part
                case.heard.set()
                if fault.kind == "left":
                    case.left = monotonic()
                    return Told(status, headers, body, True)
        except ConnectionError:
            return Told(status, headers, body, True)
        return Told(status, headers, body, False)


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
        assert text_of(before) == case.fault.text
    else:
        assert isinstance(dialect, ChatDialect)
        assert told.headers["content-type"] == "application/json"
        (choice,) = dialect.decode_result(told.body).choices
        assert [part.text for part in choice.parts if isinstance(part, Text)] == [case.fault.text]


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
