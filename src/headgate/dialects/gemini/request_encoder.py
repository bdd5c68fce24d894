"""A neutral request, written as a `generateContent` request for an upstream."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import (
    ChatRequest,
    Extensions,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Tool,
    ToolChoice,
)
from headgate.dialects.conversation import empty_conversation
from headgate.dialects.efforts import BUDGETS
from headgate.dialects.gemini.content_encoder import ContentEncoder
from headgate.dialects.gemini.request_decoder import TIERS
from headgate.dialects.gemini.schemas import to_subset
from headgate.dialects.gemini.vocabulary import foreign_losses, own, own_object
from headgate.dialects.json_bodies import encode

_SIGNED_CALLS = re.compile(r"(?:.*/)?gemini-(?:[3-9]|[1-9][0-9])(?![0-9])")
"""Models that refuse a turn whose first function call has no thought signature."""
_BUDGETED = re.compile(r"(?:.*/)?gemini-(?:1|2)\b")
"""Models that know thinking budgets only; later ones know levels."""
_LEVELS = {"none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_TIERS = {ours: theirs for theirs, ours in TIERS.items()}


def encode_request(request: ChatRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """The request body, and what had no place in it. The route names the model and says whether it streams.

    Args:
        request: what to ask.
        model: the upstream's name for the model, where it differs from the request's: what the model is able
            to take goes by it.

    Raises:
        InvalidRequest: no message with content; a tool result whose call is not in the conversation; JSON too
            deep to be written.
    """
    wire, losses = write_request(request, model or request.model)
    return encode(wire), losses


def write_request(request: ChatRequest, model: str) -> tuple[dict[str, Any], list[Loss]]:
    """The request as an object, before it is JSON."""
    losses = foreign_losses(request.extensions, "")
    encoder = ContentEncoder(losses, signed_calls=_SIGNED_CALLS.match(model) is not None)
    encoder.encode(request.messages)
    if not encoder.contents:
        raise empty_conversation()
    wire: dict[str, Any] = {"contents": encoder.contents}
    if encoder.system is not None and encoder.system["parts"]:
        wire["systemInstruction"] = encoder.system
    _put_tools(request, wire, losses)
    config: dict[str, Any] = {}
    if request.response_format is not None:
        _put_response_format(request.response_format, config, losses)
    _put_sampling(request.sampling, config, losses)
    thinking = {} if request.reasoning is None else _thinking(request.reasoning, model, losses)
    extra = own(request.extensions)
    config |= own_object(request.extensions, "generationConfig")
    thinking |= _object(config.pop("thinkingConfig", None))
    if thinking:
        config["thinkingConfig"] = thinking
    if config:
        wire["generationConfig"] = config
    _put_rest(request, wire, losses)
    extra.pop("generationConfig", None)
    extra.pop("toolConfig", None)
    return wire | extra, losses


def _object(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _put_rest(request: ChatRequest, wire: dict[str, Any], losses: list[Loss]) -> None:
    if request.user is not None:
        losses.append(Loss("user", "the dialect has no end users"))
    if request.metadata:
        losses.append(
            Loss("metadata", "the dialect's labels are for billing, and take other keys and values")
        )
    tier = request.service_tier
    if tier in _TIERS:
        wire["serviceTier"] = _TIERS[tier]
    elif tier not in (None, "auto"):
        losses.append(Loss("service_tier", "no tier of this vendor's"))


def _put_sampling(sampling: Sampling, config: dict[str, Any], losses: list[Loss]) -> None:
    fields = {
        "maxOutputTokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "topP": sampling.top_p,
        "topK": sampling.top_k,
        "seed": sampling.seed,
        "stopSequences": list(sampling.stop) or None,
        "presencePenalty": sampling.presence_penalty,
        "frequencyPenalty": sampling.frequency_penalty,
        "candidateCount": sampling.n,
        "responseLogprobs": sampling.logprobs,
        "logprobs": sampling.top_logprobs,
    }
    config |= {key: value for key, value in fields.items() if value is not None}
    losses += [
        Loss(key, "the target has no such setting")
        for key in ("min_p", "logit_bias")
        if getattr(sampling, key) is not None
    ]


def _put_response_format(wanted: ResponseFormat, config: dict[str, Any], losses: list[Loss]) -> None:
    losses += foreign_losses(wanted.extensions, "response_format")
    config["responseMimeType"] = "text/plain" if wanted.kind == "text" else "application/json"
    if wanted.kind == "json_schema" and wanted.schema is not None:
        subset = to_subset(wanted.schema)
        if subset is None:
            config["responseJsonSchema"] = wanted.schema
        else:
            config["responseSchema"] = subset
    if wanted.description is not None:  # a name is only a label, and some dialects' callers must give one
        losses.append(Loss("response_format.description", "the dialect's schemas have no such field"))
    if wanted.strict is False:
        losses.append(Loss("response_format.strict", "the target always holds to the schema"))


def _thinking(options: ReasoningOptions, model: str, losses: list[Loss]) -> dict[str, Any]:
    """`thinkingConfig`: a budget, or a level, and whether thoughts are shown."""
    wire: dict[str, Any] = {}
    budgeted = _BUDGETED.match(model) is not None
    effort = options.effort
    if effort is not None and (not budgeted or options.budget_tokens is not None):
        if options.budget_tokens is not None and (budgeted or effort not in _LEVELS):
            losses.append(Loss("reasoning.effort", "the budget says how much the model may think"))
        else:
            wire["thinkingLevel"] = _LEVELS.get(effort, effort.upper())
            if effort == "none":
                losses.append(
                    Loss("reasoning.effort", "the target can't stop thinking: the least was asked for")
                )
    elif effort is not None:
        known = BUDGETS.get(effort)
        wire["thinkingBudget"] = BUDGETS["high"] if known is None else known
        if known is None:
            losses.append(Loss("reasoning.effort", "no such level: the highest budget was asked for"))
    if "thinkingLevel" in wire:
        if options.budget_tokens is not None:
            losses.append(Loss("reasoning.budget_tokens", "the target takes a level or a budget, not both"))
    elif options.budget_tokens is not None:
        wire["thinkingBudget"] = options.budget_tokens
    elif options.enabled is not None and "thinkingBudget" not in wire:
        wire["thinkingBudget"] = -1 if options.enabled else 0
    if (options.summary or "none") != "none" or options.enabled:
        wire["includeThoughts"] = True
    return wire


def _put_tools(request: ChatRequest, wire: dict[str, Any], losses: list[Loss]) -> None:
    tools: list[dict[str, Any]] = []
    declarations: list[dict[str, Any]] = []
    for index, tool in enumerate(request.tools):
        path = tool.place(index)
        if tool.cache is not None:
            losses.append(Loss(f"{path}.cache_control", "the target caches prompts by itself"))
        if tool.kind == "function":
            if not declarations:
                tools.append({"functionDeclarations": declarations})
            declarations.append(_declaration(tool, path, losses))
        elif definition := own(tool.extensions):
            tools.append(definition)
        else:
            losses.append(Loss(path, _whose(tool)))
    if tools:
        wire["tools"] = tools
    config = own_object(request.extensions, "toolConfig")
    calling = _object(config.pop("functionCallingConfig", None))
    if calling.pop("streamFunctionCallArguments", None):
        losses.append(
            Loss("toolConfig.functionCallingConfig.streamFunctionCallArguments", "arguments come whole")
        )
    if request.tool_choice is not None:
        losses += foreign_losses(request.tool_choice.extensions, "tool_choice")
        calling |= _calling(request.tool_choice)
    if calling:
        config["functionCallingConfig"] = calling
    if config:
        wire["toolConfig"] = config
    if request.parallel_tool_calls is False:
        losses.append(Loss("parallel_tool_calls", "the target decides for itself how many calls it makes"))


def _whose(tool: Tool) -> str:
    makers = ", ".join(tool.extensions)
    return f"a tool that only {makers} has" if makers else f"the dialect has no tools of type '{tool.kind}'"


def _declaration(tool: Tool, path: str, losses: list[Loss]) -> dict[str, Any]:
    losses += foreign_losses(tool.extensions, path)
    wire: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        wire["description"] = tool.description
    if tool.parameters is not None:
        subset = to_subset(tool.parameters)
        if subset is None:
            wire["parametersJsonSchema"] = tool.parameters
        else:
            wire["parameters"] = subset
    if tool.strict:
        losses.append(Loss(f"{path}.strict", "the target can't be held to the schema of one function"))
    return wire | own(tool.extensions)


_MODES: Mapping[str, str] = {"auto": "AUTO", "none": "NONE", "required": "ANY", "tool": "ANY"}


def _calling(choice: ToolChoice) -> dict[str, Any]:
    names: dict[str, Any] = {"allowedFunctionNames": [choice.name]} if choice.mode == "tool" else {}
    return {"mode": _MODES[choice.mode], **names, **_kept(choice.extensions)}


def _kept(extensions: Extensions) -> dict[str, Any]:
    """`mode` VALIDATED, and the names of several functions."""
    return {key: value for key, value in own(extensions).items() if key in ("mode", "allowedFunctionNames")}
