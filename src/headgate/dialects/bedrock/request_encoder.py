"""A neutral request, written as a Converse request for an upstream."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import (
    ChatRequest,
    Message,
    Opaque,
    ResponseFormat,
    Sampling,
    Tool,
    ToolCall,
    ToolChoice,
)
from headgate.dialects.anthropic.profile import ANTHROPIC, Profile
from headgate.dialects.anthropic.thinking import settle
from headgate.dialects.bedrock.content_encoder import ContentEncoder, cache_point, has_tool_blocks, placed
from headgate.dialects.bedrock.families import Family, family_of, put_reasoning, put_top_k
from headgate.dialects.bedrock.vocabulary import NAME, foreign_losses, merged, own
from headgate.dialects.conversation import check_results, empty_conversation
from headgate.dialects.json_bodies import encode

_TIERS = frozenset({"priority", "default", "flex", "reserved"})
_METADATA = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}")
_MAX_METADATA = 16


def encode_request(
    request: ChatRequest, *, model: str | None = None, profile: Profile = ANTHROPIC
) -> tuple[bytes, list[Loss]]:
    """The request body, and what had no place in it. The route holds the model and whether to stream.

    Args:
        request: what to ask.
        model: the upstream's name for the model; it tells the family (`headgate.dialects.bedrock.families`).
        profile: what this upstream's Claude models take.

    Raises:
        InvalidRequest: no message with content, or a tool's result without its call before it.
    """
    losses: list[Loss] = []
    name = model or request.model
    wire, extra = write_request(request, family_of(name, profile), losses, managed=":prompt/" in name)
    if extra:
        wire["additionalModelRequestFields"] = extra
    return encode(merged(wire, own(request.extensions))), losses


def write_request(
    request: ChatRequest,
    family: Family,
    losses: list[Loss],
    *,
    documents: bool = True,
    managed: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a request, without what the caller's own dialect kept, and those for the model alone.

    Args:
        documents: the upstream takes them.
        managed: the model's name is that of a prompt which brings messages of its own.

    Raises:
        InvalidRequest: no message with content, or a tool's result without its call before it.
    """
    check_results(request.messages, _own_calls(request.messages))
    losses += foreign_losses(request.extensions, "")
    wire: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    _Turns(losses, family.system_turns, documents).put(request.messages, wire, managed)
    if not wire["messages"] and not managed:
        raise empty_conversation()
    if family.claude is not None:
        told = settle(request, family.claude, NAME, losses)
        request = replace(request, sampling=told.sampling, tool_choice=told.choice, reasoning=None)
        extra = {} if told.thinking is None else {"thinking": told.thinking}
        if told.effort is not None:
            wire["outputConfig"] = {"effort": told.effort}
    _put_tools(request, wire, losses)
    _put_inference_config(request.sampling, wire, losses)
    if request.response_format is not None:
        _put_response_format(request.response_format, wire, losses)
    if request.reasoning is not None:
        extra = put_reasoning(family, request.reasoning, losses)
    put_top_k(family, request.sampling.top_k, extra, losses)
    _put_metadata(request, wire, losses)
    _put_service_tier(request.service_tier, wire, losses)
    return wire, extra


def _own_calls(messages: tuple[Message, ...]) -> Iterator[str]:
    """Ids of the calls of tools that Bedrock itself runs, which are kept whole."""
    for message in messages:
        for part in message.parts:
            if isinstance(part, Opaque) and part.dialect == NAME and isinstance(part.value, dict):
                match part.value.get("toolUse"):
                    case {"toolUseId": str(identity)}:
                        yield identity


