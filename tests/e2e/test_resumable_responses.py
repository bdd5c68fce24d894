"""Responses whose stream broke off, by the official SDK: they go on, and are taken up where they were."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.conftest import Play, Serve
from tests.e2e.test_resumable_streams import WORDS, begin, blocks, resumable, speaks, waits_for
from tests.support.client import request
from tests.support.server import Running, settings_from

TEXT = "".join(WORDS)


def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=20)


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def left_at(sdk: openai.OpenAI, kind: str, **more: Any) -> tuple[str, list[int]]:
    """Create a streamed response and leave at the first event of a kind: its id, the numbers seen."""
    seen = []
    identity = ""
    with sdk.responses.create(model="gpt", input="Hi", stream=True, **more) as events:
        for event in events:
            seen.append(event.sequence_number)
            if event.type == "response.created":
                identity = event.response.id
            if event.type == kind:
                break
    return identity, seen


@pytest.mark.parametrize(
    "kind", ["response.created", "response.output_item.added", "response.output_text.delta"]
)
def test_a_caller_that_left_goes_on(
    play: Play, serve: Serve, lane: str, released: threading.Event, kind: str
) -> None:
    upstream = play(waits_for(released))
    sdk = client(serve(models={"gpt": resumable(upstream)}, fast=lane == "fast"))
    identity, seen = left_at(sdk, kind)
    rest = []
    for event in sdk.responses.retrieve(identity, stream=True, starting_after=seen[-1]):
        rest.append(event)
        released.set()
    numbers = seen + [each.sequence_number for each in rest]
    assert numbers == list(range(len(numbers)))
    last = rest[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == TEXT
    assert len(upstream.seen) == 1
    assert sdk.responses.retrieve(identity).output_text == TEXT


def test_every_place_can_be_gone_on_from(play: Play, serve: Serve) -> None:
    server = serve(models={"gpt": resumable(play(speaks))})
    whole = request(server.port, "POST", "/v1/responses", {"model": "gpt", "input": "hi", "stream": True})
    sdk = client(server)
    created = next(iter(sdk.responses.create(model="gpt", input="Hi", stream=True)))
    assert created.type == "response.created"
    count = len(blocks(whole.body))
    for after in range(count):
        rest = list(sdk.responses.retrieve(created.response.id, stream=True, starting_after=after))
        assert [each.sequence_number for each in rest] == list(range(after + 1, count))


def test_nobody_comes_back_within_the_grace(play: Play, serve: Serve, released: threading.Event) -> None:
    upstream = play(waits_for(released))
    sdk = client(serve(models={"gpt": resumable(upstream, grace="200ms")}))
    identity, _ = left_at(sdk, "response.output_text.delta")
    assert upstream.wait_until(lambda u: u.open_connections == 0)
    with pytest.raises(openai.APIError, match="Nobody listened"):
        list(sdk.responses.retrieve(identity, stream=True))
    assert sdk.responses.retrieve(identity).status == "failed"


def test_deleting_it_stops_it(play: Play, serve: Serve, released: threading.Event) -> None:
    upstream = play(waits_for(released))
    sdk = client(serve(models={"gpt": resumable(upstream)}))
    identity, _ = left_at(sdk, "response.output_text.delta")
    sdk.responses.delete(identity)
    assert upstream.wait_until(lambda u: u.open_connections == 0)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(identity, stream=True)


def test_who_leaves_before_it_begins_has_it_cancelled(
    play: Play, serve: Serve, released: threading.Event
) -> None:
    upstream = play(waits_for(released, before=0))
    server = serve(models={"gpt": resumable(upstream)})
    with pytest.raises(openai.APITimeoutError):
        client(server).with_options(timeout=0.5).responses.create(model="gpt", input="Hi", stream=True)
    assert upstream.wait_until(lambda u: u.open_connections == 0)


def test_by_the_id_of_its_last_event(play: Play, serve: Serve, lane: str, released: threading.Event) -> None:
    upstream = play(waits_for(released))
    server = serve(models={"gpt": resumable(upstream)}, fast=lane == "fast")
    ask = {"model": "gpt", "input": "hi", "stream": True}
    stream, read = begin(server, 5, "/v1/responses", ask)
    released.set()
    rest = request(server.port, "POST", "/v1/responses", ask, {"last-event-id": f"{stream}:5"})
    events = read + blocks(rest.body)
    assert [b'"sequence_number":%d,' % n in each for n, each in enumerate(events)] == [True] * len(events)
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("resumes", [True, False])
def test_in_the_background(
    play: Play, serve: Serve, lane: str, released: threading.Event, resumes: bool
) -> None:
    """It goes on without a grace, resumable or not."""
    upstream = play(waits_for(released))
    model = resumable(upstream, grace="50ms") | ({} if resumes else {"resumable": False})
    sdk = client(serve(models={"gpt": model}, fast=lane == "fast"))
    identity, seen = left_at(sdk, "response.output_text.delta", background=True)
    assert not upstream.wait_until(lambda u: u.open_connections == 0, 0.3)
    rest = []
    for event in sdk.responses.retrieve(identity, stream=True, starting_after=seen[-1]):
        rest.append(event)
        released.set()
    numbers = seen + [each.sequence_number for each in rest]
    assert numbers == list(range(len(numbers)))
    assert rest[-1].type == "response.completed"


def test_in_the_background_of_another_process(
    play: Play, serve: Serve, tmp_path: Path, released: threading.Event
) -> None:
    upstream = play(waits_for(released))
    models, state = {"gpt": resumable(upstream)}, {"state": str(tmp_path / "state.db")}
    with Running(settings_from(tmp_path, {"models": models, "server": state})) as first:
        second = serve(models=models, server=dict(state))
        made = client(first).responses.create(model="gpt", input="Hi", background=True)
        assert upstream.wait_until(lambda u: len(u.seen) == 1)
        events = []
        for event in client(second).responses.retrieve(made.id, stream=True, starting_after=0):
            events.append(event)
            released.set()
        assert [each.sequence_number for each in events] == list(range(1, len(events) + 1))
        last = events[-1]
        assert last.type == "response.completed"
        assert last.response.output_text == TEXT


def test_cancelling_in_the_background_ends_its_stream(
    play: Play, serve: Serve, released: threading.Event
) -> None:
    upstream = play(waits_for(released))
    server = serve(models={"gpt": resumable(upstream)})
    sdk = client(server)
    made = sdk.responses.create(model="gpt", input="Hi", background=True)
    assert upstream.wait_until(lambda u: len(u.seen) == 1)
    (kept,) = server.gateway.streams
    assert sdk.responses.cancel(made.id).status == "cancelled"
    assert kept.done
    assert list(sdk.responses.retrieve(made.id, stream=True, starting_after=0)) is not None
