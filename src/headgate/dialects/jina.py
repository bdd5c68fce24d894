"""Rerank as Jina and vLLM have it: `/rerank` below a versioned base URL, both sides.

Sources: Jina AI, "Reranker API"; vLLM, "Re-rank API" (the same shape; it always gives the documents back).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from headgate.core.call import Operation
from headgate.core.errors import HeadgateError
from headgate.core.loss import Loss
from headgate.core.operations import RerankRequest, RerankResult
from headgate.dialects.dialect import RerankDialect, WireError
from headgate.dialects.json_bodies import encode
from headgate.dialects.openai_errors import decode_error, error_in_shape
from headgate.dialects.ranking import decode_query, decode_ranked, encode_query, encode_ranked, observer

NAME = "jina_rerank"


def encode_error(error: HeadgateError) -> WireError:
    """`{"detail": …}`."""
    return error_in_shape(error, {"detail": error.message})


def decode_request(body: bytes, *, model: str | None = None) -> RerankRequest:
    """Read a request body. Documents come back in the answer unless the caller declines.

    Raises:
        InvalidRequest: with `param` naming the field ("documents[3].text").
    """
    return decode_query(NAME, body, model, returns_documents=True)


def encode_request(request: RerankRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """The request for an upstream, which gives the documents back unless it is told not to."""
    wire, losses = encode_query(NAME, request, model)
    return encode({"return_documents": False} | wire), losses


def encode_result(request: RerankRequest, result: RerankResult) -> bytes:
    """The answer's body. Raises StreamBroken where a document is ranked that the request has not."""
    tokens = result.usage.input_tokens or 0
    answer: dict[str, Any] = {
        "model": result.model or request.model,
        "object": "list",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": encode_ranked(request, result),
    }
    return msgspec.json.encode(answer if result.id is None else {"id": result.id, **answer})


JINA_RERANK = RerankDialect(
    name=NAME,
    operation=Operation.RERANK,
    path=lambda model, stream: "/rerank",
    decode_request=decode_request,
    encode_request=encode_request,
    encode_result=encode_result,
    decode_result=partial(decode_ranked, NAME),
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
)
