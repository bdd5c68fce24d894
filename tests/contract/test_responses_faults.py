"""The Responses API's state when things go wrong: callers leave, stores fail, processes die."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from typing_extensions import override

from headgate.core.errors import Unavailable
from headgate.policy.store import MemoryStore, Store
from headgate.server.gateway import Gateway
from headgate.server.responses import ResponseBook
from tests.e2e.conftest import remote
from tests.support.client import Answer, Connection, request
from tests.support.process import started, write_config
from tests.support.server import Running, settings_from
from tests.support.upstream import (
    DONE,
    SSE_HEAD,
    Script,
    Seen,
    Step,
    Upstream,
    completion,
    delta,
    event,
    plain,
)

PATH = "/v1/responses"
ASK: dict[str, Any] = {"model": "gpt", "input": "Hi"}


class Far:
    """An upstream that says a first word, and the rest when it is told to."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.text = "lo!"

    async def __call__(self, seen: Seen) -> AsyncIterator[Step]:
        if not seen.json.get("stream"):
            yield plain(200, completion("Hello!"))
            return
        yield SSE_HEAD + event(delta("Hel"))
        yield self.go_on
        yield event(delta(self.text)) + event(delta(finish="stop")) + DONE


@pytest.fixture
def far() -> Far:
    return Far()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Site:
    """A gateway before one upstream."""

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        script: Script,
        edit: Callable[[Gateway], None] | None = None,
        **content: Any,
    ) -> None:
        self.upstream = stack.enter_context(Upstream(script))
        models = {"gpt": {**remote(self.upstream), **content.pop("model", {})}}
        settings = settings_from(folder, {"models": models, **content})
        self.server = stack.enter_context(Running(settings, edit=edit))

    def post(self, path: str = PATH, **fields: Any) -> Answer:
        body = {**ASK, **fields} if path == PATH else None
        return request(self.server.port, "POST", path, body)

    def get(self, identity: str, query: str = "") -> Answer:
        return request(self.server.port, "GET", f"{PATH}/{identity}{query}")

    def ended(self, identity: str) -> dict[str, Any]:
        return ended(self.server.port, identity)

    def idle(self) -> bool:
        """Nothing is under way, and no connection to the upstream is left."""
        self.upstream.wait_until(lambda upstream: upstream.open_connections == 0)
        return self.upstream.open_connections == 0 and self.server.gateway.in_flight == 0


def ended(port: int, identity: str) -> dict[str, Any]:
    """The response, once it has its last state."""
    limit = monotonic() + 10
    while True:
        found: dict[str, Any] = request(port, "GET", f"{PATH}/{identity}").json
        if found["status"] not in ("queued", "in_progress"):
            return found
        assert monotonic() < limit, found["status"]


def text_of(response: dict[str, Any]) -> str:
    return "".join(
        part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]
    )


def first_event(connection: Connection, **fields: Any) -> dict[str, Any]:
    """Ask for a stream, and read it until the first word is there; the response as it was then."""
    connection.send("POST", PATH, {**ASK, "stream": True, **fields})
    assert connection.head()[0] == 200
    seen = b""
    while b"output_text.delta" not in seen:
        part = connection.chunk()
        assert part is not None
        seen += part
    created = next(block for block in seen.split(b"\n\n") if b"response.created" in block)
    response: dict[str, Any] = json.loads(created.partition(b"data: ")[2])["response"]
    return response


def test_a_caller_that_leaves_stops_a_response_in_the_foreground(
    stack: ExitStack, tmp_path: Path, far: Far
) -> None:
    site = Site(stack, tmp_path, far)
    with Connection(site.server.port) as connection:
        identity = first_event(connection)["id"]
    assert site.idle()
    found = site.ended(identity)
    assert found["status"] == "cancelled"
    assert site.get(identity, "?stream=true").body.count(b"response.completed") == 0
    assert site.post(previous_response_id=identity).status == 200  # what there is of it can be continued


def test_a_caller_that_leaves_does_not_stop_a_response_in_the_background(
    stack: ExitStack, tmp_path: Path, far: Far
) -> None:
    site = Site(stack, tmp_path, far)
    with Connection(site.server.port) as connection:
        identity = first_event(connection, background=True)["id"]
    far.go_on.set()
    found = site.ended(identity)
    assert (found["status"], text_of(found)) == ("completed", "Hello!")
    assert site.server.gateway.in_flight == 0


def test_two_callers_watch_one_response(stack: ExitStack, tmp_path: Path, far: Far) -> None:
    site = Site(stack, tmp_path, far)
    identity = site.post(background=True).json["id"]
    path = f"{PATH}/{identity}?stream=true"
    with Connection(site.server.port) as leaves, Connection(site.server.port) as stays:
        for connection in (leaves, stays):
            connection.send("GET", path)
            assert connection.head()[0] == 200
        assert leaves.chunk()
        leaves.socket.close()
        far.go_on.set()
        parts: list[bytes] = []
        while (part := stays.chunk()) is not None:
            parts.append(part)
    body = b"".join(parts)
    data = [json.loads(block.partition(b"data: ")[2]) for block in body.split(b"\n\n")[:-1]]
    numbers = [each["sequence_number"] for each in data]
    assert numbers == list(range(len(numbers)))
    assert b"event: response.completed\n" in body
    assert text_of(site.ended(identity)) == "Hello!"
    assert site.get(identity, "?stream=true").body == body


