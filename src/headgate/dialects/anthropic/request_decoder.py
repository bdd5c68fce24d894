"""A Messages request, read into a neutral one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from headgate.core.messages import (
    ChatRequest,
    Extensions,
    Message,
    Opaque,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolChoice,
)
from headgate.dialects.anthropic.message_decoder import decode_cache, decode_content, decode_message
from headgate.dialects.anthropic.vocabulary import NAME, extended
from headgate.dialects.json_bodies import MAX_ITEMS, Fields, decode_object, missing, wrong_type, wrong_value

_VENDOR_FIELDS: Mapping[str, tuple[type, ...]] = {
    "cache_control": (dict,),
    "container": (str, dict),
    "context_management": (dict,),
    "diagnostics": (dict,),
    "inference_geo": (str,),
    "mcp_servers": (list,),
    "speed": (str,),
}
"""Fields of Anthropic's own that have no neutral place: kept in the extensions, their JSON type checked."""

_EXPECTED: Mapping[type, str] = {dict: "an object", list: "an array", str: "a string"}


def decode_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
    """Read the body of `/v1/messages`. Fields without a neutral place go to `extensions["anthropic"]`.

    Args:
        body: one JSON object in UTF-8.
        model: in place of the body's own, where the route holds it (Bedrock, Vertex AI).
        stream: likewise.

    Raises:
        InvalidRequest: with `param` naming the field ("messages[2].content[0].source.data").
    """
    return _decode(Fields(decode_object(body)), model, stream, answered=True)


def decode_count_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
    """Read the body of `/v1/messages/count_tokens`: a request that needs no `max_tokens`.

    Raises:
        InvalidRequest: as `decode_request`.
    """
    return _decode(Fields(decode_object(body)), model, stream, answered=False)


def _decode(fields: Fields, model: str | None, stream: bool | None, answered: bool) -> ChatRequest:
    named = fields.text("model")
    name = named if model is None else model
    if not name:
        raise missing("model")
    if answered and fields.peek("max_tokens") is None:
        raise missing("max_tokens")
    body_stream = fields.boolean("stream")
    streams = bool(body_stream) if stream is None else stream
    messages = _messages(fields)
    tool_choice, parallel = _tool_choice(fields)
    reasoning, thinking = _thinking(fields)
    response_format, effort, output = _output(fields)
    if effort is not None:
        known = ReasoningOptions(effort_only=True) if reasoning is None else reasoning
        reasoning = replace(known, effort=effort)
    user, metadata = _metadata(fields)
    return ChatRequest(
        model=name,
        messages=messages,
        tools=_tools(fields),
        tool_choice=tool_choice,
        parallel_tool_calls=parallel,
        response_format=response_format,
        sampling=_sampling(fields),
        reasoning=reasoning,
        stream=streams,
        include_usage=streams,
        user=user,
        service_tier=_tier(fields.text("service_tier")),
        # last: what nobody has taken by now
        extensions=_rest(fields, thinking=thinking, output_config=output, metadata=metadata),
    )


def _rest(fields: Fields, **nested: Mapping[str, Any]) -> Extensions:
    rest = fields.rest()
    for key, value in rest.items():
        expected = _VENDOR_FIELDS.get(key)
        if expected is not None and value is not None and not isinstance(value, expected):
            raise wrong_type(key, " or ".join(_EXPECTED[kind] for kind in expected), value)
    return extended(rest, **nested)


def _messages(fields: Fields) -> tuple[Message, ...]:
    """The system prompt first, as a message of its own, then the turns."""
    messages: list[Message] = []
    system = fields.take("system")
    if system is not None:
        parts = decode_content(system, "system")
        for index, part in enumerate(parts):
            if not isinstance(part, Text | Opaque):
                raise wrong_value(f"system[{index}].type", "a system prompt holds text blocks only")
        messages.append(Message("system", parts, path="system", content=""))
    items = fields.items("messages")
    if items is None:
        raise missing("messages")
    if not items:
        raise wrong_value("messages", "the array must hold at least one message")
    parts_seen = 0
    for index, item in enumerate(items):
        decoded = decode_message(item, f"messages[{index}]")
        messages += decoded
        parts_seen += sum(len(message.parts) for message in decoded)
        if parts_seen > MAX_ITEMS:
            raise wrong_value("messages", f"they have more than {MAX_ITEMS:,} content blocks in all")
    return tuple(messages)


