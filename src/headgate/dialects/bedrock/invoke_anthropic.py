"""InvokeModel with bodies of Anthropic's Messages API: that dialect, but for its outside.

The route holds the model and whether to stream; the body says `anthropic_version` and no field that Bedrock
does not know. Signatures and vendor fields are Anthropic's own, so that their `extensions` and origins are
those of the dialect `anthropic`.

Source: Amazon Bedrock user guide, "Anthropic Claude Messages API".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from headgate.core.errors import InvalidRequest
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest
from headgate.dialects import anthropic
from headgate.dialects.anthropic.profile import ANTHROPIC, Profile
from headgate.dialects.anthropic.stream_decoder import DELTA_START
from headgate.dialects.bedrock.chunks import Deltas, invoke_dialect
from headgate.dialects.json_bodies import missing, wrong_type

NAME = "invoke_anthropic"
VERSION = "bedrock-2023-05-31"

_TAKEN = frozenset(
    {
        "anthropic_beta",
        "anthropic_version",
        "context_management",
        "max_tokens",
        "messages",
        "metadata",
        "output_config",
        "stop_sequences",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
"""Fields that Bedrock knows; it refuses a body with any other."""

_OUTER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VERSION = msgspec.Raw(msgspec.json.encode(VERSION))


def decode_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
    """Read a request body. `anthropic_beta` goes to `extensions["invoke_anthropic"]`.

    Raises:
        InvalidRequest: as `headgate.dialects.anthropic` does, and for a body without `anthropic_version`.
    """
    request = anthropic.decode_request(body, model=model, stream=bool(stream))
    extensions = {name: dict(values) for name, values in request.extensions.items()}
    inner = extensions.get(anthropic.ANTHROPIC.name, {})
    version = inner.pop("anthropic_version", None)
    if version is None:
        raise missing("anthropic_version")
    if not isinstance(version, str):
        raise wrong_type("anthropic_version", "a string", version)
    beta = inner.pop("anthropic_beta", None)
    if beta is not None and not isinstance(beta, list):
        raise wrong_type("anthropic_beta", "an array of strings", beta)
    if beta:
        extensions[NAME] = {"anthropic_beta": beta}
    return replace(request, extensions={name: values for name, values in extensions.items() if values})


def encode_request(
    request: ChatRequest, *, model: str | None = None, profile: Profile = ANTHROPIC
) -> tuple[bytes, list[Loss]]:
    """The request body, and what had no place in it.

    Args:
        request: what to ask.
        model: the upstream's name for the model, by which it is known what it takes.
        profile: what this upstream's Claude models take.

    Raises:
        InvalidRequest: as `headgate.dialects.anthropic` does.
    """
    ours = request.extensions.get(NAME, {})
    others = {name: values for name, values in request.extensions.items() if name != NAME}
    asked = replace(request, extensions=others)
    body, losses = anthropic.encode_request(asked, model=model, profile=profile)
    fields: dict[str, Any] = {"anthropic_version": _VERSION, **ours}
    for key, value in _OUTER.decode(body).items():
        if key in _TAKEN:
            fields[key] = value
        elif key not in ("model", "stream"):
            losses.append(Loss(key, "Bedrock refuses fields that it does not know"))
    try:
        return msgspec.json.encode(fields), losses
    except RecursionError:
        raise InvalidRequest("The request is nested too deeply.", code="invalid_json") from None


INVOKE_ANTHROPIC = invoke_dialect(
    NAME,
    decode_request=decode_request,
    encode_request=encode_request,
    stream_encoder=anthropic.StreamEncoder,
    stream_decoder=anthropic.StreamDecoder,
    encode_result=anthropic.encode_result,
    decode_result=anthropic.decode_result,
    observer=anthropic.observer,
    deltas=Deltas(DELTA_START, b'{"type":"content_block_delta"'),
)
