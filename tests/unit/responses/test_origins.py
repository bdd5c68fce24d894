"""Whose id it is and where it came from; the id in an answer that passes; what a request asks to be kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from typing_extensions import override

from headgate.backends import clouds
from headgate.backends.pools import Pools
from headgate.backends.registry import BuildContext, Registry
from headgate.backends.remote import RemoteBackend
from headgate.core.backend import Archive, Timeouts
from headgate.core.errors import InvalidRequest, NotFound, UnsupportedParameter
from headgate.policy.store import MemoryStore
from headgate.routing.route import Route, Router
from headgate.routing.target import Target
from headgate.server.responses.clients import NamedClient
from headgate.server.responses.draft import Asked
from headgate.server.responses.origins import MAX_ID, Origin, Origins, archive_of, home_of, target_in
from tests.unit.responses.bench import ANN, BOB, run
from tests.unit.responses.test_store import FakeClock
from tests.unit.responses.wire import Script, answer

ORIGIN = Origin("ann", "gpt", "gpt", "https://api.openai.com/v1/responses")


def test_an_id_belongs_to_its_key_until_its_time_is_over() -> None:
    async def work() -> None:
        clock = FakeClock()
        origins = Origins(MemoryStore(clock=clock), 60)
        origins.remember("native", "resp_1", ORIGIN)
        for _ in range(2):
            assert await origins.find("native", "resp_1", ANN) == ORIGIN
            with pytest.raises(NotFound, match="Response with id 'resp_1' not found"):
                await origins.find("native", "resp_1", BOB)
            assert await origins.find("conversation", "resp_1", ANN) is None
            await origins.close()
        clock.now += 60
        assert await origins.find("native", "resp_1", ANN) is None

    run(work())


class Gate(MemoryStore):
    """A store that takes in nothing until its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    @override
    async def put(self, key: str, value: bytes, ttl: float) -> None:
        await self.gate.wait()
        await super().put(key, value, ttl)


def test_what_is_forgotten_while_it_is_stored_stays_forgotten() -> None:
    async def work() -> None:
        store = Gate()
        origins = Origins(store, 60)
        origins.remember("native", "resp_1", ORIGIN)
        origins.remember("native", "resp_2", ORIGIN)
        origins.remember("native", "resp_2", ORIGIN)  # a conversation is, with each answer
        await asyncio.sleep(0)
        await origins.forget("native", "resp_1")
        store.gate.set()
        await origins.close()
        assert await origins.find("native", "resp_1", ANN) is None
        assert await origins.find("native", "resp_2", ANN) == ORIGIN
        assert len(store) == 1

    run(work())


def test_an_endless_id_is_not_remembered() -> None:
    async def work() -> None:
        store = MemoryStore()
        origins = Origins(store, 60)
        origins.remember("native", "x" * (MAX_ID + 1), ORIGIN)
        await origins.close()
        assert len(store) == 0
        assert await origins.find("native", "x" * (MAX_ID + 1), ANN) is None

    run(work())


def backend(name: str = "openai", **settings: Any) -> RemoteBackend:
    row = Registry().row(name)
    settings = {"api_key": "k", "model": "up", **settings}
    built = row.build(row.settings(backend=name, **settings), BuildContext("m", "m", Timeouts(), Pools()))
    assert isinstance(built, RemoteBackend)
    return built


def router(**models: Sequence[RemoteBackend]) -> Router:
    routes = {}
    for model, backends in models.items():
        names = [model if len(backends) == 1 else f"{model}#{number}" for number in range(len(backends))]
        targets = [Target(name, each, "openai") for name, each in zip(names, backends, strict=True)]
        routes[model] = Route(model, tuple(targets))
    return Router(routes, {})


def origin_of(target: Target, model: str) -> Origin:
    archive = archive_of(target)
    assert archive is not None
    return Origin("ann", model, target.name, archive.address)


def test_home_is_found_again_after_a_change_of_the_configuration() -> None:
    dialects: dict[str, Any] = {"dialects": ["openai_responses"]}
    ours, theirs = {"base_url": "https://a.example/v1"}, {"base_url": "https://b.example/v1"}
    before = router(gpt=[backend(**ours, **dialects), backend(**theirs, **dialects)])
    second = origin_of(before.routes["gpt"].targets[1], "gpt")
    assert home_of(second, "resp_1", before)[0].name == "gpt#1"
    turned = router(gpt=[backend(**theirs, **dialects), backend(**ours, **dialects)])
    assert home_of(second, "resp_1", turned)[0].name == "gpt#0"
    renamed = router(other=[backend(**theirs, **dialects)], gpt=[backend(**ours, **dialects)])
    assert home_of(second, "resp_1", renamed)[0].name == "other"
    for gone in (router(gpt=[backend(**ours, **dialects)]), router(gpt=[backend(**theirs)]), router()):
        with pytest.raises(NotFound, match="not configured any more"):
            home_of(second, "resp_1", gone)


def test_only_the_same_account_goes_on_with_it() -> None:
    models = router(
        gpt=[backend(api_key="a"), backend(api_key="b")],
        mini=[backend(api_key="b", model="mini")],
        other=[backend(api_key="c")],
        alien=[backend("anthropic")],
    )
    first, second = models.routes["gpt"].targets
    origin = origin_of(second, "gpt")

    def found(model: str) -> Target:
        return target_in(models.routes[model], origin, "resp_1", models, "previous_response_id")

    assert found("gpt") is second
    assert target_in(models.routes["gpt"], origin_of(first, "gpt"), "resp_1", models, "p") is first
    assert found("mini").name == "mini"
    for model in ("other", "alien"):
        with pytest.raises(InvalidRequest, match=f"where '{model}' can't read it") as caught:
            found(model)
        assert (caught.value.status, caught.value.param) == (400, "previous_response_id")


