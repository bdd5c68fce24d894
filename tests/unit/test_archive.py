"""How an upstream is asked for what it keeps: method, path, query, credentials; through proxies too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from typing_extensions import override

from headgate.backends import clouds
from headgate.backends.pools import Pools
from headgate.backends.presets import RESPONSES
from headgate.backends.registry import BuildContext
from headgate.backends.remote import Endpoint, Preset, RemoteBackend, RemoteSettings
from headgate.core.backend import Archive, ArchiveBackend, RawHeaders, Timeouts
from headgate.core.call import Operation
from headgate.core.errors import Unavailable
from tests.unit.test_presets import Signed


class Sent(Exception):
    """What went to the pool."""

    def __init__(self, head: bytes, body: bytes) -> None:
        line, *fields = head.decode().strip().split("\r\n")
        self.method, self.target, _ = line.split(" ")
        self.fields = dict(each.split(": ", 1) for each in fields)
        self.body = body


class Listener:
    def on_head(self, status: int, headers: RawHeaders) -> None: ...
    def on_data(self, data: bytes) -> None: ...
    def on_end(self) -> None: ...
    def on_fail(self, error: Exception) -> None: ...


def archive(settings: dict[str, Any], endpoint: Endpoint = RESPONSES, **preset: Any) -> Archive:
    made = RemoteSettings(backend="x", model="up", dialects=("openai_responses",), **settings)
    row = Preset("x", {Operation.CHAT: (endpoint,)}, **preset)
    backend = RemoteBackend(row, made, BuildContext("m", "m", Timeouts(), Pools()))
    assert isinstance(backend, ArchiveBackend)
    found = backend.archive("openai_responses")
    assert found is not None
    return found


def sent(kept: Archive, method: str, path: str, query: str, monkeypatch: pytest.MonkeyPatch) -> Sent:
    def send(_: object, head: bytes, body: bytes, *__: object, **___: object) -> None:
        raise Sent(head, body)

    monkeypatch.setattr("headgate.upstream.http.Pool.send", send)
    with pytest.raises(Sent) as caught:
        kept.ask(method, path, query, [(b"x-request-id", b"r")], 1.0, Listener())
    return caught.value


def test_where_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = archive({"base_url": "http://127.0.0.1:9/v1", "api_key": "k"})
    seen = sent(plain, "GET", "/resp_1/input_items", "limit=2", monkeypatch)
    assert (seen.method, seen.target, seen.body) == ("GET", "/v1/responses/resp_1/input_items?limit=2", b"")
    assert seen.fields["authorization"] == "Bearer k"
    assert seen.fields["x-request-id"] == "r"
    assert seen.fields["content-length"] == "0"
    assert "content-type" not in seen.fields
    assert plain.address == "http://127.0.0.1:9/v1/responses"
    assert sent(plain, "DELETE", "/resp_1", "", monkeypatch).target == "/v1/responses/resp_1"


def test_a_route_with_a_query_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    versioned = Endpoint("openai_responses", "/deployments/{model}/responses?api-version=1")
    kept = archive({"base_url": "https://a.example"}, versioned)
    assert (
        sent(kept, "GET", "/r", "stream=true", monkeypatch).target
        == "/deployments/up/responses/r?api-version=1&stream=true"
    )
    assert sent(kept, "POST", "/r/cancel", "", monkeypatch).target == (
        "/deployments/up/responses/r/cancel?api-version=1"
    )


def test_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = archive({"base_url": "http://far.example/v1", "proxy": "http://p:w@127.0.0.1:3128"})
    seen = sent(kept, "GET", "/r", "", monkeypatch)
    assert seen.target == "http://far.example/v1/responses/r"
    assert seen.fields["host"] == "far.example"
    assert "proxy-authorization" in seen.fields


class Expired(Signed):
    def __init__(self) -> None:
        super().__init__()
        self.fetched = 0

    @override
    def ready(self) -> bool:
        return self.fetched > 0

    @override
    async def headers(self, method: str, host: str, path_and_query: str, body: bytes) -> RawHeaders:
        self.fetched += 1
        if self.fetched > 1:
            raise Unavailable("no token")
        return ()


def test_what_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Expired()
    kept = archive({"base_url": "https://a.example/v1"}, credentials=lambda _: credentials)
    assert not kept.ready
    asyncio.run(kept.prepare())
    assert kept.ready
    assert sent(kept, "GET", "/r", "", monkeypatch).fields["authorization"] == "signed"
    with pytest.raises(Unavailable):
        asyncio.run(kept.prepare())


def test_azure_is_asked_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = archive(
        {"base_url": "https://a.example", "api_key": "k"}, clouds._RESPONSES, auth_header="api-key"
    )
    assert sent(kept, "GET", "/r", "", monkeypatch).fields["api-key"] == "Bearer k"
