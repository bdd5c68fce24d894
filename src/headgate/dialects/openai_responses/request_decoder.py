"""A Responses request, read into a neutral one."""

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
    Text,
    Tool,
    ToolChoice,
)
from headgate.dialects.json_bodies import Fields, decode_object, missing, wrong_type, wrong_value
from headgate.dialects.openai_responses.input_decoder import InputDecoder
from headgate.dialects.openai_responses.vocabulary import ENCRYPTED, LOGPROBS, NAME, extended
from headgate.dialects.openai_shared import FIELDS, stream_options, with_shared

_SHARED = {key: kind for key, kind in FIELDS.items() if key != "verbosity"}
"""`verbosity` stands in `text` here."""

_VENDOR_FIELDS: Mapping[str, type] = {
    "background": bool,
    "context_management": list,
    "max_tool_calls": int,
    "previous_response_id": str,
    "prompt": dict,
    "truncation": str,
    **_SHARED,
}
"""Fields that have no neutral place: kept in the extensions, their JSON type checked."""

_EXPECTED: Mapping[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "an integer",
}
_DEFAULTS: Mapping[str, Any] = {"background": False, "store": False, "truncation": "disabled"}
"""Values that ask for nothing of an upstream."""
_SHARED_TTL = "30m"
"""The lifetime of a cached prompt that Chat Completions knows too."""


def decode_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
    """Read a request body. Fields without a neutral place go to `extensions["openai_responses"]`; those that
    Chat Completions has as well to `extensions["openai"]`.

    `store: false`, which is how other dialects work, leaves no trace; without `store` nothing does either,
    because keeping answers is the server's own affair.

    Args:
        body: one JSON object in UTF-8.
        model: in place of the body's own, where the route holds it (Azure's deployments).
        stream: likewise.

    Raises:
        InvalidRequest: with `param` naming the field ("input[2].content[0].image_url").
    """
    return decode_fields(decode_object(body), model=model, stream=stream)


def decode_fields(
    values: Mapping[str, Any], *, model: str | None = None, stream: bool | None = None
) -> ChatRequest:
    """The same from the decoded JSON object."""
    fields = Fields(values)
    name = fields.text("model") if model is None else model
    fields.take("model")
    if not name:
        raise missing("model")
    body_stream = fields.boolean("stream")
    streams = bool(body_stream) if stream is None else stream
    include = _include(fields)
    logprobs = True if LOGPROBS in include else None
    sampling = Sampling(
        max_tokens=fields.integer("max_output_tokens", 0),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        logprobs=logprobs,
        top_logprobs=fields.integer("top_logprobs", 0),
    )
    reasoning, more_reasoning = _reasoning(fields)
    response_format, verbosity, more_text = _text(fields)
    extra: dict[str, Any] = {"reasoning": more_reasoning, "text": more_text}
    extra["include"] = [word for word in include if word not in (LOGPROBS, ENCRYPTED)]
    return ChatRequest(
        model=name,
        messages=_messages(fields),
        tools=tuple(
            _tool(Fields.of(item, f"tools[{i}]")) for i, item in enumerate(fields.items("tools") or ())
        ),
        tool_choice=_tool_choice(fields),
        parallel_tool_calls=fields.boolean("parallel_tool_calls"),
        response_format=response_format,
        sampling=sampling,
        reasoning=reasoning,
        stream=streams,
        include_usage=streams,
        user=fields.text("user"),
        metadata=_metadata(fields),
        service_tier=fields.text("service_tier"),
        extensions=_rest(fields, extra, verbosity),  # last: what nobody has taken by now
    )


def _rest(fields: Fields, extra: Mapping[str, Any], verbosity: str | None) -> Extensions:
    options = stream_options(fields)
    more = dict(extra) | {"stream_options": options.rest() if options else None}
    for key, expected in _VENDOR_FIELDS.items():
        value = fields.peek(key)
        wrong = not isinstance(value, expected) or (expected is int and isinstance(value, bool))
        if value is not None and wrong:
            raise wrong_type(key, _EXPECTED[expected], value)
    conversation = fields.peek("conversation")
    if conversation is not None and not isinstance(conversation, str | dict):
        raise wrong_type("conversation", "a string or an object", conversation)
    rest = {
        key: value
        for key, value in fields.rest().items()
        if value is not None and (key not in _DEFAULTS or value != _DEFAULTS[key])
    }
    shared = {key: rest.pop(key) for key in _SHARED if key in rest}
    if verbosity is not None:
        shared["verbosity"] = verbosity
    if ours := _only_here(shared):
        more["prompt_cache_options"] = ours
    return with_shared(extended(rest | {key: value for key, value in more.items() if value}), shared)