def _sampling(fields: Fields) -> Sampling:
    stop = fields.items("stop_sequences") or []
    for index, item in enumerate(stop):
        if not isinstance(item, str):
            raise wrong_type(f"stop_sequences[{index}]", "a string", item)
    return Sampling(
        max_tokens=fields.integer("max_tokens", 0),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=fields.integer("top_k"),
        stop=tuple(stop),
    )


def _tier(word: str | None) -> str | None:
    """Other dialects call the tier without priority `default`."""
    return "default" if word == "standard_only" else word


def _metadata(fields: Fields) -> tuple[str | None, dict[str, Any]]:
    metadata = fields.fields("metadata")
    if metadata is None:
        return None, {}
    return metadata.text("user_id"), metadata.rest()


def _thinking(fields: Fields) -> tuple[ReasoningOptions | None, dict[str, Any]]:
    thinking = fields.fields("thinking")
    if thinking is None:
        return None, {}
    kind = thinking.required_text("type")
    summary = "auto" if thinking.peek("display") == "summarized" else None
    if summary is not None:
        thinking.take("display")
    match kind:
        case "enabled":
            budget = thinking.integer("budget_tokens", 1)
            if budget is None:
                raise missing(thinking.param("budget_tokens"))
            options = ReasoningOptions(enabled=True, budget_tokens=budget, summary=summary)
        case "adaptive":
            options = ReasoningOptions(enabled=True, summary=summary)
        case "disabled":
            options = ReasoningOptions(enabled=False, summary=summary)
        case "between_tools":  # what stops some models from thinking
            return ReasoningOptions(enabled=False, summary=summary), {"type": kind, **thinking.rest()}
        case _:  # a newer way to think: the upstream's to judge
            return ReasoningOptions(enabled=True, summary=summary), {"type": kind, **thinking.rest()}
    return options, thinking.rest()


def _output(fields: Fields) -> tuple[ResponseFormat | None, str | None, dict[str, Any]]:
    """Answer format, effort, and what else `output_config` holds. `output_format` is its older place."""
    config = fields.fields("output_config")
    wanted = fields.fields("output_format")
    effort, rest = None, {}
    if config is not None:
        effort = config.text("effort")
        newer = config.fields("format")
        if newer is not None and wanted is not None:
            raise wrong_value("output_format", "'output_config.format' says it already; send only the latter")
        wanted = newer or wanted
        rest = config.rest()
    if wanted is None:
        return None, effort, rest
    wanted.word("type", ("json_schema",))
    schema = wanted.mapping("schema")
    if schema is None:
        raise missing(wanted.param("schema"))
    return ResponseFormat("json_schema", schema=schema, extensions=extended(wanted.rest())), effort, rest


def _tools(fields: Fields) -> tuple[Tool, ...]:
    return tuple(
        _tool(Fields.of(item, f"tools[{index}]")) for index, item in enumerate(fields.items("tools") or ())
    )


def _tool(fields: Fields) -> Tool:
    kind = fields.text("type") or "custom"
    if kind != "custom":  # a tool that the vendor runs or has trained for: its own to understand
        cache, extra = decode_cache(fields)
        name = fields.peek("name")
        rest = {**fields.rest(), "cache_control": extra} if extra else fields.rest()
        return Tool(name if isinstance(name, str) else kind, kind=kind, cache=cache, extensions={NAME: rest})
    name = fields.required_text("name")
    schema = fields.mapping("input_schema")
    if schema is None:
        raise missing(fields.param("input_schema"))
    if schema.get("type", "object") != "object":
        raise wrong_value(fields.param("input_schema.type"), "it must be 'object'")
    description, strict = fields.text("description"), fields.boolean("strict")
    cache, extra = decode_cache(fields)
    extensions = extended(fields.rest(), cache_control=extra)
    return Tool(name, description, schema, strict, cache=cache, extensions=extensions)


def _tool_choice(fields: Fields) -> tuple[ToolChoice | None, bool | None]:
    """Which tools, and whether several at once."""
    choice = fields.fields("tool_choice")
    if choice is None:
        return None, None
    kind = choice.word("type", ("auto", "any", "tool", "none"))
    disabled = choice.boolean("disable_parallel_tool_use")
    parallel = None if disabled is None else not disabled
    name = choice.required_text("name") if kind == "tool" else None
    rest = extended(choice.rest())
    match kind:
        case "auto" | "none" | "tool":
            return ToolChoice(kind, name, rest), parallel
        case _:
            return ToolChoice("required", extensions=rest), parallel
