"""InvokeModel with embedding bodies: Amazon Titan's, one text at a time, and Cohere's.

Source: Amazon Bedrock user guide, "Amazon Titan Embeddings Text", "Amazon Titan Multimodal Embeddings G1",
"Cohere Embed v3" and "Cohere Embed v4".
"""

from __future__ import annotations

import re
import uuid
from contextlib import suppress
from typing import Any

import msgspec
from typing_extensions import override

from headgate.core.call import Operation, Usage
from headgate.core.errors import InvalidRequest, StreamBroken, UnsupportedParameter
from headgate.core.loss import Loss
from headgate.core.operations import EmbedRequest, EmbedResult
from headgate.dialects import cohere
from headgate.dialects.bedrock.chunks import invoke_path
from headgate.dialects.bedrock.errors import decode_error, encode_error
from headgate.dialects.bedrock.heard import counted, error_within
from headgate.dialects.bedrock.usage_headers import USAGE_HEADERS
from headgate.dialects.dialect import EmbedDialect
from headgate.dialects.json_bodies import Fields, decode_object, encode, missing, wrong_value
from headgate.dialects.openai_embeddings import floats, foreign_losses, vector_from_wire
from headgate.dialects.ranking import AnswerObserver, observer

TITAN = "invoke_titan_embed"
COHERE = "invoke_cohere_embed"

_NOT_TAKEN = "the model has no such setting"
_FIRST_TITAN = re.compile(r"titan-embed-(?:text-v1|g1)")
"""Takes a text and nothing else."""
_IMAGE_TITAN = re.compile(r"titan-embed-image")
"""Has a place of its own for the vector's length."""
_COHERE_3 = re.compile(r"embed-(?:english|multilingual)")
"""Vectors of one length."""
_COHERES = frozenset(
    {
        "embedding_types",
        "images",
        "input_type",
        "inputs",
        "max_tokens",
        "output_dimension",
        "texts",
        "truncate",
    }
)
"""Fields that Bedrock knows; it refuses a body with any other."""


def decode_titan(body: bytes, *, model: str | None = None) -> EmbedRequest:
    """Read a request body. `normalize` and unknown fields go to `extensions["invoke_titan_embed"]`.

    Raises:
        InvalidRequest: with `param` naming the field.
        UnsupportedParameter: an image, or vectors of bits.
    """
    fields = Fields(decode_object(body))
    if not model:
        raise missing("modelId")
    if fields.peek("inputImage") is not None:
        raise UnsupportedParameter("Images can't be handed on to this model's target.", param="inputImage")
    text = fields.required_text("inputText")
    if not text:
        raise wrong_value("inputText", "it must not be empty")
    dimensions = fields.integer("dimensions", 1)
    config = fields.fields("embeddingConfig") or Fields({}, "embeddingConfig")
    length = config.integer("outputEmbeddingLength", 1)
    extra: dict[str, Any] = {"embeddingConfig": config.rest()} if config.rest() else {}
    for index, each in enumerate(fields.items("embeddingTypes") or ()):
        if each == "binary":
            raise UnsupportedParameter(
                "Vectors of bits can't be made for this model's target; ask for 'float'.",
                param=f"embeddingTypes[{index}]",
            )
        if each != "float":
            raise wrong_value(f"embeddingTypes[{index}]", "supported values are 'float', 'binary'")
    if (normalize := fields.boolean("normalize")) is not None:
        extra["normalize"] = normalize
    extra |= {key: value for key, value in fields.rest().items() if value is not None}
    return EmbedRequest(
        model=model,
        inputs=(text,),
        dimensions=length if dimensions is None else dimensions,
        extensions={TITAN: extra} if extra else {},
    )


