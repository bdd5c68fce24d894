"""Embeddings, token counts and the list of models in the Gemini API's form."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from headgate.core.call import Operation, Usage
from headgate.core.errors import InvalidRequest, StreamBroken, UpstreamError
from headgate.core.operations import EmbedRequest, EmbedResult
from headgate.dialects.gemini import (
    GEMINI,
    GEMINI_COUNT,
    GEMINI_EMBED,
    GEMINI_EMBED_BATCH,
    ModelEntry,
    encode_model,
    encode_models,
)


def item(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "models/e", "content": {"parts": [{"text": text}]}} | fields


def test_routes() -> None:
    assert GEMINI.path("m", False) == "/models/m:generateContent"
    assert GEMINI.path("m", True) == "/models/m:streamGenerateContent?alt=sse"
    assert GEMINI_COUNT.path("m", False) == "/models/m:countTokens"
    assert GEMINI_EMBED.path("m", False) == "/models/m:embedContent"
    assert GEMINI_EMBED_BATCH.path("m", False) == "/models/m:batchEmbedContents"
    assert not any(
        dialect.model_in_body for dialect in (GEMINI, GEMINI_COUNT, GEMINI_EMBED, GEMINI_EMBED_BATCH)
    )


def test_one_text() -> None:
    body = json.dumps(item("Hi", taskType="RETRIEVAL_QUERY", output_dimensionality=2)).encode()
    request = GEMINI_EMBED.decode_request(body, model="e")
    assert request == EmbedRequest(
        model="e",
        inputs=("Hi",),
        dimensions=2,
        extensions={"gemini": {"taskType": "RETRIEVAL_QUERY"}},
    )
    written, losses = GEMINI_EMBED.encode_request(request, model="up")
    assert losses == []
    assert json.loads(written) == item(
        "Hi", model="models/up", taskType="RETRIEVAL_QUERY", outputDimensionality=2
    )
    result = EmbedResult("e", (struct.pack("<2f", 0.5, -1),), Usage(3))
    answer = GEMINI_EMBED.encode_result(request, result)
    assert json.loads(answer) == {
        "embedding": {"values": [0.5, -1.0]},
        "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3},
    }
    assert GEMINI_EMBED.decode_result(answer) == EmbedResult("", result.vectors, Usage(3))


def test_a_batch_keeps_what_differs_from_item_to_item() -> None:
    wire = {"requests": [item("a", title="A", taskType="T"), item("b", taskType="T")]}
    request = GEMINI_EMBED_BATCH.decode_request(json.dumps(wire).encode(), model="e")
    assert request.inputs == ("a", "b")
    written, losses = GEMINI_EMBED_BATCH.encode_request(request)
    assert (json.loads(written), losses) == (wire, [])
    vectors = (struct.pack("<f", 1), struct.pack("<f", 2))
    answer = GEMINI_EMBED_BATCH.encode_result(request, EmbedResult("e", vectors, Usage()))
    assert json.loads(answer) == {"embeddings": [{"values": [1.0]}, {"values": [2.0]}]}
    assert GEMINI_EMBED_BATCH.decode_result(answer).vectors == vectors


def test_what_can_not_be_embedded() -> None:
    tokens = EmbedRequest(model="e", inputs=((1, 2),))
    two = EmbedRequest(model="e", inputs=("a", "b"), user="u", extensions={"openai_embeddings": {"x": 1}})
    for dialect, request, param in ((GEMINI_EMBED_BATCH, tokens, "input[0]"), (GEMINI_EMBED, two, "input")):
        with pytest.raises(InvalidRequest) as caught:
            dialect.encode_request(request)
        assert caught.value.param == param
    assert [loss.path for loss in GEMINI_EMBED_BATCH.encode_request(two)[1]] == ["x", "user"]


@pytest.mark.parametrize(
    ("param", "wire"),
    [
        ("requests", {}),
        ("requests", {"requests": []}),
        ("requests", {"requests": "a"}),
        ("requests[0]", {"requests": ["a"]}),
        ("requests[0].content", {"requests": [{}]}),
        ("requests[0].content.parts", {"requests": [{"content": {}}]}),
        ("requests[1].content.parts", {"requests": [item("a"), item("")]}),
        ("requests[0].content.parts[0].text", {"requests": [item(1)]}),  # type: ignore[arg-type]
        ("requests[0].content.parts[0]", {"requests": [{"content": {"parts": [{"inlineData": {}}]}}]}),
        ("requests[0].outputDimensionality", {"requests": [item("a", outputDimensionality=0)]}),
        ("requests", {"requests": [item("a", outputDimensionality=1), item("b")]}),
    ],
)
def test_bad_batches_are_named(param: str, wire: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        GEMINI_EMBED_BATCH.decode_request(json.dumps(wire).encode(), model="e")
    assert caught.value.param == param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"embeddings":[]}',
        b'{"embeddings":[5]}',
        b'{"embedding":{"values":[]}}',
        b'{"embedding":{"values":["a"]}}',
        b'{"embedding":{"values":[1e300]}}',
    ],
)
def test_answers_without_embeddings(body: bytes) -> None:
    with pytest.raises(StreamBroken):
        GEMINI_EMBED.decode_result(body)


def test_errors_in_place_of_answers() -> None:
    body = b'{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}'
    for decode in (GEMINI_EMBED.decode_result, GEMINI_COUNT.decode_result):
        with pytest.raises(UpstreamError, match="no"):
            decode(body)


def test_counts() -> None:
    assert GEMINI_COUNT.decode_result(GEMINI_COUNT.encode_result(7)) == 7
    assert GEMINI_COUNT.decode_result(b"{}") == 0  # protobuf's JSON leaves zeros out
    for body in (b"", b"[]", b'{"totalTokens":"7"}'):
        with pytest.raises(StreamBroken):
            GEMINI_COUNT.decode_result(body)


def test_models() -> None:
    chat = ModelEntry("chat", {Operation.CHAT, Operation.COUNT_TOKENS}, description="d")
    entry = {
        "name": "models/chat",
        "displayName": "chat",
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
        "description": "d",
    }
    embed = ModelEntry("e/v1", {Operation.EMBED, Operation.PREDICT}, "E")
    assert json.loads(encode_model(chat)) == entry
    assert json.loads(encode_models([chat, embed])) == {
        "models": [
            entry,
            {
                "name": "models/e/v1",
                "displayName": "E",
                "supportedGenerationMethods": ["embedContent", "batchEmbedContents"],
            },
        ]
    }
