"""The official `openai` SDK against a running server: what its users see, its exception classes included."""

from __future__ import annotations

import asyncio
import base64
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionStreamOptionsParam

from tests.e2e.conftest import remote
from tests.support.server import Running, settings_from
from tests.support.upstream import (
    DONE,
    LAST_CHUNK,
    SSE_HEAD,
    Drop,
    Hang,
    Seen,
    Step,
    Upstream,
    chunk,
    completion,
    delta,
    event,
    plain,
)

KEY = "hg-sdk-key"
HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
REPLY = "An answer in five pieces."


class Remote:
    """The upstream of every remote model here: what it does depends on the model's upstream name."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.upstream = Upstream(self.script)

    async def script(self, seen: Seen) -> AsyncIterator[Step]:
        match seen.json["model"]:
            case "waits":
                yield SSE_HEAD + event(delta("one"))
                yield self.go_on
                yield event(delta("two")) + event(delta(finish="stop")) + DONE
            case "breaks":
                yield SSE_HEAD + event(delta("one"))
                yield self.go_on
                yield Drop()
            case "limited":
                error = {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}
                yield plain(429, {"error": error}, "retry-after: 7", "x-ratelimit-remaining-requests: 0")
            case "down":
                yield plain(503, {"error": {"message": "down for now"}})
            case "forbids":
                yield plain(403, {"error": {"message": "not yours"}})
            case "silent":
                yield Hang()
            case "full":
                yield SSE_HEAD + chunk(b'data: {"error": {"message": "full ')
                yield chunk(b'for now", "code": 503}}\n\n') + LAST_CHUNK
            case _:
                yield plain(200, completion("from afar"))


@pytest.fixture(scope="module")
def far() -> Iterator[Remote]:
    far = Remote()
    with far.upstream:
        yield far


@pytest.fixture(scope="module")
def server(far: Remote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    names = ("fine", "waits", "breaks", "limited", "down", "forbids", "silent", "full")
    models: dict[str, Any] = {name: remote(far.upstream, model=name, retry={"attempts": 1}) for name in names}
    models["silent"]["timeouts"] = {"first_event": "200ms"}
    models["double"] = {"backend": "scripted", "reply": REPLY, "dimensions": 4}
    content = {
        "server": {
            "keys": [{"name": "sdk", "hash": f"sha256:{sha256(KEY.encode()).hexdigest()}"}],
            "max_body": "1MB",
        },
        "models": models,
        "aliases": {"twin": "double"},
    }
    with Running(settings_from(tmp_path_factory.mktemp("sdk"), content)) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


def test_chat(client: openai.OpenAI) -> None:
    for model, text in (("double", REPLY), ("twin", REPLY), ("fine", "from afar")):
        answer = client.chat.completions.create(model=model, messages=HI)
        assert answer.choices[0].message.content == text
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer._request_id


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_whole_answer_to_a_stream(client: openai.OpenAI, wants_usage: bool) -> None:
    """An upstream that knows no streams: its users see one all the same."""
    wish: ChatCompletionStreamOptionsParam = {"include_usage": wants_usage}
    with client.chat.completions.create(
        model="fine", messages=HI, stream=True, stream_options=wish
    ) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        chunks = list(stream)
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == "from afar"
    assert choices[-1].finish_reason == "stop"
    assert {chunk.id for chunk in chunks} == {"chatcmpl-1"}
    usage = [chunk.usage.total_tokens for chunk in chunks if chunk.usage is not None]
    assert usage == ([7] if wants_usage else [])


def test_a_stream_that_begins_with_an_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="full for now") as raised:
        client.chat.completions.create(model="full", messages=HI, stream=True)
    assert raised.value.status_code == 503


def test_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="double", messages=HI, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(piece for piece in pieces if piece) == REPLY
    assert len([piece for piece in pieces if piece]) == len(REPLY.split())
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.model for chunk in chunks} == {"double"}
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        "stop"
    ]


def test_stream_arrives_piece_by_piece(far: Remote, client: openai.OpenAI) -> None:
    far.go_on.clear()
    stream = client.chat.completions.create(model="waits", messages=HI, stream=True)
    first = next(stream)  # here although the upstream has not sent the second
    assert first.choices[0].delta.content == "one"
    far.go_on.set()
    assert [chunk.choices[0].delta.content for chunk in stream] == ["two", None]


def test_embeddings(client: openai.OpenAI) -> None:
    ask = ["a red wine", "a white wine"]
    packed = client.embeddings.create(model="double", input=ask)  # the SDK asks for base64 by itself
    numbers = client.embeddings.create(model="double", input=ask, encoding_format="float")
    text = client.embeddings.create(model="double", input=ask, encoding_format="base64")
    assert [len(item.embedding) for item in numbers.data] == [4, 4]
    for one, two, three in zip(packed.data, numbers.data, text.data, strict=True):
        assert one.embedding == pytest.approx(two.embedding)
        raw: Any = three.embedding
        assert struct.unpack("<4f", base64.b64decode(raw)) == pytest.approx(two.embedding)
    assert [item.index for item in numbers.data] == [0, 1]
    assert len(client.embeddings.create(model="double", input="x", dimensions=2).data[0].embedding) == 2
    assert client.embeddings.create(model="double", input=[[1, 2], [3]]).usage.prompt_tokens == 3


def test_models(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"double", "fine"} <= set(names)
    assert client.models.retrieve("double").owned_by == "scripted"
    assert client.models.retrieve("twin").id == "double"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("doubel")
    assert caught.value.code == "model_not_found"
    assert "'double'" in caught.value.message


def test_bad_request(client: openai.OpenAI) -> None:
    wrong: Any = "hot"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="double", messages=HI, temperature=wrong)
    assert (caught.value.status_code, caught.value.param, caught.value.code) == (
        400,
        "temperature",
        "invalid_type",
    )
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="double", messages=HI, n=3)
    assert caught.value.code == "unsupported_parameter"


def test_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="doubel", messages=HI)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="doubel", messages=HI, stream=True)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="doubel", input="x")


def test_wrong_key(server: Running) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.chat.completions.create(model="double", messages=HI)
        assert caught.value.code == "invalid_api_key"
        assert "wrong" not in caught.value.message
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


def test_upstream_errors_keep_their_class(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(model="limited", messages=HI)
    assert limited.value.response.headers["retry-after"] == "7"
    assert limited.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert limited.value.code == "rate_limit_exceeded"
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="limited", messages=HI, stream=True)
    with pytest.raises(openai.InternalServerError) as down:
        client.chat.completions.create(model="down", messages=HI)
    assert down.value.status_code == 503
    with pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="forbids", messages=HI)
    with pytest.raises(openai.InternalServerError) as late:
        client.chat.completions.create(model="silent", messages=HI)
    assert (late.value.status_code, late.value.code) == (504, "first_event_timeout")


def test_too_large(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(
            model="double", messages=[{"role": "user", "content": "x" * 3_000_000}]
        )
    assert (caught.value.status_code, caught.value.code) == (413, "payload_too_large")


def test_a_stream_that_breaks_raises(far: Remote, client: openai.OpenAI) -> None:
    far.go_on.clear()
    stream = client.chat.completions.create(model="breaks", messages=HI, stream=True)
    assert next(stream).choices[0].delta.content == "one"
    far.go_on.set()
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "upstream_broken"
    assert "closed the connection" in caught.value.message


def test_the_clients_own_timeout(far: Remote, client: openai.OpenAI) -> None:
    far.go_on.clear()
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.2).chat.completions.create(model="waits", messages=HI)


def test_leaving_a_stream_frees_the_upstream(far: Remote, client: openai.OpenAI) -> None:
    far.go_on.clear()
    before = far.upstream.open_connections
    with client.chat.completions.create(model="waits", messages=HI, stream=True) as stream:
        next(stream)
    assert far.upstream.wait_until(lambda u: u.open_connections <= before)


def test_async_client(far: Remote, server: Running) -> None:
    far.go_on.clear()

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
            stream = await client.chat.completions.create(model="waits", messages=HI, stream=True)
            first = await anext(aiter(stream))
            assert first.choices[0].delta.content == "one"
            far.go_on.set()
            assert [c.choices[0].delta.content async for c in stream] == ["two", None]

            answers = await asyncio.gather(
                *(client.chat.completions.create(model="double", messages=HI) for _ in range(20))
            )
            assert {answer.choices[0].message.content for answer in answers} == {REPLY}
            embedded = await client.embeddings.create(model="double", input="x")
            assert len(embedded.data[0].embedding) == 4
            assert "double" in [model.id async for model in client.models.list()]
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="nope", messages=HI)
            with pytest.raises(openai.RateLimitError):
                await client.chat.completions.create(model="limited", messages=HI, stream=True)

    asyncio.run(main())
