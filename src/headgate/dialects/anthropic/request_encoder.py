"""A neutral request, written as a Messages request for an upstream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest, ResponseFormat, Sampling, Tool, ToolChoice
from headgate.dialects.anthropic.message_encoder import MessageEncoder, check_tool_results
from headgate.dialects.anthropic.profile import ANTHROPIC, Profile
from headgate.dialects.anthropic.thinking import room, settle
from headgate.dialects.anthropic.vocabulary import NAME, cache_to_wire, foreign_losses, own
from headgate.dialects.json_bodies import encode

_TIERS: Mapping[str, str] = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
_COUNTED = frozenset(
    {
        "model",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "cache_control",
        "context_management",
        "mcp_servers",
        "speed",
    }
)
"""Fields of `count_tokens`; the others do not change the count."""


def encode_request(
    request: ChatRequest, *, model: str | None = None, profile: Profile = ANTHROPIC
) -> tuple[bytes, list[Loss]]:
    """The body for `/v1/messages`, and what had no place in it.

    Args:
        request: what to ask.
        model: the upstream's name for the model, by which it is known what it takes.
        profile: what this upstream's models take.

    Raises:
        InvalidRequest: what this API can't be asked at all: no turn, an empty user's message, a tool result
            without its call or a call without its result.
    """
    wire, losses = _encode(request, model, profile)
    return encode(wire), losses


def encode_count_request(
    request: ChatRequest, *, model: str | None = None, profile: Profile = ANTHROPIC
) -> tuple[bytes, list[Loss]]:
    """The body for `/v1/messages/count_tokens`. What does not change the count is left out, and no loss.

    Raises:
        InvalidRequest: as `encode_request`.
    """
    wire, losses = _encode(request, model, profile)
    prompt = [loss for loss in losses if loss.path.startswith(("messages", "tools", "tool_choice"))]
    return encode({key: value for key, value in wire.items() if key in _COUNTED}), prompt


def _encode(request: ChatRequest, model: str | None, profile: Profile) -> tuple[dict[str, Any], list[Loss]]:
    losses = list(foreign_losses(request.extensions, ""))
    extra = own(request.extensions)
    name = model or request.model
    if "thread" not in extra:  # of a stored conversation only the new turns are sent
        check_tool_results(request.messages)
    family = profile.for_model(name)
    system, turns = MessageEncoder(losses, family.system_turns).encode(request.messages)
    told = settle(request, family, NAME, losses)
    limit = told.sampling.max_tokens
    wire: dict[str, Any] = {
        "model": name,
        "max_tokens": room(told, request.reasoning, family) if limit is None else limit,
        "messages": turns,
    }
    if system is not None:
        wire["system"] = system
    _put_sampling(told.sampling, wire, losses)
    _put_tools(request, told.choice, wire, losses)
    if told.effort is not None:
        wire["output_config"] = {"effort": told.effort}
    if told.thinking is not None:
        wire["thinking"] = told.thinking
    if request.response_format is not None:
        _put_format(request.response_format, wire, losses)
    if request.stream:
        wire["stream"] = True
    _put_rest(request, wire, losses)
    for key in ("thinking", "output_config", "metadata"):
        inner = extra.pop(key, None)
        if isinstance(inner, dict):
            wire[key] = wire.get(key, {}) | inner
    return wire | extra, losses


def _put_sampling(sampling: Sampling, wire: dict[str, Any], losses: list[Loss]) -> None:
    if sampling.temperature is not None:
        wire["temperature"] = min(sampling.temperature, 1)
        if sampling.temperature > 1:
            losses.append(Loss("temperature", "sent as 1, where the dialect's range ends"))
    for key in ("top_p", "top_k"):
        if (value := getattr(sampling, key)) is not None:
            wire[key] = value
    if sampling.stop:
        wire["stop_sequences"] = list(sampling.stop)
    if sampling.n is not None and sampling.n > 1:
        losses.append(Loss("n", "the dialect gives one answer to a request"))
    losses += [
        Loss(key, "the dialect has no such setting")
        for key in (
            "min_p",
            "seed",
            "presence_penalty",
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "top_logprobs",
        )
        if getattr(sampling, key) or (key == "seed" and sampling.seed is not None)
    ]


def _put_format(wanted: ResponseFormat, wire: dict[str, Any], losses: list[Loss]) -> None:
    """The name is a label that this API has no use for, and it always holds to the schema."""
    losses += foreign_losses(wanted.extensions, "response_format")
    if wanted.kind == "text":
        return
    if wanted.schema is None:
        losses.append(Loss("response_format", "the dialect gives JSON by a schema only"))
        return
    if wanted.description is not None:
        losses.append(Loss("response_format.description", "the dialect's schemas have no description"))
    form = {"type": "json_schema", "schema": wanted.schema, **own(wanted.extensions)}
    wire["output_config"] = wire.get("output_config", {}) | {"format": form}


def _put_tools(
    request: ChatRequest, choice: ToolChoice | None, wire: dict[str, Any], losses: list[Loss]
) -> None:
    tools = []
    for index, tool in enumerate(request.tools):
        path = tool.place(index)
        if tool.kind != "function" and NAME not in tool.extensions:
            losses.append(Loss(path, "another vendor's own kind of tool"))
            continue
        losses += foreign_losses(tool.extensions, path)
        tools.append(_tool(tool))
    if tools:
        wire["tools"] = tools
    parallel = request.parallel_tool_calls
    if choice is not None:
        losses += foreign_losses(choice.extensions, "tool_choice")
        mode = "any" if choice.mode == "required" else choice.mode
        wire["tool_choice"] = {"type": mode, **own(choice.extensions)}
        if choice.name is not None:
            wire["tool_choice"]["name"] = choice.name
    elif tools and parallel is False:
        wire["tool_choice"] = {"type": "auto"}
    if parallel is not None and wire.get("tool_choice", {}).get("type") in ("auto", "any", "tool"):
        wire["tool_choice"]["disable_parallel_tool_use"] = not parallel


def _tool(tool: Tool) -> dict[str, Any]:
    extra = own(tool.extensions)
    control = extra.pop("cache_control", None)
    wire: dict[str, Any]
    if tool.kind != "function":
        wire = {"type": tool.kind}
    else:
        wire = {"name": tool.name}
        if tool.description is not None:
            wire["description"] = tool.description
        wire["input_schema"] = {"type": "object", **(tool.parameters or {"properties": {}})}
        if tool.strict is not None:
            wire["strict"] = tool.strict
    if tool.cache is not None:
        wire["cache_control"] = cache_to_wire(tool.cache, control)
    return wire | extra


def _put_rest(request: ChatRequest, wire: dict[str, Any], losses: list[Loss]) -> None:
    if request.user is not None:
        wire["metadata"] = {"user_id": request.user}
    if request.metadata:
        losses.append(Loss("metadata", "of metadata the dialect has the user's id only"))
    if request.service_tier is not None:
        tier = _TIERS.get(request.service_tier)
        if tier is None:
            losses.append(Loss("service_tier", "the dialect's tiers are 'auto' and 'standard_only'"))
        else:
            wire["service_tier"] = tier
