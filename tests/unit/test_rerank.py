"""Rerank on the wire, in three shapes: Cohere's, Jina's (and vLLM's), TEI's."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Operation, Usage
from headgate.core.errors import (
    HeadgateError,
    InvalidRequest,
    Overloaded,
    RateLimited,
    StreamBroken,
    Unavailable,
    UpstreamError,
)
from headgate.core.operations import Ranked, RerankRequest, RerankResult
from headgate.dialects.cohere import COHERE_RERANK
from headgate.dialects.dialect import RerankDialect
from headgate.dialects.held_body import MAX_BODY
from headgate.dialects.jina import JINA_RERANK
from headgate.dialects.json_bodies import MAX_ITEMS
from headgate.dialects.tei import TEI_RERANK

GIVEN = settings(max_examples=100, deadline=None, database=None)
ALL = [COHERE_RERANK, JINA_RERANK, TEI_RERANK]
TEXTS = {"cohere_rerank": "documents", "jina_rerank": "documents", "tei_rerank": "texts"}
each = pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: dialect.name)


def body(dialect: RerankDialect, **fields: Any) -> dict[str, Any]:
    model = {"model": "m"} if dialect.model_in_body else {}
    return model | {"query": "q", TEXTS[dialect.name]: ["a", "b", "c"]} | fields


def decode(dialect: RerankDialect, **fields: Any) -> RerankRequest:
    return dialect.decode_request(json.dumps(body(dialect, **fields)).encode())


def encode(dialect: RerankDialect, request: RerankRequest) -> dict[str, Any]:
    wire, losses = dialect.encode_request(request)
    assert losses == []
    return json.loads(wire)  # type: ignore[no-any-return]


RESULT = RerankResult("m", (Ranked(2, 0.9), Ranked(0, 0.5), Ranked(1, -1.5)), Usage(input_tokens=7), "r1")


@pytest.mark.parametrize(
    ("dialect", "fields", "back"),
    [
        (COHERE_RERANK, {"top_n": 2, "max_tokens_per_doc": 100, "priority": 1}, {}),
        (JINA_RERANK, {"top_n": 2, "truncate_prompt_tokens": 8}, {"return_documents": False}),
        (TEI_RERANK, {"raw_scores": True, "truncate": True, "truncation_direction": "Left"}, {}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_request_comes_back_as_it_was(
    dialect: RerankDialect, fields: dict[str, Any], back: dict[str, Any]
) -> None:
    request = decode(dialect, **fields)
    assert (request.query, request.documents) == ("q", ("a", "b", "c"))
    assert encode(dialect, request) == body(dialect, **fields) | back


@each
def test_neutral_meaning(dialect: RerankDialect) -> None:
    returns = "return_text" if dialect is TEI_RERANK else "return_documents"
    request = decode(dialect, **{returns: True})
    assert request == RerankRequest(
        model="m" if dialect.model_in_body else "",
        query="q",
        documents=("a", "b", "c"),
        return_documents=True,
    )
    assert decode(dialect, **{returns: False}).return_documents is False
    assert decode(dialect).return_documents is (dialect is JINA_RERANK)
    if dialect.model_in_body:
        assert b'"model":"up"' in dialect.encode_request(request, model="up")[0]
    else:
        assert b"model" not in dialect.encode_request(request, model="up")[0]


def test_documents_may_be_objects_with_a_text() -> None:
    for dialect in (COHERE_RERANK, JINA_RERANK):
        assert decode(dialect, documents=[{"text": "a"}, "b"]).documents == ("a", "b")


@pytest.mark.parametrize("upstream", ALL, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("caller", ALL, ids=lambda dialect: dialect.name)
def test_what_only_one_of_them_knows_is_reported_lost(caller: RerankDialect, upstream: RerankDialect) -> None:
    request = decode(caller, special=1)
    assert [loss.path for loss in upstream.encode_request(request)[1]] == (
        [] if caller is upstream else ["special"]
    )


@each
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": None}, "query"),
        ({"query": 1}, "query"),
        ({"TEXTS": None}, "TEXTS"),
        ({"TEXTS": []}, "TEXTS"),
        ({"TEXTS": "a"}, "TEXTS"),
        ({"TEXTS": ["a", 1]}, "TEXTS[1]"),
        ({"TEXTS": ["a", {}]}, "TEXTS[1].text"),
        ({"TEXTS": ["a", {"text": 1}]}, "TEXTS[1].text"),
        ({"TEXTS": ["a", {"text": "x", "image": "y"}]}, "TEXTS[1].image"),
        ({"TEXTS": ["a"] * (MAX_ITEMS + 1)}, "TEXTS"),
    ],
)
def test_a_wrong_field_is_named(dialect: RerankDialect, fields: dict[str, Any], param: str) -> None:
    name = TEXTS[dialect.name]
    with pytest.raises(InvalidRequest) as caught:
        decode(dialect, **{key.replace("TEXTS", name): value for key, value in fields.items()})
    assert caught.value.param == param.replace("TEXTS", name)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("dialect", "fields", "param"),
    [
        (COHERE_RERANK, {"model": None}, "model"),
        (JINA_RERANK, {"model": 3}, "model"),
        (COHERE_RERANK, {"top_n": 0}, "top_n"),
        (JINA_RERANK, {"top_n": "2"}, "top_n"),
        (COHERE_RERANK, {"return_documents": 1}, "return_documents"),
        (JINA_RERANK, {"return_documents": "yes"}, "return_documents"),
        (TEI_RERANK, {"return_text": 1}, "return_text"),
        (TEI_RERANK, {"raw_scores": "x"}, "raw_scores"),
        (TEI_RERANK, {"truncate": 1}, "truncate"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_wrong_setting_is_named(dialect: RerankDialect, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(dialect, **fields)
    assert caught.value.param == param


def test_cohere_answers() -> None:
    told = json.loads(COHERE_RERANK.encode_result(decode(COHERE_RERANK, top_n=2), RESULT))
    assert told == {
        "id": "r1",
        "results": [{"index": 2, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.5}],
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": 7},
        },
    }
    unnamed = RerankResult("m", (Ranked(0, 1.0),))
    assert len(json.loads(COHERE_RERANK.encode_result(decode(COHERE_RERANK), unnamed))["id"]) == 36


def test_jina_answers() -> None:
    told = json.loads(JINA_RERANK.encode_result(decode(JINA_RERANK, top_n=1), RESULT))
    assert told == {
        "id": "r1",
        "model": "m",
        "object": "list",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
        "results": [{"index": 2, "relevance_score": 0.9, "document": {"text": "c"}}],
    }
    short = json.loads(JINA_RERANK.encode_result(decode(JINA_RERANK, return_documents=False), RESULT))
    assert short["results"][0] == {"index": 2, "relevance_score": 0.9}


def test_tei_answers() -> None:
    assert json.loads(TEI_RERANK.encode_result(decode(TEI_RERANK, return_text=True), RESULT)) == [
        {"index": 2, "score": 0.9, "text": "c"},
        {"index": 0, "score": 0.5, "text": "a"},
        {"index": 1, "score": -1.5, "text": "b"},
    ]


@pytest.mark.parametrize(
    ("dialect", "answer", "result"),
    [
        (
            COHERE_RERANK,
            {
                "results": [{"index": 3, "relevance_score": 0.999071}, {"index": 4, "relevance_score": 0.78}],
                "id": "07734bd2",
                "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
            },
            RerankResult(
                "",
                (Ranked(3, 0.999071), Ranked(4, 0.78)),
                Usage(),
                "07734bd2",
                {"cohere_rerank": {"meta": {"billed_units": {"search_units": 1}}}},
            ),
        ),
        (
            JINA_RERANK,
            {
                "model": "jina-reranker-v2",
                "object": "list",
                "usage": {"total_tokens": 38},
                "results": [{"index": 1, "relevance_score": 0, "document": {"text": "x"}}],
            },
            RerankResult("jina-reranker-v2", (Ranked(1, 0.0),), Usage(input_tokens=38)),
        ),
        (
            JINA_RERANK,  # vLLM
            {
                "id": "rerank-fae5",
                "model": "BAAI/bge-reranker-base",
                "usage": {"total_tokens": 56},
                "results": [
                    {"index": 0, "document": {"text": "x"}, "relevance_score": 0.0005},
                    {"index": 1, "document": {"text": "y"}, "relevance_score": 0.998},
                ],
            },
            RerankResult(
                "BAAI/bge-reranker-base",
                (Ranked(1, 0.998), Ranked(0, 0.0005)),
                Usage(input_tokens=56),
                "rerank-fae5",
            ),
        ),
        (
            TEI_RERANK,
            [{"index": 0, "score": 0.99}, {"index": 1, "score": 0.2, "text": "x"}],
            RerankResult("", (Ranked(0, 0.99), Ranked(1, 0.2))),
        ),
    ],
)
def test_answers_of_upstreams(dialect: RerankDialect, answer: Any, result: RerankResult) -> None:
    assert dialect.decode_result(json.dumps(answer).encode()) == result


scores = st.floats(allow_nan=False, allow_infinity=False)


@each
@GIVEN
@given(values=st.lists(scores, min_size=1, max_size=6))
def test_what_is_answered_is_read_exactly(dialect: RerankDialect, values: list[float]) -> None:
    request = RerankRequest(model="m", query="q", documents=tuple("x" for _ in values))
    best_first = sorted(range(len(values)), key=lambda index: -values[index])
    ranked = tuple(Ranked(index, values[index]) for index in best_first)
    answer = dialect.encode_result(request, RerankResult("m", ranked, id="r"))
    assert dialect.decode_result(answer).ranked == ranked


@each
@pytest.mark.parametrize(
    "items",
    [
        None,
        {},
        "x",
        [1],
        [{}],
        [{"index": 0}],
        [{"index": "0", "SCORE": 1}],
        [{"index": -1, "SCORE": 1}],
        [{"index": True, "SCORE": 1}],
        [{"index": 0, "SCORE": "1"}],
        [{"index": 0, "SCORE": True}],
        [{"index": 0, "SCORE": None}],
        [{"index": 0, "SCORE": 1}, {"index": 0, "SCORE": 2}],
    ],
)
def test_a_garbled_answer_is_an_upstreams_failure(dialect: RerankDialect, items: Any) -> None:
    score = "score" if dialect is TEI_RERANK else "relevance_score"
    text = json.dumps(items).replace("SCORE", score)
    wire = text if dialect is TEI_RERANK else f'{{"results":{text}}}'
    with pytest.raises(StreamBroken):
        dialect.decode_result(wire.encode())


@each
@pytest.mark.parametrize("wire", [b"", b"{", b"\xff", b"3", b"[" * 100_000])
def test_an_answer_that_is_no_json_is_an_upstreams_failure(dialect: RerankDialect, wire: bytes) -> None:
    with pytest.raises(StreamBroken):
        dialect.decode_result(wire)


@each
def test_an_error_in_an_answer_is_an_upstreams_error(dialect: RerankDialect) -> None:
    with pytest.raises(UpstreamError, match="boom"):
        dialect.decode_result(b'{"error":"boom"}')


@each
def test_a_document_that_nobody_sent_is_an_upstreams_failure(dialect: RerankDialect) -> None:
    with pytest.raises(StreamBroken, match="not in the request"):
        dialect.encode_result(decode(dialect), RerankResult("m", (Ranked(3, 1.0),)))


@pytest.mark.parametrize(
    ("dialect", "error", "status", "shape"),
    [
        (COHERE_RERANK, RateLimited("slow", retry_after=1.2), 429, {"message": "slow"}),
        (JINA_RERANK, InvalidRequest("bad", param="query"), 400, {"detail": "bad"}),
        (TEI_RERANK, InvalidRequest("bad"), 400, {"error": "bad", "error_type": "Validation"}),
        (TEI_RERANK, RateLimited("slow"), 429, {"error": "slow", "error_type": "Overloaded"}),
        (TEI_RERANK, Unavailable("down"), 503, {"error": "down", "error_type": "Unhealthy"}),
        (TEI_RERANK, Overloaded("full"), 503, {"error": "full", "error_type": "Unhealthy"}),
        (TEI_RERANK, StreamBroken("cut"), 502, {"error": "cut", "error_type": "Backend"}),
    ],
)
def test_errors_in_the_vendors_own_shape(
    dialect: RerankDialect, error: HeadgateError, status: int, shape: dict[str, Any]
) -> None:
    told = dialect.encode_error(error)
    assert (told.status, json.loads(told.body)) == (status, shape)
    fields = dict(told.headers)
    assert fields[b"content-type"] == b"application/json"
    assert fields.get(b"retry-after") == (b"2" if error.retry_after else None)


@pytest.mark.parametrize(
    ("dialect", "status", "wire", "message", "kind"),
    [
        (COHERE_RERANK, 422, b'{"id":"x","message":"too long"}', "too long", None),
        (JINA_RERANK, 401, b'{"detail":"no key"}', "no key", None),
        (
            JINA_RERANK,
            400,
            b'{"error":{"message":"bad","type":"BadRequestError","code":400}}',
            "bad",
            "BadRequestError",
        ),
        (TEI_RERANK, 429, b'{"error":"busy","error_type":"Overloaded"}', "busy", "Overloaded"),
    ],
)
def test_errors_of_upstreams(
    dialect: RerankDialect, status: int, wire: bytes, message: str, kind: str | None
) -> None:
    error = dialect.decode_error(status, [(b"retry-after", b"3")], wire)
    assert isinstance(error, UpstreamError)
    assert (error.status, error.message, error.retry_after, error.upstream_type) == (status, message, 3, kind)


@pytest.mark.parametrize(
    ("wire", "usage"),
    [
        (b'{"results":[],"usage":{"total_tokens":38}}', Usage(input_tokens=38)),
        (b'{"results":[],"usage":{"prompt_tokens":3,"total_tokens":38}}', Usage(input_tokens=3)),
        (b'{"meta":{"billed_units":{"input_tokens":5}}}', Usage(input_tokens=5)),
        (b'{"meta":{"tokens":{"input_tokens":4},"billed_units":{"search_units":1}}}', Usage(input_tokens=4)),
        (b'{"meta":{"billed_units":{"search_units":1}}}', None),
        (b'[{"index":0,"score":1}]', None),
        (b'{"usage":{"total_tokens":-1},"meta":3}', None),
    ],
)
def test_reading_along(wire: bytes, usage: Usage | None) -> None:
    for size in (1, 7, len(wire)):
        seen = COHERE_RERANK.observer(False, "application/json")
        for start in range(0, len(wire), size):
            seen.feed(wire[start : start + size])
        seen.end()
        assert (seen.usage, seen.terminal, seen.failed, seen.finish_reason) == (usage, True, False, None)


def test_reading_along_with_what_is_cut_long_or_wrong() -> None:
    def look(wire: bytes) -> Any:
        seen = JINA_RERANK.observer(False, "application/json")
        seen.feed(wire)
        seen.end()
        return seen

    assert not look(b'{"results":[').terminal
    assert look(b'{"error":"x"}').failed
    long = b'{"results":["' + b"x" * MAX_BODY + b'"],"meta":{"billed_units":{"input_tokens":5}}}'
    assert (look(long).usage, look(long).terminal) == (Usage(input_tokens=5), True)
    listed = b'["' + b"x" * MAX_BODY + b'"]'
    assert (look(listed).usage, look(listed).terminal) == (None, True)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["index", "score", "results", "text", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = ["model", "query", "documents", "texts", "top_n", "return_documents", "return_text", "truncate", "x"]


@each
@GIVEN
@given(value=json_values, key=st.sampled_from(NAMES))
def test_any_field_is_read_or_named(dialect: RerankDialect, value: Any, key: str) -> None:
    try:
        request = decode(dialect, **{key: value})
    except InvalidRequest as error:
        assert error.param
    else:
        again = dialect.decode_request(dialect.encode_request(request)[0])
        assert (again.query, again.documents, again.extensions) == (
            request.query,
            request.documents,
            request.extensions,
        )


@each
@GIVEN
@given(value=json_values, wire=st.binary(max_size=40))
def test_any_answer_is_read_or_refused(dialect: RerankDialect, value: Any, wire: bytes) -> None:
    for data in (json.dumps(value).encode(), wire):
        with contextlib.suppress(StreamBroken, UpstreamError):
            dialect.decode_result(data)
        assert dialect.decode_error(500, [], data).status == 500
        seen = dialect.observer(False, "")
        seen.feed(data)
        seen.end()


@each
def test_any_body_that_is_no_object_is_refused(dialect: RerankDialect) -> None:
    for wire in (b"", b"[]", b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(InvalidRequest):
            dialect.decode_request(wire)


def test_the_records() -> None:
    assert [(dialect.name, dialect.path("m", False), dialect.model_in_body) for dialect in ALL] == [
        ("cohere_rerank", "/v2/rerank", True),
        ("jina_rerank", "/rerank", True),
        ("tei_rerank", "/rerank", False),
    ]
    assert {dialect.operation for dialect in ALL} == {Operation.RERANK}
