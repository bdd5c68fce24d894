"""Errors in Google's shape, both ways: `{"error": {"code", "message", "status", "details"}}`.

Source: Google AIP-193 "Errors", and google/rpc/error_details.proto.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from headgate.core.backend import RawHeaders
from headgate.core.errors import ContextLengthExceeded, HeadgateError, UpstreamError
from headgate.dialects import openai_errors
from headgate.dialects.dialect import WireError

_STATUS_WORDS: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_STATUS_CODES: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INTERNAL": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_RPC = "type.googleapis.com/google.rpc."
_TOO_LONG = re.compile(r"input token count\b.{0,80}\bexceeds the maximum", re.IGNORECASE)
_DELAY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")


def encode_error(error: HeadgateError) -> WireError:
    """The error as an answer; headers as in `headgate.dialects.openai_errors`."""
    wire = openai_errors.encode_error(error)
    return WireError(wire.status, wire.headers, encode_error_body(error))


def encode_error_body(error: HeadgateError) -> bytes:
    """`details` tell the seconds to wait, the field that is wrong, and the machine-readable reason."""
    status = error.status if 400 <= error.status <= 599 else 502
    word = error.upstream_type if isinstance(error, UpstreamError) else None
    if word not in _STATUS_CODES:
        word = _STATUS_WORDS.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
    details: list[dict[str, Any]] = []
    if error.code is not None:
        details.append({"@type": f"{_RPC}ErrorInfo", "reason": error.code, "domain": "headgate"})
    if error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": f"{_RPC}BadRequest", "fieldViolations": [violation]})
    if error.retry_after is not None:
        seconds = math.ceil(max(0.0, error.retry_after) * 1000) / 1000
        details.append({"@type": f"{_RPC}RetryInfo", "retryDelay": f"{seconds:g}s"})
    body: dict[str, Any] = {"code": status, "message": error.message, "status": word}
    if details:
        body["details"] = details
    return msgspec.json.encode({"error": body})


def decode_error(status: int, headers: RawHeaders, body: bytes) -> HeadgateError:
    """What an upstream meant by a status of 400 or more. Other shapes are read as OpenAI's."""
    plain = openai_errors.decode_error(status, headers, body)
    try:
        detail = _error_object(msgspec.json.decode(body))
    except (ValueError, RecursionError):
        detail = None
    return plain if detail is None else _error(detail, plain)


def error_within(value: object) -> HeadgateError | None:
    """The error that a decoded answer, or an element of a stream, holds; None where it holds none."""
    detail = _error_object(value)
    if detail is None:
        return None
    code, word = detail.get("code"), detail.get("status")
    status = _STATUS_CODES.get(word, 502) if isinstance(word, str) else 502
    if type(code) is int and 400 <= code <= 599:
        status = code
    return _error(detail, openai_errors.error_from_value(value, status))


def _error_object(value: object) -> dict[str, Any] | None:
    if isinstance(value, list) and value:
        value = value[0]
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, str) and error:
        return {"message": error}
    return error if isinstance(error, dict) else None


def _error(detail: Mapping[str, Any], plain: HeadgateError) -> HeadgateError:
    """`plain` with what this dialect says besides."""
    if _TOO_LONG.search(plain.message):
        return ContextLengthExceeded(plain.message, headers=plain.headers, status=plain.status)
    word, code, param, wait = detail.get("status"), None, None, plain.retry_after
    for item in _details(detail):
        match str(item.get("@type", "")).removeprefix(_RPC), item:
            case "ErrorInfo", {"reason": str(reason)}:
                code = reason
            case "BadRequest", {"fieldViolations": [{"field": str(field)}, *_]}:
                param = field
            case "RetryInfo", {"retryDelay": str(delay)} if wait is None:
                found = _DELAY.fullmatch(delay)
                wait = None if found is None else float(found[1])
    kind = word if isinstance(word, str) else None
    return UpstreamError(
        plain.message,
        status=plain.status,
        param=param or plain.param,
        code=code or kind or plain.code,
        retry_after=wait,
        headers=plain.headers,
        type=kind,
    )


def _details(detail: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    details = detail.get("details")
    for item in details if isinstance(details, list) else ():
        if isinstance(item, dict):
            yield item
