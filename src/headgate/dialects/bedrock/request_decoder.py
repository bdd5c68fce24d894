"""A Converse request, read into a neutral one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from headgate.core.messages import (
    ChatRequest,
    Message,
    ReasoningOptions,
    ResponseFormat,
    Role,
    Sampling,
    Tool,
    ToolChoice,
)
from headgate.dialects.bedrock.content_decoder import cache_hint, decode_blocks, split_turn
from headgate.dialects.bedrock.families import Family, family_of, take_reasoning, take_top_k
from headgate.dialects.bedrock.vocabulary import NAME, extended
from headgate.dialects.json_bodies import MAX_ITEMS, Fields, decode_object, missing, wrong_type, wrong_value

_VENDOR_FIELDS: Mapping[str, type] = {
    "guardrailConfig": dict,
    "performanceConfig": dict,
    "promptVariables": dict,
    "additionalModelResponseFieldPaths": list,
}
"""Fields of Bedrock's own that have no neutral place: kept in the extensions, their JSON type checked."""


def decode_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
    """Read a request body. Fields without a neutral place go to `extensions["converse"]`.

    Args:
        body: one JSON object in UTF-8.
        model: from the route; without it the body's `modelId` counts.
        stream: from the route, `converse-stream` or `converse`.

    Raises:
        InvalidRequest: with `param` naming the field ("messages[2].content[0].image.format").
    """
    fields = Fields(decode_object(body))
    name = fields.text("modelId") if model is None else model
    if not name:
        raise missing("modelId")
    extra = fields.mapping("additionalModelRequestFields")
    return read_request(fields, name, bool(stream), family_of(name), dict(extra or {}))


def read_request(
    fields: Fields, model: str, stream: bool, family: Family, extra: dict[str, Any]
) -> ChatRequest:
    """The request that `fields` are, with `extra` for the model alone. Raises InvalidRequest."""
    kept: dict[str, Any] = {}
    messages = [*_system(fields), *_messages(fields, optional=":prompt/" in model)]
    tools, choice = _tool_config(fields, kept)
    response_format, effort = _output_config(fields, kept)
    sampling = replace(_inference_config(fields, kept), top_k=take_top_k(family, extra))
    return ChatRequest(
        model=model,
        messages=tuple(messages),
        tools=tools,
        tool_choice=choice,
        response_format=response_format,
        sampling=sampling,
        reasoning=_reasoning(family, extra, effort, kept),
        stream=stream,
        include_usage=stream,  # Converse always tells
        metadata=_metadata(fields),
        service_tier=_service_tier(fields, kept),
        extensions=_rest(fields, extra, kept),  # last: what nobody has taken by now
    )


def _rest(fields: Fields, extra: dict[str, Any], kept: dict[str, Any]) -> dict[str, dict[str, Any]]:
    for key, expected in _VENDOR_FIELDS.items():
        value = fields.peek(key)
        if value is not None and not isinstance(value, expected):
            raise wrong_type(key, "an object" if expected is dict else "an array", value)
    if extra:
        kept["additionalModelRequestFields"] = extra
    values = {**fields.rest(), **kept}
    return {NAME: values} if values else {}


def _keep(kept: dict[str, Any], key: str, fields: Fields) -> None:
    if fields.rest():
        kept[key] = fields.rest()


def _system(fields: Fields) -> list[Message]:
    if fields.peek("system") is None:
        return []
    parts, paths = decode_blocks(fields.take("system"), "system")
    return [Message("system", tuple(parts), path="system", part_paths=tuple(paths))] if parts else []


def _messages(fields: Fields, optional: bool) -> list[Message]:
    """A prompt of Prompt management, which the model's name then is, may do without messages."""
    items = fields.items("messages")
    if not items:
        if optional:
            return []
        if items is None:
            raise missing("messages")
        raise wrong_value("messages", "the array must hold at least one message")
    messages: list[Message] = []
    parts = 0
    for index, item in enumerate(items):
        decoded = _message(Fields.of(item, f"messages[{index}]"))
        messages += decoded
        parts += sum(len(message.parts) for message in decoded)
        if parts > MAX_ITEMS:
            raise wrong_value("messages", f"they have more than {MAX_ITEMS:,} content blocks in all")
    return messages


def _message(fields: Fields) -> list[Message]:
    role = fields.word("role", ("user", "assistant", "system"))
    if fields.peek("content") is None:
        raise missing(fields.param("content"))
    path = fields.param("content")
    parts, places = decode_blocks(fields.take("content"), path, by_model=role == "assistant")
    if not parts:
        raise wrong_value(path, "the array must hold at least one content block")
    rest = {"role": "system", **fields.rest()} if role == "system" else fields.rest()
    whole = Message(
        "system" if role == "system" else "assistant" if role == "assistant" else "user",
        tuple(parts),
        extensions=extended(rest),
        path=fields.path,
        part_paths=tuple(places),
    )
    return _split(whole) if role == "user" else [whole]


def _split(turn: Message) -> list[Message]:
    """Tool results, which stand in the user's turn here, become messages of their own."""
    messages: list[Message] = []
    for is_result, run in split_turn(turn.parts):
        role: Role = "tool" if is_result else "user"
        kept = {} if messages else turn.extensions
        parts, places = turn.parts[run], turn.part_paths[run]
        word = "toolResult.content" if is_result else turn.content
        messages.append(
            Message(role, parts, extensions=kept, path=turn.path, content=word, part_paths=places)
        )
    return messages


