"""Responses that an upstream keeps, when things go wrong: it is gone, breaks off, pours; callers leave."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from headgate.core.errors import Unavailable
from headgate.policy.store import MemoryStore, Store
from headgate.server.gateway import Gateway
from headgate.server.responses import ResponseBook
from tests.e2e.conftest import remote
from tests.support.client import Answer, Connection, request
from tests.support.native_responses import NativeResponses, refusal
from tests.support.process import started, write_config
from tests.support.server import Running, settings_from
from tests.support.upstream import (
    LAST_CHUNK,
    SSE_HEAD,
    Drop,
    Hang,
    Seen,
    Step,
    Upstream,
    chunk,
    head,
    plain,
)

PATH = "/v1/responses"
ASK: dict[str, Any] = {"model": "gpt", "input": "Hi"}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Far(NativeResponses):
    """An upstream that answers GET and DELETE by `fault`, once that is set."""

    fault: Callable[[Seen], AsyncIterator[Step]] | None = None

    @override
    async def __call__(self, seen: Seen) -> AsyncIterator[Step]:
        script = super().__call__ if self.fault is None or seen.method == "POST" else self.fault
        async for step in script(seen):
            yield step


class Site:
    """A gateway before upstreams that keep their answers."""

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        *,
        edit: Callable[[Gateway], None] | None = None,
        **content: Any,
    ) -> None:
        self.far = Far()
        self.far.go_on.set()
        self.upstream = stack.enter_context(Upstream(self.far))
        models = {"gpt": model(self.upstream, **content.pop("model", {}))}
        settings = settings_from(folder, {"models": models, **content})
        self.server = stack.enter_context(Running(settings, edit=edit))

    def post(self, **fields: Any) -> Answer:
        return request(self.server.port, "POST", PATH, {**ASK, **fields})

    def get(self, identity: str, query: str = "") -> Answer:
        return request(self.server.port, "GET", f"{PATH}/{identity}{query}")


def model(upstream: Upstream, **more: Any) -> dict[str, Any]:
    state = {"dialects": ["openai_responses"], "native_state": ["store", "background"]}
    return {**remote(upstream), **state, **more}


@pytest.fixture
def site(stack: ExitStack, tmp_path: Path) -> Site:
    return Site(stack, tmp_path, model={"timeouts": {"first_event": "300ms", "idle": "300ms"}})


def test_an_upstream_that_is_gone(stack: ExitStack, tmp_path: Path) -> None:
    with ExitStack() as inner:
        upstream = inner.enter_context(Upstream(NativeResponses()))
        port = upstream.port
        server = stack.enter_context(Running(settings_from(tmp_path, {"models": {"gpt": model(upstream)}})))
        made = request(server.port, "POST", PATH, ASK).json["id"]
    with socket.socket() as taken:  # nobody listens there
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        for method, path in (
            ("GET", f"{PATH}/{made}"),
            ("GET", f"{PATH}/{made}?stream=true"),
            ("GET", f"{PATH}/{made}/input_items"),
            ("POST", f"{PATH}/{made}/cancel"),
            ("DELETE", f"{PATH}/{made}"),
        ):
            answer = request(server.port, method, path)
            assert (answer.status, answer.error["code"]) == (502, "upstream_unreachable"), path
        again = request(server.port, "POST", PATH, {**ASK, "previous_response_id": made})
        assert again.status == 502
    assert server.gateway.in_flight == 0


async def hangs(_: Seen) -> AsyncIterator[Step]:
    yield Hang()


async def stalls(_: Seen) -> AsyncIterator[Step]:
    yield SSE_HEAD + chunk(b'event: response.created\ndata: {"type":"response.created"}\n\n')
    yield Hang()


async def overloaded(_: Seen) -> AsyncIterator[Step]:
    yield plain(503, refusal("busy", type="server_error"), "retry-after: 7")


async def page(_: Seen) -> AsyncIterator[Step]:
    yield head(502, "text/html", length=26) + b"<title>Bad Gateway</title>"


async def cut(_: Seen) -> AsyncIterator[Step]:
    yield head(200, length=100) + b'{"id":'
    yield Drop()


async def drops(_: Seen) -> AsyncIterator[Step]:
    yield Drop()


@pytest.mark.parametrize(
    ("fault", "status", "code", "message"),
    [
        (hangs, 504, "first_event_timeout", "nothing within"),
        (overloaded, 503, "upstream_error", "busy"),
        (page, 502, "upstream_error", "Bad Gateway"),
        (cut, 502, "upstream_broken", "mid-answer"),
        (drops, 502, "upstream_broken", "without an answer"),
    ],
)
def test_what_the_upstream_says_or_does_is_told(
    site: Site, fault: Callable[[Seen], AsyncIterator[Step]], status: int, code: str, message: str
) -> None:
    made = site.post().json["id"]
    site.far.fault = fault
    for query in ("", "?stream=true", "/input_items"):
        answer = site.get(made, query)
        assert (answer.status, answer.error["code"]) == (status, code), query
        assert message in answer.error["message"]
        assert answer.headers.get("retry-after") == ("7" if fault is overloaded else None)
    answer = request(site.server.port, "DELETE", f"{PATH}/{made}")
    assert answer.status == status
    site.far.fault = None
    assert site.get(made).status == 200  # what could not be deleted is still known


def data_of(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(block.partition(b"data: ")[2]) for block in body.split(b"\n\n") if block.strip()]


@pytest.mark.parametrize("ends", ["cut", "cut within an event", "stall", "no terminal event", "error"])
def test_a_replay_that_breaks_off_says_so(site: Site, ends: str) -> None:
    made = site.post().json["id"]
    first = b'event: response.created\ndata: {"type":"response.created","sequence_number":0}\n\n'

    async def breaks(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD + chunk(first)
        if ends == "cut within an event":
            yield chunk(b"event: response.output_te")
        if ends == "stall":
            yield Hang()
        elif ends == "error":
            yield chunk(b'event: error\ndata: {"type":"error","message":"theirs"}\n\n') + LAST_CHUNK
        elif ends == "no terminal event":
            yield LAST_CHUNK
        yield Drop()

    site.far.fault = breaks
    answer = site.get(made, "?stream=true")
    assert answer.status == 200
    assert answer.body.startswith(first)
    events = [
        (each["type"], each.get("message"))
        for each in data_of(answer.body.replace(b"event: response.output_te\n\n", b""))
    ]
    assert "response.completed" not in dict(events)
    if ends == "error":
        assert events[1:] == [("error", "theirs")]
    else:
        assert "error" in dict(events)
        assert events[-1][0] in ("error", "response.failed")


def test_a_stream_that_is_cut_while_it_is_made(site: Site) -> None:
    site.far.breaks = True
    answer = site.post(stream=True)
    kinds = [each["type"] for each in data_of(answer.body)]
    assert "error" in kinds
    assert "response.completed" not in kinds
    assert site.get("resp_up_0000").status == 200  # the upstream may well have gone on with it


@pytest.mark.parametrize("whole", [True, False])
def test_a_large_answer_passes_as_it_comes(site: Site, whole: bool) -> None:
    made = site.post().json["id"]
    body = b'{"id": "%b"}' % (b"x" * 6_000_000)

    async def large(_: Seen) -> AsyncIterator[Step]:
        yield head(200, length=len(body))
        yield body if whole else body[:5_000_000]
        yield Drop()

    site.far.fault = large
    if whole:
        answer = site.get(made)
        assert (answer.status, answer.headers["content-type"], answer.body) == (200, "application/json", body)
    else:
        with pytest.raises(ConnectionError):
            site.get(made)
    assert site.upstream.wait_until(lambda upstream: upstream.open_connections == 0)


async def refuses_at_length(_: Seen) -> AsyncIterator[Step]:
    yield head(400, length=10**9)
    while True:
        yield b" " * 65536


def test_a_refusal_without_end(site: Site) -> None:
    made = site.post().json["id"]
    site.far.fault = refuses_at_length
    assert site.get(made).status == 400
    assert site.upstream.wait_until(lambda upstream: upstream.open_connections == 0)


@pytest.mark.parametrize("query", ["", "?stream=true"])
def test_a_caller_that_leaves(stack: ExitStack, tmp_path: Path, query: str) -> None:
    site = Site(stack, tmp_path)
    made = site.post().json["id"]
    site.far.fault = stalls if query else hangs
    with Connection(site.server.port) as connection:
        connection.send("GET", f"{PATH}/{made}{query}")
        if query:
            assert connection.head()[0] == 200
            assert connection.chunk()
        assert site.upstream.wait_until(lambda upstream: len(upstream.seen) == 2)
    assert site.upstream.wait_until(lambda upstream: upstream.open_connections == 0)


def test_a_caller_that_reads_slowly_slows_the_upstream(stack: ExitStack, tmp_path: Path) -> None:
    site = Site(stack, tmp_path)
    made = site.post().json["id"]
    event = b"event: x\ndata: " + b"x" * 65_000 + b"\n\n"
    completed = b'event: response.completed\ndata: {"type":"response.completed"}\n\n'
    count = 800  # far more than all sockets on the way hold
    sent = 0

    async def pours(_: Seen) -> AsyncIterator[Step]:
        nonlocal sent
        yield SSE_HEAD
        for _number in range(count):
            yield chunk(event)
            sent += 1
        yield chunk(completed) + LAST_CHUNK

    site.far.fault = pours
    with Connection(site.server.port) as connection:
        connection.send("GET", f"{PATH}/{made}?stream=true")
        assert connection.head()[0] == 200
        parts = [connection.chunk() or b""]
        assert sent < count
        while (part := connection.chunk()) is not None:
            parts.append(part)
    assert sent == count
    assert b"".join(parts) == event * count + completed


class FakeClock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_id_is_forgotten_when_its_time_is_over(stack: ExitStack, tmp_path: Path) -> None:
    clock = FakeClock()

    def edit(gateway: Gateway) -> None:
        gateway.book = ResponseBook(MemoryStore(clock=clock), clock, ttl=60)

    site = Site(stack, tmp_path, edit=edit)
    made = site.post().json["id"]
    assert site.get(made).status == 200
    clock.now += 61
    assert site.get(made).status == 404
    assert site.post(previous_response_id=made).error["code"] == "previous_response_not_found"
    assert len(site.upstream.seen) == 2


class Failing(MemoryStore):
    @override
    async def put(self, key: str, value: bytes, ttl: float) -> None:
        raise Unavailable("The server's store can't be used now (disk full).")


class Slow(MemoryStore):
    """Takes nothing in until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    @override
    async def put(self, key: str, value: bytes, ttl: float) -> None:
        await asyncio.to_thread(self.go_on.wait, 10)
        await super().put(key, value, ttl)


