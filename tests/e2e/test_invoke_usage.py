"""What whole answers of InvokeModel say of their tokens, which some bodies do not: in header fields."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from headgate.core.call import Usage
from headgate.dialects.bedrock.usage_headers import read_usage, write_usage
from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import Answer, request
from tests.support.upstream import Seen, Step, plain

TEXT = {"outputs": [{"text": "Hello.", "stop_reason": "stop"}]}
ASK = {"prompt": "<s>[INST] Hi [/INST]", "max_tokens": 9}
COUNTS = (
    "x-amzn-bedrock-input-token-count: 20",
    "x-amzn-bedrock-output-token-count: 7",
    "x-amzn-bedrock-cache-read-input-token-count: 3",
    "x-amzn-bedrock-invocation-latency: 926",
)


async def amazon(seen: Seen) -> AsyncIterator[Step]:
    if "embed" in seen.path:
        yield plain(200, {"id": "e", "embeddings": [[0.5, 0.25]], "texts": ["hi"]}, COUNTS[0])
    else:
        yield plain(200, TEXT, *COUNTS)


async def openai(seen: Seen) -> AsyncIterator[Step]:
    usage = {
        "prompt_tokens": 23,
        "completion_tokens": 7,
        "total_tokens": 30,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    message = {"role": "assistant", "content": "Hello."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    yield plain(200, {"id": "a", "created": 1, "model": "m", "choices": [choice], "usage": usage})


def counts(answer: Answer) -> dict[str, str]:
    return {
        name.removeprefix("x-amzn-bedrock-"): value
        for name, value in answer.headers.items()
        if name.startswith("x-amzn-bedrock-")
    }


def bedrock(url: str, model: str, **more: Any) -> dict[str, Any]:
    return {
        "backend": "bedrock",
        "region": "eu-west-1",
        "base_url": url,
        "api_key": "k",
        "model": model,
        **more,
    }


def test_a_caller_of_a_form_without_counts_is_told_them(play: Play, serve: Serve) -> None:
    server = serve(models={"mistral.mistral-7b-instruct-v0:2": remote(play(openai))})
    answer = request(server.port, "POST", "/model/mistral.mistral-7b-instruct-v0:2/invoke", ASK)
    assert (answer.status, answer.json) == (200, TEXT)
    assert counts(answer) == {
        "input-token-count": "20",
        "output-token-count": "7",
        "cache-read-input-token-count": "3",
    }


def test_an_upstreams_own_counts_pass_and_are_noted(play: Play, serve: Serve) -> None:
    upstream = play(amazon)
    name = "mistral.mistral-7b-instruct-v0:2"
    server = serve(models={name: bedrock(upstream.url, name)})
    answer = request(server.port, "POST", f"/model/{name}/invoke", ASK)
    assert (answer.status, answer.json) == (200, TEXT)
    assert counts(answer) == {
        "input-token-count": "20",
        "output-token-count": "7",
        "cache-read-input-token-count": "3",
        "invocation-latency": "926",
    }
    metrics = request(server.port, "GET", "/metrics").body.decode()
    noted = {
        line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in metrics.splitlines() if "tokens" in line
    }
    assert {kind for kind, count in noted.items() if count == "23.0" and 'input"' in kind}
    assert {kind for kind, count in noted.items() if count == "7.0" and 'output"' in kind}


def test_a_caller_of_another_dialect_is_told_an_upstreams_counts(play: Play, serve: Serve) -> None:
    upstream = play(amazon)
    row = bedrock(upstream.url, "mistral.mistral-7b-instruct-v0:2", dialects=["invoke_mistral"])
    server = serve(models={"m": row})
    ask = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    usage = request(server.port, "POST", "/v1/chat/completions", ask).json["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (23, 7)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 3


def test_embeddings_too(play: Play, serve: Serve) -> None:
    upstream = play(amazon)
    server = serve(models={"e": bedrock(upstream.url, "cohere.embed-english-v3")})
    ask = {"model": "e", "input": ["hi"]}
    usage = request(server.port, "POST", "/v1/embeddings", ask).json["usage"]
    assert usage["prompt_tokens"] == 20


@pytest.mark.parametrize(
    "usage",
    [Usage(20, 7), Usage(20, 7, 3, 4), Usage(20, None), Usage(0, 0)],
)
def test_what_is_written_is_read(usage: Usage) -> None:
    assert read_usage(write_usage(usage)) == usage


def test_odd_counts_are_none() -> None:
    odd = [(b"x-amzn-bedrock-input-token-count", value) for value in (b"", b"-1", b"many", b"9" * 400)]
    assert read_usage(odd) is None
    assert write_usage(Usage(2, 1, cached_tokens=5))[0][1] == b"0"
