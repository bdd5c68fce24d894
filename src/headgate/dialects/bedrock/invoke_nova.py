"""InvokeModel with bodies of Amazon Nova, schema `messages-v1`: Converse, but for its outside.

What Converse has under `additionalModelRequestFields` stands among the fields themselves. Documents
have no place, nor has what Bedrock itself reads (guardrails, metadata, service tiers, schemas of answers).
Parts and vendor fields are Converse's own: their `extensions` and origins are those of `converse`.
`schemaVersion`, of which there is one, may be left out, and is.

Source: Amazon Nova user guides, "Complete request schema" and, of Nova 2, "Request and response schema".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest
from headgate.dialects.bedrock.chunks import Deltas, invoke_dialect
from headgate.dialects.bedrock.families import family_of
from headgate.dialects.bedrock.observer import observer
from headgate.dialects.bedrock.request_decoder import read_request
from headgate.dialects.bedrock.request_encoder import write_request
from headgate.dialects.bedrock.result_codec import decode_result, encode_result
from headgate.dialects.bedrock.stream_decoder import StreamDecoder
from headgate.dialects.bedrock.stream_encoder import StreamEncoder
from headgate.dialects.bedrock.vocabulary import NAME as CONVERSE
from headgate.dialects.bedrock.vocabulary import NOVA_CACHE_FIELDS, merged, own
from headgate.dialects.json_bodies import Fields, decode_object, encode, missing, wrong_type

NAME = "invoke_nova"

_FAMILY = family_of("amazon.nova")
_CONVERSES = frozenset({"system", "messages", "inferenceConfig", "toolConfig"})
_OLD_NAMES = {
    "max_new_tokens": "maxTokens",
    "top_p": "topP",
    "top_k": "topK",
    "stop_sequences": "stopSequences",
}
_NOT_TAKEN = ("response_format", "metadata", "service_tier")
_NO_PLACE = "the dialect has no such field"


def decode_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
    """Read a request body. What has no neutral place goes to `extensions["converse"]`.

    Raises:
        InvalidRequest: with `param` naming the field ("messages[2].content[0].image.format").
    """
    values = decode_object(body)
    if not model:
        raise missing("modelId")
    version = values.pop("schemaVersion", None)
    if version is not None and not isinstance(version, str):
        raise wrong_type("schemaVersion", "a string", version)
    extra = {key: values.pop(key) for key in list(values) if key not in _CONVERSES}
    config = values.get("inferenceConfig")
    if isinstance(config, dict):
        values["inferenceConfig"] = _by_new_names(config, extra)
    return read_request(Fields(values), model, bool(stream), _FAMILY, extra)


def _by_new_names(config: Mapping[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """The settings as Converse calls them; what it does not have goes to `extra`."""
    found = {_OLD_NAMES.get(key, key): value for key, value in config.items()}
    fields = Fields(found, "inferenceConfig")
    top_k = fields.integer("topK")
    if top_k is not None:
        extra["inferenceConfig"] = {"topK": top_k}
    if fields.peek("reasoningConfig") is not None:
        extra.setdefault("reasoningConfig", fields.take("reasoningConfig"))
    return fields.rest()


def encode_request(request: ChatRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """The request body, and what had no place in it."""
    losses = [Loss(key, _NO_PLACE) for key in _NOT_TAKEN if getattr(request, key) is not None]
    kept = own(request.extensions)
    extra_kept = kept.pop("additionalModelRequestFields", {})
    losses += [Loss(key, _NO_PLACE) for key in kept if key not in _CONVERSES]
    kept = {key: value for key, value in kept.items() if key in _CONVERSES}
    others = {name: values for name, values in request.extensions.items() if name != CONVERSE}
    asked = replace(request, response_format=None, metadata=None, service_tier=None, extensions=others)
    wire, extra = write_request(asked, _FAMILY, losses, documents=False)
    for more in (extra, kept, extra_kept):
        wire = merged(wire, more)
    return encode(wire), losses


INVOKE_NOVA = invoke_dialect(
    NAME,
    decode_request=decode_request,
    encode_request=encode_request,
    stream_encoder=partial(StreamEncoder, cache_fields=NOVA_CACHE_FIELDS),
    stream_decoder=StreamDecoder,
    encode_result=partial(encode_result, cache_fields=NOVA_CACHE_FIELDS),
    decode_result=decode_result,
    observer=observer,
    deltas=Deltas(json=b'{"contentBlockDelta":'),
)
