"""The admin API: who may use it, what it shows of targets, and what it does to them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from typing import Any

import pytest

from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import Answer, Connection, request
from tests.support.server import Running, settings_from
from tests.support.upstream import Seen, Step, completion, plain

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ROUTES = [
    ("GET", "/admin/targets"),
    ("POST", "/admin/targets/m/drain"),
    ("POST", "/admin/targets/m/enable"),
    ("POST", "/admin/targets/m/reset"),
    ("POST", "/admin/reload"),
]
HOST = {"host": "127.0.0.1:8080"}


def _entry(key: str, **more: Any) -> dict[str, Any]:
    return {"name": key, "hash": f"sha256:{sha256(key.encode()).hexdigest()}", **more}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = [_entry("boss", admin=True), _entry("worker")]
    models = {"m": {"backend": "scripted"}}
    settings = settings_from(tmp_path_factory.mktemp("keyed"), {"server": {"keys": keys}, "models": models})
    with Running(settings) as running:
        yield running


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = settings_from(tmp_path_factory.mktemp("keyless"), {"models": {"m": {"backend": "scripted"}}})
    with Running(settings) as running:
        yield running


def ask(server: Running, method: str, path: str, fields: dict[str, str]) -> Answer:
    return request(server.port, method, path, b"" if method == "POST" else None, fields)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_with_keys_it_takes_one_of_an_admin(keyed: Running, method: str, path: str) -> None:
    assert ask(keyed, method, path, HOST).status == 401
    assert ask(keyed, method, path, {"x-api-key": "wrong"}).status == 401
    refused = ask(keyed, method, path, {"x-api-key": "worker"})
    assert (refused.status, refused.error["code"]) == (403, "forbidden")
    assert "'admin: true'" in refused.error["message"]
    taken = ask(keyed, method, path, {"x-api-key": "boss", "host": "elsewhere", "x-forwarded-for": "1.2.3.4"})
    assert taken.status == (400 if path == "/admin/reload" else 200)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"host": "localhost:8080"},
        {"host": "[::1]:8080"},
        {"origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ],
)
def test_without_keys_this_machine_may(
    keyless: Running, method: str, path: str, fields: dict[str, str]
) -> None:
    answer = ask(keyless, method, path, {**HOST, **fields})
    assert answer.status == (400 if path == "/admin/reload" else 200)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"origin": "http://evil.example"}, "another site"),
        ({"origin": "null"}, "another site"),
        ({"origin": "http://127.0.0.1:9999"}, "another site"),
        ({"sec-fetch-site": "cross-site"}, "another site"),
        ({"sec-fetch-site": "same-site"}, "another site"),
        ({"host": "evil.example", "origin": "http://evil.example", "sec-fetch-site": "same-origin"}, "under"),
        ({"host": "127.0.0.1.evil.example"}, "under"),
        ({"x-forwarded-for": "127.0.0.1"}, "proxy"),
        ({"x-forwarded-for": "10.0.0.7"}, "proxy"),
        ({"forwarded": "for=127.0.0.1"}, "proxy"),
        ({"via": "1.1 proxy"}, "proxy"),
    ],
)
def test_without_keys_no_page_of_another_site_may_and_nobody_behind_a_proxy(
    keyless: Running, method: str, path: str, fields: dict[str, str], words: str
) -> None:
    refused = ask(keyless, method, path, {**HOST, **fields})
    assert (refused.status, refused.error["code"]) == (403, "forbidden")
    assert words in refused.error["message"]


def test_a_server_that_has_nothing_to_read_again_says_so(keyless: Running) -> None:
    refused = ask(keyless, "POST", "/admin/reload", HOST)
    assert (refused.status, refused.error["code"]) == (400, "invalid_request")


def test_an_unknown_target_is_404_with_near_names(keyless: Running) -> None:
    refused = ask(keyless, "POST", "/admin/targets/mm/drain", HOST)
    assert refused.status == 404
    assert "did you mean 'm'?" in refused.error["message"]


def targets(server: Running) -> dict[str, dict[str, Any]]:
    return {each["target"]: each for each in ask(server, "GET", "/admin/targets", HOST).json["targets"]}


def gauges(server: Running, name: str) -> dict[str, float]:
    """By the labels as they are written."""
    page = request(server.port, "GET", "/metrics").body.decode()
    rows = [line.rpartition(" ") for line in page.splitlines() if line.startswith(f"{name}{{")]
    return {labels.removeprefix(name): float(value) for labels, _, value in rows}


def test_a_drained_target_gets_no_calls_and_ends_those_it_has(serve: Serve, play: Play) -> None:
    release = threading.Event()

    async def slow(_: Seen) -> AsyncIterator[Step]:
        yield release
        yield plain(200, completion("slow"))

    async def quick(_: Seen) -> AsyncIterator[Step]:
        yield plain(200, completion("quick"))

    first, second = play(slow), play(quick)
    server = serve(models={"m": {"targets": [remote(first), remote(second, priority=2)]}})
    with Connection(server.port) as waiting:
        waiting.send("POST", CHAT, ASK)
        assert first.wait_until(lambda upstream: bool(upstream.seen))
        answer = ask(server, "POST", "/admin/targets/m%230/drain", HOST)
        assert (answer.json["target"], answer.json["drained"], answer.json["in_flight"]) == ("m#0", True, 1)
        assert gauges(server, "headgate_target_drained") == {'{target="m#0"}': 1, '{target="m#1"}': 0}
        assert gauges(server, "headgate_target_in_flight")['{target="m#0"}'] == 1
        assert request(server.port, "POST", CHAT, ASK).headers["x-headgate-target"] == "m#1"
        shown = request(server.port, "GET", "/health").json["models"]["m"]["targets"]
        assert [each["drained"] for each in shown] == [True, False]
        assert shown[0]["reason"] == "drained by the operator"
        release.set()
        assert waiting.answer().json["choices"][0]["message"]["content"] == "slow"
    assert targets(server)["m#0"]["in_flight"] == 0
    ask(server, "POST", "/admin/targets/m%231/drain", HOST)
    assert request(server.port, "POST", CHAT, ASK).status == 503
    assert ask(server, "POST", "/admin/targets/m%230/enable", HOST).json["drained"] is False
    assert request(server.port, "POST", CHAT, ASK).headers["x-headgate-target"] == "m#0"


def test_an_open_circuit_and_a_spent_quota_are_seen_and_forgotten_on_demand(serve: Serve, play: Play) -> None:
    answers = [plain(500, {"error": {"message": "broken"}}), plain(429, {}, "retry-after: 120")]

    async def ill(_: Seen) -> AsyncIterator[Step]:
        yield answers[0]

    upstream = play(ill)
    model = remote(upstream, quota="shared", breaker={"failures": 1, "cooldown": "1m"}, retry={"attempts": 1})
    server = serve(models={"m": model})
    assert request(server.port, "POST", CHAT, ASK).status == 500
    shown = targets(server)["m"]
    assert shown["circuit"] == "open"
    assert 50 < shown["cooldown"] <= 60
    assert "broken" in shown["reason"]
    circuits = gauges(server, "headgate_target_circuit")
    assert circuits['{state="open",target="m"}'] == 1
    assert circuits['{state="closed",target="m"}'] == 0
    assert 50 < gauges(server, "headgate_target_cooldown_seconds")['{target="m"}'] <= 60
    reset = ask(server, "POST", "/admin/targets/m/reset", HOST).json
    assert (reset["circuit"], reset["cooldown"], reset["reason"]) == ("closed", 0, None)
    answers[0] = answers[1]
    assert request(server.port, "POST", CHAT, ASK).status == 429
    shown = targets(server)["m"]
    assert shown["quota"]["name"] == "shared"
    assert 100 < shown["quota"]["spent_for"] <= 120
    assert shown["circuit"] == "closed"
    ask(server, "POST", "/admin/targets/m/reset", HOST)
    answers[0] = plain(200, completion())
    assert request(server.port, "POST", CHAT, ASK).status == 200
    shown = targets(server)["m"]
    assert shown["pace"]["plain"] > 0
    assert shown["pace"]["stream"] is None


def test_targets_in_health_are_for_those_with_a_key(keyed: Running) -> None:
    assert "targets" not in request(keyed.port, "GET", "/health").json["models"]["m"]
    shown = request(keyed.port, "GET", "/health", None, {"x-api-key": "worker"}).json
    assert [each["target"] for each in shown["models"]["m"]["targets"]] == ["m"]


def test_tokens_are_counted_by_target_and_hedges_by_result(serve: Serve, play: Play) -> None:
    release = threading.Event()

    async def slow(_: Seen) -> AsyncIterator[Step]:
        yield release
        yield plain(200, completion())

    async def quick(_: Seen) -> AsyncIterator[Step]:
        yield plain(200, completion())

    model = {
        "hedge": {"after": "50ms", "budget": 1},
        "targets": [remote(play(slow)), remote(play(quick), priority=2)],
    }
    server = serve(models={"m": model})
    assert request(server.port, "POST", CHAT, ASK).headers["x-headgate-target"] == "m#1"
    release.set()
    assert gauges(server, "headgate_hedges_total") == {'{model="m",result="won"}': 1}
    tokens = gauges(server, "headgate_upstream_tokens_total")
    assert tokens['{target="m#1",type="input"}'] == 5
    assert tokens['{target="m#1",type="output"}'] == 2
    assert 0 <= gauges(server, "headgate_hedge_budget")['{model="m"}'] <= 1
    assert gauges(server, "headgate_retry_budget")['{model="m"}'] == 10
