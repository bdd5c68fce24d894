"""Embeddings on the wire: inputs in four forms, vectors in two."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.core.errors import InvalidRequest, StreamBroken, UpstreamError
from headgate.core.operations import EmbedRequest, EmbedResult
from headgate.dialects.json_bodies import MAX_ITEMS
from headgate.dialects.openai_embeddings import (
    OPENAI_EMBEDDINGS,
    decode_request,
    decode_result,
    encode_request,
    encode_result,
)

GIVEN = settings(max_examples=100, deadline=None, database=None)


def decode(**fields: Any) -> EmbedRequest:
    return decode_request(json.dumps({"model": "m", "input": "a"} | fields).encode())


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_inputs_in_every_form(value: Any, inputs: Any) -> None:
    assert decode(input=value).inputs == inputs


def test_the_other_fields() -> None:
    request = decode(dimensions=8, user="u", encoding_format="base64", input_type="query", x=None)
    assert (request.model, request.dimensions, request.user) == ("m", 8, "u")
    extra = {"encoding_format": "base64", "input_type": "query"}
    assert request.extensions == {"openai_embeddings": extra}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 1}, "model"),
        ({"input": None}, "input"),
        ({"input": 1}, "input"),
        ({"input": {}}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [""]}, "input[0]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [1, "a"]}, "input[1]"),
        ({"input": [1, -1]}, "input[1]"),
        ({"input": [True]}, "input[0]"),
        ({"input": [1.5]}, "input[0]"),
        ({"input": [None]}, "input[0]"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": [[1], [1, "a"]]}, "input[1][1]"),
        ({"input": [[1], "a"]}, "input[1]"),
        ({"input": [[-1]]}, "input[0][0]"),
        ({"input": [[True]]}, "input[0][0]"),
        ({"input": ["a"] * (MAX_ITEMS + 1)}, "input"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"encoding_format": 1}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "8"}, "dimensions"),
        ({"user": 1}, "user"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    assert caught.value.param == param
    assert f"'{param}'" in caught.value.message


def test_an_answer_in_either_form() -> None:
    vectors = (struct.pack("<3f", 0.5, -1, 2), struct.pack("<3f", 0, 1, 1e-3))
    result = EmbedResult("m", vectors, Usage(input_tokens=7))
    wire = json.loads(encode_result(decode(), result))
    assert wire["data"][0] == {"object": "embedding", "index": 0, "embedding": [0.5, -1.0, 2.0]}
    assert wire | {"data": None} == {
        "object": "list",
        "data": None,
        "model": "m",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    packed = json.loads(encode_result(decode(encoding_format="base64"), result))
    assert [base64.b64decode(item["embedding"]) for item in packed["data"]] == list(vectors)


def test_a_request_to_an_upstream() -> None:
    request = decode(input=[[1, 2]], dimensions=4, user="u", encoding_format="float", input_type="query")
    body, losses = encode_request(request, model="up")
    assert json.loads(body) == {
        "model": "up",
        "input": [[1, 2]],
        "encoding_format": "base64",
        "dimensions": 4,
        "user": "u",
        "input_type": "query",
    }
    assert losses == []
    foreign = EmbedRequest(model="m", inputs=("a",), extensions={"cohere": {"truncate": "END"}})
    assert [loss.path for loss in encode_request(foreign)[1]] == ["truncate"]


def test_upstreams_differ() -> None:
    body, losses = encode_request(
        decode(dimensions=4, user="u"),
        encoding_format=None,
        dimensions_field="output_dimension",
        takes_user=False,
    )
    assert json.loads(body) == {"model": "m", "input": ["a"], "output_dimension": 4}
    assert [loss.path for loss in losses] == ["user"]


def test_an_upstreams_answer_is_put_in_order() -> None:
    def item(index: int, embedding: Any) -> dict[str, Any]:
        return {"object": "embedding", "index": index, "embedding": embedding}

    one, two = struct.pack("<2f", 1, 2), struct.pack("<2f", 3, 4)
    data = [item(1, base64.b64encode(two).decode()), item(0, [1, 2.0])]
    body = json.dumps({"data": data, "model": "m", "usage": {"prompt_tokens": 3}}).encode()
    assert decode_result(body) == EmbedResult("m", (one, two), Usage(input_tokens=3))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"data":{}}',
        b'{"data":[1]}',
        b'{"data":[{"index":"0","embedding":[1]}]}',
        b'{"data":[{"index":0,"embedding":[]}]}',
        b'{"data":[{"index":0,"embedding":["x"]}]}',
        b'{"data":[{"index":0,"embedding":[1e300]}]}',
        b'{"data":[{"index":0,"embedding":"AAA="}]}',
        b'{"data":[{"index":0,"embedding":"!"}]}',
        b'{"data":[{"index":1,"embedding":[1]}]}',
        b'{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}',
    ],
)
def test_a_garbled_answer_is_an_upstreams_failure(body: bytes) -> None:
    with pytest.raises(StreamBroken):
        decode_result(body)


def test_an_error_in_an_answer_is_an_upstreams_error() -> None:
    with pytest.raises(UpstreamError, match="boom"):
        decode_result(b'{"error":{"message":"boom"}}')


@GIVEN
@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1), max_size=4),
    st.sampled_from(["float", "base64"]),
)
def test_what_is_encoded_is_decoded_exactly(numbers: list[list[float]], form: str) -> None:
    vectors = tuple(struct.pack(f"<{len(vector)}f", *vector) for vector in numbers)
    result = EmbedResult("m", vectors, Usage(1, None))
    assert decode_result(encode_result(decode(encoding_format=form), result)).vectors == vectors


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)


@GIVEN
@given(json_values, st.sampled_from(["model", "input", "encoding_format", "dimensions", "user", "x"]))
def test_any_field_is_read_or_named(value: Any, key: str) -> None:
    try:
        request = decode(**{key: value})
    except InvalidRequest as error:
        assert error.param
    else:
        again = decode_request(encode_request(request)[0])
        assert (again.model, again.inputs, again.dimensions) == (
            request.model,
            request.inputs,
            request.dimensions,
        )


def test_the_record_holds_the_codec() -> None:
    assert OPENAI_EMBEDDINGS.path("m", False) == "/embeddings"
    assert OPENAI_EMBEDDINGS.encode_result is encode_result
