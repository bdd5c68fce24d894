"""The Responses API over any upstream, by the official SDK: kept, continued, streamed, in the background."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import openai
import pytest

from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import request
from tests.support.server import Running, settings_from
from tests.support.upstream import DONE, SSE_HEAD, Seen, Step, completion, delta, event, plain


def client(server: Running, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=20)


async def answers(seen: Seen) -> AsyncIterator[Step]:
    if not seen.json.get("stream"):
        yield plain(200, completion("Hello!"))
        return
    yield SSE_HEAD
    for word in ("Hel", "lo!"):
        yield event(delta(word))
    yield event(delta(finish="stop")) + DONE


def ended(ask: Callable[[], Any], timeout: float = 10.0) -> Any:
    """Ask until the response has ended."""
    limit = monotonic() + timeout
    while (found := ask()).status in ("queued", "in_progress"):
        assert monotonic() < limit, found.status
    return found


def test_create_retrieve_list_and_delete(play: Play, serve: Serve, lane: str) -> None:
    server = serve(models={"gpt": remote(play(answers))}, fast=lane == "fast")
    sdk = client(server)
    made = sdk.responses.create(model="gpt", input="Say hello.", metadata={"a": "b"})
    assert (made.status, made.output_text, made.model) == ("completed", "Hello!", "gpt")
    assert made.usage is not None
    assert made.usage.total_tokens == 7
    kept = sdk.responses.retrieve(made.id)
    assert (kept.id, kept.output_text, kept.metadata) == (made.id, "Hello!", {"a": "b"})
    (item,) = sdk.responses.input_items.list(made.id).data
    assert item.type == "message"
    sdk.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(made.id)


def test_a_response_is_continued(play: Play, serve: Serve, lane: str) -> None:
    upstream = play(answers)
    sdk = client(serve(models={"gpt": remote(upstream)}, fast=lane == "fast"))
    first = sdk.responses.create(model="gpt", input="One.", instructions="Be brief.")
    sdk.responses.create(model="gpt", input="Two.", previous_response_id=first.id)
    sent = upstream.seen[1].json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert [message["content"] for message in sent] == ["One.", "Hello!", "Two."]
    with pytest.raises(openai.APIStatusError) as missing:
        sdk.responses.create(model="gpt", input="x", previous_response_id="resp_nope")
    assert missing.value.status_code in (400, 404)
    assert missing.value.param == "previous_response_id"


def test_a_stream_has_every_event_and_is_kept(play: Play, serve: Serve, lane: str) -> None:
    server = serve(models={"gpt": remote(play(answers))}, fast=lane == "fast")
    sdk = client(server)
    events = list(sdk.responses.create(model="gpt", input="Hi", stream=True))
    assert [each.sequence_number for each in events] == list(range(len(events)))
    kinds = [each.type for each in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "response.output_text.delta" in kinds
    final = events[-1]
    assert final.type == "response.completed"
    assert sdk.responses.retrieve(final.response.id).output_text == "Hello!"
    path = f"/v1/responses/{final.response.id}?stream=true&starting_after=3"
    replayed = request(server.port, "GET", path).body
    assert replayed.count(b"event: ") == len(events) - 4
    assert replayed.endswith(b"\n\n")


def test_in_the_background_the_caller_may_leave(play: Play, serve: Serve) -> None:
    go_on = threading.Event()

    async def waits(seen: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("Hel"))
        yield go_on
        yield event(delta("lo!")) + event(delta(finish="stop")) + DONE

    sdk = client(serve(models={"gpt": remote(play(waits))}))
    made = sdk.responses.create(model="gpt", input="Hi", background=True)
    assert made.status in ("queued", "in_progress")
    assert sdk.responses.retrieve(made.id).status in ("queued", "in_progress")
    go_on.set()
    assert ended(lambda: sdk.responses.retrieve(made.id)).output_text == "Hello!"


def test_cancelling_stops_the_upstream(play: Play, serve: Serve) -> None:
    async def never_ends(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("Hel"))
        yield threading.Event()

    upstream = play(never_ends)
    sdk = client(serve(models={"gpt": remote(upstream)}))
    made = sdk.responses.create(model="gpt", input="Hi", background=True)
    assert upstream.wait_until(lambda u: len(u.seen) == 1)
    assert sdk.responses.cancel(made.id).status == "cancelled"
    assert upstream.wait_until(lambda u: u.open_connections == 0)
    assert sdk.responses.retrieve(made.id).status == "cancelled"


def test_a_failure_in_the_background_is_told(play: Play, serve: Serve) -> None:
    async def refuses(_: Seen) -> AsyncIterator[Step]:
        yield plain(400, {"error": {"message": "no such thing", "code": "bad"}})

    sdk = client(serve(models={"gpt": remote(play(refuses))}))
    made = sdk.responses.create(model="gpt", input="Hi", background=True)
    found = ended(lambda: sdk.responses.retrieve(made.id))
    assert found.status == "failed"
    assert "no such thing" in found.error.message
    with pytest.raises(openai.NotFoundError):
        sdk.responses.create(model="nope", input="Hi", background=True)


def test_a_response_belongs_to_its_key(play: Play, serve: Serve) -> None:
    keys = [{"name": n, "hash": f"sha256:{sha256(n.encode()).hexdigest()}"} for n in ("ann", "bob")]
    server = serve(models={"gpt": remote(play(answers))}, server={"keys": keys})
    made = client(server, "ann").responses.create(model="gpt", input="Hi")
    assert client(server, "ann").responses.retrieve(made.id).id == made.id
    for ask in ("retrieve", "delete", "cancel"):
        with pytest.raises(openai.NotFoundError):
            getattr(client(server, "bob").responses, ask)(made.id)
    with pytest.raises(openai.APIStatusError):
        client(server, "bob").responses.create(model="gpt", input="x", previous_response_id=made.id)


def test_what_is_kept_in_a_file_survives_a_restart(play: Play, tmp_path: Path) -> None:
    upstream = play(answers)
    content: dict[str, Any] = {
        "models": {"gpt": remote(upstream)},
        "server": {"state": str(tmp_path / "state.sqlite")},
    }
    with Running(settings_from(tmp_path, content)) as server:
        made = client(server).responses.create(model="gpt", input="One.")
    with Running(settings_from(tmp_path, content)) as server:
        assert client(server).responses.retrieve(made.id).output_text == "Hello!"
        client(server).responses.create(model="gpt", input="Two.", previous_response_id=made.id)
    assert len(upstream.seen[1].json["messages"]) == 3


def native(upstream: Any) -> dict[str, Any]:
    return {**remote(upstream), "model": "gpt-native", "dialects": ["openai_responses"]}


def test_without_state_an_upstream_with_this_api_gets_the_callers_bytes(play: Play, serve: Serve) -> None:
    response = {
        "id": "resp_upstream",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "gpt-native",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }

    async def is_native(_: Seen) -> AsyncIterator[Step]:
        yield plain(200, response)

    upstream = play(is_native)
    server = serve(models={"gpt": native(upstream)})
    body = {"model": "gpt", "input": "Hi", "store": False, "brand_new": {"kept": 1}}
    answer = request(server.port, "POST", "/v1/responses", body)
    assert answer.json == response
    assert upstream.seen[0].path == "/v1/responses"
    assert upstream.seen[0].json == {**body, "model": "gpt-native"}
    kept = request(server.port, "POST", "/v1/responses", {**body, "store": True})
    assert kept.json["id"] != "resp_upstream"
    assert request(server.port, "GET", f"/v1/responses/{kept.json['id']}").status == 200


def test_bad_requests_are_refused_in_openais_form(serve: Serve) -> None:
    server = serve(models={"double": {"backend": "scripted"}})
    for body in (
        {"model": "double"},
        {"model": "double", "input": 5},
        {"input": "x"},
        {"model": "double", "input": "x", "store": "yes"},
        {"model": "double", "input": "x", "background": True, "store": False},
        {"model": "double", "input": "x", "conversation": "c"},
        {"model": "double", "input": [{"type": "function_call_output"}]},
    ):
        answer = request(server.port, "POST", "/v1/responses", body)
        assert answer.status == 400, (body, answer.body)
        assert answer.error["message"]
    assert request(server.port, "GET", "/v1/responses/resp_x").status == 404
    assert request(server.port, "GET", "/v1/responses/resp_x?stream=true").status == 404
    assert request(server.port, "POST", "/v1/responses/resp_x/cancel").status == 404
