"""InvokeModel with embedding bodies."""

from __future__ import annotations

import json
import struct
from typing import Any, cast

import pytest

from headgate.core.call import Usage
from headgate.core.errors import InvalidRequest, StreamBroken, UnsupportedParameter, UpstreamError
from headgate.core.operations import EmbedRequest, EmbedResult
from headgate.dialects.dialect import EmbedDialect
from headgate.dialects.registry import dialect

TITAN = cast("EmbedDialect", dialect("invoke_titan_embed"))
COHERE = cast("EmbedDialect", dialect("invoke_cohere_embed"))
VECTOR = struct.pack("<2f", 0.5, -0.25)
RESULT = EmbedResult("m", (VECTOR,), Usage(3))


def read(record: EmbedDialect, body: dict[str, Any], model: str | None = "m") -> EmbedRequest:
    return record.decode_request(json.dumps(body).encode(), model=model)


def written(record: EmbedDialect, asked: EmbedRequest, model: str) -> tuple[dict[str, Any], list[str]]:
    body, losses = record.encode_request(asked, model=model)
    return json.loads(body), [loss.path for loss in losses]


def test_titans_second_body() -> None:
    body = {"inputText": "hi", "dimensions": 256, "normalize": False}
    asked = read(TITAN, body | {"embeddingTypes": ["float"]})
    assert (asked.inputs, asked.dimensions) == (("hi",), 256)
    assert written(TITAN, asked, "amazon.titan-embed-text-v2:0") == (body, [])
    first, losses = written(TITAN, asked, "amazon.titan-embed-text-v1")
    assert (first, sorted(losses)) == ({"inputText": "hi"}, ["dimensions", "normalize"])


def test_titans_body_for_images_and_texts() -> None:
    body = {"inputText": "hi", "embeddingConfig": {"outputEmbeddingLength": 384, "new": 1}}
    asked = read(TITAN, body)
    assert asked.dimensions == 384
    assert written(TITAN, asked, "amazon.titan-embed-image-v1") == (body, [])


def test_titan_embeds_one_text() -> None:
    assert written(TITAN, EmbedRequest(model="m", inputs=("a",), user="u"), "x")[1] == ["user"]
    with pytest.raises(InvalidRequest, match="one text"):
        TITAN.encode_request(EmbedRequest(model="m", inputs=("a", "b")))
    with pytest.raises(UnsupportedParameter):
        TITAN.encode_request(EmbedRequest(model="m", inputs=((1, 2),)))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "inputText"),
        ({"inputText": ""}, "inputText"),
        ({"inputText": ["a"]}, "inputText"),
        ({"inputText": "a", "inputImage": "aGk="}, "inputImage"),
        ({"inputText": "a", "dimensions": 0}, "dimensions"),
        ({"inputText": "a", "normalize": 1}, "normalize"),
        ({"inputText": "a", "embeddingTypes": ["float", "binary"]}, "embeddingTypes[1]"),
        ({"inputText": "a", "embeddingTypes": ["int8"]}, "embeddingTypes[0]"),
        (
            {"inputText": "a", "embeddingConfig": {"outputEmbeddingLength": "1"}},
            "embeddingConfig.outputEmbeddingLength",
        ),
    ],
)
def test_a_bad_field_of_titans_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read(TITAN, body)
    assert raised.value.param == param


def test_titans_answers() -> None:
    asked = read(TITAN, {"inputText": "hi"})
    body = TITAN.encode_result(asked, RESULT)
    told = json.loads(body)
    assert told == {
        "embedding": [0.5, -0.25],
        "embeddingsByType": {"float": [0.5, -0.25]},
        "inputTextTokenCount": 3,
    }
    assert TITAN.decode_result(body) == EmbedResult("", (VECTOR,), Usage(3))
    by_type = {"embeddingsByType": {"float": [0.5, -0.25]}}
    assert TITAN.decode_result(json.dumps(by_type).encode()).vectors == (VECTOR,)
    seen = TITAN.observer(False, "application/json")
    seen.feed(body)
    seen.end()
    assert (seen.usage, seen.terminal, seen.failed) == (Usage(3), True, False)


@pytest.mark.parametrize("record", [TITAN, COHERE], ids=lambda each: each.name)
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"embedding":[]}', b'{"embeddings":[["a"]]}'])
def test_what_holds_no_vector(record: EmbedDialect, body: bytes) -> None:
    with pytest.raises(StreamBroken):
        record.decode_result(body)
    seen = record.observer(False, "application/json")
    seen.feed(body)
    seen.end()
    assert seen.usage is None


def test_an_error_in_place_of_vectors() -> None:
    with pytest.raises(UpstreamError, match="no"):
        TITAN.decode_result(b'{"message":"no"}')


def test_coheres_body() -> None:
    body = {"texts": ["a", "b"], "input_type": "search_query", "truncate": "END", "output_dimension": 256}
    asked = read(COHERE, body)
    assert (asked.model, asked.inputs, asked.dimensions) == ("m", ("a", "b"), 256)
    sent, losses = written(COHERE, asked, "cohere.embed-v4:0")
    assert (sent, losses) == ({**body, "embedding_types": ["float"]}, [])
    third, losses = written(COHERE, asked, "cohere.embed-english-v3")
    assert "output_dimension" not in third and losses == ["dimensions"]
    special = read(COHERE, body | {"priority": 1})
    assert written(COHERE, special, "cohere.embed-v4:0")[1] == ["priority"]
    with pytest.raises(InvalidRequest) as raised:
        read(COHERE, body, model=None)
    assert raised.value.param == "modelId"


def test_coheres_answers_by_type_where_types_are_asked_for() -> None:
    body = {"texts": ["a"], "input_type": "search_query"}
    plain = COHERE.encode_result(read(COHERE, body), RESULT)
    assert json.loads(plain)["embeddings"] == [[0.5, -0.25]]
    assert json.loads(plain)["response_type"] == "embeddings_floats"
    typed = COHERE.encode_result(read(COHERE, body | {"embedding_types": ["float"]}), RESULT)
    assert json.loads(typed)["embeddings"] == {"float": [[0.5, -0.25]]}
    for answer in (plain, typed):
        assert COHERE.decode_result(answer).vectors == (VECTOR,)
