"""Cohere v2: `/v2/embed` and `/v2/rerank`, both sides.

Source: Cohere API reference, "Embed API (v2)", "Rerank API (v2)" and "Errors".
"""

from __future__ import annotations

import base64
import uuid
from functools import partial
from typing import Any

import msgspec

from headgate.core.call import Operation
from headgate.core.errors import HeadgateError, StreamBroken, UnsupportedParameter
from headgate.core.loss import Loss
from headgate.core.operations import EmbedRequest, EmbedResult, RerankRequest, RerankResult
from headgate.dialects.dialect import EmbedDialect, RerankDialect, WireError
from headgate.dialects.json_bodies import Fields, decode_object, encode, join, missing, wrong_value
from headgate.dialects.openai_embeddings import (
    body_model,
    floats,
    foreign_losses,
    unread,
    vector_from_wire,
)
from headgate.dialects.openai_errors import decode_error, error_in_shape
from headgate.dialects.ranking import (
    decode_json,
    decode_query,
    decode_ranked,
    encode_query,
    encode_ranked,
    observer,
    text_list,
    uncounted,
    usage_from_answer,
)

EMBED = "cohere_embed"
RERANK = "cohere_rerank"

_VECTOR_TYPES = ("float", "base64")
_OTHER_TYPES = ("int8", "uint8", "binary", "ubinary")
_API_VERSION = {"version": "2"}


def encode_error(error: HeadgateError) -> WireError:
    """`{"message": …}`: all that Cohere's errors have in common."""
    return error_in_shape(error, {"message": error.message})


def decode_embed_request(body: bytes, *, model: str | None = None) -> EmbedRequest:
    """Read a request body. What has no neutral place goes to `extensions["cohere_embed"]`.

    Raises:
        InvalidRequest: with `param` naming the field ("inputs[3].content[0].type").
        UnsupportedParameter: images, or vectors of a type that only Cohere can make.
    """
    fields = Fields(decode_object(body))
    model = body_model(fields, model)
    inputs = _texts(fields)
    types = fields.items("embedding_types")
    extra: dict[str, Any] = {} if types is None else {"embedding_types": _vector_types(types)}
    extra |= {key: fields.text(key) for key in ("input_type", "truncate") if fields.peek(key) is not None}
    dimensions = fields.integer("output_dimension", 1)
    extra |= {key: value for key, value in fields.rest().items() if value is not None}
    extensions = {EMBED: extra} if extra else {}
    return EmbedRequest(model=model, inputs=inputs, dimensions=dimensions, extensions=extensions)


def _texts(fields: Fields) -> tuple[str, ...]:
    if fields.peek("images"):
        raise UnsupportedParameter("Images can't be handed on to this model's target.", param="images")
    fields.take("images")
    if fields.peek("inputs") is None:
        return text_list(fields, "texts")
    if fields.peek("texts"):
        raise wrong_value("texts", "it can't stand beside 'inputs'")
    fields.take("texts")
    items = fields.items("inputs") or []
    if not items:
        raise wrong_value("inputs", "the array must not be empty")
    return tuple(_input(item, f"inputs[{index}]") for index, item in enumerate(items))


def _input(item: object, path: str) -> str:
    """One input's content, of which several texts make one vector."""
    content = Fields.of(item, path).items("content")
    if not content:
        raise missing(join(path, "content"))
    texts: list[str] = []
    for index, part in enumerate(content):
        fields = Fields.of(part, f"{path}.content[{index}]")
        if fields.required_text("type") != "text":
            raise UnsupportedParameter(
                "Only texts can be handed on to this model's target.", param=fields.param("type")
            )
        texts.append(fields.required_text("text"))
    return "\n".join(texts)


def _vector_types(types: list[Any]) -> list[Any]:
    for index, each in enumerate(types):
        if each in _OTHER_TYPES:
            raise UnsupportedParameter(
                f"Vectors of type '{each}' can't be made for this model's target; ask for 'float'.",
                param=f"embedding_types[{index}]",
            )
        if each not in _VECTOR_TYPES:
            names = ", ".join(f"'{name}'" for name in (*_VECTOR_TYPES, *_OTHER_TYPES))
            raise wrong_value(f"embedding_types[{index}]", f"supported values are {names}")
    return types