def _only_here(shared: dict[str, Any]) -> dict[str, Any]:
    """Take out of `prompt_cache_options` what Chat Completions doesn't know."""
    options = shared.get("prompt_cache_options", {})
    both = {
        key: value for key, value in options.items() if key == "mode" or (key, value) == ("ttl", _SHARED_TTL)
    }
    if both != options:
        shared["prompt_cache_options"] = both
        if not both:
            del shared["prompt_cache_options"]
    return {key: value for key, value in options.items() if key not in both}


def _include(fields: Fields) -> list[str]:
    words = fields.items("include") or []
    for index, word in enumerate(words):
        if not isinstance(word, str):
            raise wrong_type(f"include[{index}]", "a string", word)
    return words


def _messages(fields: Fields) -> tuple[Message, ...]:
    held = any(fields.peek(key) is not None for key in ("previous_response_id", "conversation", "prompt"))
    value = fields.take("input")
    if value is None and not held:
        raise missing("input")
    if value == [] and not held:
        raise wrong_value("input", "the array must hold at least one item")
    decoder = InputDecoder(stateful=held)
    instructions = fields.peek("instructions")
    if isinstance(instructions, list):  # as responses echo them
        fields.take("instructions")
        decoder.decode(instructions, "instructions")
    elif (text := fields.text("instructions")) is not None:
        place = "instructions"
        decoder.messages.append(Message("system", (Text(text),), path=place, part_paths=(place,)))
    decoder.decode(value)
    return tuple(decoder.messages)


def _reasoning(fields: Fields) -> tuple[ReasoningOptions | None, dict[str, Any]]:
    options = fields.fields("reasoning")
    if options is None:
        return None, {}
    effort, summary, old = options.text("effort"), options.text("summary"), options.text("generate_summary")
    summary = old if summary is None else summary
    rest = {key: value for key, value in options.rest().items() if value is not None}
    if effort is None and summary is None:
        return None, rest
    return ReasoningOptions(effort=effort, summary=summary), rest


def _text(fields: Fields) -> tuple[ResponseFormat | None, str | None, dict[str, Any]]:
    """The format, the verbosity, and what else there is."""
    text = fields.fields("text")
    if text is None:
        return None, None, {}
    choice = text.fields("format")
    wanted = None if choice is None else _response_format(choice)
    verbosity = text.text("verbosity")
    return wanted, verbosity, {key: value for key, value in text.rest().items() if value is not None}


def _response_format(choice: Fields) -> ResponseFormat:
    kind = choice.required_text("type")
    match kind:
        case "text" | "json_object":
            return ResponseFormat(kind, extensions=extended(choice.rest()))
        case "json_schema":
            name, schema = choice.required_text("name"), choice.mapping("schema")
            if schema is None:
                raise missing(choice.param("schema"))
            description, strict = choice.text("description"), choice.boolean("strict")
            return ResponseFormat("json_schema", name, description, schema, strict, extended(choice.rest()))
        case _:
            raise wrong_value(
                choice.param("type"), "supported values are 'text', 'json_object', 'json_schema'"
            )


def _metadata(fields: Fields) -> Mapping[str, str] | None:
    values = fields.mapping("metadata")
    for value in (values or {}).values():
        if not isinstance(value, str):
            raise wrong_type("metadata", "strings as values", value)
    return values


def _tool(fields: Fields) -> Tool:
    kind = fields.required_text("type")
    match kind:
        case "function":
            name, description = fields.required_text("name"), fields.text("description")
            parameters, strict = fields.mapping("parameters"), fields.boolean("strict")
            return Tool(name, description, parameters, strict, extensions=extended(fields.rest()))
        case "custom":
            name, description = fields.required_text("name"), fields.text("description")
            return Tool(name, description, kind=kind, extensions=extended(fields.rest()))
        case _:  # a hosted tool ("web_search"): the vendor's own to understand
            return Tool(kind, kind=kind, extensions={NAME: fields.rest()})


def _tool_choice(fields: Fields) -> ToolChoice | None:
    value = fields.take("tool_choice")
    match value:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(value)
        case str():
            raise wrong_value("tool_choice", "supported values are 'none', 'auto', 'required', or an object")
    choice = Fields.of(value, "tool_choice")
    kind = choice.required_text("type")
    match kind:
        case "function" | "custom":
            return ToolChoice("tool", choice.required_text("name"), extended(choice.rest()))
        case "allowed_tools":
            mode = choice.word("mode", ("auto", "required"))
            tools = choice.items("tools")
            if tools is None:
                raise missing(choice.param("tools"))
            kept = {**choice.rest(), "tools": tools}
            return ToolChoice("auto" if mode == "auto" else "required", extensions=extended(kept))
        case _:
            return ToolChoice("tool", choice.text("name") or kind, extended({"type": kind, **choice.rest()}))
