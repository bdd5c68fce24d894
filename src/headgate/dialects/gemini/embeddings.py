"""`embedContent` and `batchEmbedContents`, both sides.

Source: Gemini API reference, "Embeddings". One route takes one text, the other a batch; the bodies differ.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import InvalidRequest, StreamBroken
from headgate.core.loss import Loss
from headgate.core.operations import EmbedRequest, EmbedResult
from headgate.dialects.gemini.errors import error_within
from headgate.dialects.gemini.usage import usage_from_wire
from headgate.dialects.gemini.vocabulary import NAME, ProtoFields
from headgate.dialects.json_bodies import decode_object, encode, join, missing, wrong_value
from headgate.dialects.openai_embeddings import floats


def decode_one(body: bytes, *, model: str | None = None) -> EmbedRequest:
    """An `embedContent` request. Raises InvalidRequest with `param` naming the field."""
    return _request(model, [ProtoFields(decode_object(body))])


def decode_batch(body: bytes, *, model: str | None = None) -> EmbedRequest:
    """A `batchEmbedContents` request. Raises InvalidRequest with `param` naming the field."""
    fields = ProtoFields(decode_object(body))
    items = fields.repeated("requests")
    if items is None:
        raise missing("requests")
    if not items:
        raise wrong_value("requests", "the array must hold at least one request")
    return _request(model, [ProtoFields.of(item, f"requests[{index}]") for index, item in enumerate(items)])


def _request(model: str | None, items: Sequence[ProtoFields]) -> EmbedRequest:
    """Fields without a neutral place go to `extensions["gemini"]`: once where all agree, else by item."""
    named = [(item.text("model") or "").removeprefix("models/") for item in items]
    texts = [_text(item) for item in items]
    sizes = [item.integer("outputDimensionality", 1) for item in items]
    if len(set(sizes)) > 1:
        raise wrong_value("requests", "'outputDimensionality' must be the same in all of them")
    name = model or named[0]
    if not name:
        raise missing(items[0].param("model"))
    rests = [{key: value for key, value in item.rest().items() if value is not None} for item in items]
    same = all(rest == rests[0] for rest in rests)
    extra: dict[str, Any] = rests[0] if same else {"requests": rests}
    return EmbedRequest(
        model=name, inputs=tuple(texts), dimensions=sizes[0], extensions={NAME: extra} if extra else {}
    )


def _text(item: ProtoFields) -> str:
    content = item.fields("content")
    path = item.param("content")
    if content is None:
        raise missing(path)
    parts = content.repeated("parts") or []
    texts: list[str] = []
    for index, part in enumerate(parts):
        fields = ProtoFields.of(part, f"{join(path, 'parts')}[{index}]")
        text = fields.text("text")
        if text is None:
            raise wrong_value(fields.path, "only text can be embedded")
        texts.append(text)
    if not any(texts):
        raise wrong_value(join(path, "parts"), "there must be a text that is not empty")
    return "\n".join(texts)


def encode_one(request: EmbedRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """Raises InvalidRequest: token ids, or other than one input."""
    if len(request.inputs) != 1:
        raise InvalidRequest(
            f"'embedContent' embeds one text, but there are {len(request.inputs)}; use 'batchEmbedContents'.",
            param="input",
            code="invalid_value",
        )
    items, losses = _items(request, model)
    return encode(items[0]), losses


def encode_batch(request: EmbedRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """Raises InvalidRequest: token ids."""
    items, losses = _items(request, model)
    return encode({"requests": items}), losses


def _items(request: EmbedRequest, model: str | None) -> tuple[list[dict[str, Any]], list[Loss]]:
    losses = [
        Loss(key, f"only {dialect} has this field")
        for dialect, values in request.extensions.items()
        if dialect != NAME
        for key in values
    ]
    if request.user is not None:
        losses.append(Loss("user", "the dialect has no end users"))
    shared = dict(request.extensions.get(NAME, {}))
    single = shared.pop("requests", None)
    items: list[dict[str, Any]] = []
    for index, text in enumerate(request.inputs):
        if not isinstance(text, str):
            raise InvalidRequest(
                "The target embeds texts, not token ids.", param=f"input[{index}]", code="invalid_type"
            )
        wire: dict[str, Any] = {
            "model": f"models/{model or request.model}",
            "content": {"parts": [{"text": text}]},
        }
        if request.dimensions is not None:
            wire["outputDimensionality"] = request.dimensions
        mine = single[index] if isinstance(single, list) and index < len(single) else None
        items.append(wire | shared | (mine if isinstance(mine, dict) else {}))
    return items, losses


def encode_result_one(request: EmbedRequest, result: EmbedResult) -> bytes:
    return msgspec.json.encode({"embedding": _values(result.vectors[0]), **_usage(result.usage)})


def encode_result_batch(request: EmbedRequest, result: EmbedResult) -> bytes:
    vectors = [_values(vector) for vector in result.vectors]
    return msgspec.json.encode({"embeddings": vectors, **_usage(result.usage)})


def _values(vector: bytes) -> dict[str, tuple[float, ...]]:
    return {"values": floats(vector)}


def _usage(usage: Usage) -> dict[str, Any]:
    tokens = usage.input_tokens
    return (
        {} if tokens is None else {"usageMetadata": {"promptTokenCount": tokens, "totalTokenCount": tokens}}
    )


def decode_result(body: bytes) -> EmbedResult:
    """An upstream's answer of status 200 on either route. It does not name the model.

    Raises:
        StreamBroken: it holds no embeddings.
        UpstreamError: it holds an error instead.
    """
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream's answer is not JSON, or was cut.") from None
    if (error := error_within(value)) is not None:
        raise error
    fields = value if isinstance(value, dict) else {}
    items = [fields["embedding"]] if "embedding" in fields else fields.get("embeddings")
    if not isinstance(items, list) or not items:
        raise StreamBroken("The upstream's answer has neither 'embedding' nor 'embeddings'.")
    vectors: list[bytes] = []
    for number, item in enumerate(items):
        vector = _packed(item.get("values")) if isinstance(item, dict) else None
        if vector is None:
            raise StreamBroken(f"The upstream's embedding number {number} can't be read.")
        vectors.append(vector)
    usage, counts = usage_from_wire(fields.get("usageMetadata")) or (Usage(), {})
    rest = {key: item for key, item in fields.items() if key not in _ANSWERED and item is not None}
    if told := [item["statistics"] for item in items if item.get("statistics")]:
        rest["statistics"] = told
    rest |= {"usageMetadata": counts} if counts else {}
    return EmbedResult("", tuple(vectors), usage, {NAME: rest} if rest else {})


_ANSWERED = frozenset({"embedding", "embeddings", "usageMetadata"})


def _packed(values: object) -> bytes | None:
    """Little-endian float32; None where `values` is no list of numbers."""
    if not isinstance(values, list) or not values:
        return None
    try:
        return struct.pack(f"<{len(values)}f", *values)
    except (struct.error, OverflowError):
        return None
