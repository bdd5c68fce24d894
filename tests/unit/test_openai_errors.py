"""Errors in OpenAI's shape: what callers get, and what upstreams meant."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import (
    ContextLengthExceeded,
    HeadgateError,
    InvalidRequest,
    Overloaded,
    StreamBroken,
    UpstreamError,
)
from headgate.dialects.openai_errors import MAX_MESSAGE, decode_error, encode_error


def test_an_error_as_callers_get_it() -> None:
    wire = encode_error(InvalidRequest("Wrong.", param="messages[0]", code="invalid_type"))
    assert wire.status == 400
    assert list(wire.headers) == [(b"content-type", b"application/json")]
    assert json.loads(wire.body) == {
        "error": {
            "message": "Wrong.",
            "type": "invalid_request_error",
            "param": "messages[0]",
            "code": "invalid_type",
        }
    }


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.0, b"0"), (0.2, b"1"), (3, b"3"), (3.01, b"4"), (-5, b"0")]
)
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, header: bytes) -> None:
    assert (b"retry-after", header) in encode_error(Overloaded("full", retry_after=seconds)).headers


def test_an_upstreams_error_passes_on() -> None:
    body = b'{"error":{"message":"slow","type":"tokens","param":null,"code":"rate_limit_exceeded"}}'
    headers = [
        (b"Retry-After", b"2"),
        (b"X-RateLimit-Remaining-Tokens", b"0"),
        (b"set-cookie", b"secret=1"),
        (b"content-length", b"5"),
    ]
    error = decode_error(429, headers, body)
    assert isinstance(error, UpstreamError)
    assert (error.status, error.retryable, error.retry_after) == (429, True, 2.0)
    wire = encode_error(error)
    assert wire.status == 429
    assert json.loads(wire.body) == json.loads(body)
    assert list(wire.headers) == [
        (b"content-type", b"application/json"),
        (b"retry-after", b"2"),
        (b"x-ratelimit-remaining-tokens", b"0"),
    ]


def test_a_context_that_is_too_long_has_its_own_error() -> None:
    body = b'{"error":{"message":"too long","code":"context_length_exceeded","param":"messages"}}'
    error = decode_error(400, [], body)
    assert isinstance(error, ContextLengthExceeded)
    assert (error.message, error.param, error.status) == ("too long", "messages", 400)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":"no such model"}', "no such model"),
        (b'{"error":"unauthorized","message":"key expired"}', "key expired"),
        (b'{"message":"boom"}', "boom"),
        (b'{"detail":"boom"}', "boom"),
        (b'{"detail":[{"loc":["body"],"msg":"field required"}]}', "field required"),
        (b'[{"error":{"message":"boom"}}]', "boom"),
        (b'{"object":"error","message":"boom","code":40001}', "boom"),
        (b'{"error":{}}', "The upstream answered 500 and gave no reason."),
        (b"{}", "The upstream answered 500 and gave no reason."),
        (b"[]", "The upstream answered 500 and gave no reason."),
        (b"7", "The upstream answered 500 and gave no reason."),
        (b"", "The upstream answered 500 with an empty body."),
        (b" \n", "The upstream answered 500 with an empty body."),
        (b"upstream connect error", "The upstream answered 500 with 22 bytes that are not JSON."),
        (
            b"<html><head><title>502 Bad\n Gateway</title></head><body>secret</body></html>",
            "The upstream answered 500 with an HTML page (502 Bad Gateway) in place of a JSON error.",
        ),
        (b"<!doctype html>", "The upstream answered 500 with an HTML page in place of a JSON error."),
        (b"\xff\xfe", "The upstream answered 500 with 2 bytes that are not JSON."),
    ],
)
def test_bodies_that_vendors_and_proxies_send(body: bytes, message: str) -> None:
    error = decode_error(500, [], body)
    assert error.message == message
    assert error.status == 500


def test_a_long_message_is_cut() -> None:
    error = decode_error(400, [], json.dumps({"error": {"message": "x " * 10_000}}).encode())
    assert len(error.message) == MAX_MESSAGE


def test_retry_after_as_a_date_in_milliseconds_or_as_nonsense() -> None:
    later = formatdate(time.time() + 100, usegmt=True).encode()
    wait = decode_error(503, [(b"retry-after", later)], b"").retry_after
    assert wait is not None
    assert 90 < wait <= 100
    past = formatdate(time.time() - 100, usegmt=True).encode()
    assert decode_error(503, [(b"retry-after", past)], b"").retry_after == 0
    both = [(b"retry-after", b"9"), (b"retry-after-ms", b"1500")]
    assert decode_error(503, both, b"").retry_after == 1.5
    for nonsense in (b"soon", b"nan", b"inf", b"", b"Fri, 99 Foo 2026"):
        assert decode_error(503, [(b"retry-after", nonsense)], b"").retry_after is None


def test_headers_that_could_split_the_answer_are_dropped() -> None:
    error = decode_error(429, [(b"x-ratelimit-x", b"1\r\nset-cookie: a"), (b"x-request-id", b"ok")], b"")
    assert error.headers == {"x-request-id": "ok"}


def test_a_status_that_is_none_becomes_502() -> None:
    assert encode_error(UpstreamError("x", status=200)).status == 502
    assert encode_error(StreamBroken("x")).status == 502


@settings(max_examples=150, deadline=None, database=None)
@given(
    st.integers(400, 599),
    st.lists(st.tuples(st.sampled_from([b"retry-after", b"x-ratelimit-a", b"b"]), st.binary(max_size=9))),
    st.binary(max_size=40)
    | st.builds(
        lambda value: json.dumps({"error": value}).encode(),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=4),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.sampled_from(["message", "code", "type", "detail"]), inner, max_size=3)
            ),
        ),
    ),
)
def test_any_answer_becomes_an_error_that_can_be_sent(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    error = decode_error(status, headers, body)
    assert isinstance(error, HeadgateError)
    wire = encode_error(error)
    assert wire.status == status
    assert json.loads(wire.body)["error"]["message"]
    assert not any(b"\n" in value or b"\r" in value for _, value in wire.headers)
