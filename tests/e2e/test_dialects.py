"""Callers and upstreams of different dialects over real sockets: the first crossing of each kind."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest

from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import request
from tests.support.upstream import LAST_CHUNK, SSE_HEAD, Seen, Step, chunk, completion, plain

ANTHROPIC_ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-upstream",
    "content": [{"type": "text", "text": "Hello!"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
}
ASK_OPENAI = {"model": "claude", "messages": [{"role": "user", "content": "hi"}]}
ASK_ANTHROPIC = {"model": "gpt", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}


def claude(upstream: Any, **more: Any) -> dict[str, Any]:
    return {
        "backend": "anthropic",
        "base_url": upstream.url,
        "model": "claude-upstream",
        "api_key": "k",
        **more,
    }


def named(kind: str, **fields: Any) -> bytes:
    return chunk(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode())


async def anthropic_stream(_: Seen) -> AsyncIterator[Step]:
    start = {**ANTHROPIC_ANSWER, "content": [], "stop_reason": None}
    yield SSE_HEAD + named("message_start", message=start)
    yield named("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for text in ("Hel", "lo!"):
        yield named("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
    yield named("content_block_stop", index=0)
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    yield named("message_delta", delta=delta, usage={"output_tokens": 2})
    yield named("message_stop") + LAST_CHUNK


def test_openai_caller_anthropic_upstream(play: Play, serve: Serve, lane: str) -> None:
    async def answers(seen: Seen) -> AsyncIterator[Step]:
        if seen.json.get("stream"):
            async for step in anthropic_stream(seen):
                yield step
        else:
            yield plain(200, ANTHROPIC_ANSWER)

    upstream = play(answers)
    server = serve(models={"claude": claude(upstream)}, fast=lane == "fast")
    answer = request(server.port, "POST", "/v1/chat/completions", {**ASK_OPENAI, "seed": 7})
    assert answer.status == 200, answer.body
    assert answer.json["model"] == "claude"
    assert answer.json["choices"][0]["message"]["content"] == "Hello!"
    assert answer.json["usage"]["total_tokens"] == 7
    assert "seed" in answer.headers["x-headgate-loss"]
    seen = upstream.seen[0]
    assert seen.path == "/v1/messages"
    assert seen.headers["x-api-key"] == "k"
    assert seen.headers["anthropic-version"] == "2023-06-01"
    assert seen.json["model"] == "claude-upstream"
    assert seen.json["max_tokens"] > 0

    streamed = request(server.port, "POST", "/v1/chat/completions", {**ASK_OPENAI, "stream": True})
    events = [e.removeprefix("data: ") for e in streamed.body.decode().split("\n\n") if e]
    text = "".join(json.loads(e)["choices"][0]["delta"].get("content") or "" for e in events[:-1])
    assert (text, events[-1]) == ("Hello!", "[DONE]")


def test_anthropic_caller_openai_upstream(play: Play, serve: Serve, lane: str) -> None:
    async def answers(_: Seen) -> AsyncIterator[Step]:
        yield plain(200, completion())

    upstream = play(answers)
    server = serve(models={"gpt": remote(upstream)}, fast=lane == "fast")
    answer = request(server.port, "POST", "/v1/messages", {**ASK_ANTHROPIC, "container": "c1"})
    assert answer.status == 200, answer.body
    assert [block["text"] for block in answer.json["content"]] == ["Hello!"]
    assert answer.json["usage"]["input_tokens"] == 5
    assert "container" in answer.headers["x-headgate-loss"]
    assert upstream.seen[0].path == "/v1/chat/completions"


def test_strict_refuses_what_would_be_lost(play: Play, serve: Serve, lane: str) -> None:
    async def answers(_: Seen) -> AsyncIterator[Step]:
        yield plain(200, completion())

    upstream = play(answers)
    server = serve(models={"gpt": remote(upstream)}, fast=lane == "fast")
    body = {**ASK_ANTHROPIC, "container": "c1"}
    answer = request(server.port, "POST", "/v1/messages", body, {"x-headgate-strict": "true"})
    assert answer.status == 400
    assert answer.json["type"] == "error"
    assert "container" in answer.json["error"]["message"]
    assert not upstream.seen
    assert request(server.port, "POST", "/v1/messages", body, {"x-headgate-strict": "false"}).status == 200


def test_anthropic_passes_through_with_its_own_headers(play: Play, serve: Serve, lane: str) -> None:
    upstream = play(anthropic_stream)
    server = serve(models={"claude": claude(upstream)}, fast=lane == "fast")
    body = {**ASK_ANTHROPIC, "model": "claude", "stream": True, "brand_new": {"kept": True}}
    headers = {"anthropic-version": "2026-01-01", "anthropic-beta": "b1", "x-stainless-os": "x"}
    answer = request(server.port, "POST", "/v1/messages", body, headers)
    assert answer.status == 200
    assert answer.body.endswith(b'event: message_stop\ndata: {"type": "message_stop"}\n\n')
    seen = upstream.seen[0]
    assert seen.json == {**body, "model": "claude-upstream"}
    assert seen.headers["anthropic-version"] == "2026-01-01"
    assert seen.headers["anthropic-beta"] == "b1"
    assert "x-stainless-os" not in seen.headers


def test_an_upstreams_error_comes_in_the_callers_dialect(play: Play, serve: Serve, lane: str) -> None:
    async def refuses(_: Seen) -> AsyncIterator[Step]:
        error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
        yield plain(429, error, "retry-after: 9")

    server = serve(models={"claude": claude(play(refuses))}, fast=lane == "fast")
    for stream in (False, True):
        answer = request(server.port, "POST", "/v1/chat/completions", {**ASK_OPENAI, "stream": stream})
        assert answer.status == 429
        assert answer.error["message"] == "slow down"
        assert answer.headers["retry-after"] == "9"


def test_counting_tokens_is_an_estimate_where_the_upstream_cant(play: Play, serve: Serve) -> None:
    server = serve(models={"double": {"backend": "scripted"}})
    body = {"model": "double", "messages": [{"role": "user", "content": "four characters each " * 10}]}
    answer = request(server.port, "POST", "/v1/messages/count_tokens", body)
    assert answer.status == 200, answer.body
    assert 40 < answer.json["input_tokens"] < 70
    assert answer.headers["x-headgate-loss"] == "input_tokens"


def test_scripted_models_answer_in_every_dialect(serve: Serve, lane: str) -> None:
    server = serve(models={"double": {"backend": "scripted", "reply": "Hello there"}}, fast=lane == "fast")
    messages = {"model": "double", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    contents = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    converse = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    found = request(server.port, "POST", "/v1/messages", messages)
    assert found.json["content"][0]["text"] == "Hello there"
    found = request(server.port, "POST", "/v1beta/models/double:generateContent", contents)
    assert found.json["candidates"][0]["content"]["parts"][0]["text"] == "Hello there", found.body
    found = request(server.port, "POST", "/v1beta/models/double:streamGenerateContent", contents)
    assert isinstance(found.json, list)
    found = request(server.port, "POST", "/v1beta/models/double:streamGenerateContent?alt=sse", contents)
    assert found.body.startswith(b"data: ")
    found = request(server.port, "POST", "/model/double/converse", converse)
    assert found.json["output"]["message"]["content"] == [{"text": "Hello there"}], found.body
    found = request(server.port, "POST", "/model/double/converse-stream", converse)
    assert found.headers["content-type"] == "application/vnd.amazon.eventstream"
    found = request(server.port, "POST", "/v1beta/models/nope:generateContent", contents)
    assert (found.status, found.json["error"]["status"]) == (404, "NOT_FOUND")


def test_models_are_listed_in_each_callers_form(serve: Serve) -> None:
    server = serve(models={name: {"backend": "scripted"} for name in ("one", "two")}, aliases={"uno": "one"})
    plain_list = request(server.port, "GET", "/v1/models").json
    assert [model["id"] for model in plain_list["data"]] == ["one", "two"]
    assert plain_list["data"][0]["aliases"] == ["uno"]
    headers = {"anthropic-version": "2023-06-01"}
    page = request(server.port, "GET", "/v1/models?limit=1", None, headers).json
    assert (page["data"][0]["id"], page["has_more"], page["last_id"]) == ("one", True, "one")
    page = request(server.port, "GET", "/v1/models?limit=1&after_id=one", None, headers).json
    assert (page["data"][0]["type"], page["has_more"]) == ("model", False)
    assert request(server.port, "GET", "/v1/models?limit=x", None, headers).json["type"] == "error"
    assert request(server.port, "GET", "/v1/models/two", None, headers).json["id"] == "two"
    assert request(server.port, "GET", "/v1/models/nope", None, headers).json["type"] == "error"
    found = request(server.port, "GET", "/v1beta/models").json
    assert [model["name"] for model in found["models"]] == ["models/one", "models/two"]
    assert request(server.port, "GET", "/v1beta/models/two").json["name"] == "models/two"
    missing = request(server.port, "GET", "/v1beta/models/nope")
    assert (missing.status, missing.json["error"]["status"]) == (404, "NOT_FOUND")


def test_embeddings_and_rankings_in_every_form(serve: Serve, lane: str) -> None:
    server = serve(models={"double": {"backend": "scripted", "dimensions": 4}}, fast=lane == "fast")

    def post(path: str, body: dict[str, Any]) -> Any:
        answer = request(server.port, "POST", path, body)
        assert answer.status == 200, answer.body
        return answer.json

    contents = {"content": {"parts": [{"text": "x"}]}}
    vectors = [
        post("/v1/embeddings", {"model": "double", "input": "x"})["data"][0]["embedding"],
        post("/v2/embed", {"model": "double", "texts": ["x"], "input_type": "search_query"})["embeddings"][
            "float"
        ][0],
        post("/tei/double/embed", {"inputs": "x"})[0],
        post("/v1beta/models/double:embedContent", contents)["embedding"]["values"],
        post("/v1beta/models/double:batchEmbedContents", {"requests": [contents]})["embeddings"][0]["values"],
    ]
    assert all(vector == pytest.approx(vectors[0]) and len(vector) == 4 for vector in vectors)

    asked = {"query": "red wine", "documents": ["a car", "a red wine", "wine"], "model": "double"}
    for path in ("/v1/rerank", "/rerank", "/v2/rerank"):
        assert [each["index"] for each in post(path, {**asked, "top_n": 2})["results"]] == [1, 2]
    ranked = post("/tei/double/rerank", {"query": "red wine", "texts": asked["documents"]})
    assert [each["index"] for each in ranked] == [1, 2, 0]


def test_legacy_completions(serve: Serve, lane: str) -> None:
    server = serve(models={"double": {"backend": "scripted", "reply": "Hello there"}}, fast=lane == "fast")
    found = request(server.port, "POST", "/v1/completions", {"model": "double", "prompt": "Say"})
    assert (found.json["object"], found.json["choices"][0]["text"]) == ("text_completion", "Hello there")
    streamed = request(
        server.port, "POST", "/v1/completions", {"model": "double", "prompt": "x", "stream": True}
    )
    assert streamed.body.endswith(b"data: [DONE]\n\n")


def test_gemini_callers_may_send_their_key_in_the_query(serve: Serve, lane: str) -> None:
    keys = [{"name": "ann", "hash": f"sha256:{sha256(b'a key').hexdigest()}"}]
    server = serve(models={"double": {"backend": "scripted"}}, server={"keys": keys}, fast=lane == "fast")
    contents = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    path = "/v1beta/models/double:generateContent"
    assert request(server.port, "POST", f"{path}?key=a%20key", contents).status == 200
    assert request(server.port, "POST", f"{path}?key=wrong", contents).status == 401
    assert request(server.port, "POST", path, contents).status == 401
    assert request(server.port, "GET", "/v1beta/models?key=a%20key").status == 200
    assert request(server.port, "GET", "/v1/models?key=a%20key").status == 401  # Gemini's habit alone
