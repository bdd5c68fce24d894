"""A Chat Completions request, read into a neutral one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
from headgate.dialects.json_bodies import MAX_ITEMS, Fields, decode_object, missing, wrong_type, wrong_value
from headgate.dialects.openai_chat.caching import take_hint
from headgate.dialects.openai_chat.message_decoder import MessageDecoder
from headgate.dialects.openai_chat.payloads import check_schema
from headgate.dialects.openai_chat.vocabulary import NAME, extended
from headgate.dialects.openai_shared import FIELDS as SHARED
from headgate.dialects.openai_shared import stream_options, with_shared

_VENDOR_FIELDS: Mapping[str, type] = {
    "audio": dict,
    "modalities": list,
    "prediction": dict,
    "web_search_options": dict,
    **SHARED,
}
"""Fields of OpenAI's own that have no neutral place: kept in the extensions, their JSON type checked."""

_EXPECTED: Mapping[type, str] = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}


def decode_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
    """Read a request body. Fields without a neutral place go to `extensions["openai_chat"]`; those that
    Responses has as well to `extensions["openai"]`.

    Args:
        body: one JSON object in UTF-8.
        model: in place of the body's own, where the route holds it (Azure's deployments).
        stream: likewise.

    Raises:
        InvalidRequest: with `param` naming the field ("messages[2].content[0].image_url.url").
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
    effort = fields.text("reasoning_effort")
    return ChatRequest(
        model=name,
        messages=_messages(fields),
        tools=_tools(fields),
        tool_choice=_tool_choice(fields),
        parallel_tool_calls=fields.boolean("parallel_tool_calls"),
        response_format=_response_format(fields),
        sampling=_sampling(fields),
        reasoning=None if effort is None else ReasoningOptions(effort=effort),
        stream=streams,
        include_usage=wants_usage and streams,
        user=fields.text("user"),
        metadata=_metadata(fields),
        service_tier=fields.text("service_tier"),
        extensions=_rest(fields, options),  # last: what nobody has taken by now
    )


def _rest(fields: Fields, options: Fields | None) -> Extensions:
    rest = fields.rest()
    for key, value in rest.items():
        expected = _VENDOR_FIELDS.get(key)
        if expected is not None and value is not None and not isinstance(value, expected):
            raise wrong_type(key, _EXPECTED[expected], value)
    shared = {key: rest.pop(key) for key in SHARED if key in rest}
    return with_shared(extended(rest, "stream_options", options.rest() if options else None), shared)


def _messages(fields: Fields) -> tuple[Message, ...]:
    items = fields.items("messages")
    if items is None:
        raise missing("messages")
    if not items:
        raise wrong_value("messages", "the array must hold at least one message")
    decoder = MessageDecoder()
    messages: list[Message] = []
    parts = 0
    for index, item in enumerate(items):
        messages.append(decoder.decode(item, index))
        parts += len(messages[-1].parts)
        if parts > MAX_ITEMS:
            raise wrong_value("messages", f"they have more than {MAX_ITEMS:,} content parts in all")
    return tuple(messages)


def _sampling(fields: Fields) -> Sampling:
    old, new = fields.integer("max_tokens", 0), fields.integer("max_completion_tokens", 0)
    if old is not None and new is not None and old != new:
        raise wrong_value("max_tokens", "it differs from 'max_completion_tokens'; send only the latter")
    return sampling(
        fields,
        max_tokens=old if new is None else new,
        logprobs=fields.boolean("logprobs"),
        top_logprobs=fields.integer("top_logprobs", 0),
    )


def sampling(
    fields: Fields, *, max_tokens: int | None, logprobs: bool | None, top_logprobs: int | None
) -> Sampling:
    """What Chat Completions and the legacy Completions call the same, beside what they don't."""
    return Sampling(
        max_tokens=max_tokens,
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=fields.integer("top_k"),
        min_p=fields.number("min_p"),
        seed=fields.integer("seed"),
        stop=stop_sequences(fields),
        presence_penalty=fields.number("presence_penalty"),
        frequency_penalty=fields.number("frequency_penalty"),
        logit_bias=logit_bias(fields),
        n=fields.integer("n", 1),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
    )


def stop_sequences(fields: Fields) -> tuple[str, ...]:
    value = fields.peek("stop")
    if isinstance(value, str):
        return (fields.required_text("stop"),)
    if value is not None and not isinstance(value, list):
        raise wrong_type("stop", "a string or an array of strings", value)
    items = fields.items("stop") or []
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise wrong_type(f"stop[{index}]", "a string", item)
    return tuple(items)


