"""Errors of Bedrock, both ways: `{"message"}`, the kind in the header `x-amzn-errortype`, or within a stream
in a frame of the message type `exception`.

Source: AWS rest-json protocol, "Error response serialization"; Bedrock API reference, "Common errors".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.backend import RawHeaders
from headgate.core.errors import ContextLengthExceeded, HeadgateError, UpstreamError
from headgate.dialects import openai_errors
from headgate.dialects.dialect import WireError

_TYPES: Mapping[int, str] = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
    529: "ServiceUnavailableException",
}
STATUSES: Mapping[str, int] = {
    "validationException": 400,
    "accessDeniedException": 403,
    "resourceNotFoundException": 404,
    "modelTimeoutException": 408,
    "modelErrorException": 424,
    "modelStreamErrorException": 424,
    "throttlingException": 429,
    "modelNotReadyException": 429,
    "serviceQuotaExceededException": 429,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
}
"""Of exceptions within a stream, which have no status of their own."""

_STREAM_TYPES: Mapping[int, str] = {
    429: "throttlingException",
    424: "modelStreamErrorException",
    503: "serviceUnavailableException",
    529: "serviceUnavailableException",
}
_KIND = re.compile(r"[A-Za-z]{1,64}Exception")
_TOO_LONG = re.compile(
    r"(input|prompt) is too long|exceeds? the (maximum )?(context|number of input tokens)", re.I
)


def encode_error(error: HeadgateError) -> WireError:
    """The error as an answer; Retry-After in whole seconds, rounded up."""
    status = error.status if 400 <= error.status <= 599 else 502
    kind = error_type(error, status)
    headers = [(b"content-type", b"application/json"), (b"x-amzn-errortype", kind.encode())]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(max(0.0, error.retry_after))))
    headers += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
    return WireError(status, headers, encode_error_body(error))


def error_type(error: HeadgateError, status: int) -> str:
    """The upstream's own word if it is one of AWS's, else that of the status."""
    if isinstance(error, UpstreamError) and _KIND.fullmatch(error.upstream_type or ""):
        word = error.upstream_type or ""
        return word[0].upper() + word[1:]
    return _TYPES.get(status, "ValidationException" if status < 500 else "InternalServerException")


def encode_error_body(error: HeadgateError) -> bytes:
    return msgspec.json.encode({"message": error.message})


def stream_error_type(error: HeadgateError) -> str:
    """The exception of a stream that says best what went wrong."""
    kind = error.upstream_type if isinstance(error, UpstreamError) else None
    if kind is not None and kind[:1].lower() + kind[1:] in STATUSES:
        return kind[0].lower() + kind[1:]
    other = "validationException" if 400 <= error.status < 500 else "internalServerException"
    return _STREAM_TYPES.get(error.status, other)


def decode_error(status: int, headers: RawHeaders, body: bytes) -> HeadgateError:
    """What an upstream meant by a status of 400 or more; gateways before Bedrock are understood as well."""
    general = openai_errors.decode_error(status, headers, body)
    kind = next((value for name, value in headers if name.lower() == b"x-amzn-errortype"), b"").decode(
        "latin-1"
    )
    detail = _object(body)
    if not kind:
        named = detail.get("__type")
        kind = named.rpartition("#")[2] if isinstance(named, str) else ""
    message = general.message
    if "message" not in detail and isinstance(detail.get("Message"), str):
        message = openai_errors.error_from_value({"message": detail["Message"]}, status).message
    return _error(message, status, kind.partition(":")[0], general)


def exception_from_event(name: str, payload: bytes) -> HeadgateError:
    """An exception within a stream; `name` is its type ("throttlingException")."""
    kind = name[:1].lower() + name[1:]
    detail = _object(payload)
    original = detail.get("originalStatusCode")
    status = STATUSES.get(kind, 502)
    if kind == "modelStreamErrorException" and type(original) is int and 400 <= original <= 599:
        status = original
    general = openai_errors.error_from_value(detail, status)
    return _error(general.message, status, name, general)


def _error(message: str, status: int, kind: str, general: HeadgateError) -> HeadgateError:
    if isinstance(general, ContextLengthExceeded) or (status == 400 and _TOO_LONG.search(message)):
        return ContextLengthExceeded(message, headers=general.headers, status=status)
    word = kind if _KIND.fullmatch(kind) else None
    if word is None and isinstance(general, UpstreamError):
        word = general.upstream_type
    return UpstreamError(
        message,
        status=status,
        param=general.param,
        code=None if general.code == UpstreamError.default_code else general.code,
        retry_after=general.retry_after,
        headers=general.headers,
        type=word,
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
