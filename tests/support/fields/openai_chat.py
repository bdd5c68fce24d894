"""Chat Completions, as the openai SDK types it, and what compatible vendors' callers send besides."""

from __future__ import annotations

from typing import Any

from openai.types.chat import completion_create_params
from openai.types.chat.chat_completion_assistant_message_param import ChatCompletionAssistantMessageParam
from openai.types.chat.chat_completion_content_part_param import ChatCompletionContentPartParam
from openai.types.chat.chat_completion_message_param import ChatCompletionMessageParam
from openai.types.chat.chat_completion_tool_union_param import ChatCompletionToolUnionParam

from tests.support.fields.row import PDF, PNG, SCHEMA, WAV, Body, Caller, Row, keys, tags

HINT = {"type": "ephemeral"}
TEXT = {"type": "text", "text": "hi"}
USER = {"role": "user", "content": "hi"}
BASE: Body = {"model": "m", "messages": [USER]}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":"b"}'}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "done"}
USES_USAGE = "usage is asked of every upstream that has to be asked"


def setting(name: str, value: Any, implied: str | None = None, **beside: Any) -> Row:
    return Row("request", name, {**BASE, **beside, name: value}, {**BASE, **beside}, implied)


def image(**fields: str) -> Body:
    return {"type": "image_url", "image_url": {"url": "https://example.com/a.png", **fields}}


def content(name: str, part: Any, *bare: Any) -> Row:
    with_it, without = [TEXT, part], [TEXT, *bare]
    return Row(
        "content",
        name,
        {"model": "m", "messages": [{"role": "user", "content": with_it}]},
        {"model": "m", "messages": [{"role": "user", "content": without}]},
    )


def message(name: str, *messages: Any) -> Row:
    return Row("messages", name, {"model": "m", "messages": [*messages, USER]}, BASE)


def assistant(name: str, fields: Body, *after: Any, without: Body | None = None) -> Row:
    said = {"role": "assistant", "content": "so"}
    bare = [USER, said | (without or {}), *after, USER]
    return Row(
        "assistant",
        name,
        {"model": "m", "tools": TOOLS, "messages": [USER, said | (without or {}) | fields, *after, USER]},
        {"model": "m", "tools": TOOLS, "messages": bare if without else [USER, said, USER]},
    )


def tool(name: str, tool: Any, without: Any = None) -> Row:
    bare = {} if without is None else {"tools": [without]}
    return Row("tools", name, {**BASE, "tools": [tool]}, BASE | bare)


