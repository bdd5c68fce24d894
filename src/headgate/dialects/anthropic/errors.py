"""Errors in Anthropic's shape, both ways: `{"type": "error", "error": {"type", "message"}, "request_id"}`.

Source: Anthropic API reference, "Errors". `details.error_code` is the machine-readable reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.backend import RawHeaders
from headgate.core.errors import ContextLengthExceeded, HeadgateError, UpstreamError
from headgate.dialects import openai_errors
from headgate.dialects.dialect import WireError

_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STATUSES: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_TOO_LONG = "prompt is too long"
"""How this API says that the context window is exceeded; agents look for these words and compact."""


def encode_error(error: HeadgateError) -> WireError:
    """The error as an answer; Retry-After in whole seconds, rounded up."""
    wire = openai_errors.encode_error(error)
    return WireError(wire.status, wire.headers, encode_error_body(error))


def encode_error_body(error: HeadgateError) -> bytes:
    detail: dict[str, Any] = {"type": _type(error), "message": _message(error)}
    unsaid = isinstance(error, UpstreamError) and error.code == error.default_code
    if error.code is not None and not unsaid:
        detail["details"] = {"error_code": error.code}
    body: dict[str, Any] = {"type": "error", "error": detail}
    if request_id := error.headers.get("request-id"):
        body["request_id"] = request_id
    return msgspec.json.encode(body)


def _type(error: HeadgateError) -> str:
    told = error.upstream_type if isinstance(error, UpstreamError) else None
    if told is not None and told in _STATUSES:
        return told
    word = _TYPES.get(error.status)
    if word is not None:
        return word
    return "invalid_request_error" if 400 <= error.status < 500 else "api_error"


def _message(error: HeadgateError) -> str:
    """This shape has no field for the offending parameter: the message names it."""
    message = error.message
    if error.param is not None and error.param not in message:
        message = f"{error.param}: {message}"
    if isinstance(error, ContextLengthExceeded) and _TOO_LONG not in message:
        message = f"{_TOO_LONG}: {message}"
    return message


def decode_error(status: int, headers: RawHeaders, body: bytes) -> HeadgateError:
    """What an upstream meant by a status of 400 or more; whatever stands between may have answered, too."""
    error = openai_errors.decode_error(status, headers, body)
    kept = dict(error.headers)
    for name, value in headers:
        if name.lower() == b"request-id" and value.isascii():
            kept["request-id"] = value.decode("ascii")
    try:
        value_read = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        value_read = None
    return _refined(error, _code(value_read), kept)


def error_from_value(value: object) -> HeadgateError:
    """The error of a decoded `error` event or body; the status by its type word, 502 if that is unknown."""
    detail = value.get("error") if isinstance(value, dict) else None
    kind = detail.get("type") if isinstance(detail, dict) else None
    status = _STATUSES.get(kind, 502) if isinstance(kind, str) else 502
    return _refined(openai_errors.error_from_value(value, status), _code(value), {})


def _refined(error: HeadgateError, code: str | None, headers: Mapping[str, str]) -> HeadgateError:
    told = error.status in (400, 413) and _TOO_LONG in error.message.lower()
    if told or isinstance(error, ContextLengthExceeded):
        return ContextLengthExceeded(error.message, headers=headers, status=error.status)
    return UpstreamError(
        error.message,
        status=error.status,
        param=error.param,
        code=code,
        retry_after=error.retry_after,
        headers=headers,
        type=error.upstream_type if isinstance(error, UpstreamError) else None,
    )


def _code(value: object) -> str | None:
    detail = value.get("error") if isinstance(value, dict) else None
    details = detail.get("details") if isinstance(detail, dict) else None
    code = details.get("error_code") if isinstance(details, dict) else None
    return code if isinstance(code, str) else None
