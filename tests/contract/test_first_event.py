"""The first event of every kind of stream, cut at every byte: an error there is a status, not a stream.

The upstream's bytes are handed to the lanes read by read; no socket would cut them where it is told to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headgate.core.backend import RawHeaders, Receiver
from headgate.core.events import Failed, Finished
from headgate.dialects import sse
from headgate.dialects.dialect import ChatDialect
from headgate.server import build
from headgate.server.calls import begin
from headgate.server.gateway import Gateway
from headgate.server.lanes import framing, passthrough
from headgate.server.lanes.framing import MAX_PEEK
from headgate.upstream.http import Pool
from tests.contract.dialect_cases import PAIRS, Pair, framing_of, whole_of
from tests.contract.dialect_faults import REASON, failing, pieces, told_status
from tests.support.server import settings_from

STREAMS = [
    pair
    for pair in PAIRS
    if isinstance(pair.spoken, ChatDialect)
    and pair.form.stream
    and not (pair.form.kept or pair.repeats)
    and (pair.passes or pair.form.endpoint.speaks in ("openai_chat", "anthropic"))
]
"""Where bytes pass, every caller; where they are translated, two callers before every upstream."""
PASSING = [pair for pair in STREAMS if pair.passes]
SERVER_SENT = [
    pair for pair in PASSING if isinstance(pair.spoken, ChatDialect) and framing_of(pair.spoken) == "sse"
]
UNTOUCHED = [
    pair for pair in SERVER_SENT if pair.form.framing == "sse" and pair.form.dialect.name == "anthropic"
]
"""No byte is changed or held back for another reason."""


class Exchange:
    """What a lane holds of a request: nothing happens here but that it may be given up."""

    connected: float | None = None

    def abort(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


@dataclass
class Caller:
    """A caller's side that notes what it gets."""

    status: int = 0
    headers: RawHeaders = ()
    body: bytes = b""
    writes: list[bytes] = field(default_factory=list)
    ended: bool = False
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self.begin(status, headers, body)
        self.ended = True

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        assert not self.status
        self.status, self.headers = status, headers
        self.write(data)

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.body += data
        self.writes.append(data)
        self.told.set()

    def end(self) -> None:
        self.ended = True

    def abort(self) -> None:
        raise AssertionError("the answer was cut")


@dataclass
class Upstreams:
    """A gateway whose connections are the test's own hands."""

    gateway: Gateway
    pair: Pair
    receivers: list[Receiver]

    def ask(self) -> tuple[Caller, Receiver]:
        """Send the pair's request; the caller, and where the upstream's answer goes."""
        form, caller = self.pair.form, Caller()
        target = form.path("m").encode()
        fields = [(b"content-type", b"application/json"), *form.headers]
        match = self.gateway.endpoints.match(target, fields)
        assert match is not None
        begin(self.gateway, match, fields, form.body("m"), caller)
        return caller, self.receivers[-1]

    def answer(self, *reads: bytes, kind: str | None = None) -> Caller:
        """The whole answer of a status of 200, in such reads."""
        caller, receiver = self.ask()
        receiver.on_head(200, [(b"content-type", (kind or self.kind).encode())])
        for read in reads:
            if not caller.ended:
                receiver.on_data(read)
        if not caller.ended:
            receiver.on_end()
        assert caller.ended
        assert self.gateway.in_flight == 0
        return caller

    @property
    def spoken(self) -> ChatDialect:
        assert isinstance(self.pair.spoken, ChatDialect)
        return self.pair.spoken

    @property
    def kind(self) -> str:
        return self.spoken.stream_types[framing_of(self.spoken)]


