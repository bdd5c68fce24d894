"""`countTokens`: a prompt's tokens, both sides.

Source: Gemini API reference, "Counting tokens". The prompt is `contents` alone, or a whole request in
`generateContentRequest`; Vertex has the request's other fields beside `contents`.
"""

from __future__ import annotations

import msgspec

from headgate.core.errors import StreamBroken
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest
from headgate.dialects.gemini.errors import error_within
from headgate.dialects.gemini.request_decoder import read_request
from headgate.dialects.gemini.request_encoder import write_request
from headgate.dialects.gemini.vocabulary import ProtoFields
from headgate.dialects.json_bodies import decode_object, encode, wrong_value


def decode_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
    """Read a request body. Raises InvalidRequest with `param` naming the field."""
    fields = ProtoFields(decode_object(body))
    inner = fields.fields("generateContentRequest")
    if inner is None:
        return read_request(fields, model, False)
    if fields.peek("contents") is not None:
        raise wrong_value("contents", "'generateContentRequest' is given too; send only one")
    return read_request(inner, model, False)


def encode_request(request: ChatRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """The request body, and what had no place in it. Raises as `request_encoder.encode_request` does."""
    name = model or request.model
    wire, losses = write_request(request, name)
    if wire.keys() == {"contents"}:
        return encode(wire), losses
    return encode({"generateContentRequest": {"model": f"models/{name}", **wire}}), losses


def encode_result(tokens: int) -> bytes:
    return msgspec.json.encode({"totalTokens": tokens})


def decode_result(body: bytes) -> int:
    """Raises StreamBroken: no count. UpstreamError: an error instead."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream's answer is not JSON, or was cut.") from None
    if (error := error_within(value)) is not None:
        raise error
    tokens = value.get("totalTokens", 0) if isinstance(value, dict) else None
    if type(tokens) is not int:
        raise StreamBroken("The upstream's answer has no 'totalTokens'.")
    return tokens