class _Turns:
    """Messages as turns of alternating roles: the user's turn takes tool results too."""

    def __init__(self, losses: list[Loss], system_turns: bool, documents: bool) -> None:
        self._losses = losses
        self._system_turns = system_turns
        self._encoder = ContentEncoder(losses, documents=documents)
        self._turns: list[dict[str, Any]] = []
        self._moved: list[dict[str, Any]] | None = None
        """The content of the last turn as long as it holds nothing but moved system messages."""

    def put(self, messages: tuple[Message, ...], wire: dict[str, Any], managed: bool) -> None:
        system: list[dict[str, Any]] = []
        leading = True
        last = len(messages) if managed else len(messages) - 1  # a request needs a turn
        for index, message in enumerate(messages):
            path = message.place(index)
            is_system = message.role in ("system", "developer")
            leading = leading and is_system and "role" not in own(message.extensions) and index != last
            self._losses += foreign_losses(message.extensions, path)
            if message.name is not None:
                self._losses.append(Loss(f"{path}.name", "messages have no name in this dialect"))
            blocks = self._encoder.blocks(placed(message, index), message.content)
            if leading:
                system += self._for_system(blocks, path)
            else:
                self._turn(message, blocks, path)
        wire["messages"] = self._turns
        if system:
            wire["system"] = system

    def _for_system(self, blocks: list[dict[str, Any]], path: str) -> list[dict[str, Any]]:
        """Media and the like have no place in a system prompt."""
        kept = [block for block in blocks if not block.keys() & _NOT_IN_SYSTEM]
        if len(kept) < len(blocks):
            self._losses.append(Loss(path, "a system prompt holds only text in this dialect"))
        return kept

    def _turn(self, message: Message, blocks: list[dict[str, Any]], path: str) -> None:
        extra = own(message.extensions)
        if not blocks:
            return
        is_system = message.role in ("system", "developer")
        marked = extra.pop("role", None) == "system"
        stays = is_system and (marked or self._system_turns)
        moved = is_system and not stays
        if moved:
            self._losses.append(Loss(path, "moved to the user's turn: system prompts stand first here"))
        role = "system" if stays else "assistant" if message.role == "assistant" else "user"
        if self._turns and self._turns[-1]["role"] == role:
            turn = self._turns[-1]
        else:
            turn = {"role": role, "content": []}
            self._turns.append(turn)
            self._moved = turn["content"] if moved else None
        if message.role == "tool" and self._moved is turn["content"]:
            blocks = [*blocks, *self._moved]  # models want the results of their calls first
            self._moved.clear()
        turn["content"] += blocks
        turn |= extra
        if not moved:
            self._moved = None


_NOT_IN_SYSTEM = frozenset(
    {"image", "document", "video", "audio", "toolUse", "toolResult", "reasoningContent", "citationsContent"}
)


_NO_SETTING = (
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
)


def _put_inference_config(sampling: Sampling, wire: dict[str, Any], losses: list[Loss]) -> None:
    temperature = sampling.temperature
    if temperature is not None and temperature > 1:
        losses.append(Loss("temperature", "sent as 1, where the dialect's range ends"))
        temperature = 1
    config: dict[str, Any] = {
        key: value
        for key, value in (
            ("maxTokens", sampling.max_tokens),
            ("temperature", temperature),
            ("topP", sampling.top_p),
            ("stopSequences", list(sampling.stop) or None),
        )
        if value is not None
    }
    if config:
        wire["inferenceConfig"] = config
    losses += [Loss(key, "the dialect has no such setting") for key in _NO_SETTING if getattr(sampling, key)]
    if sampling.seed is not None:
        losses.append(Loss("seed", "the dialect has no such setting"))
    if sampling.n is not None and sampling.n > 1:
        losses.append(Loss("n", "the dialect gives one answer"))


