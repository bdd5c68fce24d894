"""A neutral request, written as a Chat Completions request for an upstream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import (
    ChatRequest,
    Message,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Tool,
    ToolChoice,
    ToolResult,
)
from headgate.dialects.conversation import check_results, empty_conversation
from headgate.dialects.foreign import UNPADDED
from headgate.dialects.json_bodies import encode
from headgate.dialects.openai_chat.effort import effort_to_tell, is_meant_anyway
from headgate.dialects.openai_chat.message_encoder import MessageEncoder, foreign_losses, hint_fields
from headgate.dialects.openai_chat.profile import COMPATIBLE, EFFORT, Profile
from headgate.dialects.openai_chat.vocabulary import NAME, own
from headgate.dialects.openai_shared import shared_fields

_NOT_TAKEN = "the target has no such setting"
_WORDS_ONLY = "the dialect sets reasoning by an effort word only, and not every model takes one"


def encode_request(
    request: ChatRequest, *, model: str | None = None, profile: Profile = COMPATIBLE
) -> tuple[bytes, list[Loss]]:
    """The request body, and what had no place in it.

    A stream's usage is asked for only if `request.include_usage` says so. A developer's message to an
    upstream that does not know the role is sent as the system's.

    Args:
        request: what to ask.
        model: the upstream's name for the model, where it differs from the request's.
        profile: what this upstream takes.

    Raises:
        InvalidRequest: no message, or a tool's result without its call before it.
    """
    if not request.messages:
        raise empty_conversation()
    check_results(request.messages, _legacy_calls(request.messages))
    name = model or request.model
    losses = foreign_losses(request.extensions, "")
    effort = effort_to_tell(request, name, profile, losses, beside_tools=False)
    profile = profile.for_model(name, effort)
    encoder = MessageEncoder(losses, profile)
    messages: list[dict[str, Any]] = []
    for index, message in enumerate(request.messages):
        messages += encoder.encode(message, index)
    wire: dict[str, Any] = {"model": name, "messages": messages}
    _put_tools(request, profile, wire, losses)
    if request.response_format is not None:
        wire["response_format"] = _response_format(request.response_format, losses)
    _put_sampling(request.sampling, profile, wire, losses)
    if effort is not None:
        wire[EFFORT] = effort
    if request.reasoning is not None and not is_meant_anyway(request.reasoning, profile):
        _put_reasoning(request.reasoning, effort, losses)
    for key in ("user", "metadata", "service_tier"):
        if (value := getattr(request, key)) is not None:
            wire[key] = value
    extra = own(request.extensions) | shared_fields(request.extensions)
    _put_stream(request, profile, extra.pop("stream_options", None), wire, losses)
    return encode(_allowed(wire | extra, profile, losses)), losses


def _legacy_calls(messages: Iterable[Message]) -> Iterator[str]:
    """Of the deprecated role `function`, whose results are known by a name and need no call."""
    for message in messages:
        if own(message.extensions).get("role") == "function":
            yield from (part.call_id for part in message.parts if isinstance(part, ToolResult))


def _put_stream(
    request: ChatRequest, profile: Profile, more: object, wire: dict[str, Any], losses: list[Loss]
) -> None:
    if request.stream:
        wire["stream"] = True
    options: dict[str, Any] = more if isinstance(more, dict) else {}
    if options.get("include_obfuscation"):
        losses.append(UNPADDED)
    if not profile.stream_options:
        losses += [
            Loss(f"stream_options.{key}", _NOT_TAKEN) for key in options if key != "include_obfuscation"
        ]
        return
    if request.stream and profile.obfuscation:
        options = {"include_obfuscation": False} | options
    if request.stream and request.include_usage:
        options = {"include_usage": True} | options
    if options:
        wire["stream_options"] = options


def _allowed(wire: dict[str, Any], profile: Profile, losses: list[Loss]) -> dict[str, Any]:
    """Without the fields that the upstream refuses, the others by the names that it knows."""
    refused = [key for key in wire if key in profile.refuses]
    losses += [Loss(key, _NOT_TAKEN) for key in refused if wire[key] != profile.refuses[key]]
    return {profile.renames.get(key, key): value for key, value in wire.items() if key not in refused}


def _put_sampling(sampling: Sampling, profile: Profile, wire: dict[str, Any], losses: list[Loss]) -> None:
    if sampling.max_tokens is not None:
        wire[profile.max_tokens_field] = sampling.max_tokens
    if sampling.stop:
        wire["stop"] = list(sampling.stop)
    for key in (
        "temperature",
        "top_p",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "n",
        "logprobs",
        "top_logprobs",
    ):
        if (value := getattr(sampling, key)) is not None:
            wire[key] = value
    for key in ("top_k", "min_p"):
        value = getattr(sampling, key)
        if value is not None and profile.top_k:
            wire[key] = value
        elif value is not None:
            losses.append(Loss(key, _NOT_TAKEN))


def _put_reasoning(options: ReasoningOptions, effort: str | None, losses: list[Loss]) -> None:
    reasons = dict.fromkeys(("budget_tokens", "enabled", "summary"), _WORDS_ONLY)
    if effort is not None:
        reasons["budget_tokens"] = f"sent as the effort '{effort}'"
        if options.enabled is (effort != "none"):
            del reasons["enabled"]
    losses += [
        Loss(f"reasoning.{key}", why) for key, why in reasons.items() if getattr(options, key) is not None
    ]


def _put_tools(request: ChatRequest, profile: Profile, wire: dict[str, Any], losses: list[Loss]) -> None:
    for index, tool in enumerate(request.tools):
        path = tool.place(index)
        extra = own(tool.extensions)
        if tool.kind not in ("function", "custom") and NAME not in tool.extensions:
            losses.append(Loss(path, "another vendor's own kind of tool"))
            continue
        losses += foreign_losses(tool.extensions, path)
        if "functions" in extra:
            rest = {key: value for key, value in extra.items() if key != "functions"}
            wire.setdefault("functions", []).append(_function(tool) | rest)
        else:
            wire.setdefault("tools", []).append(_tool(tool) | hint_fields(tool.cache, profile, path, losses))
    if request.tool_choice is not None:
        losses += foreign_losses(request.tool_choice.extensions, "tool_choice")
        _put_tool_choice(request.tool_choice, wire)
    if request.parallel_tool_calls is not None:
        wire["parallel_tool_calls"] = request.parallel_tool_calls


def _put_tool_choice(choice: ToolChoice, wire: dict[str, Any]) -> None:
    kept = own(choice.extensions)
    if "function_call" in kept:
        wire["function_call"] = kept["function_call"]
    elif kept:
        wire["tool_choice"] = dict(kept)
    elif choice.mode == "tool":
        wire["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    else:
        wire["tool_choice"] = choice.mode


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.kind not in ("function", "custom"):
        return {"type": tool.kind, **own(tool.extensions)}
    outer = own(tool.extensions)
    inner = outer.pop(tool.kind, None)
    body = _function(tool)
    if isinstance(inner, dict):
        body |= inner
    return {"type": tool.kind, tool.kind: body, **outer}


def _function(tool: Tool) -> dict[str, Any]:
    fields = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    return {"name": tool.name} | {key: value for key, value in fields.items() if value is not None}


def _response_format(wanted: ResponseFormat, losses: list[Loss]) -> dict[str, Any]:
    losses += foreign_losses(wanted.extensions, "response_format")
    outer = own(wanted.extensions)
    if wanted.kind != "json_schema":
        return {"type": wanted.kind, **outer}
    fields = {"description": wanted.description, "schema": wanted.schema, "strict": wanted.strict}
    body: dict[str, Any] = {"name": wanted.name or "answer"}
    body |= {key: value for key, value in fields.items() if value is not None}
    inner = outer.pop("json_schema", None)
    if isinstance(inner, dict):
        body |= inner
    return {"type": "json_schema", "json_schema": body, **outer}
