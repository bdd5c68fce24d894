"""Keys on every route that is not open, and probes that tell strangers little."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

from headgate.server.app import create_app
from headgate.server.gateway import Gateway
from tests.support.client import Answer, Connection, request
from tests.support.server import Running, settings_from

KEY = "hg-test-key"
OTHER = "hg-other-key"
CHAT = "/v1/chat/completions"
ASK = {"model": "double", "messages": [{"role": "user", "content": "hi"}]}
OPEN = {"/livez", "/readyz", "/startupz", "/health", "/docs", "/docs/oauth2-redirect", "/openapi.json"}
MODELS: dict[str, Any] = {"double": {"backend": "scripted"}, "lost": {"python": "no_such_module:predict"}}


def _hash(key: str) -> str:
    return f"sha256:{sha256(key.encode()).hexdigest()}"


@pytest.fixture(scope="module", params=["fast", "asgi"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    keys = [{"name": "ci", "hash": _hash(KEY)}, {"name": "other", "hash": _hash(OTHER)}]
    settings = settings_from(tmp_path_factory.mktemp("keys"), {"server": {"keys": keys}, "models": MODELS})
    with Running(settings, fast=request.param == "fast", keep_going=True) as running:
        yield running


def routes(gateway: Gateway) -> list[tuple[str, str]]:
    """Every method and path that the application serves, parameters filled in."""
    found = set()
    for context in iter_route_contexts(create_app(gateway).routes):
        assert context.path is not None
        if isinstance(context.route, Mount):
            assert context.path.startswith("/docs/")  # the API page's own scripts
            continue
        path = re.sub(r"\{\w+(:\w+)?\}", "double", context.path)
        assert context.methods
        found |= {(method, path) for method in context.methods}
    return sorted(found)


def test_the_list_of_routes_is_the_whole(server: Running) -> None:
    listed = routes(server.gateway)
    paths = {path for _, path in listed}
    described = request(server.port, "GET", "/openapi.json").json["paths"]
    assert {re.sub(r"\{\w+\}", "double", path) for path in described} <= paths
    assert OPEN | {CHAT, "/v1/embeddings", "/v1/models", "/models/double/predict", "/predict/"} <= paths


def unauthorised(answer: Answer, path: str, code: str) -> None:
    assert answer.status == 401, path
    assert answer.headers["content-type"].startswith("application/json")
    if path.startswith(("/models/", "/predict")):
        assert answer.json.keys() == {"message"}
    elif path.startswith(("/model/", "/v2/")):
        assert "message" in answer.json  # Bedrock's and Cohere's form
    elif path.startswith("/tei/"):
        assert "error_type" in answer.json
    elif path.endswith("/rerank"):
        assert "detail" in answer.json  # Jina's form
    elif "/v1/messages" in path:
        assert answer.json["error"]["type"] == "authentication_error"
    elif ":" in path:
        assert answer.json["error"]["status"] == "UNAUTHENTICATED"
    else:
        assert answer.error["type"] == "invalid_request_error"
        assert answer.error["code"] == code
    assert KEY not in answer.body.decode()


def test_every_other_route_wants_a_key(server: Running) -> None:
    closed = [(method, path) for method, path in routes(server.gateway) if path not in OPEN]
    assert len(closed) >= 8
    for method, path in closed:
        body: dict[str, Any] | None = {} if method == "POST" else None
        if method == "HEAD":
            continue
        unauthorised(request(server.port, method, path, body), path, "missing_api_key")
        unauthorised(
            request(server.port, method, path, body, {"authorization": "Bearer hg-wrong"}),
            path,
            "invalid_api_key",
        )
        unauthorised(
            request(server.port, method, path, body, {"x-api-key": KEY + "x"}), path, "invalid_api_key"
        )
        assert request(server.port, method, path, body, {"x-api-key": KEY}).status != 401


def test_unknown_routes_tell_strangers_nothing(server: Running) -> None:
    for path in ("/nope", "/v1/nope", "/v1/models/nope", "/docsx", "/metrics/"):
        assert request(server.port, "GET", path).status == 401
        assert request(server.port, "GET", path, None, {"x-api-key": KEY}).status == 404


@pytest.mark.parametrize(
    "fields",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer   {KEY} "},
        {"x-api-key": KEY},
        {"x-goog-api-key": KEY},
        {"X-API-Key": OTHER},
        {"authorization": f"Bearer {KEY}", "x-api-key": KEY},
    ],
)
def test_ways_to_present_a_key(server: Running, fields: dict[str, str]) -> None:
    assert request(server.port, "POST", CHAT, ASK, fields).status == 200
    assert request(server.port, "GET", "/v1/models", None, fields).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": ""},
        {"x-api-key": ""},
        {"x-api-key": _hash(KEY)},
        {"x-api-key": KEY.upper()},
        {"x-api-key": "k" * 20_000},
        {"x-api-key": "\xff\xfe"},
        {"authorization": f"Bearer {KEY}", "x-api-key": OTHER},
        {"api-key": KEY},
        {"cookie": f"key={KEY}"},
    ],
)
def test_what_is_no_key(server: Running, fields: dict[str, str]) -> None:
    lines = [f"{name}: {value}" for name, value in {"host": "test", "content-length": "2", **fields}.items()]
    with Connection(server.port) as connection:
        for path in (CHAT, "/models/double/predict"):
            head = "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""])
            connection.socket.sendall(head.encode("latin-1") + b"{}")
            assert connection.answer().status == 401


def test_a_key_in_the_query_is_no_key(server: Running) -> None:
    assert request(server.port, "POST", f"{CHAT}?key={KEY}", ASK).status == 401


def test_a_wrong_key_is_told_before_the_request_is_read(server: Running) -> None:
    answer = request(server.port, "POST", CHAT, b"{not json", {"content-type": "application/json"})
    assert answer.status == 401


@pytest.mark.parametrize("path", sorted(OPEN))
def test_open_routes_are_open(server: Running, path: str) -> None:
    assert request(server.port, "GET", path).status == 200
    assert request(server.port, "GET", path, None, {"x-api-key": "wrong"}).status == 200


@pytest.mark.parametrize(
    "path", ["/docs/../v1/models", "/docs/%2e%2e/v1/models", "/docs/..%2f..%2fpyproject.toml"]
)
def test_the_api_pages_folder_is_no_way_round(server: Running, path: str) -> None:
    assert request(server.port, "GET", path).status in (401, 404)


@pytest.mark.parametrize("path", ["/health", "/readyz"])
def test_reasons_are_for_those_with_a_key(server: Running, path: str) -> None:
    for fields in ({}, {"x-api-key": "wrong"}):
        answer = request(server.port, "GET", path, None, fields)
        assert answer.json["models"]["lost"] == {"state": "failed"}
        assert "no_such_module" not in answer.body.decode()
    answer = request(server.port, "GET", path, None, {"authorization": f"Bearer {KEY}"})
    assert "no_such_module" in answer.json["models"]["lost"]["detail"]
    assert answer.json["models"]["double"]["state"] == "ready"


def test_the_principal_is_the_key_not_what_a_caller_says(server: Running) -> None:
    answer = request(server.port, "POST", CHAT, {**ASK, "user": "ci"}, {"x-api-key": OTHER})
    assert answer.status == 200


def test_probes(server: Running) -> None:
    assert request(server.port, "GET", "/livez").json == {"status": "alive"}
    assert request(server.port, "GET", "/startupz").json == {"status": "started"}
    ready = request(server.port, "GET", "/readyz")
    assert (ready.status, ready.json["status"]) == (200, "degraded")
    assert ready.headers["cache-control"] == "no-store"


def test_health_without_keys_shows_all(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = settings_from(tmp_path_factory.mktemp("open"), {"models": MODELS})
    with Running(settings, keep_going=True) as running:
        shown = request(running.port, "GET", "/health").json
        assert "no_such_module" in shown["models"]["lost"]["detail"]
        assert shown["status"] == "degraded"
        assert shown["loaded_models"] == ["double"]
        assert {"device", "pid", "timestamp", "versions", "uptime_seconds", "in_flight"} <= shown.keys()
        assert "no_such_module" in request(running.port, "GET", "/readyz").json["models"]["lost"]["detail"]
        assert request(running.port, "GET", "/metrics").status == 200