def test_what_is_queued_can_be_cancelled(stack: ExitStack, tmp_path: Path, far: Far) -> None:
    site = Site(stack, tmp_path, far, model={"max_concurrency": 1})
    with Connection(site.server.port) as connection:
        first_event(connection)
        queued = site.post(background=True).json
        assert queued["status"] == "queued"
        assert site.get(queued["id"]).json["status"] == "queued"
        assert site.post(f"{PATH}/{queued['id']}/cancel").json["status"] == "cancelled"
        assert site.server.gateway.in_flight == 1
        far.go_on.set()
        while connection.chunk() is not None:
            pass
    assert site.ended(queued["id"])["status"] == "cancelled"
    assert len(site.upstream.seen) == 1
    assert site.post().status == 200  # its place in the queue is free


@pytest.mark.parametrize("state", ["running", "failed", "cancelled"])
def test_continuing_what_has_not_been_completed(
    stack: ExitStack, tmp_path: Path, far: Far, state: str
) -> None:
    async def fails_once(seen: Seen) -> AsyncIterator[Step]:
        if state == "failed" and len(site.upstream.seen) == 1:
            yield plain(400, {"error": {"message": "no"}})
            return
        async for step in far(seen):
            yield step

    site = Site(stack, tmp_path, fails_once)
    identity = site.post(background=True).json["id"]
    if state == "cancelled":
        site.post(f"{PATH}/{identity}/cancel")
    if state != "running":
        assert site.ended(identity)["status"] == state
    answer = site.post(previous_response_id=identity, input="And?")
    if state == "running":
        assert (answer.status, answer.error["param"]) == (400, "previous_response_id")
        return
    assert answer.status == 200, answer.body
    sent = site.upstream.seen[-1].json["messages"]
    assert [message["content"] for message in sent] == ["Hi", "And?"]


def test_the_background_is_bounded(stack: ExitStack, tmp_path: Path, far: Far) -> None:
    def edit(gateway: Gateway) -> None:
        gateway.book = ResponseBook(MemoryStore(), monotonic, max_background=1)

    site = Site(stack, tmp_path, far, edit)
    identity = site.post(background=True).json["id"]
    for stream in (False, True):
        refused = site.post(background=True, stream=stream)
        assert refused.status == 503
        assert refused.headers["retry-after"] == "5"
        assert refused.error.keys() == {"message", "type", "param", "code"}
    assert site.post().status == 200  # in the foreground there is room
    far.go_on.set()
    site.ended(identity)
    assert site.post(background=True).status == 200


class FakeClock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_kept_for_too_long_is_gone(stack: ExitStack, tmp_path: Path, far: Far) -> None:
    clock = FakeClock()

    def edit(gateway: Gateway) -> None:
        gateway.book = ResponseBook(MemoryStore(clock=clock), clock, ttl=60)

    site = Site(stack, tmp_path, far, edit)
    kept = site.post().json["id"]
    running = site.post(background=True).json["id"]
    assert site.get(kept).status == 200
    clock.now += 61
    assert site.get(kept).status == 404
    assert site.get(kept, "?stream=true").status == 404
    gone = site.post(previous_response_id=kept)
    assert (gone.status, gone.error["param"]) == (404, "previous_response_id")
    assert site.get(running).status == 200  # what is under way is not forgotten
    far.go_on.set()
    assert text_of(site.ended(running)) == "Hello!"


