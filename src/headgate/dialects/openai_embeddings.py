"""OpenAI Embeddings: `/embeddings`, both sides.

Source: OpenAI API reference, "Embeddings". Vectors are little-endian float32 within, so that base64 costs
no conversion.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Collection, Mapping
from typing import Annotated, Any

import msgspec

from headgate.core.call import Operation, Usage
from headgate.core.errors import StreamBroken
from headgate.core.loss import Loss
from headgate.core.messages import Extensions
from headgate.core.operations import EmbedRequest, EmbedResult
from headgate.dialects.dialect import EmbedDialect
from headgate.dialects.json_bodies import (
    Fields,
    bounded,
    decode_object,
    encode,
    join,
    missing,
    wrong_type,
    wrong_value,
)
from headgate.dialects.openai_errors import decode_error, encode_error, error_within
from headgate.dialects.openai_observer import observer
from headgate.dialects.openai_usage import usage_from_wire

NAME = "openai_embeddings"
ANSWER_FORM = frozenset({"encoding_format", "embedding_types"})
"""Fields of the dialects that say in what form the caller wants the vectors. The caller's own codec sees to
that, so that nothing is lost where an upstream does not hear of it."""
_FORMATS = ("float", "base64")
_TOKENS = Annotated[tuple[Annotated[int, msgspec.Meta(ge=0)], ...], msgspec.Meta(min_length=1)]
_INPUT = "a string, an array of strings, an array of integers or an array of arrays of integers"


def decode_request(body: bytes, *, model: str | None = None) -> EmbedRequest:
    """Read a request body. `encoding_format` and unknown fields go to `extensions["openai_embeddings"]`.

    Raises:
        InvalidRequest: with `param` naming the field ("input[3]").
    """
    fields = Fields(decode_object(body))
    model = body_model(fields, model)
    inputs = read_inputs(fields.take("input"), "input")
    known = fields.peek("encoding_format") is not None
    extra = {"encoding_format": fields.word("encoding_format", _FORMATS)} if known else {}
    dimensions, user = fields.integer("dimensions", 1), fields.text("user")
    extra |= {key: value for key, value in fields.rest().items() if value is not None}
    extensions = {NAME: extra} if extra else {}
    return EmbedRequest(model=model, inputs=inputs, dimensions=dimensions, user=user, extensions=extensions)


def body_model(fields: Fields, given: str | None) -> str:
    """The model that a request names; `given`, where the route holds it, goes before."""
    named = fields.text("model")
    model = named if given is None else given
    if model is None:
        raise missing(fields.param("model"))
    if not model:
        raise wrong_value(fields.param("model"), "it must not be empty")
    return model


def read_inputs(value: object, param: str) -> tuple[str, ...] | tuple[tuple[int, ...], ...]:
    """Texts or token ids, one or many. Raises InvalidRequest naming the item."""
    if value is None:
        raise missing(param)
    if isinstance(value, str):
        return (_text(value, param),)
    if not isinstance(value, list):
        raise wrong_type(param, _INPUT, value)
    if not value:
        raise wrong_value(param, "the array must not be empty")
    bounded(value, param)
    first = value[0]
    if isinstance(first, list):
        return _token_lists(value, param)
    if isinstance(first, str):
        return tuple(_text(item, join(param, index)) for index, item in enumerate(value))
    if isinstance(first, int) and not isinstance(first, bool):
        return (_tokens(value, param),)
    raise wrong_type(join(param, 0), "a string, an integer or an array of integers", first)


def _text(value: object, param: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(param, "a string", value)
    if not value:
        raise wrong_value(param, "it must not be an empty string")
    return value


def _token_lists(value: list[Any], param: str) -> tuple[tuple[int, ...], ...]:
    """Checked in C: there may be millions of tokens. Only what is wrong is looked for in Python."""
    try:
        return msgspec.convert(value, tuple[_TOKENS, ...])
    except msgspec.ValidationError:
        return tuple(_tokens(item, join(param, index)) for index, item in enumerate(value))


def _tokens(value: object, param: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise wrong_type(param, "an array of integers", value)
    if not value:
        raise wrong_value(param, "the array must not be empty")
    for index, token in enumerate(bounded(value, param)):
        if isinstance(token, bool) or not isinstance(token, int):
            raise wrong_type(join(param, index), "an integer", token)
        if token < 0:
            raise wrong_value(join(param, index), "a token id is not negative")
    return tuple(value)


def encode_request(
    request: EmbedRequest,
    *,
    model: str | None = None,
    encoding_format: str | None = "base64",
    dimensions_field: str = "dimensions",
    takes_user: bool = True,
) -> tuple[bytes, list[Loss]]:
    """The request for an upstream, which is asked for base64: a quarter of the bytes, no digits to parse.

    Args:
        encoding_format: None for an upstream that refuses the field; `decode_result` reads either form.
        dimensions_field: what the upstream calls the length of the vectors.
        takes_user: the upstream knows `user`.
    """
    wire: dict[str, Any] = {"model": model or request.model, "input": request.inputs}
    if encoding_format is not None:
        wire["encoding_format"] = encoding_format
    if request.dimensions is not None:
        wire[dimensions_field] = request.dimensions
    losses = foreign_losses(request.extensions, NAME)
    if request.user is not None and takes_user:
        wire["user"] = request.user
    elif request.user is not None:
        losses.append(Loss("user", "the target has no such setting"))
    extra = {key: value for key, value in _own(request).items() if key != "encoding_format"}
    return encode(wire | extra), losses


def foreign_losses(extensions: Extensions, name: str) -> list[Loss]:
    """One loss for each field that only a dialect other than `name` has."""
    return [
        Loss(key, f"only {dialect} has this field")
        for dialect, values in extensions.items()
        if dialect != name
        for key in values
        if key not in ANSWER_FORM
    ]


def encode_result(request: EmbedRequest, result: EmbedResult) -> bytes:
    """The answer's body, vectors in the form that the request asked for (float unless base64)."""
    as_base64 = _own(request).get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector).decode() if as_base64 else floats(vector),
        }
        for index, vector in enumerate(result.vectors)
    ]
    tokens = result.usage.input_tokens or 0
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": result.model, "usage": usage})


