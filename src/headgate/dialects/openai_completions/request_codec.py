"""A legacy Completions request, both ways. Its prompt is one user's message.

Source: OpenAI API reference, "Completions (legacy)".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.errors import InvalidRequest, UnsupportedParameter
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest, Extensions, Message, Sampling, Text
from headgate.dialects.foreign import UNPADDED, foreign_losses
from headgate.dialects.json_bodies import (
    Fields,
    decode_object,
    encode,
    join,
    missing,
    wrong_type,
    wrong_value,
)
from headgate.dialects.openai_chat.profile import COMPATIBLE, Profile
from headgate.dialects.openai_chat.request_decoder import sampling
from headgate.dialects.openai_shared import VENDOR, stream_options

NAME = "openai_completions"
DEFAULT_MAX_TOKENS = 16
"""Tokens of an answer where a request does not say; chat has no such limit."""

_NOT_TAKEN = "the target has no such setting"
_VENDOR_FIELDS: Mapping[str, type] = {"suffix": str, "echo": bool}
_EXPECTED: Mapping[type, str] = {str: "a string", bool: "a boolean"}
_SAMPLING = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "n")
_NO_PLACE = ("tool_choice", "parallel_tool_calls", "response_format", "reasoning", "metadata", "service_tier")


def decode_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
    """Read a request body. `suffix`, `echo`, `best_of` and unknown fields go to the extensions.

    Raises:
        InvalidRequest: with `param` naming the field.
        UnsupportedParameter: token ids, or several prompts at once, which only an upstream of this dialect
            can take.
    """
    fields = Fields(decode_object(body))
    named = fields.text("model")
    name = named if model is None else model
    if not name:
        raise missing("model")
    body_stream = fields.boolean("stream")
    streams = bool(body_stream) if stream is None else stream
    options = stream_options(fields)
    wants_usage = bool(options and options.boolean("include_usage"))
    return ChatRequest(
        model=name,
        messages=(
            Message("user", (Text(_prompt(fields.take("prompt"))),), path="prompt", part_paths=("prompt",)),
        ),
        sampling=_sampling(fields),
        stream=streams,
        include_usage=wants_usage and streams,
        user=fields.text("user"),
        extensions=_rest(fields, options),  # last: what nobody has taken by now
    )


def _prompt(value: object) -> str:
    if value is None:
        raise missing("prompt")
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise wrong_type("prompt", "a string or an array", value)
    if not value:
        raise wrong_value("prompt", "the array must not be empty")
    first = value[0]
    if isinstance(first, list) or (isinstance(first, int) and not isinstance(first, bool)):
        raise UnsupportedParameter(
            "This model's target takes a text as 'prompt', no token ids.", param="prompt"
        )
    if not isinstance(first, str):
        raise wrong_type("prompt[0]", "a string", first)
    if len(value) > 1:
        raise UnsupportedParameter(
            "This model's target takes one prompt at a time; send a request for each.", param="prompt"
        )
    return first


def _sampling(fields: Fields) -> Sampling:
    limit, logprobs = fields.integer("max_tokens", 0), fields.integer("logprobs", 0)
    return sampling(
        fields,
        max_tokens=DEFAULT_MAX_TOKENS if limit is None else limit,
        logprobs=None if logprobs is None else True,
        top_logprobs=logprobs,
    )


def _rest(fields: Fields, options: Fields | None) -> Extensions:
    best_of = fields.integer("best_of", 1)
    for key, expected in _VENDOR_FIELDS.items():
        value = fields.peek(key)
        if value is not None and not isinstance(value, expected):
            raise wrong_type(key, _EXPECTED[expected], value)
    extra = {key: value for key, value in fields.rest().items() if value is not None}
    if extra.get("echo") is False:
        del extra["echo"]
    if best_of not in (None, 1):
        extra["best_of"] = best_of
    more = options.rest() if options else None
    if more:
        extra["stream_options"] = more
    return {NAME: extra} if extra else {}


def encode_request(
    request: ChatRequest, *, model: str | None = None, profile: Profile = COMPATIBLE
) -> tuple[bytes, list[Loss]]:
    """The request body, and what had no place in it: here there are neither roles nor tools.

    Raises:
        InvalidRequest: no message holds a text.
    """
    name = model or request.model
    profile = profile.for_model(name)
    losses = _foreign(request.extensions, "")
    wire: dict[str, Any] = {"model": name, "prompt": _joined(request, losses)}
    losses += [
        Loss(tool.place(index), "the dialect has no tools") for index, tool in enumerate(request.tools)
    ]
    losses += [Loss(key, _NOT_TAKEN) for key in _NO_PLACE if getattr(request, key) is not None]
    _put_sampling(request.sampling, profile, wire, losses)
    if request.user is not None:
        wire["user"] = request.user
    extra: dict[str, Any] = dict(request.extensions.get(NAME, {}))
    options = extra.pop("stream_options", None)
    if request.stream:
        wire["stream"] = True
        asked = {"include_usage": True} if request.include_usage else {}
        options = asked | (options if isinstance(options, dict) else {})
    if options and options.get("include_obfuscation"):
        losses.append(UNPADDED)
    if options and profile.stream_options:
        wire["stream_options"] = options
    wire |= extra
    refused = [key for key in wire if key in profile.refuses]
    losses += [Loss(key, _NOT_TAKEN) for key in refused if wire[key] != profile.refuses[key]]
    kept = {profile.renames.get(key, key): value for key, value in wire.items() if key not in refused}
    return encode(kept), losses


def _joined(request: ChatRequest, losses: list[Loss]) -> str:
    """The texts of all messages, blank lines between them."""
    texts: list[str] = []
    only = len(request.messages) == 1 and request.messages[0].role == "user"
    for number, message in enumerate(request.messages):
        path = message.place(number)
        losses += _foreign(message.extensions, path)
        if not only:
            losses.append(Loss(f"{path}.role", "a prompt has no roles"))
        if message.name is not None:
            losses.append(Loss(f"{path}.name", "a prompt has no names"))
        parts: list[str] = []
        for index, part in enumerate(message.parts):
            part_path = message.place_of(number, index)
            if not isinstance(part, Text):
                kind = type(part).__name__.lower()
                losses.append(Loss(part_path, f"{kind} parts have no place in a prompt"))
                continue
            losses += _foreign(part.extensions, part_path)
            if part.citations:
                losses.append(Loss(f"{part_path}.citations", "a prompt has no annotations"))
            if part.cache is not None:
                losses.append(Loss(f"{part_path}.cache_control", "the target takes no cache hints"))
            parts.append(part.text)
        if parts:
            texts.append("".join(parts))
    if not texts:
        raise InvalidRequest("The target takes text only, and no message holds any.", param="messages")
    return "\n\n".join(texts)


def _put_sampling(sampling: Sampling, profile: Profile, wire: dict[str, Any], losses: list[Loss]) -> None:
    if sampling.max_tokens is not None:
        wire["max_tokens"] = sampling.max_tokens
    if sampling.stop:
        wire["stop"] = list(sampling.stop)
    for key in _SAMPLING:
        if (value := getattr(sampling, key)) is not None:
            wire[key] = value
    if sampling.logprobs:
        wire["logprobs"] = sampling.top_logprobs or 0
    for key in ("top_k", "min_p"):
        value = getattr(sampling, key)
        if value is not None and profile.top_k:
            wire[key] = value
        elif value is not None:
            losses.append(Loss(key, _NOT_TAKEN))


def _foreign(extensions: Extensions, path: str) -> list[Loss]:
    losses = [Loss(join(path, key), _NOT_TAKEN) for key in extensions.get(VENDOR, {})]
    return losses + foreign_losses(extensions, path, NAME, VENDOR)
