"""The remote backend end to end: real sockets on both sides, every way for an upstream to answer or fail."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import Connection, request
from tests.support.upstream import (
    DONE,
    LAST_CHUNK,
    SSE_HEAD,
    Drop,
    Hang,
    Seen,
    Step,
    completion,
    delta,
    event,
    head,
    plain,
)

CHAT = "/v1/chat/completions"
ASK = {"model": "gpt", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**ASK, "stream": True}


async def says_hello(_: Seen) -> AsyncIterator[Step]:
    yield plain(200, completion(), "x-ratelimit-remaining-requests: 7", "set-cookie: secret=1")


def data_of(body: bytes) -> list[Any]:
    events = [block for block in body.decode().split("\n\n") if block]
    return [e[6:] if e == "data: [DONE]" else json.loads(e.removeprefix("data: ")) for e in events]


def test_plain_answer_passes_through(play: Play, serve: Serve, lane: str) -> None:
    upstream = play(says_hello)
    server = serve(models={"gpt": remote(upstream)}, fast=lane == "fast")
    sent = {**ASK, "temperature": 0.5, "unknown_field": {"kept": [1, 2.50]}}
    answer = request(server.port, "POST", CHAT, sent, {"x-request-id": "mine-1", "authorization": "Bearer x"})

    assert answer.status == 200
    assert answer.json == completion()
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["x-ratelimit-remaining-requests"] == "7"
    assert "set-cookie" not in answer.headers
    seen = upstream.seen[0]
    assert seen.json == {**sent, "model": "upstream-model"}
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["authorization"] == "Bearer upstream-key"
    assert seen.headers["x-request-id"] == "mine-1"


def test_everything_but_the_model_goes_on_byte_for_byte(play: Play, serve: Serve) -> None:
    upstream = play(says_hello)
    server = serve(models={"gpt": remote(upstream)})
    body = b'{"model":"gpt","messages":[ {"role":"user", "content":"\\u00e9 1"}],"x":1.0e2,"y":"\xc3\xa9"}'
    request(server.port, "POST", CHAT, body, {"content-type": "application/json"})
    assert upstream.seen[0].body == body.replace(b'"gpt"', b'"upstream-model"')


def test_connections_to_the_upstream_are_kept_and_used_again(play: Play, serve: Serve) -> None:
    upstream = play(says_hello)
    server = serve(models={"gpt": remote(upstream)})
    with Connection(server.port) as connection:
        for _ in range(5):
            assert connection.request("POST", CHAT, ASK).status == 200
    assert upstream.connections == 1


def test_stale_kept_connection_is_replaced_without_the_caller_noticing(play: Play, serve: Serve) -> None:
    async def closes_afterwards(seen: Seen) -> AsyncIterator[Step]:
        yield plain(200, completion())
        if len(upstream.seen) == 1:
            yield Drop()

    upstream = play(closes_afterwards)
    server = serve(models={"gpt": {**remote(upstream)}})
    assert request(server.port, "POST", CHAT, ASK).status == 200
    assert request(server.port, "POST", CHAT, ASK).status == 200


def test_stream_arrives_piece_by_piece(play: Play, serve: Serve, lane: str) -> None:
    go_on = threading.Event()

    async def waits_between(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("one"))
        yield go_on
        yield event(delta("two")) + event(delta(finish="stop")) + DONE

    upstream = play(waits_between)
    server = serve(models={"gpt": remote(upstream)}, fast=lane == "fast")
    with Connection(server.port) as connection:
        connection.send("POST", CHAT, STREAM)
        status, headers = connection.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        first = connection.chunk()
        assert first is not None
        assert b'"one"' in first  # it is here although the upstream has not sent the second
        go_on.set()
        rest = b""
        while (part := connection.chunk()) is not None:
            rest += part
    assert b'"two"' in rest
    assert rest.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("status", "retry_after", "code"),
    [(429, "7", "rate_limit_exceeded"), (400, None, "bad"), (403, None, "x")],
)
def test_upstream_errors_keep_status_message_and_retry_after(
    play: Play, serve: Serve, lane: str, status: int, retry_after: str | None, code: str
) -> None:
    async def refuses(_: Seen) -> AsyncIterator[Step]:
        fields = [f"retry-after: {retry_after}"] if retry_after else []
        yield plain(
            status, {"error": {"message": "no, because", "type": "t", "param": "p", "code": code}}, *fields
        )

    upstream = play(refuses)
    server = serve(models={"gpt": remote(upstream)}, fast=lane == "fast")
    for ask in (ASK, STREAM):
        answer = request(server.port, "POST", CHAT, ask)
        assert answer.status == status
        assert answer.error == {"message": "no, because", "type": "t", "param": "p", "code": code}
        assert answer.headers.get("retry-after") == retry_after
        assert answer.headers["content-type"].startswith("application/json")
    # Neither the caller's mistakes nor a quota are tried again, and a quota that is spent is not even asked.
    assert len(upstream.seen) == (1 if retry_after else 2)


def test_html_from_a_gateway_is_summarised(play: Play, serve: Serve) -> None:
    async def html(_: Seen) -> AsyncIterator[Step]:
        page = b"<html><body><h1>Forbidden</h1></body></html>"
        yield head(403, "text/html", length=len(page)) + page

    server = serve(models={"gpt": remote(play(html))})
    answer = request(server.port, "POST", CHAT, ASK)
    assert answer.status == 403
    assert "<html" not in answer.error["message"]


def test_a_failure_before_the_first_byte_is_tried_again(play: Play, serve: Serve, lane: str) -> None:
    async def third_time_lucky(_: Seen) -> AsyncIterator[Step]:
        number = len(upstream.seen)
        if number == 1:
            yield plain(503, {"error": {"message": "later"}})
        elif number == 2:
            yield Drop()
        else:
            yield plain(200, completion())

    upstream = play(third_time_lucky)
    server = serve(models={"gpt": remote(upstream, retry={"attempts": 3})}, fast=lane == "fast")
    assert request(server.port, "POST", CHAT, ASK).status == 200
    assert len(upstream.seen) == 3


def test_another_target_takes_over(play: Play, serve: Serve) -> None:
    async def broken(_: Seen) -> AsyncIterator[Step]:
        yield plain(429, {"error": {"message": "full"}}, "retry-after: 60")

    first, second = play(broken), play(says_hello)
    server = serve(models={"gpt": {"targets": [remote(first), remote(second, priority=2)]}})
    assert request(server.port, "POST", CHAT, ASK).status == 200
    assert (len(first.seen), len(second.seen)) == (1, 1)


def test_unreachable_upstream(serve: Serve) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        server = serve(models={"gpt": {"backend": "openai", "base_url": url, "api_key": "k"}})
        answer = request(server.port, "POST", CHAT, ASK)
    assert answer.status == 502
    assert answer.error["code"] == "upstream_unreachable"
    assert url.removesuffix("/v1") in answer.error["message"]


def _cut(_: Seen) -> AsyncIterator[Step]:
    async def steps() -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("one"))
        yield Drop()

    return steps()


def _ends_early(_: Seen) -> AsyncIterator[Step]:
    async def steps() -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("one")) + LAST_CHUNK

    return steps()


def _stalls(_: Seen) -> AsyncIterator[Step]:
    async def steps() -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("one"))
        yield Hang()

    return steps()


def _garbles(_: Seen) -> AsyncIterator[Step]:
    async def steps() -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("one"))
        yield b"this is no chunk size\r\n"

    return steps()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (_cut, "upstream_broken"),
        (_ends_early, "upstream_broken"),
        (_stalls, "idle_timeout"),
        (_garbles, "upstream_broken"),
    ],
)
def test_a_stream_that_breaks_is_never_shown_as_complete(
    play: Play, serve: Serve, lane: str, script: Any, code: str
) -> None:
    server = serve(
        models={"gpt": {**remote(play(script)), "timeouts": {"idle": "300ms"}}}, fast=lane == "fast"
    )
    answer = request(server.port, "POST", CHAT, STREAM)
    first, last = data_of(answer.body)
    assert first["choices"][0]["delta"] == {"content": "one"}
    assert last["error"]["code"] == code
    assert b"[DONE]" not in answer.body


def test_a_plain_answer_that_breaks_is_tried_again_then_refused(play: Play, serve: Serve) -> None:
    async def half(_: Seen) -> AsyncIterator[Step]:
        yield head(length=1000) + b'{"id":"x"'
        yield Drop()

    upstream = play(half)
    server = serve(models={"gpt": remote(upstream)})
    answer = request(server.port, "POST", CHAT, ASK)
    assert answer.status == 502
    assert answer.error["code"] == "upstream_broken"
    assert len(upstream.seen) == 2


def test_silence_is_a_504_within_the_first_event_limit(play: Play, serve: Serve, lane: str) -> None:
    async def silent(_: Seen) -> AsyncIterator[Step]:
        yield Hang()

    upstream = play(silent)
    model = {**remote(upstream), "timeouts": {"first_event": "200ms"}}
    server = serve(models={"gpt": model}, fast=lane == "fast")
    answer = request(server.port, "POST", CHAT, STREAM)
    assert answer.status == 504
    assert answer.error["code"] == "first_event_timeout"
    assert upstream.wait_until(lambda u: u.open_connections == 0)


def test_total_time_counts_the_whole_call(play: Play, serve: Serve) -> None:
    async def drips(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD
        for _n in range(100):
            yield event(delta("."))
            yield 0.05

    model = {**remote(play(drips)), "timeouts": {"total": "400ms", "idle": "10s"}}
    server = serve(models={"gpt": model})
    answer = request(server.port, "POST", CHAT, STREAM)
    assert data_of(answer.body)[-1]["error"]["code"] == "total_timeout"


@pytest.mark.parametrize("stream", [True, False])
def test_the_client_leaving_closes_the_upstream(play: Play, serve: Serve, lane: str, stream: bool) -> None:
    async def never_ends(_: Seen) -> AsyncIterator[Step]:
        if stream:
            yield SSE_HEAD + event(delta("one"))
        yield Hang()

    upstream = play(never_ends)
    server = serve(models={"gpt": remote(upstream)}, fast=lane == "fast")
    with Connection(server.port) as connection:
        connection.send("POST", CHAT, {**ASK, "stream": stream})
        assert upstream.wait_until(lambda u: len(u.seen) == 1)
        if stream:
            connection.head()
    assert upstream.wait_until(lambda u: u.open_connections == 0)
    assert server.gateway.in_flight == 0


def test_slow_reader_holds_the_upstream_back(play: Play, serve: Serve, lane: str) -> None:
    sent = 0

    async def floods(_: Seen) -> AsyncIterator[Step]:
        nonlocal sent
        yield SSE_HEAD
        block = event(delta("x" * 60_000))
        for _n in range(1000):
            yield block
            sent += len(block)
        yield DONE

    upstream = play(floods)
    server = serve(models={"gpt": {**remote(upstream), "timeouts": {"idle": "500ms"}}}, fast=lane == "fast")
    with Connection(server.port) as connection:
        connection.send("POST", CHAT, STREAM)
        connection.head()
        assert connection.chunk()
        # Longer than the idle limit, which must not count while it is us who hold back.
        assert not upstream.wait_until(lambda u: u.open_connections == 0, timeout=0.8)
        assert sent < 30_000_000
        total = 0
        while (part := connection.chunk()) is not None:
            total += len(part)
    assert total > 60_000_000


def test_who_reads_no_answers_gets_no_more_of_them(play: Play, serve: Serve, lane: str) -> None:
    """Nor are further requests taken once answers wait to be read: memory is not theirs to fill."""
    sent = 0

    async def floods(seen: Seen) -> AsyncIterator[Step]:
        nonlocal sent
        if not seen.json.get("stream"):
            yield plain(200, completion("y" * 3_500_000))
            return
        yield SSE_HEAD
        block = event(delta("x" * 60_000))
        for _n in range(1000):
            yield block
            sent += len(block)
        yield DONE

    upstream = play(floods)
    server = serve(models={"gpt": remote(upstream)}, fast=lane == "fast")
    with Connection(server.port, reads=16384) as connection:
        for _n in range(2):
            connection.send("POST", CHAT, ASK)
            assert not upstream.wait_until(lambda u: len(u.seen) > 2, timeout=0.3)  # no more than asked
        connection.send("POST", CHAT, STREAM)
        assert not upstream.wait_until(lambda u: u.open_connections == 0, timeout=0.8)
        assert sent < 30_000_000
        for _n in range(2):
            assert len(connection.answer().json["choices"][0]["message"]["content"]) == 3_500_000
        connection.head()
        total = 0
        while (part := connection.chunk()) is not None:
            total += len(part)
        assert total > 60_000_000
        # And the connection goes on as it did.
        assert connection.request("POST", CHAT, ASK).status == 200


def test_pipelined_requests_are_answered_in_order(play: Play, serve: Serve) -> None:
    async def counts(seen: Seen) -> AsyncIterator[Step]:
        yield plain(200, completion(seen.json["messages"][0]["content"]))

    server = serve(models={"gpt": remote(play(counts))})
    with Connection(server.port) as connection:
        for text in ("one", "two", "three"):
            connection.send("POST", CHAT, {**ASK, "messages": [{"role": "user", "content": text}]})
        connection.send("GET", "/livez")
        answers = [connection.answer().json["choices"][0]["message"]["content"] for _ in range(3)]
        assert answers == ["one", "two", "three"]
        assert connection.answer().json == {"status": "alive"}


def test_max_concurrency_queues_then_refuses(play: Play, serve: Serve) -> None:
    release = threading.Event()

    async def waits(_: Seen) -> AsyncIterator[Step]:
        yield release
        yield plain(200, completion())

    upstream = play(waits)
    server = serve(models={"gpt": remote(upstream, max_concurrency=1, max_queue=1)})
    with Connection(server.port) as first, Connection(server.port) as second:
        first.send("POST", CHAT, ASK)
        assert upstream.wait_until(lambda u: len(u.seen) == 1)
        second.send("POST", CHAT, ASK)
        target = server.gateway.router.routes["gpt"].targets[0]
        assert target.admission is not None
        while not target.admission.waiting:
            pass
        third = request(server.port, "POST", CHAT, ASK)
        assert third.status == 503
        assert third.headers["retry-after"] == "1"
        assert len(upstream.seen) == 1
        release.set()
        assert first.answer().status == second.answer().status == 200


def test_usage_and_outcomes_are_counted(play: Play, serve: Serve) -> None:
    server = serve(models={"gpt": remote(play(says_hello))})
    request(server.port, "POST", CHAT, ASK)
    request(server.port, "POST", CHAT, {**ASK, "model": "nope"})
    text = request(server.port, "GET", "/metrics").body.decode()
    assert (
        'headgate_requests_total{dialect="openai_chat",model="gpt",operation="chat",outcome="ok",'
        'status="200"} 1.0' in text
    )
    assert 'model="_unknown"' in text
    assert 'gen_ai_client_token_usage_sum{gen_ai_operation_name="chat"' in text


async def counts_when_asked(seen: Seen) -> AsyncIterator[Step]:
    yield SSE_HEAD + event(delta("one")) + event(delta(finish="stop"))
    if (seen.json.get("stream_options") or {}).get("include_usage"):
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        yield event({**delta(), "choices": [], "usage": usage})
    yield DONE


def test_usage_is_asked_for_and_stripped_again(play: Play, serve: Serve, lane: str) -> None:
    upstream = play(counts_when_asked)
    server = serve(models={"gpt": remote(upstream)}, fast=lane == "fast")
    answer = request(server.port, "POST", CHAT, STREAM)
    assert upstream.seen[0].json["stream_options"] == {"include_usage": True}
    assert len(data_of(answer.body)) == 3
    assert b"prompt_tokens" not in answer.body
    metrics = request(server.port, "GET", "/metrics").body.decode()
    assert 'gen_ai_client_token_usage_sum{gen_ai_operation_name="chat"' in metrics

    asked = request(server.port, "POST", CHAT, {**STREAM, "stream_options": {"include_usage": True}})
    assert data_of(asked.body)[-2]["usage"]["total_tokens"] == 7


def test_usage_is_not_asked_of_upstreams_that_refuse(play: Play, serve: Serve) -> None:
    upstream = play(counts_when_asked)
    server = serve(models={"gpt": remote(upstream, stream_usage=False)})
    assert request(server.port, "POST", CHAT, STREAM).status == 200
    assert "stream_options" not in upstream.seen[0].json