def with_store(store: Store) -> Callable[[Gateway], None]:
    def edit(gateway: Gateway) -> None:
        gateway.book = ResponseBook(store, FakeClock())

    return edit


def test_a_store_that_fails_costs_no_answer(
    stack: ExitStack, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(stack, tmp_path, edit=with_store(Failing()))
    answer = site.post()
    assert answer.status == 200
    assert site.get(answer.json["id"]).status == 404
    assert "is not remembered and can't be fetched: The server's store" in caplog.text


def test_an_id_is_known_before_the_store_has_it(stack: ExitStack, tmp_path: Path) -> None:
    store = Slow()
    site = Site(stack, tmp_path, edit=with_store(store))
    kept, gone = site.post().json["id"], site.post().json["id"]
    assert site.get(kept).status == 200
    assert request(site.server.port, "DELETE", f"{PATH}/{gone}").status == 200
    assert site.get(gone).status == 404
    store.go_on.set()
    assert site.get(kept).status == 200
    assert site.get(gone).status == 404


def test_another_target_answers_and_keeps(stack: ExitStack, tmp_path: Path) -> None:
    async def broken(_: Seen) -> AsyncIterator[Step]:
        yield plain(500, refusal("no", type="server_error"))

    first = stack.enter_context(Upstream(broken))
    far = NativeResponses("resp_second")
    second = stack.enter_context(Upstream(far))
    targets = [model(first), model(second, priority=2)]
    server = stack.enter_context(Running(settings_from(tmp_path, {"models": {"gpt": {"targets": targets}}})))
    made = request(server.port, "POST", PATH, ASK).json["id"]
    assert made in far.kept
    assert request(server.port, "GET", f"{PATH}/{made}").status == 200
    assert request(server.port, "POST", PATH, {**ASK, "previous_response_id": made}).status == 200
    assert len(first.seen) == 1


def test_a_process_that_dies_has_remembered_what_began(stack: ExitStack, tmp_path: Path) -> None:
    far = NativeResponses()
    upstream = stack.enter_context(Upstream(far))
    content = {"models": {"gpt": model(upstream)}, "server": {"state": str(tmp_path / "state.sqlite")}}
    config = write_config(tmp_path, content)
    with started(tmp_path, "serve", config) as process:
        process.ready()
        with Connection(process.port) as connection:
            connection.send("POST", PATH, {**ASK, "stream": True, "background": True})
            assert connection.head()[0] == 200
            assert b"resp_up_0000" in (connection.chunk() or b"")
            # The store has one thread: what it is asked later it does later.
            assert request(process.port, "GET", f"{PATH}/resp_unknown").status == 404
            process.signal(signal.SIGKILL)
            process.wait()
    far.go_on.set()
    with started(tmp_path, "serve", config) as process:
        process.ready()
        body = request(process.port, "GET", f"{PATH}/resp_up_0000?stream=true").body
        assert body == b"".join(far.kept["resp_up_0000"].events)
