"""Embeddings of the vendors that rerank, too: Cohere v2 and Text Embeddings Inference."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Operation, Usage
from headgate.core.errors import InvalidRequest, StreamBroken, UnsupportedParameter, UpstreamError
from headgate.core.operations import EmbedRequest, EmbedResult
from headgate.dialects.cohere import COHERE_EMBED, encode_embed_request
from headgate.dialects.dialect import EmbedDialect
from headgate.dialects.json_bodies import MAX_ITEMS
from headgate.dialects.openai_embeddings import OPENAI_EMBEDDINGS, encode_request
from headgate.dialects.tei import TEI_EMBED

GIVEN = settings(max_examples=100, deadline=None, database=None)
ALL = [COHERE_EMBED, TEI_EMBED]
each = pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: dialect.name)
COHERE = {"model": "m", "texts": ["a", "b"], "input_type": "search_query", "embedding_types": ["float"]}
VECTORS = (struct.pack("<3f", 0.5, -1, 2), struct.pack("<3f", 0, 1, 0.25))
NUMBERS = [[0.5, -1.0, 2.0], [0.0, 1.0, 0.25]]


def cohere(**fields: Any) -> EmbedRequest:
    wire = {key: value for key, value in (COHERE | fields).items() if value is not None}
    return COHERE_EMBED.decode_request(json.dumps(wire).encode())


def tei(**fields: Any) -> EmbedRequest:
    return TEI_EMBED.decode_request(json.dumps({"inputs": ["a", "b"]} | fields).encode(), model="m")


def sent(dialect: EmbedDialect, request: EmbedRequest, lost: list[str] | None = None) -> dict[str, Any]:
    body, losses = dialect.encode_request(request)
    assert [loss.path for loss in losses] == (lost or [])
    return json.loads(body)  # type: ignore[no-any-return]


def test_a_request_to_cohere_comes_back_as_it_was() -> None:
    fields = {"truncate": "END", "output_dimension": 256, "max_tokens": 10}
    request = cohere(**fields)
    assert (request.model, request.inputs, request.dimensions) == ("m", ("a", "b"), 256)
    assert sent(COHERE_EMBED, request) == COHERE | fields
    assert sent(COHERE_EMBED, cohere(embedding_types=["base64"])) == COHERE


@pytest.mark.parametrize("dialect", [COHERE_EMBED, OPENAI_EMBEDDINGS], ids=lambda dialect: dialect.name)
def test_the_routes_model_goes_before_the_bodys(dialect: EmbedDialect) -> None:
    texts = "texts" if dialect is COHERE_EMBED else "input"
    wire = json.dumps({"model": "body", texts: ["a"]}).encode()
    request = dialect.decode_request(wire, model="route")
    assert request.model == "route"
    body, losses = dialect.encode_request(request, model="up")
    assert (json.loads(body)["model"], losses) == ("up", [])
    with pytest.raises(InvalidRequest) as caught:
        dialect.decode_request(json.dumps({"model": "", texts: ["a"]}).encode())
    assert caught.value.param == "model"


def test_cohere_wants_to_know_what_the_texts_are() -> None:
    request = EmbedRequest(model="m", inputs=("a",))
    assert sent(COHERE_EMBED, request)["input_type"] == "search_document"
    body, _ = encode_embed_request(request, model="up", input_type="classification")
    assert json.loads(body) | {"texts": None} == {
        "model": "up",
        "texts": None,
        "input_type": "classification",
        "embedding_types": ["float"],
    }


def test_inputs_of_texts_only() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = cohere(texts=None, inputs=[{"content": content}, {"content": content[:1]}])
    assert request.inputs == ("a\nb", "a")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 1}, "model"),
        ({"texts": None}, "texts"),
        ({"texts": []}, "texts"),
        ({"texts": "a"}, "texts"),
        ({"texts": ["a", 1]}, "texts[1]"),
        ({"texts": ["a"] * (MAX_ITEMS + 1)}, "texts"),
        ({"inputs": [1]}, "texts"),
        ({"texts": None, "inputs": []}, "inputs"),
        ({"texts": None, "inputs": [1]}, "inputs[0]"),
        ({"texts": None, "inputs": [{}]}, "inputs[0].content"),
        ({"texts": None, "inputs": [{"content": [{}]}]}, "inputs[0].content[0].type"),
        ({"texts": None, "inputs": [{"content": [{"type": "text"}]}]}, "inputs[0].content[0].text"),
        ({"output_dimension": 0}, "output_dimension"),
        ({"input_type": 1}, "input_type"),
        ({"truncate": 1}, "truncate"),
        ({"embedding_types": "float"}, "embedding_types"),
        ({"embedding_types": ["float", "x"]}, "embedding_types[1]"),
        ({"embedding_types": [{}]}, "embedding_types[0]"),
    ],
)
def test_a_wrong_field_for_cohere_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        cohere(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"texts": None, "images": ["data:image/png;base64,AA"]}, "images"),
        ({"embedding_types": ["int8"]}, "embedding_types[0]"),
        (
            {"texts": None, "inputs": [{"content": [{"type": "image_url", "image_url": {}}]}]},
            "inputs[0].content[0].type",
        ),
    ],
)
def test_what_only_cohere_can_do_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        cohere(**fields)
    assert (caught.value.param, caught.value.status) == (param, 400)


def test_cohere_takes_no_token_ids() -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        COHERE_EMBED.encode_request(EmbedRequest(model="m", inputs=((1, 2),)))
    assert caught.value.param == "input"


def test_cohere_answers() -> None:
    result = EmbedResult("m", VECTORS, Usage(input_tokens=7))
    told = json.loads(COHERE_EMBED.encode_result(cohere(embedding_types=["float", "base64"]), result))
    assert len(told.pop("id")) == 36
    assert told == {
        "embeddings": {"float": NUMBERS, "base64": [base64.b64encode(each).decode() for each in VECTORS]},
        "texts": ["a", "b"],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 7}},
        "response_type": "embeddings_by_type",
    }
    plain = json.loads(
        COHERE_EMBED.encode_result(cohere(embedding_types=None), EmbedResult("", VECTORS, Usage()))
    )
    assert plain["embeddings"] == {"float": NUMBERS}
    assert "billed_units" not in plain["meta"]


@pytest.mark.parametrize(
    "embeddings",
    [{"float": NUMBERS}, {"base64": [base64.b64encode(each).decode() for each in VECTORS]}, NUMBERS],
)
def test_answers_of_cohere(embeddings: Any) -> None:
    answer = {
        "id": "x",
        "embeddings": embeddings,
        "texts": ["a", "b"],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 4}},
        "response_type": "embeddings_by_type",
    }
    expected = EmbedResult("", VECTORS, Usage(input_tokens=4))
    assert COHERE_EMBED.decode_result(json.dumps(answer).encode()) == expected


def test_a_request_to_tei_comes_back_as_it_was() -> None:
    fields = {"normalize": False, "truncate": True, "truncation_direction": "Left", "dimensions": 8}
    request = tei(**fields)
    assert (request.model, request.inputs, request.dimensions) == ("m", ("a", "b"), 8)
    assert sent(TEI_EMBED, request) == {"inputs": ["a", "b"], **fields}
    assert tei(inputs="a").inputs == ("a",)
    assert tei(inputs=[[1, 2]]).inputs == ((1, 2),)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"inputs": None}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [""]}, "inputs[0]"),
        ({"inputs": ["a", 1]}, "inputs[1]"),
        ({"inputs": [[1], [-1]]}, "inputs[1][0]"),
        ({"inputs": {}}, "inputs"),
        ({"normalize": 1}, "normalize"),
        ({"truncate": "x"}, "truncate"),
        ({"dimensions": 0}, "dimensions"),
    ],
)
def test_a_wrong_field_for_tei_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        tei(**fields)
    assert caught.value.param == param


def test_tei_answers_with_bare_vectors() -> None:
    body = TEI_EMBED.encode_result(tei(), EmbedResult("m", VECTORS, Usage(input_tokens=7)))
    assert json.loads(body) == NUMBERS
    assert TEI_EMBED.decode_result(body) == EmbedResult("", VECTORS, Usage())


def test_what_only_one_of_them_knows_is_reported_lost() -> None:
    assert sent(TEI_EMBED, cohere(), ["input_type"]) == {"inputs": ["a", "b"]}
    assert sent(COHERE_EMBED, tei(truncate=True), ["truncate"])["texts"] == ["a", "b"]
    request = EmbedRequest(model="m", inputs=("a",), user="u", extensions={"openai_embeddings": {"x": 1}})
    sent(COHERE_EMBED, request, ["x", "user"])
    sent(TEI_EMBED, request, ["x", "user"])
    openai = OPENAI_EMBEDDINGS.decode_request(b'{"model":"m","input":"a","encoding_format":"base64"}')
    sent(COHERE_EMBED, openai)
    sent(OPENAI_EMBEDDINGS, cohere(), ["input_type"])


def test_the_form_of_vectors_is_not_asked_for_where_that_would_be_refused() -> None:
    body, losses = encode_request(EmbedRequest(model="m", inputs=("a",)), encoding_format=None)
    assert (json.loads(body), losses) == ({"model": "m", "input": ["a"]}, [])


@pytest.mark.parametrize(
    ("dialect", "wire"),
    [
        *((dialect, wire) for dialect in ALL for wire in (b"", b"{", b"3", b"\xff", b"[" * 100_000)),
        (COHERE_EMBED, b"{}"),
        (COHERE_EMBED, b'{"embeddings":{"int8":[[1]]}}'),
        (COHERE_EMBED, b'{"embeddings":{"float":[1]}}'),
        (COHERE_EMBED, b'{"embeddings":{"float":[[]]}}'),
        (COHERE_EMBED, b'{"embeddings":{"float":[["x"]]}}'),
        (TEI_EMBED, b"{}"),
        (TEI_EMBED, b"[1]"),
        (TEI_EMBED, b'["AAAA"]'),
        (TEI_EMBED, b"[[]]"),
        (TEI_EMBED, b"[[1e300]]"),
    ],
)
def test_a_garbled_answer_is_an_upstreams_failure(dialect: EmbedDialect, wire: bytes) -> None:
    with pytest.raises(StreamBroken):
        dialect.decode_result(wire)


@each
def test_an_error_in_an_answer_is_an_upstreams_error(dialect: EmbedDialect) -> None:
    with pytest.raises(UpstreamError, match="boom"):
        dialect.decode_result(b'{"error":"boom","error_type":"Backend"}')


def test_errors_in_the_vendors_own_shape() -> None:
    assert json.loads(COHERE_EMBED.encode_error(InvalidRequest("bad")).body) == {"message": "bad"}
    told = TEI_EMBED.encode_error(InvalidRequest("bad"))
    assert json.loads(told.body) == {"error": "bad", "error_type": "Validation"}


@each
@GIVEN
@given(
    numbers=st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1), max_size=4
    )
)
def test_what_is_encoded_is_decoded_exactly(dialect: EmbedDialect, numbers: list[list[float]]) -> None:
    vectors = tuple(struct.pack(f"<{len(vector)}f", *vector) for vector in numbers)
    request = EmbedRequest(model="m", inputs=("a",))
    answer = dialect.encode_result(request, EmbedResult("m", vectors, Usage()))
    if vectors or dialect is TEI_EMBED:
        assert dialect.decode_result(answer).vectors == vectors


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["content", "type", "text", "float", "embeddings"]), inner)
    ),
    max_leaves=8,
)
NAMES = ["model", "texts", "inputs", "images", "embedding_types", "output_dimension", "normalize", "x"]


@GIVEN
@given(json_values, st.sampled_from(NAMES))
def test_any_field_is_read_or_named(value: Any, key: str) -> None:
    for decode, dialect in ((cohere, COHERE_EMBED), (tei, TEI_EMBED)):
        try:
            request = decode(**{key: value})
        except InvalidRequest as error:
            assert error.param
        else:
            again = dialect.decode_request(dialect.encode_request(request)[0], model="m")
            assert (again.inputs, again.dimensions) == (request.inputs, request.dimensions)


@each
@GIVEN
@given(value=json_values, wire=st.binary(max_size=40))
def test_any_answer_is_read_or_refused(dialect: EmbedDialect, value: Any, wire: bytes) -> None:
    for data in (json.dumps(value).encode(), wire):
        with contextlib.suppress(StreamBroken, UpstreamError):
            dialect.decode_result(data)


def test_the_records() -> None:
    assert [(dialect.name, dialect.path("m", False), dialect.model_in_body) for dialect in ALL] == [
        ("cohere_embed", "/v2/embed", True),
        ("tei_embed", "/embed", False),
    ]
    assert {dialect.operation for dialect in ALL} == {Operation.EMBED}
