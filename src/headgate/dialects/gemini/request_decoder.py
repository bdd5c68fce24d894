"""A `generateContent` request, read into a neutral one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.messages import (
    ChatRequest,
    Extensions,
    Message,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Tool,
    ToolChoice,
)
from headgate.dialects.gemini.content_decoder import decode_contents, decode_parts
from headgate.dialects.gemini.part_decoder import PartDecoder, ToolCalls
from headgate.dialects.gemini.schemas import checked_json_schema, from_subset
from headgate.dialects.gemini.vocabulary import NAME, ProtoFields, extended
from headgate.dialects.json_bodies import decode_object, join, missing, wrong_type, wrong_value

_VENDOR_FIELDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "safetySettings": ((list, dict), "an array"),
    "cachedContent": (str, "a string"),
    "labels": (dict, "an object"),
    "store": (bool, "a boolean"),
}
"""Fields that have no neutral place: kept in the extensions, their JSON type checked."""

TIERS: Mapping[str, str] = {"standard": "default", "flex": "flex", "priority": "priority"}
"""Service tiers that other dialects have too, and what they call them."""


def decode_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
    """Read a request body. Fields without a neutral place go to `extensions["gemini"]`.

    Args:
        body: one JSON object in UTF-8, its fields in camelCase or snake_case.
        model: from the route; without it the body's own `model`.
        stream: from the route.

    Raises:
        InvalidRequest: with `param` naming the field ("contents[2].parts[0].inlineData.data").
    """
    return read_request(ProtoFields(decode_object(body)), model, bool(stream))


def read_request(fields: ProtoFields, model: str | None, stream: bool) -> ChatRequest:
    """The request that the fields hold, wherever they stand."""
    named = fields.text("model")
    name = model or (named or "").removeprefix("models/")
    if not name:
        raise missing(fields.param("model"))
    config = fields.fields("generationConfig") or ProtoFields({}, fields.param("generationConfig"))
    thinking = config.fields("thinkingConfig")
    tool_choice, tool_config = _tool_choice(fields)
    return ChatRequest(
        model=name,
        messages=_messages(fields),
        tools=_tools(fields),
        tool_choice=tool_choice,
        response_format=_response_format(config),
        sampling=_sampling(config),
        reasoning=None if thinking is None else _reasoning(thinking),
        stream=stream,
        service_tier=_service_tier(fields),
        extensions=_rest(fields, config, thinking, tool_config),  # last: what nobody has taken by now
    )


def _rest(
    fields: ProtoFields, config: ProtoFields, thinking: ProtoFields | None, tool_config: Mapping[str, Any]
) -> Extensions:
    for key, (kinds, expected) in _VENDOR_FIELDS.items():
        value = fields.peek(key)
        if value is not None and not isinstance(value, kinds):
            raise wrong_type(fields.param(key), expected, value)
    rest = config.rest()
    if thinking is not None and (unknown := thinking.rest()):
        rest = {**rest, "thinkingConfig": unknown}
    return extended(fields.rest(), generationConfig=rest, toolConfig=tool_config)


def _messages(fields: ProtoFields) -> tuple[Message, ...]:
    messages: list[Message] = []
    system = fields.fields("systemInstruction")
    if system is not None:
        system.take("role")  # the API takes any, and reads none
        parts, paths = decode_parts(system, PartDecoder(ToolCalls("system")))
        extensions = extended(system.rest())
        messages.append(
            Message(
                "system",
                tuple(parts),
                extensions=extensions,
                path=system.path,
                content="parts",
                part_paths=tuple(paths),
            )
        )
    items = fields.repeated("contents")
    path = fields.param("contents")
    if items is None:
        raise missing(path)
    if not items:
        raise wrong_value(path, "the array must hold at least one content")
    return (*messages, *decode_contents(items, path))


def _sampling(config: ProtoFields) -> Sampling:
    stop = config.items("stopSequences") or []
    for index, item in enumerate(stop):
        if not isinstance(item, str):
            raise wrong_type(f"{config.param('stopSequences')}[{index}]", "a string", item)
    return Sampling(
        max_tokens=config.integer("maxOutputTokens", 0),
        temperature=config.number("temperature"),
        top_p=config.number("topP"),
        top_k=_whole(config, "topK"),
        seed=config.integer("seed"),
        stop=tuple(stop),
        presence_penalty=config.number("presencePenalty"),
        frequency_penalty=config.number("frequencyPenalty"),
        n=config.integer("candidateCount", 1),
        logprobs=config.boolean("responseLogprobs"),
        top_logprobs=config.integer("logprobs", 0),
    )


def _whole(config: ProtoFields, key: str) -> int | None:
    """A whole number that clients write as a decimal one (40.0)."""
    value = config.number(key)
    if value is None:
        return None
    if value != int(value):
        raise wrong_value(config.param(key), "it must be a whole number")
    return int(value)


def _response_format(config: ProtoFields) -> ResponseFormat | None:
    """Other types than JSON and plain text, and schemas without the JSON type, stay what they are."""
    mime = config.peek("responseMimeType")
    schemas = [key for key in ("responseSchema", "responseJsonSchema") if config.peek(key) is not None]
    if mime is not None and not isinstance(mime, str):
        raise wrong_type(config.param("responseMimeType"), "a string", mime)
    if len(schemas) == 2:
        raise wrong_value(config.param("responseSchema"), "'responseJsonSchema' is given too; send only one")
    if mime == "text/plain" and not schemas:
        config.take("responseMimeType")
        return ResponseFormat("text")
    if mime != "application/json":
        return None
    config.take("responseMimeType")
    if not schemas:
        return ResponseFormat("json_object")
    value, path = config.take(schemas[0]), config.param(schemas[0])
    read = from_subset if schemas[0] == "responseSchema" else checked_json_schema
    return ResponseFormat("json_schema", schema=read(value, path))


def _reasoning(thinking: ProtoFields) -> ReasoningOptions:
    """A budget of 0 turns thinking off, one of -1 leaves it to the model."""
    budget, level = thinking.integer("thinkingBudget", -1), thinking.text("thinkingLevel")
    shown = thinking.boolean("includeThoughts")
    if budget == -1 and not shown:
        # `enabled` alone asks other vendors for thoughts; the mark keeps this one from being asked.
        thinking.rest()["includeThoughts"] = False
    return ReasoningOptions(
        effort=None if level is None else level.lower(),
        budget_tokens=budget if budget is not None and budget > 0 else None,
        enabled=None if budget is None or budget > 0 else budget == -1,
        summary="auto" if shown else None,
    )


def _service_tier(fields: ProtoFields) -> str | None:
    """A tier that only this vendor knows stays what it is."""
    tier = fields.peek("serviceTier")
    if tier is not None and not isinstance(tier, str):
        raise wrong_type(fields.param("serviceTier"), "a string", tier)
    if tier is None or tier.lower() not in TIERS:
        return None
    fields.take("serviceTier")
    return TIERS[tier.lower()]


def _tools(fields: ProtoFields) -> tuple[Tool, ...]:
    """Function declarations, and the vendor's own tools: `{"googleSearch": {}}` is a tool of that kind."""
    tools: list[Tool] = []
    for index, item in enumerate(fields.repeated("tools") or ()):
        entry = ProtoFields.of(item, f"{fields.param('tools')}[{index}]")
        path = entry.param("functionDeclarations")
        for number, declaration in enumerate(entry.repeated("functionDeclarations") or ()):
            tools.append(_function(ProtoFields.of(declaration, f"{path}[{number}]")))
        for kind, definition in entry.rest().items():
            if definition is not None:
                place = entry.param(kind)
                tools.append(Tool(kind, kind=kind, extensions={NAME: {kind: definition}}, path=place))
    return tuple(tools)