def logit_bias(fields: Fields) -> Mapping[str, float] | None:
    values = fields.mapping("logit_bias")
    for bias in (values or {}).values():
        if isinstance(bias, bool) or not isinstance(bias, int | float):
            raise wrong_type("logit_bias", "numbers as values", bias)
    return values


def _metadata(fields: Fields) -> Mapping[str, str] | None:
    values = fields.mapping("metadata")
    for value in (values or {}).values():
        if not isinstance(value, str):
            raise wrong_type("metadata", "strings as values", value)
    return values


def _tools(fields: Fields) -> tuple[Tool, ...]:
    tools = [
        _tool(Fields.of(item, f"tools[{index}]")) for index, item in enumerate(fields.items("tools") or ())
    ]
    for index, item in enumerate(fields.items("functions") or ()):
        body = Fields.of(item, f"functions[{index}]")
        tools.append(replace(_function(body, {"functions": True}), path=body.path))
    return tuple(tools)


def _tool(fields: Fields) -> Tool:
    kind = fields.required_text("type")
    match kind:
        case "function":
            body = fields.required_fields("function")
            hint = take_hint(fields) or take_hint(body)
            tool = _function(body, {})
            return replace(tool, cache=hint, extensions=extended(fields.rest(), "function", body.rest()))
        case "custom":
            body = fields.required_fields("custom")
            name, description = body.required_text("name"), body.text("description")
            extensions = extended(fields.rest(), "custom", body.rest())
            return Tool(name, description, kind="custom", extensions=extensions)
        case _:  # a vendor's built-in tool ("web_search"): its own to understand
            return Tool(kind, kind=kind, extensions={NAME: fields.rest()})


def _function(body: Fields, marks: Mapping[str, Any]) -> Tool:
    name = body.required_text("name")
    description, parameters = body.text("description"), body.mapping("parameters")
    check_schema(parameters, body.param("parameters"))
    strict = body.boolean("strict")
    return Tool(name, description, parameters, strict, extensions=extended({**marks, **body.rest()}))


def _tool_choice(fields: Fields) -> ToolChoice | None:
    value = fields.take("tool_choice")
    if value is None:
        return _function_call(fields)
    if isinstance(value, str):
        return _mode(value, "tool_choice")
    if not isinstance(value, dict):
        raise wrong_type("tool_choice", "a string or an object", value)
    choice = Fields(value, "tool_choice")
    kind = choice.word("type", ("function", "custom", "allowed_tools"))
    body = choice.required_fields(kind)
    if kind == "allowed_tools":
        mode = body.word("mode", ("auto", "required"))
        body.items("tools")
        return ToolChoice("auto" if mode == "auto" else "required", extensions=extended(value))
    name = body.required_text("name")
    unknown = kind == "custom" or choice.rest() or body.rest()
    return ToolChoice("tool", name, extended(value) if unknown else {})


def _mode(word: str, param: str) -> ToolChoice:
    match word:
        case "auto" | "none" | "required":
            return ToolChoice(word)
        case _:
            raise wrong_value(param, "supported values are 'none', 'auto', 'required', or an object")


def _function_call(fields: Fields) -> ToolChoice | None:
    """Deprecated forerunner of `tool_choice`."""
    value = fields.take("function_call")
    if value is None:
        return None
    mark = extended({"function_call": value})
    if isinstance(value, str):
        if value not in ("auto", "none"):
            raise wrong_value("function_call", "supported values are 'none', 'auto', or an object")
        return ToolChoice("auto" if value == "auto" else "none", extensions=mark)
    body = Fields.of(value, "function_call")
    return ToolChoice("tool", body.required_text("name"), mark)


def _response_format(fields: Fields) -> ResponseFormat | None:
    value = fields.peek("response_format")
    if value is None:
        return None
    choice = fields.required_fields("response_format")
    kind = choice.required_text("type")
    match kind:
        case "text" | "json_object":
            return ResponseFormat(kind, extensions=extended(choice.rest()))
        case "json_schema":
            body = choice.required_fields("json_schema")
            schema = body.mapping("schema")
            check_schema(schema, body.param("schema"))
            return ResponseFormat(
                "json_schema",
                name=body.required_text("name"),
                description=body.text("description"),
                schema=schema,
                strict=body.boolean("strict"),
                extensions=extended(choice.rest(), "json_schema", body.rest()),
            )
        case _:
            raise wrong_value(
                choice.param("type"), "supported values are 'text', 'json_object', 'json_schema'"
            )
