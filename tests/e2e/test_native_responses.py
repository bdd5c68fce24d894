"""The Responses API of an upstream that has it: its own bytes and ids, found there, by their key only."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import Connection, request
from tests.support.native_responses import NativeResponses
from tests.support.server import Running, settings_from
from tests.support.upstream import Upstream, completion, plain

PATH = "/v1/responses"
ALL = ["store", "background", "conversation"]
KEYS = [{"name": n, "hash": f"sha256:{sha256(n.encode()).hexdigest()}"} for n in ("ann", "bob")]


def native(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """A model whose upstream keeps what it answers."""
    state = {"dialects": ["openai_responses"], "native_state": ALL}
    return {**remote(upstream), "model": "gpt-native", **state, **more}


def client(server: Running, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=20)


@pytest.fixture
def far() -> NativeResponses:
    far = NativeResponses()
    far.go_on.set()
    return far


def test_the_whole_life_of_a_response(play: Play, serve: Serve, far: NativeResponses, lane: str) -> None:
    upstream = play(far)
    sdk = client(serve(models={"gpt": native(upstream)}, fast=lane == "fast"))
    made = sdk.responses.create(model="gpt", input="Say hello.", extra_body={"brand_new": {"kept": 1}})
    assert (made.id, made.model, made.output_text) == ("resp_up_0000", "gpt-native", "1 items.")
    sent = {"model": "gpt-native", "input": "Say hello.", "brand_new": {"kept": 1}}
    assert upstream.seen[0].json == sent
    kept = sdk.responses.with_raw_response.retrieve(made.id, include=["message.output_text.logprobs"])
    assert kept.headers["openai-version"] == "2020-10-01"
    assert kept.headers["x-ratelimit-limit-requests"] == "9"
    assert kept.headers["x-request-id"]
    assert kept.parse().id == made.id
    assert upstream.seen[1].path == f"{PATH}/{made.id}?include%5B%5D=message.output_text.logprobs"
    assert upstream.seen[1].headers["authorization"] == "Bearer upstream-key"
    assert upstream.seen[1].headers["x-request-id"] == kept.headers["x-request-id"]
    second = sdk.responses.create(model="gpt", input="Go on.", previous_response_id=made.id)
    assert (second.previous_response_id, second.output_text) == (made.id, "3 items.")
    assert upstream.seen[2].json["input"] == "Go on."
    assert upstream.seen[2].json["previous_response_id"] == made.id
    page = sdk.responses.input_items.list(second.id, order="asc", limit=2)
    assert [item.id for item in page.data] == ["msg_0", "msg_0"]
    assert page.has_more
    sdk.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(made.id)
    assert [seen.method for seen in upstream.seen] == ["POST", "GET", "POST", "GET", "DELETE"]


def test_streams_pass_and_are_replayed(play: Play, serve: Serve, far: NativeResponses, lane: str) -> None:
    upstream = play(far)
    server = serve(models={"gpt": native(upstream)}, fast=lane == "fast")
    sdk = client(server)
    events = list(sdk.responses.create(model="gpt", input="Hi", stream=True))
    assert [each.sequence_number for each in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    (identity,) = far.kept
    again = list(sdk.responses.retrieve(identity, stream=True, starting_after=3))
    assert [each.sequence_number for each in again] == list(range(4, len(events)))
    raw = request(server.port, "GET", f"{PATH}/{identity}?stream=true")
    assert raw.body == b"".join(far.kept[identity].events)
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.headers["cache-control"] == "no-cache"
    past_the_end = request(server.port, "GET", f"{PATH}/{identity}?stream=true&starting_after=99")
    assert (past_the_end.status, past_the_end.body) == (200, b"")


def test_in_the_background_at_the_upstream(play: Play, serve: Serve, far: NativeResponses) -> None:
    upstream = play(far)
    sdk = client(serve(models={"gpt": native(upstream)}))
    made = sdk.responses.create(model="gpt", input="Hi", background=True)
    assert made.status == "queued"
    assert sdk.responses.retrieve(made.id).status == "queued"
    far.finish.set()
    assert sdk.responses.retrieve(made.id).status == "completed"
    other = sdk.responses.create(model="gpt", input="Hi", background=True)
    assert sdk.responses.cancel(other.id).status == "cancelled"
    plain_one = sdk.responses.create(model="gpt", input="Hi")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        sdk.responses.cancel(plain_one.id)
    with pytest.raises(openai.BadRequestError, match="Background requests need store"):
        sdk.responses.create(model="gpt", input="Hi", background=True, store=False)


def test_a_stream_is_known_from_its_first_event(play: Play, serve: Serve, far: NativeResponses) -> None:
    far.go_on.clear()
    server = serve(models={"gpt": native(play(far))})
    with Connection(server.port) as connection:
        connection.send("POST", PATH, {"model": "gpt", "input": "Hi", "stream": True, "background": True})
        assert connection.head()[0] == 200
        assert b"response.created" in (connection.chunk() or b"")
        found = request(server.port, "GET", f"{PATH}/resp_up_0000")
        assert (found.status, found.json["status"]) == (200, "queued")
    assert request(server.port, "POST", f"{PATH}/resp_up_0000/cancel").json["status"] == "cancelled"
    far.go_on.set()


def test_only_its_own_key_reaches_a_response(play: Play, serve: Serve, far: NativeResponses) -> None:
    upstream = play(far)
    server = serve(models={"gpt": native(upstream)}, server={"keys": KEYS})
    ann, bob = client(server, "ann"), client(server, "bob")
    made = ann.responses.create(model="gpt", input="Hi", background=True)
    calls = len(upstream.seen)
    for ask in (bob.responses.retrieve, bob.responses.delete, bob.responses.cancel):
        with pytest.raises(openai.NotFoundError, match=f"Response with id '{made.id}' not found"):
            ask(made.id)
    with pytest.raises(openai.NotFoundError):
        bob.responses.input_items.list(made.id)
    with pytest.raises(openai.NotFoundError):
        list(bob.responses.retrieve(made.id, stream=True))
    with pytest.raises(openai.NotFoundError) as refused:
        bob.responses.create(model="gpt", input="x", previous_response_id=made.id)
    assert (refused.value.param, refused.value.code) == (
        "previous_response_id",
        "previous_response_not_found",
    )
    assert len(upstream.seen) == calls
    assert ann.responses.retrieve(made.id).id == made.id


def test_an_id_that_only_the_upstream_knows_is_unknown(
    play: Play, serve: Serve, far: NativeResponses
) -> None:
    upstream = play(far)
    server = serve(models={"gpt": native(upstream)})
    stranger = request(upstream.port, "POST", PATH, {"model": "m", "input": "x"}).json["id"]
    assert request(server.port, "GET", f"{PATH}/{stranger}").status == 404
    body = {"model": "gpt", "input": "x", "previous_response_id": stranger}
    assert request(server.port, "POST", PATH, body).error["code"] == "previous_response_not_found"
    assert len(upstream.seen) == 1


def test_what_is_continued_goes_to_its_origin(play: Play, serve: Serve) -> None:
    one, two = NativeResponses("resp_one"), NativeResponses("resp_two")
    ups = [play(one), play(two)]
    targets = [native(up) for up in ups]
    server = serve(models={"gpt": {"targets": targets}, "mini": native(ups[0], model="gpt-mini")})
    sdk = client(server)
    made = [sdk.responses.create(model="gpt", input="Hi").id for _ in range(20)]
    assert {identity[:8] for identity in made} == {"resp_one", "resp_two"}
    for identity in made:
        assert sdk.responses.retrieve(identity).id == identity
        after = sdk.responses.create(model="gpt", input="And?", previous_response_id=identity)
        assert after.id[:8] == identity[:8]
    ones, twos = (next(each for each in made if each.startswith(name)) for name in ("resp_one", "resp_two"))
    # Another model of the same account can go on with it; one of another account can't.
    assert sdk.responses.create(model="mini", input="x", previous_response_id=ones).model == "gpt-mini"
    with pytest.raises(openai.BadRequestError, match=r"kept by the upstream of the model 'gpt'") as refused:
        sdk.responses.create(model="mini", input="x", previous_response_id=twos)
    assert (refused.value.param, refused.value.code) == ("previous_response_id", "kept_elsewhere")


def test_kept_there_and_kept_here_do_not_mix(play: Play, serve: Serve, far: NativeResponses) -> None:
    async def chat(_: Any) -> Any:
        yield plain(200, completion("Hello!"))

    upstream = play(far)
    sdk = client(serve(models={"gpt": native(upstream), "chat": remote(play(chat))}))
    there = sdk.responses.create(model="gpt", input="One.")
    here = sdk.responses.create(model="chat", input="One.")
    with pytest.raises(openai.BadRequestError, match="'chat' can't read it"):
        sdk.responses.create(model="chat", input="Two.", previous_response_id=there.id)
    after = sdk.responses.create(model="gpt", input="Two.", previous_response_id=here.id)
    assert after.id not in far.kept
    sent = upstream.seen[-1].json
    assert "previous_response_id" not in sent
    assert (sent["store"], len(sent["input"])) == (False, 3)
    assert sdk.responses.retrieve(after.id).previous_response_id == here.id
    item = here.output[0].id
    assert item is not None
    referring = sdk.responses.create(
        model="gpt", input=[{"type": "item_reference", "id": item}, {"role": "user", "content": "So?"}]
    )
    assert referring.id not in far.kept
    assert len(upstream.seen[-1].json["input"]) == 2


def test_a_model_with_targets_of_both_kinds_keeps_here(
    play: Play, serve: Serve, far: NativeResponses
) -> None:
    upstream = play(far)
    stateless = native(upstream, native_state=[], weight=1e-9)
    server = serve(models={"gpt": {"targets": [native(upstream), stateless]}})
    made = client(server).responses.create(model="gpt", input="Hi")
    assert made.id not in far.kept
    assert upstream.seen[0].json["store"] is False
    assert client(server).responses.retrieve(made.id).id == made.id


@pytest.mark.parametrize(
    ("state", "fields", "there"),
    [
        (["store"], {}, True),
        (["store"], {"background": True}, False),
        (["store", "background"], {"background": True}, True),
        ([], {}, False),
        (None, {}, False),  # somebody's own server: it may keep nothing
        ([], {"store": False}, False),
    ],
)
def test_what_an_upstream_keeps_is_a_setting(
    play: Play,
    serve: Serve,
    far: NativeResponses,
    state: list[str] | None,
    fields: dict[str, Any],
    there: bool,
) -> None:
    server = serve(models={"gpt": native(play(far), native_state=state)})
    made = request(server.port, "POST", PATH, {"model": "gpt", "input": "Hi", **fields})
    assert made.status == 200, made.body
    assert (made.json["id"] in far.kept) is there


def test_azure_keeps_what_it_answers(play: Play, serve: Serve, far: NativeResponses) -> None:
    upstream = play(far)
    azure = {"backend": "azure-openai", "base_url": upstream.url, "api_key": "k", "model": "deployed"}
    sdk = client(serve(models={"gpt": azure}))
    made = sdk.responses.create(model="gpt", input="Hi")
    assert sdk.responses.retrieve(made.id).id == made.id
    assert upstream.seen[1].path == f"/openai/v1/responses/{made.id}"
    assert upstream.seen[1].headers["api-key"] == "k"


def test_conversations_are_the_upstreams(play: Play, serve: Serve, far: NativeResponses) -> None:
    far.conversations = {"conv_1": "Bearer upstream-key"}
    other = NativeResponses("resp_other")
    other.go_on.set()
    models = {
        "gpt": native(play(far)),
        "other": native(play(other)),
        "kept-here": native(play(other), native_state=["store"]),
    }
    server = serve(models=models, server={"keys": KEYS})
    ann = client(server, "ann")
    ann.responses.create(model="gpt", input="Hi", conversation="conv_1", store=False)
    made = ann.responses.create(model="gpt", input="Hi", conversation="conv_1")
    assert list(far.kept) == [made.id]
    with pytest.raises(openai.BadRequestError) as elsewhere:
        ann.responses.create(model="other", input="Hi", conversation="conv_1")
    assert (elsewhere.value.param, elsewhere.value.code) == ("conversation", "kept_elsewhere")
    for store in (True, False):
        with pytest.raises(openai.NotFoundError, match="Conversation with id 'conv_1' not found"):
            client(server, "bob").responses.create(
                model="gpt", input="Hi", conversation="conv_1", store=store
            )
    with pytest.raises(openai.NotFoundError, match="Conversation with id 'conv_2' not found"):
        ann.responses.create(model="gpt", input="Hi", conversation="conv_2")
    with pytest.raises(openai.BadRequestError, match="Conversations are not kept here") as refused:
        ann.responses.create(model="kept-here", input="Hi", conversation="conv_2")
    assert refused.value.code == "unsupported_parameter"


def test_a_restart(play: Play, tmp_path: Path, far: NativeResponses) -> None:
    upstream = play(far)
    state = {"state": str(tmp_path / "state.sqlite")}
    before = {"models": {"gpt": {"targets": [native(upstream), native(upstream)]}}, "server": state}
    with Running(settings_from(tmp_path, before)) as server:
        made = [client(server).responses.create(model="gpt", input="One.").id for _ in range(4)]
    assert b"One." not in (tmp_path / "state.sqlite").read_bytes()
    after = {"models": {"renamed": native(upstream)}, "server": state}
    with Running(settings_from(tmp_path, after)) as server:
        sdk = client(server)
        for identity in made:
            assert sdk.responses.retrieve(identity).id == identity
            sdk.responses.create(model="renamed", input="Two.", previous_response_id=identity)
    with Running(
        settings_from(tmp_path, {"models": {"m": {"backend": "scripted"}}, "server": state})
    ) as server:
        with pytest.raises(openai.NotFoundError, match="not configured any more"):
            client(server).responses.retrieve(made[0])
        with pytest.raises(openai.NotFoundError, match="not configured any more"):
            client(server).responses.create(model="m", input="x", previous_response_id=made[0])
