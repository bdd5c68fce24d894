"""A caller that leaves stops what is under way for it, in whatever phase, and nothing is left of it.

Seen at both sockets. What is asserted is generous; `pytest -s` shows what was measured, to be below 100 ms.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from headgate.backends.scripted import ScriptedBackend
from headgate.core.backend import Wire
from headgate.core.call import Call, Operation, Outcome
from headgate.core.errors import Cancelled
from headgate.routing.route import Route
from headgate.server.build import Observers
from headgate.server.gateway import Gateway
from tests.e2e.conftest import Play, remote
from tests.support.client import Connection
from tests.support.ended import EndedCalls
from tests.support.residue import Residue, TimedLoop, settled
from tests.support.server import Running, settings_from
from tests.support.upstream import SSE_HEAD, Hang, Seen, Step, Upstream, delta, event, head, plain

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
CHATS: dict[str, dict[str, Any]] = {
    CHAT: ASK,
    "/v1/messages": ASK,
    "/v1/responses": {"input": "hi"},
    "/v1/completions": {"prompt": "hi"},
}
PREDICT: dict[str, Any] = {"size": 2}
PROMPT = 1.0
"""Seconds within which everything has stopped, however busy the machine is."""


async def silent(_: Seen) -> AsyncIterator[Step]:
    yield Hang()


async def begins(seen: Seen) -> AsyncIterator[Step]:
    if seen.json.get("stream"):
        yield SSE_HEAD + event(delta("one"))
    else:
        yield head(200, length=1000) + b'{"id": "chatcmpl-1", '
    yield Hang()


async def fails(_: Seen) -> AsyncIterator[Step]:
    yield plain(500, {"error": {"message": "not now"}})


async def limited(_: Seen) -> AsyncIterator[Step]:
    yield plain(429, {"error": {"message": "later"}}, "retry-after: 3")


class Longest(random.Random):
    """Of every pause the longest."""

    @override
    def uniform(self, a: float, b: float) -> float:
        return b


class Site:
    """One server with the model `m`."""

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        lane: str,
        model: dict[str, Any],
        edit: Callable[[Gateway], None] | None = None,
    ) -> None:
        self._names = count(1)
        self._latest = ""
        self._ended = EndedCalls()
        self.server = stack.enter_context(
            Running(
                settings_from(folder, {"models": {"m": model}}),
                fast=lane == "fast",
                observers=Observers(self._ended),
                loop_factory=TimedLoop,
                edit=edit,
            )
        )
        self._residue = stack.enter_context(Residue(self.server))

    @property
    def route(self) -> Route:
        return self.server.gateway.router.routes["m"]

    @contextmanager
    def call(
        self, stream: bool, name: str = "", path: str = CHAT, ask: dict[str, Any] = ASK
    ) -> Iterator[Connection]:
        """A call under way. Its caller leaves when the block ends."""
        self._latest = name = name or f"call-{next(self._names)}"
        with Connection(self.server.port) as connection:
            body = {**ask, "model": "m", "stream": stream} if ask is not PREDICT else PREDICT
            connection.send("POST", path, body, {"x-request-id": name})
            yield connection

    def stopped(self, left: float, *upstreams: Upstream, name: str = "") -> Call:
        """The latest call, or that of `name`: it ended as its caller left then, and `upstreams` saw it."""
        call = self._ended.by_id(name or self._latest)
        assert call.ended is not None
        took = {"call": call.ended - left}
        for upstream in upstreams:
            assert upstream.wait_until(lambda each: each.open_connections == 0)
            took["upstream"] = max(took.get("upstream", 0.0), upstream.closed - left)
        print(", ".join(f"{what} stopped after {seconds * 1000:.1f} ms" for what, seconds in took.items()))
        assert max(took.values()) < PROMPT
        assert (call.outcome, call.status) == (Outcome.CANCELLED, Cancelled.status)
        return call

    def at_rest(self) -> None:
        assert not self._residue.found()
        route = self.route
        assert route.pace.waiting == 0
        for admission in (route.admission, *(target.admission for target in route.targets)):
            if admission is not None:
                assert (admission.running, admission.waiting) == (0, 0)
        assert all(target.health.in_flight == 0 for target in route.targets)


def was_asked(upstream: Upstream, times: int) -> bool:
    return upstream.wait_until(lambda each: len(each.seen) == times)


def until(condition: Callable[[], object]) -> None:
    assert settled(lambda: not condition()) is False


@pytest.fixture(params=[False, True], ids=["plain", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    found: bool = request.param
    return found


@pytest.mark.parametrize("where", ["model", "target"])
def test_in_a_queue(
    play: Play, stack: ExitStack, tmp_path: Path, lane: str, stream: bool, where: str
) -> None:
    upstream = play(silent)
    limit = {"max_in_flight": 1} if where == "model" else {"max_concurrency": 1}
    site = Site(
        stack,
        tmp_path,
        lane,
        {"targets": [remote(upstream)], **limit} if where == "model" else remote(upstream, **limit),
    )
    admission = site.route.admission if where == "model" else site.route.targets[0].admission
    assert admission is not None
    with site.call(stream, "first"):
        assert was_asked(upstream, 1)
        with site.call(stream):
            until(lambda: admission.waiting == 1)
            left = time.monotonic()
        call = site.stopped(left)
        assert [attempt.launched for attempt in call.attempts] == [None] * (where == "target")
        assert (admission.running, admission.waiting) == (1, 0)
        left = time.monotonic()
    site.stopped(left, upstream, name="first")
    site.at_rest()
    assert len(upstream.seen) == 1


def test_while_it_waits_for_a_quota(
    play: Play, stack: ExitStack, tmp_path: Path, lane: str, stream: bool
) -> None:
    upstream = play(limited)
    site = Site(stack, tmp_path, lane, remote(upstream))
    with site.call(stream):
        until(lambda: site.route.pace.waiting == 1)
        left = time.monotonic()
    site.stopped(left)
    site.at_rest()
    assert len(upstream.seen) == 1


def test_in_the_pause_before_another_attempt(
    play: Play, stack: ExitStack, tmp_path: Path, lane: str, stream: bool
) -> None:
    upstream = play(fails)

    def edit(gateway: Gateway) -> None:
        gateway.rng = Longest()

    site = Site(stack, tmp_path, lane, remote(upstream, retry={"attempts": 5}), edit)
    with site.call(stream):
        assert was_asked(upstream, 2)
        left = time.monotonic()
    call = site.stopped(left)
    assert all(attempt.error is not None for attempt in call.attempts)
    site.at_rest()
    assert len(upstream.seen) == 2


def test_while_it_connects(stack: ExitStack, tmp_path: Path, lane: str, stream: bool) -> None:
    """To a port whose queue is full: the kernel does not answer."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    for _ in range(2):
        filler = stack.enter_context(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
    site = Site(
        stack,
        tmp_path,
        lane,
        {"backend": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "api_key": "k"},
    )
    with site.call(stream):
        until(lambda: site.route.targets[0].health.in_flight == 1)
        left = time.monotonic()
    (attempt,) = site.stopped(left).attempts
    assert attempt.connected is None
    site.at_rest()


def test_while_it_agrees_on_tls(
    play: Play, stack: ExitStack, tmp_path: Path, lane: str, stream: bool
) -> None:
    upstream = play(silent)  # and says nothing of TLS
    site = Site(stack, tmp_path, lane, remote(upstream, base_url=f"https://127.0.0.1:{upstream.port}/v1"))
    with site.call(stream):
        assert upstream.wait_until(lambda each: each.open_connections == 1)
        left = time.monotonic()
    site.stopped(left, upstream)
    site.at_rest()


class Loading:
    """In place of a wire whose other side has to come up first."""

    ready = False

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.begun = threading.Event()
        self.ended = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)

    async def prepare(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = time.monotonic()


def test_while_its_engine_comes_up(
    play: Play, stack: ExitStack, tmp_path: Path, lane: str, stream: bool
) -> None:
    upstream = play(silent)
    loading: list[Loading] = []

    def edit(gateway: Gateway) -> None:
        target = gateway.router.routes["m"].targets[0]
        wire = target.wire(Operation.CHAT, "openai_chat")
        assert wire is not None
        loading.append(Loading(wire))
        target._wires[Operation.CHAT, "openai_chat"] = loading[0]

    site = Site(stack, tmp_path, lane, remote(upstream), edit)
    with site.call(stream):
        assert loading[0].begun.wait(5)
        left = time.monotonic()
    site.stopped(left)
    until(lambda: loading[0].ended)
    assert loading[0].ended - left < PROMPT
    site.at_rest()
    assert not upstream.seen


def test_before_the_first_event(play: Play, stack: ExitStack, tmp_path: Path, lane: str) -> None:
    upstream = play(silent)
    site = Site(stack, tmp_path, lane, remote(upstream))
    for number, (path, stream) in enumerate(product(CHATS, (False, True)), 1):
        with site.call(stream, path=path, ask=CHATS[path]):
            assert was_asked(upstream, number)
            left = time.monotonic()
        site.stopped(left, upstream)
        site.at_rest()


def test_in_its_middle(play: Play, stack: ExitStack, tmp_path: Path, lane: str) -> None:
    upstream = play(begins)
    site = Site(stack, tmp_path, lane, remote(upstream))
    for number, (path, stream) in enumerate(product(CHATS, (False, True)), 1):
        with site.call(stream, path=path, ask=CHATS[path]) as connection:
            if stream:
                assert connection.head()[0] == 200
                assert connection.chunk()
            else:
                assert was_asked(upstream, number)
            left = time.monotonic()
        site.stopped(left, upstream)
        site.at_rest()


def test_while_its_stream_is_held_back(play: Play, stack: ExitStack, tmp_path: Path, lane: str) -> None:
    held = threading.Event()

    async def script(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("one"))
        held.set()
        yield Hang()

    upstream = play(script)
    model = {"targets": [remote(upstream)], "hold_back": {"characters": 100, "time": "30s"}}
    site = Site(stack, tmp_path, lane, model)
    with site.call(True):
        assert held.wait(5)
        left = time.monotonic()
    site.stopped(left, upstream)
    site.at_rest()


def test_both_attempts_of_a_hedge(
    play: Play, stack: ExitStack, tmp_path: Path, lane: str, stream: bool
) -> None:
    first, second = play(silent), play(silent)
    targets = [remote(first), remote(second, priority=2)]
    site = Site(stack, tmp_path, lane, {"targets": targets, "hedge": {"after": "20ms"}})
    with site.call(stream):
        for upstream in (first, second):
            assert was_asked(upstream, 1)
        left = time.monotonic()
    call = site.stopped(left, first, second)
    assert [attempt.hedge for attempt in call.attempts] == [False, True]
    site.at_rest()


@pytest.mark.parametrize("after", [0, 1])
def test_a_backend_in_this_process(
    stack: ExitStack, tmp_path: Path, lane: str, stream: bool, after: int
) -> None:
    fault = {"kind": "stall", "after": after}
    site = Site(stack, tmp_path, lane, {"backend": "scripted", "fault": fault})
    backend = site.route.targets[0].backend
    assert isinstance(backend, ScriptedBackend)
    with site.call(stream):
        until(lambda: backend.running == 1)
        left = time.monotonic()
    site.stopped(left)
    site.at_rest()
    assert (backend.running, backend.cancelled) == (0, 1)


@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/rerank", {"query": "q", "documents": ["a", "b"]}),
        ("/v1/messages/count_tokens", {"messages": ASK["messages"]}),
    ],
)
def test_what_is_no_chat(
    play: Play, stack: ExitStack, tmp_path: Path, lane: str, path: str, ask: dict[str, Any]
) -> None:
    upstream = play(silent)
    backend = {"/v1/embeddings": "openai", "/v1/rerank": "cohere"}.get(path, "anthropic")
    site = Site(stack, tmp_path, lane, {"backend": backend, "base_url": upstream.url, "api_key": "k"})
    with site.call(False, path=path, ask=ask):
        assert was_asked(upstream, 1)
        left = time.monotonic()
    site.stopped(left, upstream)
    site.at_rest()


CODE = """
def predict(size: float) -> float:
    with open({path!r}) as gate:
        return size * len(gate.read())
"""


def test_a_prediction(stack: ExitStack, tmp_path: Path, lane: str) -> None:
    """Code that runs can't be stopped: its caller's call ends all the same, and what waits behind it too."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "custom.py").write_text(CODE.format(path=str(gate)))
    site = Site(stack, tmp_path, lane, {"folder": str(tmp_path)})
    with ExitStack() as callers:
        names = ("running", "waiting")
        for name in names:
            callers.enter_context(site.call(False, name, path="/models/m/predict", ask=PREDICT))
        writer = _writer(gate)
        left = time.monotonic()
    for name in names:
        site.stopped(left, name=name)
    os.close(writer)  # the code goes on, and ends
    site.at_rest()


def _writer(gate: Path) -> int:
    """A descriptor to write to `gate`, once somebody reads there."""
    found: list[int] = []

    def opened() -> bool:
        try:
            found.append(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    until(opened)
    return found[0]
