"""How a model's targets stand in for each other, over sockets: failover, hedging, waiting, what fits."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from headgate.policy.keys import new_key
from headgate.server.intake import Intake
from headgate.server.trial import LARGE_BODY
from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import Connection, request
from tests.support.residue import settled
from tests.support.server import Running
from tests.support.upstream import (
    DONE,
    SSE_HEAD,
    Drop,
    Hang,
    Script,
    Seen,
    Step,
    completion,
    delta,
    event,
    plain,
)

CHAT = "/v1/chat/completions"
ASK = {"model": "gpt", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**ASK, "stream": True}


@dataclass
class Sent:
    sent: int = 0


def says(name: str) -> Script:
    """Answers with `name`, streamed where that is asked."""

    async def script(seen: Seen) -> AsyncIterator[Step]:
        if seen.json.get("stream"):
            yield SSE_HEAD + event(delta(name)) + event(delta(finish="stop")) + DONE
        else:
            yield plain(200, completion(name))

    return script


async def stalls(_: Seen) -> AsyncIterator[Step]:
    yield Hang()


async def drops(_: Seen) -> AsyncIterator[Step]:
    yield Drop()


def said(body: bytes) -> str:
    return "".join(re.findall(r'"content": ?"([^"]*)"', body.decode()))


def targets(server: Running, model: str = "gpt") -> list[Any]:
    return list(server.gateway.router.routes[model].targets)


def test_a_dead_target_is_no_concern_of_the_callers(play: Play, serve: Serve) -> None:
    dead, alive = play(drops), play(says("b"))
    models = {"gpt": {"targets": [remote(dead), remote(alive, priority=2)]}}
    server = serve(models=models)
    for ask in (ASK, STREAM):
        answer = request(server.port, "POST", CHAT, ask)
        assert answer.status == 200
        assert said(answer.body) == "b"
        assert answer.headers["x-headgate-target"] == "gpt#1"
        assert answer.headers["x-headgate-attempts"] == "2"
    for _ in range(5):
        request(server.port, "POST", CHAT, ASK)
    asked = len(dead.seen)
    assert asked == 5  # then its circuit is open
    answer = request(server.port, "POST", CHAT, ASK)
    assert answer.headers["x-headgate-attempts"] == "1"
    assert len(dead.seen) == asked


def test_server_timing_tells_where_the_time_went(play: Play, serve: Serve) -> None:
    async def slow(_: Seen) -> AsyncIterator[Step]:
        yield 0.05
        yield plain(200, completion())

    server = serve(models={"gpt": remote(play(slow))})
    timing = request(server.port, "POST", CHAT, ASK).headers["server-timing"]
    found = {name: float(ms) for name, ms in re.findall(r"(\w+);dur=([\d.]+)", timing)}
    assert list(found) == ["queue", "connect", "first", "overhead", "total"]
    assert found["first"] >= 45
    parts = found["queue"] + found["connect"] + found["first"] + found["overhead"]
    assert abs(parts - found["total"]) < 1


def test_the_first_refusal_of_the_request_is_told_when_all_refuse(play: Play, serve: Serve) -> None:
    def refuses(status: int, message: str) -> Script:
        async def script(_: Seen) -> AsyncIterator[Step]:
            yield plain(status, {"error": {"message": message}})

        return script

    models = {
        "gpt": {
            "targets": [
                remote(play(refuses(400, "no such tool"))),
                remote(play(refuses(500, "oops")), priority=2),
            ]
        }
    }
    answer = request(serve(models=models).port, "POST", CHAT, ASK)
    assert (answer.status, answer.error["message"]) == (400, "no such tool")
    assert answer.headers["x-headgate-attempts"] == "2"


def test_a_slow_target_is_hedged_and_both_are_metered(play: Play, serve: Serve) -> None:
    slow, quick = play(stalls), play(says("b"))
    models = {
        "gpt": {
            "hedge": {"after": "50ms", "budget": "100%"},
            "targets": [remote(slow), remote(quick, priority=2)],
        }
    }
    server = serve(models=models)
    for ask in (ASK, STREAM):
        answer = request(server.port, "POST", CHAT, ask)
        assert (answer.status, said(answer.body)) == (200, "b")
        assert answer.headers["x-headgate-target"] == "gpt#1"
        assert answer.headers["x-headgate-attempts"] == "2"
    assert slow.wait_until(lambda u: u.open_connections == 0)
    text = request(server.port, "GET", "/metrics").body.decode()
    assert 'headgate_upstream_attempts_total{outcome="cancelled",target="gpt#0"} 2.0' in text
    assert 'headgate_upstream_attempts_total{outcome="ok",target="gpt#1"} 2.0' in text
    assert [target.health.in_flight for target in targets(server)] == [0, 0]


def test_a_hedge_that_fails_leaves_the_first_attempt_alone(play: Play, serve: Serve) -> None:
    go_on = threading.Event()

    async def late(_: Seen) -> AsyncIterator[Step]:
        yield go_on
        yield plain(200, completion("a"))

    async def fails(_: Seen) -> AsyncIterator[Step]:
        yield plain(500, {"error": {"message": "no"}})
        go_on.set()

    models = {
        "gpt": {
            "hedge": {"after": "20ms", "budget": "100%"},
            "targets": [remote(play(late)), remote(play(fails), priority=2)],
        }
    }
    answer = request(serve(models=models).port, "POST", CHAT, ASK)
    assert (answer.status, said(answer.body)) == (200, "a")


def test_a_stream_that_breaks_while_it_is_held_moves_on(play: Play, serve: Serve) -> None:
    async def breaks(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("half"))
        yield 0.02
        yield Drop()

    models = {
        "gpt": {
            "hold_back": {"characters": 50, "time": "5s"},
            "targets": [remote(play(breaks)), remote(play(says("whole")), priority=2)],
        }
    }
    answer = request(serve(models=models).port, "POST", CHAT, STREAM)
    assert (answer.status, said(answer.body)) == (200, "whole")


def test_a_stream_that_drips_while_it_is_held_moves_on(play: Play, serve: Serve) -> None:
    async def drips(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("x"))
        yield Hang()

    dripping = play(drips)
    models = {
        "gpt": {
            "hold_back": {"characters": 50, "time": "50ms"},
            "targets": [remote(dripping), remote(play(says("whole")), priority=2)],
        }
    }
    server = serve(models=models)
    answer = request(server.port, "POST", CHAT, STREAM)
    assert (answer.status, said(answer.body)) == (200, "whole")
    assert dripping.wait_until(lambda u: u.open_connections == 0)
    assert targets(server)[0].health.reason


def test_a_held_stream_goes_out_when_it_has_said_enough_or_nobody_else_is_there(
    play: Play, serve: Serve
) -> None:
    release = threading.Event()

    async def enough(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("x" * 30)) + event(delta("y" * 30))
        yield release
        yield event(delta(finish="stop")) + DONE

    async def little(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("x"))
        yield release
        yield event(delta(finish="stop")) + DONE

    held = {"hold_back": {"characters": 50, "time": "50ms"}}
    models = {"gpt": {**remote(play(enough)), **held}, "alone": {**remote(play(little)), **held}}
    server = serve(models=models)
    for model in models:
        release.clear()
        with Connection(server.port) as connection:
            connection.send("POST", CHAT, {**STREAM, "model": model})
            assert connection.head()[0] == 200
            assert b'"x' in (connection.chunk() or b"")
            release.set()
            while connection.chunk() is not None:
                pass


def test_a_spent_quota_is_waited_for_when_it_is_back_soon(play: Play, serve: Serve) -> None:
    asked = 0

    async def limited_once(_: Seen) -> AsyncIterator[Step]:
        nonlocal asked
        asked += 1
        if asked == 1:
            yield plain(429, {"error": {"message": "slow down"}}, "retry-after: 1")
        else:
            yield plain(200, completion("at last"))

    server = serve(models={"gpt": remote(play(limited_once))})
    begun = time.monotonic()
    answer = request(server.port, "POST", CHAT, ASK)
    assert (answer.status, said(answer.body)) == (200, "at last")
    assert time.monotonic() - begun >= 1
    assert answer.headers["x-headgate-attempts"] == "2"


def test_a_wait_beyond_the_callers_own_deadline_is_not_begun(play: Play, serve: Serve) -> None:
    async def limited(_: Seen) -> AsyncIterator[Step]:
        yield plain(429, {"error": {"message": "slow down"}}, "retry-after: 3")

    upstream = play(limited)
    server = serve(models={"gpt": remote(upstream)})
    for _ in range(2):
        answer = request(server.port, "POST", CHAT, ASK, {"x-headgate-timeout": "500ms"})
        assert (answer.status, answer.error["message"]) == (429, "slow down")
        assert 1 <= int(answer.headers["retry-after"]) <= 3
    assert len(upstream.seen) == 1


def test_targets_of_one_account_share_a_quota(play: Play, serve: Serve) -> None:
    async def limited(_: Seen) -> AsyncIterator[Step]:
        yield plain(429, {"error": {"message": "slow down"}}, "retry-after: 30")

    upstream, other = play(limited), play(says("b"))
    twin = remote(upstream)
    models = {"gpt": {"targets": [twin, {**twin, "weight": 2}, remote(other, priority=2)]}}
    server = serve(models=models)
    for _ in range(3):
        assert said(request(server.port, "POST", CHAT, ASK).body) == "b"
    assert len(upstream.seen) == 1


def test_the_caller_can_give_less_time_than_the_model(play: Play, serve: Serve, lane: str) -> None:
    server = serve(models={"gpt": remote(play(stalls))}, fast=lane == "fast")
    answer = request(server.port, "POST", CHAT, ASK, {"x-headgate-timeout": "50ms"})
    assert (answer.status, answer.error["code"]) == (504, "total_timeout")
    for wrong in ("soon", "-1", "0"):
        answer = request(server.port, "POST", CHAT, ASK, {"x-headgate-timeout": wrong})
        assert answer.status == 400
        assert "x-headgate-timeout must be a duration" in answer.error["message"]


def test_what_a_target_lacks_goes_to_another(play: Play, serve: Serve) -> None:
    small, large = play(says("small")), play(says("large"))
    models = {
        "gpt": {
            "targets": [
                remote(small, lacks=["images", "tools"], context_length=1000),
                remote(large, priority=2, context_length=100_000),
            ]
        }
    }
    server = serve(models=models)
    image = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    asks: dict[str, list[dict[str, Any]]] = {
        "small": [ASK],
        "large": [
            {**ASK, "messages": [{"role": "user", "content": [image]}]},
            {**ASK, "tools": [tool]},
            {**ASK, "messages": [{"role": "user", "content": "word " * 2000}]},
            {**ASK, "max_tokens": 5000},
        ],
    }
    for name, bodies in asks.items():
        for body in bodies:
            answer = request(server.port, "POST", CHAT, body)
            assert (answer.status, said(answer.body)) == (200, name)
    unreadable = {**ASK, "messages": [{"role": "user", "content": [{"type": "novel"}]}]}
    assert said(request(server.port, "POST", CHAT, unreadable).body) == "small"
    too_long = {**ASK, "messages": [{"role": "user", "content": "word " * 200_000}]}
    answer = request(server.port, "POST", CHAT, too_long)
    assert answer.status == 400
    assert "context of 100000" in answer.error["message"]


def test_a_request_nested_deeply_is_looked_at_all_the_same(play: Play, serve: Serve) -> None:
    server = serve(models={"gpt": remote(play(says("a")), lacks=["images"], context_length=100_000)})
    schema = b'{"a":' * 900 + b"{}" + b"}" * 900
    tool = b'{"type":"function","function":{"name":"f","parameters":' + schema + b"}}"
    body = b'{"model":"gpt","messages":[{"role":"user","content":"hi"}],"tools":[' + tool + b"]}"
    answer = request(server.port, "POST", CHAT, body, {"content-type": "application/json"})
    assert (answer.status, said(answer.body)) == (200, "a")


def test_a_defect_while_looking_at_a_request_ends_its_call(
    play: Play, serve: Serve, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(_: Intake) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Intake, "examine", defect)
    server = serve(models={"gpt": remote(play(says("a")), lacks=["images"])}, fast=lane == "fast")
    for text in ("hi", "x" * (LARGE_BODY + 1)):  # on the event loop, and on a thread
        ask = {**ASK, "messages": [{"role": "user", "content": text}]}
        answer = request(server.port, "POST", CHAT, ask)
        assert (answer.status, answer.error["code"]) == (500, "internal_error")
        assert not settled(lambda: server.gateway.in_flight)


def test_a_fallback_model_answers_when_all_targets_of_the_first_fail(play: Play, serve: Serve) -> None:
    dead, stand_in = play(drops), play(says("c"))
    models = {"gpt": remote(dead, fallbacks=["other"]), "other": remote(stand_in)}
    answer = request(serve(models=models).port, "POST", CHAT, ASK)
    assert said(answer.body) == "c"
    assert answer.headers["x-headgate-target"] == "other"


def test_calls_that_belong_together_go_to_one_target(play: Play, serve: Serve) -> None:
    upstreams = [play(says(str(number))) for number in range(4)]
    several = {"targets": [remote(upstream) for upstream in upstreams]}
    models = {
        "user": {**several, "affinity": "user"},
        "prompt": {**several, "affinity": "prompt"},
        "header": {**several, "affinity": "header:x-session"},
    }
    server = serve(models=models)

    def who(body: dict[str, Any], headers: dict[str, str] | None = None) -> str:
        return said(request(server.port, "POST", CHAT, body, headers).body)

    def turns(count: int, opening: str) -> list[dict[str, str]]:
        first = [{"role": "system", "content": "be brief"}, {"role": "user", "content": opening}]
        more = [{"role": ("assistant", "user")[n % 2], "content": f"turn {n}"} for n in range(count)]
        return first + more

    for key in ("anna", "ben", "carla"):
        assert len({who({**ASK, "model": "user", "user": key}) for _ in range(4)}) == 1
        assert len({who({**ASK, "model": "prompt", "messages": turns(n, key)}) for n in (0, 2, 4)}) == 1
        assert len({who({**ASK, "model": "header"}, {"x-session": key}) for _ in range(4)}) == 1
    assert len({who({**ASK, "model": "user", "user": str(n)}) for n in range(40)}) == 4


def test_a_models_own_limit_queues_fairly_between_keys(play: Play, serve: Serve) -> None:
    release = threading.Event()

    async def waits(_: Seen) -> AsyncIterator[Step]:
        yield release
        yield plain(200, completion())

    upstream = play(waits)
    server = serve(models={"gpt": remote(upstream, max_in_flight=1, max_waiting=1)})
    admission = server.gateway.router.routes["gpt"].admission
    assert admission is not None
    with Connection(server.port) as first, Connection(server.port) as second:
        first.send("POST", CHAT, ASK)
        assert upstream.wait_until(lambda u: len(u.seen) == 1)
        second.send("POST", CHAT, ASK)
        while not admission.waiting:
            pass
        refused = request(server.port, "POST", CHAT, ASK)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert request(server.port, "GET", "/livez").status == 200
        release.set()
        assert first.answer().status == second.answer().status == 200
    assert (admission.running, admission.waiting) == (0, 0)


def test_time_in_a_queue_counts(play: Play, serve: Serve) -> None:
    upstream = play(stalls)
    models = {
        "model": remote(upstream, max_in_flight=1),
        "target": remote(upstream, max_concurrency=1),
    }
    server = serve(models=models)
    for number, model in enumerate(models, 1):
        with Connection(server.port) as first:
            first.send("POST", CHAT, {**ASK, "model": model})
            assert upstream.wait_until(lambda u, n=number: len(u.seen) == n)  # type: ignore[misc]
            answer = request(
                server.port, "POST", CHAT, {**ASK, "model": model}, {"x-headgate-timeout": "50ms"}
            )
            assert (answer.status, answer.error["code"]) == (504, "total_timeout")
    assert upstream.wait_until(lambda u: u.open_connections == 0)
    assert len(upstream.seen) == 2


def test_one_key_can_not_take_every_place(play: Play, serve: Serve) -> None:
    upstream = play(stalls)
    keys = {name: new_key() for name in ("greedy", "modest")}
    server = serve(
        models={"gpt": remote(upstream)},
        server={
            "max_in_flight": 8,
            "keys": [{"name": name, "hash": digest} for name, (_, digest) in keys.items()],
        },
    )
    fields = {name: {"x-api-key": secret} for name, (secret, _) in keys.items()}
    with ExitStack() as stack:

        def begin(name: str) -> None:
            connection = stack.enter_context(Connection(server.port))
            connection.send("POST", CHAT, ASK, fields[name])
            seen = sum(each.sent for each in counts.values()) + 1
            assert upstream.wait_until(lambda u: len(u.seen) == seen)
            counts[name].sent += 1

        counts = {name: Sent() for name in keys}
        begin("modest")
        for _ in range(5):
            begin("greedy")
        answer = request(server.port, "POST", CHAT, ASK, fields["greedy"])
        assert (answer.status, answer.error["code"]) == (503, "overloaded")
        assert "'greedy' has 5" in answer.error["message"]
        begin("modest")
    assert upstream.wait_until(lambda u: u.open_connections == 0)


def test_memory_over_its_limit_refuses_calls_but_not_probes(play: Play, serve: Serve) -> None:
    server = serve(models={"gpt": remote(play(says("a")))}, server={"max_memory": "1MB"})
    answer = request(server.port, "POST", CHAT, ASK)
    assert (answer.status, answer.error["code"]) == (503, "overloaded")
    assert "max_memory" in answer.error["message"]
    assert answer.headers["retry-after"]
    assert request(server.port, "GET", "/livez").status == 200
    assert request(server.port, "GET", "/metrics").status == 200