def encode_embed_request(
    request: EmbedRequest, *, model: str | None = None, input_type: str = "search_document"
) -> tuple[bytes, list[Loss]]:
    """The request for an upstream.

    Args:
        input_type: for requests that do not say it; Cohere wants to know.

    Raises:
        UnsupportedParameter: token ids, which Cohere does not take.
    """
    if any(not isinstance(each, str) for each in request.inputs):
        raise UnsupportedParameter("The target takes texts, no token ids.", param="input")
    wire: dict[str, Any] = {
        "model": model or request.model,
        "texts": request.inputs,
        "input_type": input_type,
        "embedding_types": ["float"],
    }
    if request.dimensions is not None:
        wire["output_dimension"] = request.dimensions
    losses = foreign_losses(request.extensions, EMBED)
    if request.user is not None:
        losses.append(Loss("user", "the dialect has no such field"))
    own = request.extensions.get(EMBED, {})
    return encode(wire | {key: own[key] for key in own if key != "embedding_types"}), losses


def encode_embed_result(request: EmbedRequest, result: EmbedResult) -> bytes:
    """The answer's body, vectors in each type that the request asked for (float if none)."""
    types = request.extensions.get(EMBED, {}).get("embedding_types")
    embeddings: dict[str, Any] = {}
    for each in types if isinstance(types, list) and types else ["float"]:
        as_base64 = each == "base64"
        embeddings[str(each)] = [
            base64.b64encode(vector).decode() if as_base64 else floats(vector) for vector in result.vectors
        ]
    meta: dict[str, Any] = {"api_version": _API_VERSION}
    if result.usage.input_tokens is not None:
        meta["billed_units"] = {"input_tokens": result.usage.input_tokens}
    answer = {
        "id": str(uuid.uuid4()),
        "embeddings": embeddings,
        "texts": [each for each in request.inputs if isinstance(each, str)],
        "meta": meta,
        "response_type": "embeddings_by_type",
    }
    return msgspec.json.encode(answer)


def decode_embed_result(body: bytes) -> EmbedResult:
    """An upstream's answer of status 200; it does not say the model.

    Raises:
        StreamBroken: it holds no vectors that are read here.
        UpstreamError: it holds an error instead.
    """
    value = decode_json(body)
    found = value.get("embeddings") if isinstance(value, dict) else None
    if isinstance(found, dict):
        found = found.get("float") or found.get("base64")
    if not isinstance(found, list):
        raise StreamBroken("The upstream's answer holds no embeddings of type float or base64.")
    vectors: list[bytes] = []
    for number, each in enumerate(found):
        vector = vector_from_wire(each)
        if vector is None:
            raise StreamBroken(f"The upstream's embedding number {number} can't be read.")
        vectors.append(vector)
    rest = unread(EMBED, uncounted(value), _EMBEDDED)
    return EmbedResult("", tuple(vectors), usage_from_answer(value), rest)


_EMBEDDED = frozenset({"id", "embeddings", "texts", "response_type"})


def decode_rerank_request(body: bytes, *, model: str | None = None) -> RerankRequest:
    """Read a request body. `return_documents` is v1's, and asked for by clients all the same.

    Raises:
        InvalidRequest: with `param` naming the field ("documents[3]").
    """
    return decode_query(RERANK, body, model, returns_documents=False)


def encode_rerank_request(request: RerankRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """The request for an upstream."""
    wire, losses = encode_query(RERANK, request, model)
    return encode(wire), losses


def encode_rerank_result(request: RerankRequest, result: RerankResult) -> bytes:
    """The answer's body. Raises StreamBroken where a document is ranked that the request has not."""
    meta: dict[str, Any] = {"api_version": _API_VERSION, "billed_units": {"search_units": 1}}
    if result.usage.input_tokens is not None:
        meta["tokens"] = {"input_tokens": result.usage.input_tokens}
    answer = {"id": result.id or str(uuid.uuid4()), "results": encode_ranked(request, result), "meta": meta}
    return msgspec.json.encode(answer)


COHERE_EMBED = EmbedDialect(
    name=EMBED,
    operation=Operation.EMBED,
    path=lambda model, stream: "/v2/embed",
    decode_request=decode_embed_request,
    encode_request=encode_embed_request,
    encode_result=encode_embed_result,
    decode_result=decode_embed_result,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
)
COHERE_RERANK = RerankDialect(
    name=RERANK,
    operation=Operation.RERANK,
    path=lambda model, stream: "/v2/rerank",
    decode_request=decode_rerank_request,
    encode_request=encode_rerank_request,
    encode_result=encode_rerank_result,
    decode_result=partial(decode_ranked, RERANK),
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
)