ROWS = (
    Row("request", "model", BASE, {**BASE, "model": "n"}, "the target's own name for the model is sent"),
    Row("request", "messages", {**BASE, "messages": [USER, USER]}, BASE),
    setting("audio", {"voice": "alloy", "format": "mp3"}),
    setting("frequency_penalty", 0.5),
    setting(
        "function_call", "auto", "a model chooses by itself", functions=[{"name": "f", "parameters": SCHEMA}]
    ),
    setting("functions", [{"name": "f", "parameters": SCHEMA}]),
    setting("logit_bias", {"42": 5}),
    setting("logprobs", True),
    setting("max_completion_tokens", 9),
    setting("max_tokens", 9),
    setting("metadata", {"a": "b"}),
    setting("min_p", 0.1),
    setting("modalities", ["text", "audio"]),
    setting("moderation", {"model": "omni-moderation-latest"}),
    setting("n", 2),
    setting("parallel_tool_calls", False, tools=TOOLS),
    setting("prediction", {"type": "content", "content": "hi"}),
    setting("presence_penalty", 0.5),
    setting("prompt_cache_key", "k"),
    setting("prompt_cache_options", {"mode": "implicit"}),
    setting("prompt_cache_retention", "24h"),
    setting("reasoning_effort", "high"),
    setting("response_format", {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}),
    Row(
        "request",
        "response_format.json_schema.strict",
        {
            **BASE,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
            },
        },
        {**BASE, "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}},
        "the dialect always holds to the schema",
    ),
    Row("request", "response_format json_object", {**BASE, "response_format": {"type": "json_object"}}, BASE),
    setting("safety_identifier", "s"),
    setting("seed", 7),
    setting("service_tier", "flex"),
    setting("stop", ["x"]),
    setting("store", True),
    setting("stream", True, "the route says it"),
    setting("stream_options", {"include_usage": True}, USES_USAGE, stream=True),
    setting("temperature", 0.5),
    setting("tool_choice", "required", tools=TOOLS),
    Row(
        "request",
        "tool_choice function",
        {**BASE, "tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {**BASE, "tools": TOOLS},
    ),
    setting("tools", TOOLS),
    setting("top_k", 40),
    setting("top_logprobs", 2, logprobs=True),
    setting("top_p", 0.5),
    setting("user", "u"),
    setting("verbosity", "low"),
    setting("web_search_options", {}),
    message("system", {"role": "system", "content": "be brief"}),
    message("developer", {"role": "developer", "content": "be brief"}),
    Row(
        "messages",
        "system, later",
        {**BASE, "messages": [USER, {"role": "system", "content": "be brief"}, USER]},
        {**BASE, "messages": [USER, USER]},
    ),
    Row("messages", "user", {**BASE, "messages": [USER, USER]}, BASE),
    message("assistant", USER, {"role": "assistant", "content": "so"}),
    Row("messages", "name", {**BASE, "messages": [USER | {"name": "ann"}]}, BASE),
    message("tool", USER, {"role": "assistant", "tool_calls": [CALL]}, RESULT),
    message(
        "function",
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "done"},
    ),
    Row(
        "assistant",
        "role",
        {**BASE, "messages": [USER, {"role": "assistant", "content": "so"}, USER]},
        {**BASE, "messages": [USER, USER]},
    ),
    assistant("audio", {"audio": {"id": "audio_1"}}),
    assistant("content", {"content": "well"}),
    assistant("name", {"name": "bot"}),
    assistant("refusal", {"refusal": "no"}),
    assistant("tool_calls", {"tool_calls": [CALL]}, RESULT),
    assistant(
        "function_call",
        {"function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "done"},
    ),
    assistant("reasoning_content", {"reasoning_content": "hm"}),
    assistant(
        "reasoning_details",
        {
            "reasoning_details": [
                {"type": "reasoning.encrypted", "data": "enc", "format": "openai-responses-v1"}
            ]
        },
    ),
    content("text", {"type": "text", "text": "more"}),
    content("image_url", {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}),
    content("image_url by address", {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
    content("image_url.detail", image(detail="high"), image()),
    content("input_audio", {"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}),
    content(
        "file",
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}},
    ),
    content("file by id", {"type": "file", "file": {"file_id": "file-1"}}),
    content("video_url", {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}),
    Row(
        "content",
        "cache_control",
        {**BASE, "messages": [{"role": "user", "content": [TEXT | {"cache_control": HINT}]}]},
        {**BASE, "messages": [{"role": "user", "content": [TEXT]}]},
    ),
    tool("function", TOOLS[0]),
    tool(
        "function.strict",
        {"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}},
        TOOLS[0],
    ),
    tool("custom", {"type": "custom", "custom": {"name": "c", "description": "d"}}),
    tool("a vendor's own", {"type": "web_search"}),
    tool("cache_control", TOOLS[0] | {"cache_control": HINT}, TOOLS[0]),
)

CALLER = Caller(
    "openai_chat",
    ROWS,
    sdk={
        "request": keys(completion_create_params.CompletionCreateParamsBase) | {"stream"},
        "messages": tags(ChatCompletionMessageParam, "role"),
        "assistant": keys(ChatCompletionAssistantMessageParam),
        "content": tags(ChatCompletionContentPartParam),
        "tools": tags(ChatCompletionToolUnionParam),
    },
)
