"""Errors in Anthropic's shape, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import ErrorResponse
from pydantic import TypeAdapter

from headgate.core.errors import (
    Cancelled,
    ContextLengthExceeded,
    DeadlineExceeded,
    Forbidden,
    HeadgateError,
    Internal,
    InvalidData,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    StreamBroken,
    Unauthenticated,
    UpstreamError,
)
from headgate.dialects.anthropic import decode_error, encode_error


def told(error: HeadgateError) -> tuple[int, dict[str, Any], dict[bytes, bytes]]:
    wire = encode_error(error)
    body = json.loads(wire.body)
    if body["error"]["type"] != "request_too_large":  # the SDK's types leave this one out
        TypeAdapter(ErrorResponse).validate_json(wire.body)
    return wire.status, body, dict(wire.headers)


@pytest.mark.parametrize(
    ("error", "status", "word"),
    [
        (InvalidRequest("x"), 400, "invalid_request_error"),
        (Unauthenticated("x"), 401, "authentication_error"),
        (UpstreamError("x", status=402), 402, "billing_error"),
        (Forbidden("x"), 403, "permission_error"),
        (ModelNotFound("x"), 404, "not_found_error"),
        (PayloadTooLarge("x"), 413, "request_too_large"),
        (InvalidData("x"), 422, "invalid_request_error"),
        (RateLimited("x"), 429, "rate_limit_error"),
        (Cancelled("x"), 499, "invalid_request_error"),
        (Internal("x"), 500, "api_error"),
        (StreamBroken("x"), 502, "api_error"),
        (Overloaded("x"), 503, "overloaded_error"),
        (DeadlineExceeded("x"), 504, "timeout_error"),
        (UpstreamError("x", status=529), 529, "overloaded_error"),
        (UpstreamError("x", status=500, type="overloaded_error"), 500, "overloaded_error"),
        (UpstreamError("x", status=400, type="bad_request"), 400, "invalid_request_error"),
        (UpstreamError("x", status=302), 502, "api_error"),
    ],
)
def test_status_and_type_word(error: HeadgateError, status: int, word: str) -> None:
    found, body, headers = told(error)
    assert (found, body["type"], body["error"]["type"]) == (status, "error", word)
    assert headers[b"content-type"] == b"application/json"


def test_the_message_names_the_field_and_the_code_is_kept() -> None:
    body = told(InvalidRequest("it must be 1", param="top_k", code="invalid_value"))[1]
    assert body == {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "top_k: it must be 1",
            "details": {"error_code": "invalid_value"},
        },
    }
    assert told(InvalidRequest("'top_k' is 1", param="top_k"))[1]["error"]["message"] == "'top_k' is 1"


def test_agents_are_told_of_a_full_context_in_the_words_that_they_look_for() -> None:
    assert told(ContextLengthExceeded("Too much."))[1]["error"]["message"] == "prompt is too long: Too much."
    kept = "prompt is too long: 3 tokens > 2 maximum"
    assert told(ContextLengthExceeded(kept))[1]["error"]["message"] == kept


def test_retry_after_and_the_vendors_headers_go_on() -> None:
    wire = json.dumps(
        {
            "type": "error",
            "error": {"type": "rate_limit_error", "message": "Slow", "details": {"error_code": "ramp"}},
            "request_id": "req_1",
        }
    ).encode()
    given = [
        (b"request-id", b"req_1"),
        (b"retry-after", b"7"),
        (b"anthropic-ratelimit-requests-remaining", b"0"),
        (b"set-cookie", b"secret"),
    ]
    error = decode_error(429, given, wire)
    assert isinstance(error, UpstreamError)
    assert (error.status, error.message, error.code, error.retry_after) == (429, "Slow", "ramp", 7)
    assert (error.upstream_type, error.retryable) == ("rate_limit_error", True)
    status, body, headers = told(error)
    assert status == 429
    assert body == json.loads(wire)
    assert headers[b"retry-after"] == b"7"
    assert headers[b"anthropic-ratelimit-requests-remaining"] == b"0"
    assert headers[b"request-id"] == b"req_1"
    assert b"set-cookie" not in headers


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (
            400,
            b'{"type":"error","error":{"type":"invalid_request_error","message":"Prompt is too long: 3"}}',
            "Prom",
        ),
        (400, b'{"error":{"code":"context_length_exceeded","message":"Too much"}}', "Too much"),
    ],
)
def test_a_full_context_is_known(status: int, body: bytes, message: str) -> None:
    error = decode_error(status, [(b"request-id", b"r")], body)
    assert isinstance(error, ContextLengthExceeded)
    assert error.message.startswith(message)
    assert (error.status, error.headers["request-id"]) == (400, "r")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html><title>502 Bad Gateway</title>", b"[]", b"3", b'"x"', b'{"error":3}', b"\xff", b"[" * 9000],
)
def test_anything_may_come_back(body: bytes) -> None:
    error = decode_error(502, [(b"request-id", b"\xff")], body)
    assert isinstance(error, UpstreamError)
    assert error.status == 502
    assert error.message