def test_tokens_that_expire_leave_the_address_to_tell_accounts_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Token:
        def __init__(self, *_: object) -> None: ...

    monkeypatch.setattr(clouds, "EntraToken", Token)

    def account(url: str) -> object:
        archive = backend("azure-openai", base_url=url, api_key=None).archive("openai_responses")
        assert archive is not None
        return archive.account

    assert account("https://a.openai.azure.com") == account("https://a.openai.azure.com")
    assert account("https://a.openai.azure.com") != account("https://b.openai.azure.com")


@pytest.mark.parametrize(
    ("name", "settings", "keeps"),
    [
        ("openai", {}, {"store", "background", "conversation"}),
        ("openai", {"native_state": ["store"]}, {"store"}),
        ("openai", {"native_state": []}, set()),
        ("openai", {"base_url": "https://a.example/v1"}, None),
        ("openai", {"base_url": "https://a.example/v1", "dialects": ["openai_responses"]}, set()),
        (
            "openai-compatible",
            {
                "base_url": "https://a.example/v1",
                "dialects": ["openai_responses"],
                "native_state": ["store"],
            },
            {"store"},
        ),
        ("openai-compatible", {"base_url": "https://a.example/v1", "native_state": ["store"]}, None),
        ("xai", {}, {"store"}),
        ("azure-openai", {"base_url": "https://a.example"}, {"store", "background", "conversation"}),
        ("azure-openai", {"base_url": "https://a.example", "api_version": "2024-10-21"}, None),
        ("anthropic", {}, None),
    ],
)
def test_what_the_rows_keep(name: str, settings: dict[str, Any], keeps: set[str] | None) -> None:
    archive: Archive | None = backend(name, **settings).archive("openai_responses")
    assert (None if archive is None else archive.keeps) == keeps


def test_no_secret_is_shown() -> None:
    archive = backend(api_key="top-secret").archive("openai_responses")
    assert "top-secret" not in repr(archive)
    assert archive is not None
    assert "top-secret" not in archive.address


class Caller:
    """Notes in which order it is told what."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self.told.append((status, body))

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        self.told.append(data)

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def end(self) -> None:
        self.told.append("end")

    def abort(self) -> None:
        self.told.append("abort")

    def found(self, identity: str) -> None:
        self.told.append(f"id {identity}")


def test_the_id_is_told_first_at_every_split() -> None:
    wire = Script().begin().message(0, "Hi").end().wire
    for cut in range(1, len(wire)):
        caller = Caller()
        client = NamedClient(caller, caller.found)
        client.begin(200, [], wire[:cut])
        client.write(wire[cut:])
        client.end()
        passed = [each for each in caller.told if isinstance(each, bytes)]
        assert b"".join(passed) == wire
        assert caller.told.count("id resp_1") == 1
        # Before the event is whole for the caller, the id is known.
        before = b"".join(
            each for each in caller.told[: caller.told.index("id resp_1")] if isinstance(each, bytes)
        )
        assert b"\n\n" not in before
        assert caller.told[-1] == "end"


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"no events",
        b"data: [1]\n\ndata: 5\n\n",
        b"data: {not json}\n\n" * 3,
        b'data: {"response": {"id": 7}}\n\n',
        b": comment\n\n" * 20_000,
        b"data: " + b"x" * 100_000,
    ],
)
def test_a_stream_without_an_id_passes(wire: bytes) -> None:
    caller = Caller()
    client = NamedClient(caller, caller.found)
    client.begin(200, [], wire[:1])
    for at in range(1, len(wire), 50_000):
        client.write(wire[at : at + 50_000])
    client.abort()
    assert b"".join(each for each in caller.told if isinstance(each, bytes)) == wire
    assert caller.told[-1] == "abort"
    assert not [each for each in caller.told if str(each).startswith("id ")]


def test_the_id_of_a_plain_answer() -> None:
    body = json.dumps(answer()).encode()
    for status, sent, ids in (
        (200, body, ["id resp_1"]),
        (404, body, []),
        (200, b"[]", []),
        (200, b'{"id": 5}', []),
        (200, b"{", []),
        (200, b"{}", []),
    ):
        caller = Caller()
        NamedClient(caller, caller.found).respond(status, [], sent)
        assert caller.told == [*ids, (status, sent)]


def asked(**fields: Any) -> Asked:
    return Asked(json.dumps({"model": "m", "input": "Hi"} | fields).encode())


def test_what_a_request_needs_kept() -> None:
    assert asked().needs == {"store"}
    assert asked(background=True).needs == {"background"}
    assert asked(conversation="c", background=True).needs == {"background", "conversation"}
    assert asked(conversation={"id": "conv_1"}).conversation == "conv_1"
    assert asked(conversation=None).conversation is None
    assert asked(store=False).stateless
    for fields in ({"background": True}, {"conversation": "c"}, {"previous_response_id": "r"}):
        assert not asked(store=False, **fields).stateless
    here = [{"type": "item_reference", "id": "msg_hg0_ab12"}]
    assert not asked(store=False, input=here).stateless
    assert asked(input=here).refers_here()
    for elsewhere in (
        [{"type": "item_reference", "id": "msg_68af"}],
        [{"role": "user", "content": "_hg"}],
        "msg_hg0_ab12",
    ):
        assert not asked(input=elsewhere).refers_here()


@pytest.mark.parametrize("value", [5, [], {}, {"id": 5}, True])
def test_a_conversation_that_is_none(value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(conversation=value)
    assert caught.value.param == "conversation"
    assert not isinstance(caught.value, UnsupportedParameter)