def _put_tools(request: ChatRequest, wire: dict[str, Any], losses: list[Loss]) -> None:
    if request.parallel_tool_calls is False:
        losses.append(Loss("parallel_tool_calls", "the dialect can't forbid parallel calls"))
    tools: list[dict[str, Any]] = []
    for index, tool in enumerate(request.tools):
        path = tool.place(index)
        written = _tool(tool, path, losses)
        if written is not None:
            tools.append(written)
        if tool.cache is not None and tools:
            tools.append(cache_point(tool.cache))
    used = any(has_tool_blocks(message.parts) for message in request.messages)
    choice = None
    if request.tool_choice is not None:
        losses += foreign_losses(request.tool_choice.extensions, "tool_choice")
        choice = _tool_choice(request.tool_choice)
        if choice is None:
            how = "the target may call tools" if used else "the tools were left out"
            losses.append(Loss("tool_choice", f"the dialect has no 'none': {how}"))
            tools = tools if used else []
    if used and not tools:
        tools = _undefined(request.messages)
        if tools:
            losses.append(
                Loss("tools", "the dialect wants tools of earlier calls defined: by name, without parameters")
            )
    if tools:
        wire["toolConfig"] = {"tools": tools} if choice is None else {"tools": tools, "toolChoice": choice}
    elif choice is not None and request.tools:
        losses.append(Loss("tool_choice", "there is no tool left to choose"))


def _tool(tool: Tool, path: str, losses: list[Loss]) -> dict[str, Any] | None:
    extra = own(tool.extensions)
    if tool.kind != "function" and not extra:
        losses.append(Loss(path, "another vendor's own kind of tool"))
        return None
    losses += foreign_losses(tool.extensions, path)
    if tool.kind != "function":
        return extra
    spec: dict[str, Any] = {"name": tool.name}
    if tool.description:
        spec["description"] = tool.description
    spec["inputSchema"] = {"json": {"type": "object"} if tool.parameters is None else tool.parameters}
    if tool.strict is not None:
        spec["strict"] = tool.strict
    return merged({"toolSpec": spec}, extra)


def _tool_choice(choice: ToolChoice) -> dict[str, Any] | None:
    """None for `none`, which the dialect does not have."""
    words: Mapping[str, dict[str, Any] | None] = {
        "auto": {"auto": {}},
        "required": {"any": {}},
        "tool": {"tool": {"name": choice.name}},
        "none": None,
    }
    wire = words[choice.mode]
    return None if wire is None else merged(wire, own(choice.extensions))


def _undefined(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Tools that earlier turns called, as far as their names tell."""
    names = {part.name: None for message in messages for part in message.parts if isinstance(part, ToolCall)}
    return [{"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object"}}}} for name in names]


def _put_response_format(wanted: ResponseFormat, wire: dict[str, Any], losses: list[Loss]) -> None:
    losses += foreign_losses(wanted.extensions, "response_format")
    if wanted.kind == "json_object":
        losses.append(Loss("response_format", "the dialect knows JSON only by a schema"))
    if wanted.kind != "json_schema":
        return
    body: dict[str, Any] = {"schema": encode(wanted.schema or {}).decode()}
    if wanted.name is not None:
        body["name"] = wanted.name
    if wanted.description is not None:
        body["description"] = wanted.description
    structure = {"jsonSchema": body | own(wanted.extensions)}
    wire.setdefault("outputConfig", {})["textFormat"] = {"type": "json_schema", "structure": structure}


def _put_metadata(request: ChatRequest, wire: dict[str, Any], losses: list[Loss]) -> None:
    if request.user is not None:
        losses.append(Loss("user", "the dialect has no such field"))
    metadata = request.metadata or {}
    taken = {
        key: value
        for key, value in metadata.items()
        if key and _METADATA.fullmatch(key) and _METADATA.fullmatch(value)
    }
    taken = dict(list(taken.items())[:_MAX_METADATA])
    if len(taken) < len(metadata):
        losses.append(
            Loss("metadata", f"at most {_MAX_METADATA} short entries of plain characters are taken")
        )
    if taken:
        wire["requestMetadata"] = taken


def _put_service_tier(tier: str | None, wire: dict[str, Any], losses: list[Loss]) -> None:
    if tier in _TIERS:
        wire["serviceTier"] = {"type": tier}
    elif tier not in (None, "auto"):  # auto is what Bedrock does when nothing is said
        losses.append(Loss("service_tier", "the dialect has no tier of this name"))
