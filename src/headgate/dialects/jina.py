"""Rerank as Jina and vLLM have it: `/rerank` below a versioned base URL, both sides.

Sources: Jina AI, "Reranker API"; vLLM, "Re-rank API" (the same shape; it always gives the documents back).
"""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.call import Operation
from headgate.core.errors import HeadgateError
from headgate.core.loss import Loss
from headgate.core.operations import RerankRequest, RerankResult
from headgate.dialects.dialect import RerankDialect, WireError
from headgate.dialects.json_bodies import Fields, decode_object, encode
from headgate.dialects.openai_embeddings import foreign_losses
from headgate.dialects.openai_errors import decode_error, error_headers, error_status
from headgate.dialects.ranking import (
    decode_json,
    known_fields,
    observer,
    ranked_from_wire,
    text_list,
    usage_from_answer,
    wanted,
)

NAME = "jina_rerank"


def encode_error(error: HeadgateError) -> WireError:
    """`{"detail": …}`."""
    body = msgspec.json.encode({"detail": error.message})
    return WireError(error_status(error), error_headers(error), body)


def decode_request(body: bytes, *, model: str | None = None) -> RerankRequest:
    """Read a request body. Documents come back in the answer unless the caller declines.

    Raises:
        InvalidRequest: with `param` naming the field ("documents[3].text").
    """
    fields = Fields(decode_object(body))
    returns = fields.boolean("return_documents")
    return RerankRequest(
        model=model or fields.required_text("model"),
        query=fields.required_text("query"),
        documents=text_list(fields, "documents"),
        top_n=fields.integer("top_n", 1),
        return_documents=True if returns is None else returns,
        extensions=known_fields(NAME, fields),  # last: what nobody has taken by now
    )


def encode_request(request: RerankRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """The request for an upstream. Documents are not asked back: the request has them."""
    wire: dict[str, Any] = {
        "model": model or request.model,
        "query": request.query,
        "documents": request.documents,
        "return_documents": False,
    }
    if request.top_n is not None:
        wire["top_n"] = request.top_n
    return encode(wire | dict(request.extensions.get(NAME, {}))), foreign_losses(request.extensions, NAME)


def encode_result(request: RerankRequest, result: RerankResult) -> bytes:
    """The answer's body. Raises StreamBroken where a document is ranked that the request has not."""
    results = [
        {"index": each.index, "relevance_score": each.score}
        | ({"document": {"text": request.documents[each.index]}} if request.return_documents else {})
        for each in wanted(request, result)
    ]
    tokens = result.usage.input_tokens or 0
    answer: dict[str, Any] = {
        "model": result.model or request.model,
        "object": "list",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": results,
    }
    return msgspec.json.encode(answer if result.id is None else {"id": result.id, **answer})


def decode_result(body: bytes) -> RerankResult:
    """An upstream's answer of status 200. Raises StreamBroken, UpstreamError."""
    value = decode_json(body)
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    ranked = ranked_from_wire(fields.get("results"), "relevance_score")
    model, identity = (fields.get(key) for key in ("model", "id"))
    return RerankResult(
        model if isinstance(model, str) else "",
        ranked,
        usage_from_answer(value),
        identity if isinstance(identity, str) else None,
    )


JINA_RERANK = RerankDialect(
    name=NAME,
    operation=Operation.RERANK,
    path=lambda model, stream: "/rerank",
    decode_request=decode_request,
    encode_request=encode_request,
    encode_result=encode_result,
    decode_result=decode_result,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
)