def _function(fields: ProtoFields) -> Tool:
    name, description = fields.required_text("name"), fields.text("description")
    subset, schema = fields.take("parameters"), fields.take("parametersJsonSchema")
    if subset is not None and schema is not None:
        raise wrong_value(fields.param("parameters"), "'parametersJsonSchema' is given too; send only one")
    if subset is not None:
        schema = from_subset(subset, fields.param("parameters"))
    elif schema is not None:
        schema = checked_json_schema(schema, fields.param("parametersJsonSchema"))
    return Tool(name, description, schema, extensions=extended(fields.rest()), path=fields.path)


def _tool_choice(fields: ProtoFields) -> tuple[ToolChoice | None, dict[str, Any]]:
    """The choice, and what else `toolConfig` holds."""
    config = fields.fields("toolConfig")
    if config is None:
        return None, {}
    calling = config.fields("functionCallingConfig")
    if calling is None:
        return None, config.rest()
    word = (calling.text("mode") or "").upper()
    allowed = calling.items("allowedFunctionNames") or []
    for index, name in enumerate(allowed):
        if not isinstance(name, str):
            raise wrong_type(f"{calling.param('allowedFunctionNames')}[{index}]", "a string", name)
    rest = calling.rest()
    outer = config.rest() | ({"functionCallingConfig": rest} if rest else {})
    names = {"allowedFunctionNames": allowed} if allowed else {}
    match word:
        case "ANY" if len(allowed) == 1:
            return ToolChoice("tool", allowed[0]), outer
        case "ANY":
            return ToolChoice("required", extensions=extended(names)), outer
        case "NONE":
            return ToolChoice("none", extensions=extended(names)), outer
        case "AUTO" | "VALIDATED":
            mode = {} if word == "AUTO" else {"mode": word}
            return ToolChoice("auto", extensions=extended({**mode, **names})), outer
        case "" | "MODE_UNSPECIFIED":
            return (ToolChoice("auto", extensions=extended(names)) if names else None), outer
        case _:
            path = join(calling.path, "mode")
            raise wrong_value(path, "supported values are 'AUTO', 'ANY', 'NONE', 'VALIDATED'")
