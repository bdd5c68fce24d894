"""Two processes that share `server.state`: a stream begun at one goes on at the other."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import openai
import pytest

from tests.e2e.conftest import Play
from tests.e2e.test_resumable_streams import (
    ASK,
    CHAT,
    WORDS,
    blocks,
    numbers,
    read_events,
    resumable,
    speaks,
    waits_for,
)
from tests.support.client import Connection, request
from tests.support.process import Process, started, write_config
from tests.support.upstream import Seen, Step, Upstream

TOTAL = len(WORDS) + 2


class Pair:
    """`first` makes the streams; both have the same configuration and state."""

    def __init__(self, stack: ExitStack, folder: Path, upstream: Upstream) -> None:
        models = {
            "gpt": resumable(upstream),
            "brief": resumable(upstream, grace="500ms"),
        }
        path = write_config(folder, {"server": {"state": "state.db", "grace": "2s"}, "models": models})
        self.first: Process = stack.enter_context(started(folder, "serve", path))
        self.first.ready()  # one after the other: both make the file
        self.second: Process = stack.enter_context(started(folder, "serve", path))
        self.second.ready()


class Stage:
    """An upstream whose script is another one in each test."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.waits = True

    def __call__(self, seen: Seen) -> AsyncIterator[Step]:
        return waits_for(self.released)(seen) if self.waits else speaks(seen)


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


@pytest.fixture(scope="module")
def shared(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, Upstream]]:
    """Two processes for the tests that leave them as they are."""
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream(stage))
        yield Pair(stack, tmp_path_factory.mktemp("shared"), upstream), upstream


@pytest.fixture
def pair(shared: tuple[Pair, Upstream], stage: Stage) -> Iterator[Pair]:
    stage.released = threading.Event()
    stage.waits = True
    shared[1].seen.clear()
    yield shared[0]
    stage.released.set()


def cut_after(process: Process, count: int, model: str = "gpt") -> tuple[str, list[bytes]]:
    with Connection(process.port) as connection:
        connection.send("POST", CHAT, ASK | {"model": model})
        _, headers = connection.head()
        return headers["x-headgate-stream"], read_events(connection, count)


def go_on(process: Process, stream: str, after: int) -> Connection:
    connection = Connection(process.port, 20)
    connection.send("POST", CHAT, ASK, {"last-event-id": f"{stream}:{after}"})
    return connection


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_while_it_goes_on(shared: tuple[Pair, Upstream], pair: Pair, stage: Stage) -> None:
    upstream = shared[1]
    stream, read = cut_after(pair.first, 2)
    with go_on(pair.second, stream, 2) as connection:
        assert connection.head()[0] == 200
        third = read_events(connection, 1)
        assert numbers(third) == [3]
        stage.released.set()
        rest = blocks(connection.body())
    assert numbers(read + third + rest) == list(range(1, TOTAL + 1))
    assert rest[-1].startswith(b"data: [DONE]")
    assert len(upstream.seen) == 1
    again = request(pair.first.port, "GET", f"/v1/streams/{stream}")
    assert blocks(again.body) == read + third + rest


def test_wherever_it_was_cut(pair: Pair, stage: Stage) -> None:
    stage.waits = False
    for cut in range(1, TOTAL + 1):
        stream, read = cut_after(pair.first, cut)
        with go_on(pair.second, stream, cut) as connection:
            rest = blocks(connection.answer().body)
        assert numbers(read + rest) == list(range(1, TOTAL + 1))
        assert [b"word" in each for each in read + rest] == [True] * len(WORDS) + [False] * 2


def test_after_it_has_ended(play: Play, stack: ExitStack, tmp_path: Path) -> None:
    pair = Pair(stack, tmp_path, play(speaks))
    with Connection(pair.first.port) as connection:
        connection.send("POST", CHAT, ASK)
        stream = connection.head()[1]["x-headgate-stream"]
        whole = blocks(connection.body())
    for after in range(len(whole) + 1):
        with go_on(pair.second, stream, after) as connection:
            assert blocks(connection.answer().body) == whole[after:]
    pair.first.signal(signal.SIGTERM)
    assert pair.first.wait() == 0
    assert blocks(request(pair.second.port, "GET", f"/v1/streams/{stream}").body) == whole


