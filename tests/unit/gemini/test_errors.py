"""Errors in Google's shape, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    Forbidden,
    HeadgateError,
    Internal,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    RateLimited,
    Unauthenticated,
    UpstreamError,
)
from headgate.dialects.gemini import decode_error, encode_error
from tests.unit.gemini.test_answers import JSON_VALUES

RPC = "type.googleapis.com/google.rpc."


def body_of(error: HeadgateError) -> dict[str, Any]:
    wire: dict[str, Any] = json.loads(encode_error(error).body)["error"]
    return wire


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (InvalidRequest("x"), 400, "INVALID_ARGUMENT"),
        (Unauthenticated("x"), 401, "UNAUTHENTICATED"),
        (Forbidden("x"), 403, "PERMISSION_DENIED"),
        (ModelNotFound("x"), 404, "NOT_FOUND"),
        (InvalidRequest("x", status=413), 413, "INVALID_ARGUMENT"),
        (RateLimited("x"), 429, "RESOURCE_EXHAUSTED"),
        (Internal("x"), 500, "INTERNAL"),
        (Overloaded("x"), 503, "UNAVAILABLE"),
        (DeadlineExceeded("x"), 504, "DEADLINE_EXCEEDED"),
        (UpstreamError("x", status=418), 418, "INVALID_ARGUMENT"),
        (UpstreamError("x", status=302), 502, "UNAVAILABLE"),
        (UpstreamError("x", status=400, type="FAILED_PRECONDITION"), 400, "FAILED_PRECONDITION"),
        (UpstreamError("x", status=400, type="invalid_request_error"), 400, "INVALID_ARGUMENT"),
    ],
)
def test_every_error_has_a_status_and_its_word(error: HeadgateError, status: int, word: str) -> None:
    wire = encode_error(error)
    assert wire.status == status
    assert (b"content-type", b"application/json") in wire.headers
    body = body_of(error)
    assert (body["code"], body["message"], body["status"]) == (status, "x", word)
    assert json.loads(wire.body).keys() == {"error"}


def test_details_tell_the_reason_the_field_and_the_wait() -> None:
    error = RateLimited("Slow down", param="contents[0]", retry_after=1.5, headers={"x-request-id": "7"})
    wire = encode_error(error)
    assert {(b"retry-after", b"2"), (b"x-request-id", b"7")} < set(wire.headers)
    assert body_of(error)["details"] == [
        {"@type": f"{RPC}ErrorInfo", "reason": "rate_limit_exceeded", "domain": "headgate"},
        {
            "@type": f"{RPC}BadRequest",
            "fieldViolations": [{"field": "contents[0]", "description": "Slow down"}],
        },
        {"@type": f"{RPC}RetryInfo", "retryDelay": "1.5s"},
    ]


def test_googles_own_error_is_read() -> None:
    body = {
        "error": {
            "code": 429,
            "message": "Quota exceeded.\nPlease retry in 31.5s.",
            "status": "RESOURCE_EXHAUSTED",
            "details": [
                {"@type": f"{RPC}QuotaFailure", "violations": [{"quotaMetric": "m"}]},
                {"@type": f"{RPC}ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED", "domain": "googleapis.com"},
                {"@type": f"{RPC}RetryInfo", "retryDelay": "31.5s"},
            ],
        }
    }
    for shape in (body, [body]):
        error = decode_error(429, [(b"X-Request-Id", b"7")], json.dumps(shape).encode())
        assert isinstance(error, UpstreamError)
        assert (error.status, error.retryable, error.retry_after) == (429, True, 31.5)
        assert (error.code, error.upstream_type) == ("RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED")
        assert error.message == "Quota exceeded. Please retry in 31.5s."
        assert error.headers == {"x-request-id": "7"}


def test_the_header_goes_before_the_detail() -> None:
    body = {"error": {"message": "x", "details": [{"@type": f"{RPC}RetryInfo", "retryDelay": "9s"}]}}
    assert decode_error(503, [(b"retry-after", b"4")], json.dumps(body).encode()).retry_after == 4


def test_a_field_violation_names_the_field() -> None:
    violation = {"field": "contents[1].parts", "description": "no"}
    body = {
        "error": {
            "code": 400,
            "message": "no",
            "status": "INVALID_ARGUMENT",
            "details": [{"@type": f"{RPC}BadRequest", "fieldViolations": [violation]}],
        }
    }
    error = decode_error(400, [], json.dumps(body).encode())
    assert (error.param, error.code, error.retryable) == ("contents[1].parts", "INVALID_ARGUMENT", False)


def test_a_prompt_that_is_too_long_is_told_apart() -> None:
    message = "The input token count (9) exceeds the maximum number of tokens allowed (5)."
    body = {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}
    error = decode_error(400, [], json.dumps(body).encode())
    assert isinstance(error, ContextLengthExceeded)
    assert error.message == message


@pytest.mark.parametrize(
    "body", [b"", b"<html><title>Bad Gateway</title>", b"[]", b'"x"', b'{"error":"x"}', b'{"detail":"x"}']
)
def test_other_shapes_are_read_too(body: bytes) -> None:
    error = decode_error(502, [], body)
    assert isinstance(error, UpstreamError)
    assert (error.status, bool(error.message)) == (502, True)


def test_what_went_out_comes_back() -> None:
    error = RateLimited("Slow down", param="contents", retry_after=2)
    back = decode_error(429, [], encode_error(error).body)
    assert (back.message, back.param, back.code, back.retry_after) == (
        "Slow down",
        "contents",
        "rate_limit_exceeded",
        2,
    )


@settings(max_examples=120, deadline=None, database=None)
@given(JSON_VALUES, st.binary(max_size=30))
def test_nothing_is_raised_for_any_body(value: Any, noise: bytes) -> None:
    shapes = [value, {"error": value}, {"error": {"message": "x", "status": value, "details": value}}]
    details = [{"@type": f"{RPC}RetryInfo", "retryDelay": value}, {"@type": value, "fieldViolations": value}]
    shapes.append({"error": {"details": details}})
    for body in (*(json.dumps(shape).encode() for shape in shapes), noise):
        error = decode_error(500, [], body)
        assert error.status == 500 and encode_error(error).status == 500