@asynccontextmanager
async def upstreams(pair: Pair, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Upstreams]:
    receivers: list[Receiver] = []

    def send(self: Pool, head: bytes, body: bytes, receiver: Receiver, **_: Any) -> Exchange:
        receivers.append(receiver)
        return Exchange()

    monkeypatch.setattr(Pool, "send", send)
    model = {**pair.settings(9), "retry": {"attempts": 1}, "breaker": {"failures": 0}}
    if pair.backend == "bedrock":
        model |= {"access_key": "k", "secret_key": "s"}
    gateway = build.build(settings_from(folder, {"models": {"m": model}}))
    await build.start(gateway)
    try:
        yield Upstreams(gateway, pair, receivers)
    finally:
        await build.stop(gateway)


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`play(pair, scene)` runs `scene(upstreams)` on an event loop."""

    def run(pair: Pair, scene: Callable[[Upstreams], Awaitable[None]]) -> None:
        async def main() -> None:
            async with upstreams(pair, tmp_path, monkeypatch) as found:
                await scene(found)

        asyncio.run(main())

    return run


def each(pairs: Sequence[Pair]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("pair", [pytest.param(pair, id=pair.id) for pair in pairs])


def refused(caller: Caller, pair: Pair) -> None:
    assert isinstance(pair.spoken, ChatDialect)
    error = pair.form.dialect.decode_error(caller.status, caller.headers, caller.body)
    assert (caller.status, error.message) == (told_status(pair.spoken), REASON)


@each(STREAMS)
def test_an_error_first_is_a_status_at_every_cut(pair: Pair, play: Callable[..., None]) -> None:
    async def scene(found: Upstreams) -> None:
        stream = failing(found.spoken, begun=False)
        for cut in range(len(stream)):
            refused(found.answer(stream[:cut], stream[cut:]), pair)
        refused(found.answer(*(stream[at : at + 1] for at in range(len(stream)))), pair)

    play(pair, scene)


@each(SERVER_SENT)
def test_a_comment_before_it_changes_nothing(pair: Pair, play: Callable[..., None]) -> None:
    async def scene(found: Upstreams) -> None:
        comment = b": one moment\r\n\r\n: please\n\n"
        stream = comment + failing(found.spoken, begun=False)
        for cut in range(len(comment) + 20):
            refused(found.answer(stream[:cut], stream[cut:]), pair)

    play(pair, scene)


@each(STREAMS)
def test_a_good_stream_comes_whole_at_every_cut(pair: Pair, play: Callable[..., None]) -> None:
    """The same bytes, however they were cut."""

    async def scene(found: Upstreams) -> None:
        dialect = pair.form.dialect
        assert isinstance(dialect, ChatDialect)
        stream = b"".join(pieces(found.spoken))
        whole = found.answer(stream)
        assert whole.body == stream or pair not in UNTOUCHED
        for cut in range(min(len(stream), 600)):
            caller = found.answer(stream[:cut], stream[cut:])
            assert caller.status == 200
            assert caller.body == whole.body or not pair.passes  # which has an id of its own
        decoder = dialect.stream_decoder(dialect.stream_types[pair.form.framing])
        assert isinstance([*decoder.feed(caller.body), *decoder.end()][-1], Finished)

    play(pair, scene)


@each(PASSING)
def test_the_first_event_goes_out_when_it_is_whole(pair: Pair, play: Callable[..., None]) -> None:
    """It waits for no other."""

    async def scene(found: Upstreams) -> None:
        first, _ = pieces(found.spoken)
        caller, receiver = found.ask()
        receiver.on_head(200, [(b"content-type", found.kind.encode())])
        receiver.on_data(first)
        assert caller.status == 200
        assert caller.body

    play(pair, scene)


@each(UNTOUCHED)
def test_what_is_no_event_is_not_held_back_for_ever(
    pair: Pair, play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comments keep the caller's connection alive: after a moment they go out, and errors into the stream."""
    monkeypatch.setattr(passthrough, "PEEK_SECONDS", 0.01)

    async def scene(found: Upstreams) -> None:
        caller, receiver = found.ask()
        receiver.on_head(200, [(b"content-type", found.kind.encode())])
        receiver.on_data(b": one moment\n\n")
        assert not caller.writes
        await asyncio.wait_for(caller.told.wait(), 20)
        assert (caller.status, caller.body) == (200, b": one moment\n\n")
        receiver.on_data(failing(found.spoken, begun=False))
        receiver.on_end()
        events = found.spoken.stream_decoder(found.kind).feed(caller.body)
        assert isinstance(events[-1], Failed)
        assert events[-1].error.message == REASON

    play(pair, scene)


@each(UNTOUCHED)
def test_no_more_than_a_little_is_held_back(pair: Pair, play: Callable[..., None]) -> None:
    async def scene(found: Upstreams) -> None:
        for start in (b"data: {", b": "):
            caller, receiver = found.ask()
            receiver.on_head(200, [(b"content-type", found.kind.encode())])
            receiver.on_data(start + b" " * (MAX_PEEK - 100))
            assert not caller.writes
            receiver.on_data(b" " * 100)
            assert caller.status == 200
            assert len(caller.body) == len(start) + MAX_PEEK

    play(pair, scene)


@each(UNTOUCHED)
def test_a_caller_who_leaves_while_it_is_held_back(
    pair: Pair, play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written to a caller who is gone."""
    monkeypatch.setattr(passthrough, "PEEK_SECONDS", 0.0)

    async def scene(found: Upstreams) -> None:
        caller, receiver = found.ask()
        receiver.on_head(200, [(b"content-type", found.kind.encode())])
        receiver.on_data(b"data: {")
        found.gateway.abandon_all()
        assert caller.ended
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(caller.writes) == 1

    play(pair, scene)


@each(PASSING)
def test_an_error_that_comes_whole_for_a_stream(pair: Pair, play: Callable[..., None]) -> None:
    """JSON with an error in it and a status of 200, as some gateways before upstreams answer."""

    async def scene(found: Upstreams) -> None:
        error = b'{"error":{"message":"no, because","type":"overloaded_error","code":503},"type":"error"}'
        caller = found.answer(error, kind="application/json")
        assert caller.status >= 500
        assert b"stream" not in dict(caller.headers)[b"content-type"]

    play(pair, scene)


@each(PASSING)
def test_json_that_is_cut_or_too_long_is_no_stream(
    pair: Pair, play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(found: Upstreams) -> None:
        body = whole_of(found.spoken)
        assert found.answer(body, kind="application/json").status == 200
        assert found.answer(body[:-2], kind="application/json").status == 502
        assert found.answer(b"[]", kind="application/json").status == 502
        assert found.answer(b'"text"', kind="application/json; charset=utf-8").status == 502
        if "json_array" not in found.spoken.stream_types:  # where JSON is a stream
            monkeypatch.setattr(framing, "MAX_WHOLE", len(body) - 1)
            assert found.answer(body[:9], body[9:], kind="application/json").status == 502

    play(pair, scene)


@each(UNTOUCHED)
def test_a_long_error_event_is_told_all_the_same(pair: Pair, play: Callable[..., None]) -> None:
    """Longer than what is held back, so in the stream."""

    async def scene(found: Upstreams) -> None:
        event = sse.encode(b'{"type":"error","error":{"message":"%b"}}' % (b"x" * MAX_PEEK), "error")
        caller = found.answer(event[:-9], event[-9:])
        assert (caller.status, caller.body) == (200, event)

    play(pair, scene)