def test_its_process_is_killed(
    play: Play, stack: ExitStack, tmp_path: Path, released: threading.Event
) -> None:
    pair = Pair(stack, tmp_path, play(waits_for(released)))
    stream, read = cut_after(pair.first, 3)
    with go_on(pair.second, stream, 1) as connection:
        assert connection.head()[0] == 200
        assert read_events(connection, 2) == read[1:3]
        pair.first.signal(signal.SIGKILL)
        (last,) = blocks(connection.body())
    assert b"stream_lost" in last
    assert numbers([last]) == [4]
    late = request(pair.second.port, "GET", f"/v1/streams/{stream}").body
    assert [b"word" in each for each in blocks(late)] == [True] * 3 + [False]
    assert b"[DONE]" not in late


def test_who_listens_elsewhere_keeps_it_going(
    shared: tuple[Pair, Upstream], pair: Pair, stage: Stage
) -> None:
    """Its process lets go of it only when nobody has listened anywhere for the grace period."""
    upstream = shared[1]
    stream, _ = cut_after(pair.first, 2, "brief")
    with go_on(pair.second, stream, 0) as connection:
        assert connection.head()[0] == 200
        assert len(read_events(connection, 3)) == 3
        assert not upstream.wait_until(lambda u: u.open_connections == 0, 2.0)
        stage.released.set()
        assert connection.body().rstrip().endswith(f"id: {stream}:{TOTAL}".encode())


def test_nobody_listens_anywhere(shared: tuple[Pair, Upstream], pair: Pair) -> None:
    upstream = shared[1]
    stream, _ = cut_after(pair.first, 2, "brief")
    assert upstream.wait_until(lambda u: u.open_connections == 0)
    late = blocks(request(pair.second.port, "GET", f"/v1/streams/{stream}").body)
    assert numbers(late) == [1, 2, 3, 4]
    assert b"stream_abandoned" in late[-1]


def test_stopped_from_elsewhere(shared: tuple[Pair, Upstream], pair: Pair) -> None:
    upstream = shared[1]
    stream, _ = cut_after(pair.first, 2)
    assert request(pair.second.port, "DELETE", f"/v1/streams/{stream}").json["deleted"] is True
    assert upstream.wait_until(lambda u: u.open_connections == 0)
    assert request(pair.second.port, "GET", f"/v1/streams/{stream}").status == 404


def test_of_a_process_that_stops(
    play: Play, stack: ExitStack, tmp_path: Path, released: threading.Event
) -> None:
    """What it had to break off is told, at once."""
    pair = Pair(stack, tmp_path, play(waits_for(released)))
    stream, _ = cut_after(pair.first, 2)
    pair.first.signal(signal.SIGTERM)
    assert pair.first.wait() == 0
    late = blocks(request(pair.second.port, "GET", f"/v1/streams/{stream}").body)
    assert numbers(late) == [1, 2, 3, 4]
    assert b"unavailable" in late[-1]


def test_a_response_by_the_sdk(
    shared: tuple[Pair, Upstream], pair: Pair, stage: Stage, stack: ExitStack
) -> None:
    upstream = shared[1]

    def client(process: Process) -> openai.OpenAI:
        url = f"http://127.0.0.1:{process.port}/v1"
        return stack.enter_context(openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=20))

    here, there = client(pair.first), client(pair.second)
    events = []
    with here.responses.create(model="gpt", input="Hi", stream=True) as begun:
        for event in begun:
            events.append(event)
            if event.type == "response.output_text.delta":
                break
    first = events[0]
    assert first.type == "response.created"
    identity = first.response.id
    rest = []
    for event in there.responses.retrieve(identity, stream=True, starting_after=events[-1].sequence_number):
        rest.append(event)
        if len(rest) == 2:
            stage.released.set()
    numbers = [each.sequence_number for each in [*events, *rest]]
    assert numbers == list(range(len(numbers)))
    last = rest[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "".join(WORDS)
    assert len(upstream.seen) == 1
    again = list(there.responses.retrieve(identity, stream=True))
    assert [each.sequence_number for each in again] == numbers
    assert there.responses.retrieve(identity).output_text == "".join(WORDS)