def decode_result(body: bytes) -> EmbedResult:
    """An upstream's answer of status 200; vectors are put in the order of their `index`.

    Raises:
        StreamBroken: it is not a list of embeddings.
        UpstreamError: it holds an error instead.
    """
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream's answer is not JSON, or was cut.") from None
    if isinstance(value, dict) and value.get("error"):
        raise error_within(value)
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(data, list):
        raise StreamBroken("The upstream's answer is not a list of embeddings: it has no 'data'.")
    vectors: dict[int, bytes] = {}
    for number, item in enumerate(data):
        index = item.get("index", number) if isinstance(item, dict) else None
        vector = vector_from_wire(item.get("embedding")) if isinstance(item, dict) else None
        if not isinstance(index, int) or vector is None:
            raise StreamBroken(f"The upstream's embedding number {number} can't be read.")
        vectors[index] = vector
    if sorted(vectors) != list(range(len(data))):
        raise StreamBroken("The upstream's embeddings are not numbered from 0 without gaps.")
    model = value.get("model")
    return EmbedResult(
        model=model if isinstance(model, str) else "",
        vectors=tuple(vectors[index] for index in range(len(data))),
        usage=usage_from_wire(value.get("usage")) or Usage(),
        extensions=unread(NAME, value, _ANSWERED),
    )


_ANSWERED = frozenset({"object", "data", "model", "usage", "id", "created"})


def unread(name: str, answer: Mapping[str, Any], known: Collection[str]) -> Extensions:
    """The fields of an upstream's answer that have no neutral form."""
    rest = {key: value for key, value in answer.items() if key not in known and value is not None}
    return {name: rest} if rest else {}


def vector_from_wire(value: object) -> bytes | None:
    """Numbers or base64 as little-endian float32; None for anything else."""
    if isinstance(value, str):
        try:
            packed = base64.b64decode(value, validate=True)
        except ValueError:  # binascii.Error, or not ASCII
            return None
        return packed if packed and len(packed) % 4 == 0 else None
    if not isinstance(value, list) or not value:
        return None
    try:
        return struct.pack(f"<{len(value)}f", *value)
    except (struct.error, OverflowError):
        return None


def floats(vector: bytes) -> tuple[float, ...]:
    """Little-endian float32 as numbers."""
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def _own(request: EmbedRequest) -> dict[str, Any]:
    return dict(request.extensions.get(NAME, {}))


OPENAI_EMBEDDINGS = EmbedDialect(
    name=NAME,
    operation=Operation.EMBED,
    path=lambda model, stream: "/embeddings",
    decode_request=decode_request,
    encode_request=encode_request,
    encode_result=encode_result,
    decode_result=decode_result,
    encode_error=encode_error,
    decode_error=decode_error,
    observer=observer,
)