class Failing(MemoryStore):
    """A store that takes `left` more entries."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    @override
    async def put(self, key: str, value: bytes, ttl: float) -> None:
        if self.left == 0:
            raise Unavailable("The server's store can't be used now (disk full).")
        self.left -= 1
        await super().put(key, value, ttl)


def with_store(store: Store) -> Callable[[Gateway], None]:
    def edit(gateway: Gateway) -> None:
        gateway.book = ResponseBook(store, monotonic)

    return edit


def test_a_store_that_fails_costs_no_answer(
    stack: ExitStack, tmp_path: Path, far: Far, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(stack, tmp_path, far, with_store(Failing(0)))
    answer = site.post()
    assert (answer.status, text_of(answer.json)) == (200, "Hello!")
    far.go_on.set()
    assert b"response.completed" in site.post(stream=True).body
    refused = site.post(background=True)
    assert (refused.status, "disk full" in refused.error["message"]) == (503, True)
    assert site.server.gateway.in_flight == 0
    assert site.get(answer.json["id"]).status == 404
    assert "is not kept" in caplog.text


def test_a_response_that_can_not_be_kept_does_not_seem_to_run_for_ever(
    stack: ExitStack, tmp_path: Path, far: Far, caplog: pytest.LogCaptureFixture
) -> None:
    """In the background its caller would wait for it."""
    store = Failing(2)
    site = Site(stack, tmp_path, far, with_store(store))
    identity = site.post(background=True).json["id"]
    far.go_on.set()
    assert site.upstream.wait_until(lambda upstream: upstream.seen != [])
    limit = monotonic() + 10
    while (answer := site.get(identity)).status == 200:
        assert monotonic() < limit, answer.json["status"]
    assert answer.status == 404
    assert "is not kept" in caplog.text


def test_an_answer_larger_than_the_store(stack: ExitStack, tmp_path: Path, far: Far) -> None:
    far.text = "x" * 300_000
    site = Site(stack, tmp_path, far, with_store(MemoryStore(max_bytes=100_000)))
    identity = site.post(background=True).json["id"]
    far.go_on.set()
    found = site.ended(identity)
    assert found["status"] == "failed"
    assert "kept" in found["error"]["message"]


def test_huge_inputs(stack: ExitStack, tmp_path: Path, far: Far) -> None:
    site = Site(stack, tmp_path, far, server={"max_body": "8MB"})
    text = "word " * 1_000_000
    first = site.post(input=text)
    assert first.status == 200
    (item,) = request(site.server.port, "GET", f"{PATH}/{first.json['id']}/input_items").json["data"]
    assert item["content"][0]["text"] == text
    site.post(previous_response_id=first.json["id"], input="More?")
    sent = site.upstream.seen[-1].json["messages"]
    assert [len(message["content"]) for message in sent] == [len(text), 6, 5]
    many = [{"role": "user", "content": str(number)} for number in range(10_000)]
    assert site.post(input=many).status == 200
    assert len(site.upstream.seen[-1].json["messages"]) == 10_000
    refused = site.post(input="x" * 9_000_000)
    assert refused.status == 413
    assert refused.error["code"] == "payload_too_large"


def killed(process: Any) -> None:
    process.signal(signal.SIGKILL)
    process.wait()


def test_a_process_that_dies_leaves_no_response_running(stack: ExitStack, tmp_path: Path, far: Far) -> None:
    upstream = stack.enter_context(Upstream(far))
    config = write_config(
        tmp_path, {"models": {"gpt": remote(upstream)}, "server": {"state": str(tmp_path / "state.sqlite")}}
    )
    with started(tmp_path, "serve", config) as process:
        process.ready()
        done = request(process.port, "POST", PATH, ASK).json["id"]
        running = request(process.port, "POST", PATH, {**ASK, "background": True}).json["id"]
        assert upstream.wait_until(lambda each: len(each.seen) == 2)
        killed(process)
    with started(tmp_path, "serve", config) as process:
        process.ready()
        found = request(process.port, "GET", f"{PATH}/{running}").json
        assert found["status"] == "failed"
        assert "stopped" in found["error"]["message"]
        replayed = request(process.port, "GET", f"{PATH}/{running}?stream=true").body
        assert b"event: response.failed\n" in replayed
        assert b"response.completed" not in replayed
        assert request(process.port, "GET", f"{PATH}/{done}").json["status"] == "completed"


def test_a_second_signal_does_not_wait(stack: ExitStack, tmp_path: Path, far: Far) -> None:
    upstream = stack.enter_context(Upstream(far))
    content = {"models": {"gpt": remote(upstream)}, "server": {"state": str(tmp_path / "state.sqlite")}}
    config = write_config(tmp_path, content)
    with started(tmp_path, "serve", config) as process:
        process.ready()
        identity = request(process.port, "POST", PATH, {**ASK, "background": True}).json["id"]
        assert upstream.wait_until(lambda each: len(each.seen) == 1)
        process.signal(signal.SIGTERM)
        process.logged("waiting for them")
        process.signal(signal.SIGTERM)
        assert process.wait() == 130
    with started(tmp_path, "serve", config) as process:
        process.ready()
        assert request(process.port, "GET", f"{PATH}/{identity}").json["status"] == "failed"


def test_a_process_that_stops_lets_a_response_in_the_background_end(
    stack: ExitStack, tmp_path: Path, far: Far
) -> None:
    upstream = stack.enter_context(Upstream(far))
    state = str(tmp_path / "state.sqlite")
    content = {"models": {"gpt": remote(upstream)}, "server": {"state": state, "grace": "20s"}}
    config = write_config(tmp_path, content)
    with started(tmp_path, "serve", config) as process:
        process.ready()
        identity = request(process.port, "POST", PATH, {**ASK, "background": True}).json["id"]
        assert upstream.wait_until(lambda each: len(each.seen) == 1)
        process.signal(signal.SIGTERM)
        process.logged("waiting for them")
        far.go_on.set()
        assert process.wait() == 0
    with started(tmp_path, "serve", config) as process:
        process.ready()
        found = request(process.port, "GET", f"{PATH}/{identity}").json
        assert (found["status"], text_of(found)) == ("completed", "Hello!")
