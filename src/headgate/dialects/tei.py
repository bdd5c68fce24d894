"""Text Embeddings Inference: `/embed` and `/rerank`, both sides. The server has one model; no body names it.

Source: Hugging Face, text-embeddings-inference, OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.call import Operation, Usage
from headgate.core.errors import HeadgateError, StreamBroken
from headgate.core.loss import Loss
from headgate.core.operations import EmbedRequest, EmbedResult, RerankRequest, RerankResult
from headgate.dialects.dialect import EmbedDialect, RerankDialect, WireError
from headgate.dialects.json_bodies import Fields, decode_object, encode
from headgate.dialects.openai_embeddings import floats, foreign_losses, read_inputs, vector_from_wire
from headgate.dialects.openai_errors import decode_error, error_in_shape, error_status
from headgate.dialects.ranking import (
    decode_json,
    known_fields,
    observer,
    ranked_from_wire,
    text_list,
    wanted,
)

EMBED = "tei_embed"
RERANK = "tei_rerank"

_ERROR_TYPES: Mapping[int, str] = {429: "Overloaded", 503: "Unhealthy"}
_FLAGS = ("normalize", "truncate", "raw_scores")


def encode_error(error: HeadgateError) -> WireError:
    """`{"error": …, "error_type": …}`."""
    status = error_status(error)
    kind = _ERROR_TYPES.get(status, "Validation" if status < 500 else "Backend")
    return error_in_shape(error, {"error": error.message, "error_type": kind})


def decode_embed_request(body: bytes, *, model: str | None = None) -> EmbedRequest:
    """Read a request body. What has no neutral place goes to `extensions["tei_embed"]`.

    Raises:
        InvalidRequest: with `param` naming the field ("inputs[3]").
    """
    fields = Fields(decode_object(body))
    inputs = read_inputs(fields.take("inputs"), "inputs")
    dimensions = fields.integer("dimensions", 1)
    flags = _flags(fields)
    extensions = _own(EMBED, fields, flags)
    return EmbedRequest(model=model or "", inputs=inputs, dimensions=dimensions, extensions=extensions)


def _flags(fields: Fields) -> dict[str, Any]:
    """Fields that are kept, their JSON type checked."""
    return {key: fields.boolean(key) for key in _FLAGS if fields.peek(key) is not None}


def _own(name: str, fields: Fields, flags: dict[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    extra = flags | dict(known_fields(name, fields).get(name, {}))
    return {name: extra} if extra else {}


def encode_embed_request(request: EmbedRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """The request for an upstream, which has but one model."""
    wire: dict[str, Any] = {"inputs": request.inputs}
    if request.dimensions is not None:
        wire["dimensions"] = request.dimensions
    losses = foreign_losses(request.extensions, EMBED)
    if request.user is not None:
        losses.append(Loss("user", "the dialect has no such field"))
    return encode(wire | dict(request.extensions.get(EMBED, {}))), losses


def encode_embed_result(request: EmbedRequest, result: EmbedResult) -> bytes:
    """The answer's body: a bare list of vectors."""
    return msgspec.json.encode([floats(vector) for vector in result.vectors])


def decode_embed_result(body: bytes) -> EmbedResult:
    """An upstream's answer of status 200; it says neither model nor usage.

    Raises:
        StreamBroken: it is not what was asked for.
        UpstreamError: it holds an error instead.
    """
    value = decode_json(body)
    if not isinstance(value, list):
        raise StreamBroken("The upstream's answer is not a list of vectors.")
    vectors: list[bytes] = []
    for number, each in enumerate(value):
        vector = vector_from_wire(each) if isinstance(each, list) else None
        if vector is None:
            raise StreamBroken(f"The upstream's embedding number {number} can't be read.")
        vectors.append(vector)
    return EmbedResult("", tuple(vectors), Usage())


def decode_rerank_request(body: bytes, *, model: str | None = None) -> RerankRequest:
    """Read a request body. What has no neutral place goes to `extensions["tei_rerank"]`.

    Raises:
        InvalidRequest: with `param` naming the field ("texts[3]").
    """
    fields = Fields(decode_object(body))
    query = fields.required_text("query")
    documents = text_list(fields, "texts")
    returns = fields.boolean("return_text") or False
    flags = _flags(fields)
    return RerankRequest(
        model=model or "",
        query=query,
        documents=documents,
        return_documents=returns,
        extensions=_own(RERANK, fields, flags),
    )


def encode_rerank_request(request: RerankRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """The request for an upstream. It ranks all texts: the best `top_n` are taken from its answer."""
    wire: dict[str, Any] = {"query": request.query, "texts": request.documents}
    return encode(wire | dict(request.extensions.get(RERANK, {}))), foreign_losses(request.extensions, RERANK)


def encode_rerank_result(request: RerankRequest, result: RerankResult) -> bytes:
    """The answer's body. Raises StreamBroken where a text is ranked that the request has not."""
    return msgspec.json.encode(
        [
            {"index": each.index, "score": each.score}
            | ({"text": request.documents[each.index]} if request.return_documents else {})
            for each in wanted(request, result)
        ]
    )


def decode_rerank_result(body: bytes) -> RerankResult:
    """An upstream's answer of status 200; it says neither model nor usage.

    Raises:
        StreamBroken: it is not what was asked for.
        UpstreamError: it holds an error instead.
    """
    return RerankResult("", ranked_from_wire(decode_json(body), "score"))


TEI_EMBED = EmbedDialect(
    name=EMBED,
    operation=Operation.EMBED,
    path=lambda model, stream: "/embed",
    decode_request=decode_embed_request,
    encode_request=encode_embed_request,
    encode_result=encode_embed_result,
    decode_result=decode_embed_result,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
    model_in_body=False,
)
TEI_RERANK = RerankDialect(
    name=RERANK,
    operation=Operation.RERANK,
    path=lambda model, stream: "/rerank",
    decode_request=decode_rerank_request,
    encode_request=encode_rerank_request,
    encode_result=encode_rerank_result,
    decode_result=decode_rerank_result,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
    model_in_body=False,
)