def _inference_config(fields: Fields, kept: dict[str, Any]) -> Sampling:
    config = fields.fields("inferenceConfig")
    if config is None:
        return Sampling()
    stop = config.items("stopSequences") or []
    for index, item in enumerate(stop):
        if not isinstance(item, str):
            raise wrong_type(config.param(f"stopSequences[{index}]"), "a string", item)
    sampling = Sampling(
        max_tokens=config.integer("maxTokens", 0),
        temperature=config.number("temperature"),
        top_p=config.number("topP"),
        stop=tuple(stop),
    )
    _keep(kept, "inferenceConfig", config)
    return sampling


def _tool_config(fields: Fields, kept: dict[str, Any]) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    config = fields.fields("toolConfig")
    if config is None:
        return (), None
    tools: list[Tool] = []
    for index, item in enumerate(config.items("tools") or ()):
        _tool(Fields.of(item, f"toolConfig.tools[{index}]"), item, tools)
    choice = config.fields("toolChoice")
    wanted = None if choice is None else _tool_choice(choice)
    _keep(kept, "toolConfig", config)
    return tuple(tools), wanted


def _tool(fields: Fields, item: dict[str, Any], tools: list[Tool]) -> None:
    if fields.peek("toolSpec") is not None:
        tools.append(_tool_spec(fields))
        return
    if fields.peek("cachePoint") is not None:
        hint = cache_hint(fields)
        if hint is not None and tools and tools[-1].cache is None:
            tools[-1] = replace(tools[-1], cache=hint)
            return
    kind = next(iter(item), None)
    if kind is None:
        raise wrong_value(fields.path, "a tool must have a 'toolSpec'")
    body = item[kind]
    name = body.get("name") if isinstance(body, dict) else None
    name = name if isinstance(name, str) else kind
    tools.append(Tool(name, kind=kind, extensions={NAME: item}, path=fields.path))


def _tool_spec(fields: Fields) -> Tool:
    spec = fields.required_fields("toolSpec")
    name, description, strict = (
        spec.required_text("name"),
        spec.text("description"),
        spec.boolean("strict"),
    )
    schema = spec.required_fields("inputSchema")
    if schema.peek("json") is None:
        raise missing(schema.param("json"))
    parameters = schema.mapping("json")
    inner = {**spec.rest(), **({"inputSchema": schema.rest()} if schema.rest() else {})}
    rest = {**fields.rest(), **({"toolSpec": inner} if inner else {})}
    return Tool(name, description, parameters, strict, extensions=extended(rest), path=fields.path)


def _tool_choice(fields: Fields) -> ToolChoice:
    for key in ("auto", "any", "tool"):
        if fields.peek(key) is None:
            continue
        body = fields.required_fields(key)
        name = body.required_text("name") if key == "tool" else None
        rest = {**fields.rest(), **({key: body.rest()} if body.rest() else {})}
        match key:
            case "auto":
                return ToolChoice("auto", extensions=extended(rest))
            case "any":
                return ToolChoice("required", extensions=extended(rest))
            case _:
                return ToolChoice("tool", name, extensions=extended(rest))
    raise wrong_value(fields.path, "it must hold one of 'auto', 'any', 'tool'")


def _output_config(fields: Fields, kept: dict[str, Any]) -> tuple[ResponseFormat | None, str | None]:
    config = fields.fields("outputConfig")
    if config is None:
        return None, None
    effort = config.text("effort")
    wanted = config.fields("textFormat")
    response_format = None
    if wanted is not None:
        wanted.word("type", ("json_schema",))
        structure = wanted.required_fields("structure")
        body = structure.required_fields("jsonSchema")
        response_format = ResponseFormat(
            "json_schema",
            name=body.text("name"),
            description=body.text("description"),
            schema=_schema(body),
            extensions=extended({**wanted.rest(), **structure.rest(), **body.rest()}),
        )
    _keep(kept, "outputConfig", config)
    return response_format, effort


def _schema(fields: Fields) -> dict[str, Any]:
    """In this dialect a JSON schema is a text that holds one."""
    text = fields.required_text("schema")
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise wrong_value(fields.param("schema"), "it must be a JSON object, written as a string")
    return value


def _reasoning(
    family: Family, extra: dict[str, Any], effort: str | None, kept: dict[str, Any]
) -> ReasoningOptions | None:
    options = take_reasoning(family, extra)
    if effort is not None and options.effort is None and family.reasoning == "thinking":
        options = replace(options, effort=effort, effort_only=options == ReasoningOptions())
    elif effort is not None:  # to a family that is told elsewhere: the model's to judge
        kept["outputConfig"] = {**kept.get("outputConfig", {}), "effort": effort}
    return None if options == ReasoningOptions() else options


def _metadata(fields: Fields) -> Mapping[str, str] | None:
    values = fields.mapping("requestMetadata")
    for value in (values or {}).values():
        if not isinstance(value, str):
            raise wrong_type("requestMetadata", "strings as values", value)
    return values


def _service_tier(fields: Fields, kept: dict[str, Any]) -> str | None:
    tier = fields.fields("serviceTier")
    if tier is None:
        return None
    word = tier.required_text("type")
    _keep(kept, "serviceTier", tier)
    return word
