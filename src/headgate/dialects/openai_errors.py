"""Errors in OpenAI's shape, both ways: `{"error": {"message", "type", "param", "code"}}`.

Read here too, as vendors that call themselves compatible send them: a bare string, `message` or `detail`
at the top, a list of one, an HTML page from a proxy in between, nothing at all.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from headgate.core.backend import RawHeaders
from headgate.core.errors import ContextLengthExceeded, HeadgateError, UpstreamError
from headgate.dialects.dialect import WireError

MAX_MESSAGE = 2000
"""Characters of an upstream's message that are kept."""

_STATUS_BY_WORD: Mapping[str, int] = {
    "authentication_error": 401,
    "context_length_exceeded": 400,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "not_found_error": 404,
    "overloaded_error": 503,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "timeout_error": 504,
    "tokens": 429,
}
"""By `code` or `type` of errors that come without a status."""
_TITLE = re.compile(rb"<title[^>]*>([^<]{1,200})", re.IGNORECASE)
_KEPT_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
_KEPT = frozenset({"x-request-id", "apim-request-id", "x-should-retry"})


def encode_error(error: HeadgateError) -> WireError:
    """The error as an answer; Retry-After in whole seconds, rounded up."""
    return WireError(error_status(error), error_headers(error), encode_error_body(error))


def error_in_shape(error: HeadgateError, body: Mapping[str, str]) -> WireError:
    """An answer of the same status and headers, whose body is another vendor's."""
    return WireError(error_status(error), error_headers(error), msgspec.json.encode(body))


def error_status(error: HeadgateError) -> int:
    return error.status if 400 <= error.status <= 599 else 502


def error_headers(error: HeadgateError) -> RawHeaders:
    """Content type, Retry-After in whole seconds, and what an upstream's headers said."""
    headers = [(b"content-type", b"application/json")]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(max(0.0, error.retry_after))))
    headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
    return headers


def encode_error_body(error: HeadgateError) -> bytes:
    upstream_type = error.upstream_type if isinstance(error, UpstreamError) else None
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": upstream_type or error.type,
                "param": error.param,
                "code": error.code,
            }
        }
    )


def decode_error(status: int, headers: RawHeaders, body: bytes) -> HeadgateError:
    """What an upstream meant by a status of 400 or more."""
    kept, retry_after = _read_headers(headers)
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return UpstreamError(_summary(status, body), status=status, retry_after=retry_after, headers=kept)
    return error_from_value(value, status, retry_after, kept)


def error_within(value: object) -> HeadgateError:
    """The error that an answer of status 200 holds, or an event in mid-stream: the status by its own words,
    502 where they do not say."""
    return error_from_value(value, _status_within(_error_object(value)))


def _status_within(detail: Mapping[str, Any]) -> int:
    for key in ("status", "code", "status_code"):  # some vendors put an HTTP status where others have a word
        number = detail.get(key)
        if type(number) is int and 400 <= number <= 599:
            return number
    for key in ("code", "type"):
        word = detail.get(key)
        if isinstance(word, str) and word in _STATUS_BY_WORD:
            return _STATUS_BY_WORD[word]
        if key == "code" and isinstance(word, str) and "image" in word:
            return 400  # the vendor has a dozen of these
    return 502


def error_from_value(
    value: object,
    status: int = 502,
    retry_after: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> HeadgateError:
    """The error that a decoded body holds."""
    detail = _error_object(value)
    message = _message(detail) or f"The upstream answered {status} and gave no reason."
    code, kind, param = (detail.get(name) for name in ("code", "type", "param"))
    code_text = str(code) if isinstance(code, str | int) and not isinstance(code, bool) else None
    param_text = param if isinstance(param, str) else None
    if code_text == "context_length_exceeded":
        return ContextLengthExceeded(message, param=param_text, headers=headers, status=status)
    return UpstreamError(
        message,
        status=status,
        param=param_text,
        code=code_text,
        retry_after=retry_after,
        headers=headers,
        type=kind if isinstance(kind, str) else None,
    )


def _error_object(value: object) -> dict[str, Any]:
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return {"message": value}
    error = value.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str):
        return {
            "message": value.get("message") or error,
            "code": value.get("code"),
            "type": value.get("type") or value.get("error_type"),
        }
    return value


def _message(detail: Mapping[str, Any]) -> str | None:
    for name in ("message", "msg", "detail", "error_description"):
        found = detail.get(name)
        if isinstance(found, list) and found and isinstance(found[0], dict):
            found = found[0].get("msg")
        if isinstance(found, str) and found.strip():
            return _shortened(found)
    return None


def _shortened(text: str) -> str:
    text = " ".join(text[: 2 * MAX_MESSAGE].split())
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def _summary(status: int, body: bytes) -> str:
    start = body[:4096].lstrip()
    if not start:
        return f"The upstream answered {status} with an empty body."
    if not start.startswith(b"<"):
        return f"The upstream answered {status} with {len(body):,} bytes that are not JSON."
    title = _TITLE.search(start)
    named = f" ({_shortened(title[1].decode('utf-8', 'replace'))})" if title else ""
    return f"The upstream answered {status} with an HTML page{named} in place of a JSON error."


def _read_headers(headers: RawHeaders) -> tuple[dict[str, str], float | None]:
    """Headers worth handing on, and the seconds to wait before another try."""
    kept: dict[str, str] = {}
    waits: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
        if name in ("retry-after", "retry-after-ms"):
            waits[name] = value
        elif (name.startswith(_KEPT_PREFIXES) or name in _KEPT) and value.isprintable():
            kept[name] = value
    if "retry-after-ms" in waits:
        milliseconds = _seconds(waits["retry-after-ms"])
        if milliseconds is not None:
            return kept, milliseconds / 1000
    return kept, parse_retry_after(waits.get("retry-after"))


def parse_retry_after(value: str | None) -> float | None:
    """Seconds from now, never negative; from seconds or an HTTP date (RFC 9110, section 10.2.3)."""
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