def encode_titan(request: EmbedRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """The request for an upstream.

    Args:
        request: one text.
        model: the upstream's name for the model; it tells which settings there are.

    Raises:
        InvalidRequest: several inputs.
        UnsupportedParameter: token ids.
    """
    if len(request.inputs) != 1:
        raise InvalidRequest(
            f"The target embeds one text in a request, but there are {len(request.inputs)}; send one each.",
            param="input",
            code="invalid_value",
        )
    (text,) = request.inputs
    if not isinstance(text, str):
        raise UnsupportedParameter("The target takes texts, no token ids.", param="input")
    name = (model or request.model).lower()
    losses = foreign_losses(request.extensions, TITAN)
    if request.user is not None:
        losses.append(Loss("user", _NOT_TAKEN))
    settings: dict[str, Any] = dict(request.extensions.get(TITAN, {}))
    if request.dimensions is not None and not _IMAGE_TITAN.search(name):
        settings["dimensions"] = request.dimensions
    elif request.dimensions is not None:
        kept = settings.get("embeddingConfig")
        length = {"outputEmbeddingLength": request.dimensions}
        settings["embeddingConfig"] = {**kept, **length} if isinstance(kept, dict) else length
    if _FIRST_TITAN.search(name):
        losses += [Loss(key, _NOT_TAKEN) for key in settings]
        settings = {}
    return encode({"inputText": text} | settings), losses


def encode_titan_result(request: EmbedRequest, result: EmbedResult) -> bytes:
    vector = floats(result.vectors[0])
    return msgspec.json.encode(
        {
            "embedding": vector,
            "embeddingsByType": {"float": vector},
            "inputTextTokenCount": result.usage.input_tokens or 0,
        }
    )


class _TitanAnswer(msgspec.Struct, gc=False):
    embedding: Any = None
    embeddingsByType: Any = None
    inputTextTokenCount: int | None = None


_TITAN_ANSWER = msgspec.json.Decoder(_TitanAnswer)


def decode_titan_result(body: bytes) -> EmbedResult:
    """An upstream's answer of status 200; it does not say the model.

    Raises:
        StreamBroken: it holds no vector.
        UpstreamError: it holds an error instead.
    """
    try:
        answer = _TITAN_ANSWER.decode(body)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream's answer is not one of Titan's embedding models.") from None
    value = answer.embedding
    if value is None and isinstance(answer.embeddingsByType, dict):
        value = answer.embeddingsByType.get("float")
    vector = vector_from_wire(value)
    if vector is None:
        raise error_within(msgspec.json.decode(body)) or StreamBroken(
            "The upstream's answer holds no vector."
        )
    usage = counted(answer.inputTextTokenCount, None, None)
    return EmbedResult("", (vector,), Usage() if usage is None else usage)


class _Count(msgspec.Struct):
    inputTextTokenCount: int | None = None


_COUNT = msgspec.json.Decoder(_Count)


class TitanObserver(AnswerObserver):
    __slots__ = ()

    @override
    def _note(self, data: bytes) -> bool:
        whole = super()._note(data)
        with suppress(ValueError, RecursionError):
            self.usage = counted(_COUNT.decode(data).inputTextTokenCount, None, None)
        return whole


def decode_cohere(body: bytes, *, model: str | None = None) -> EmbedRequest:
    """Read a request body. Raises InvalidRequest and UnsupportedParameter as `cohere_embed` does."""
    if not model:
        raise missing("modelId")
    return cohere.decode_embed_request(body, model=model)


def encode_cohere(request: EmbedRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """The request for an upstream. Raises UnsupportedParameter as `cohere_embed` does."""
    body, losses = cohere.encode_embed_request(request, model=model)
    fields: dict[str, msgspec.Raw] = _FIELDS.decode(body)
    fields.pop("model")
    refused = fields.keys() - _COHERES
    if _COHERE_3.search((model or request.model).lower()):
        refused |= fields.keys() & {"output_dimension", "max_tokens"}
    for key in sorted(refused):
        del fields[key]
        path = "dimensions" if key == "output_dimension" else key
        losses.append(Loss(path, "Bedrock refuses fields that the model does not know"))
    return msgspec.json.encode(fields), losses


_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def encode_cohere_result(request: EmbedRequest, result: EmbedResult) -> bytes:
    """By type where the request asked for types, else a plain list of vectors."""
    if request.extensions.get(cohere.EMBED, {}).get("embedding_types"):
        return cohere.encode_embed_result(request, result)
    return msgspec.json.encode(
        {
            "id": str(uuid.uuid4()),
            "embeddings": [floats(vector) for vector in result.vectors],
            "texts": [each for each in request.inputs if isinstance(each, str)],
            "response_type": "embeddings_floats",
        }
    )


INVOKE_TITAN_EMBED = EmbedDialect(
    name=TITAN,
    operation=Operation.EMBED,
    path=invoke_path,
    decode_request=decode_titan,
    encode_request=encode_titan,
    encode_result=encode_titan_result,
    decode_result=decode_titan_result,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=lambda stream, content_type: TitanObserver(),
    model_in_body=False,
    usage_headers=USAGE_HEADERS,
)
INVOKE_COHERE_EMBED = EmbedDialect(
    name=COHERE,
    operation=Operation.EMBED,
    path=invoke_path,
    decode_request=decode_cohere,
    encode_request=encode_cohere,
    encode_result=encode_cohere_result,
    decode_result=cohere.decode_embed_result,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
    model_in_body=False,
    usage_headers=USAGE_HEADERS,
)
