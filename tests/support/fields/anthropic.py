"""Messages, as the anthropic SDK types it, and the sampling fields that its older models take."""

from __future__ import annotations

from typing import Any

from anthropic.types import MetadataParam, OutputConfigParam, ToolParam
from anthropic.types.content_block_param import ContentBlockParam
from anthropic.types.document_block_param import Source
from anthropic.types.message_create_params import MessageCreateParamsBase
from anthropic.types.thinking_config_param import ThinkingConfigParam
from anthropic.types.tool_choice_param import ToolChoiceParam
from anthropic.types.tool_union_param import ToolUnionParam

from tests.support.fields.row import PDF, PNG, SCHEMA, Body, Caller, Row, keys, tags

HINT = {"type": "ephemeral"}
TEXT = {"type": "text", "text": "hi"}
USER = {"role": "user", "content": "hi"}
BASE: Body = {"model": "m", "max_tokens": 9, "messages": [USER]}
TOOL: Body = {"name": "f", "input_schema": SCHEMA}
CALL = {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": "b"}}
RESULT: Body = {"type": "tool_result", "tool_use_id": "c1", "content": "done"}
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
PAPER = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}


def setting(name: str, value: Any, implied: str | None = None, **beside: Any) -> Row:
    return Row("request", name, {**BASE, **beside, name: value}, {**BASE, **beside}, implied)


def nested(group: str, name: str, value: Any, without: Any = None) -> Row:
    return Row(group, name, {**BASE, group: value}, {**BASE, group: without} if without else BASE)


def asked(*blocks: Any) -> Body:
    return {**BASE, "messages": [{"role": "user", "content": [*blocks]}]}


def content(name: str, block: Any, *without: Any) -> Row:
    return Row("content", name, asked(TEXT, block), asked(TEXT, *without))


def said(*blocks: Any, after: tuple[Any, ...] = (TEXT,), tools: bool = True) -> Body:
    messages = [
        USER,
        {"role": "assistant", "content": [TEXT, *blocks]},
        {"role": "user", "content": [*after]},
    ]
    return {**BASE, "messages": messages, **({"tools": [TOOL]} if tools else {})}


def answered(result: Body) -> Body:
    return said(CALL, after=(result, TEXT))


def tool(name: str, fields: Body) -> Row:
    return Row("tools", name, {**BASE, "tools": [TOOL | fields]}, {**BASE, "tools": [TOOL]})


SERVER_BLOCKS: dict[str, Any] = {
    "server_tool_use": {"id": "srvtoolu_1", "name": "web_search", "input": {}},
    "web_search_tool_result": {"tool_use_id": "srvtoolu_1", "content": []},
    "web_fetch_tool_result": {"tool_use_id": "srvtoolu_1", "content": {}},
    "code_execution_tool_result": {"tool_use_id": "srvtoolu_1", "content": {}},
    "bash_code_execution_tool_result": {"tool_use_id": "srvtoolu_1", "content": {}},
    "text_editor_code_execution_tool_result": {"tool_use_id": "srvtoolu_1", "content": {}},
    "tool_search_tool_result": {"tool_use_id": "srvtoolu_1", "content": {}},
}
SERVER_TOOLS = tags(ToolUnionParam) - {"custom"}

ROWS = (
    setting("model", "n", "the target's own name for the model is sent"),
    Row("request", "messages", {**BASE, "messages": [USER, USER]}, BASE),
    setting("max_tokens", 99),
    setting("cache_control", HINT),
    setting("container", "c"),
    setting("diagnostics", {"previous_message_id": None}),
    setting("inference_geo", "us"),
    setting("metadata", {"user_id": "u"}),
    nested("metadata", "user_id", {"user_id": "u"}),
    setting("output_config", {"effort": "high"}),
    nested("output_config", "effort", {"effort": "high"}),
    nested("output_config", "format", {"format": {"type": "json_schema", "schema": SCHEMA}}),
    setting("service_tier", "standard_only"),
    setting("speed", "fast"),
    setting("stop_sequences", ["x"]),
    setting("stream", True, "the route says it"),
    setting("system", "be brief"),
    Row(
        "request",
        "system[].cache_control",
        {**BASE, "system": [TEXT | {"cache_control": HINT}]},
        {**BASE, "system": [TEXT]},
    ),
    setting("temperature", 0.5),
    setting("thinking", {"type": "enabled", "budget_tokens": 2048}),
    nested("thinking", "enabled", {"type": "enabled", "budget_tokens": 2048}),
    nested("thinking", "adaptive", {"type": "adaptive"}),
    Row(
        "thinking",
        "disabled",
        {**BASE, "thinking": {"type": "disabled"}},
        BASE,
        "the model does not think anyway",
    ),
    nested("thinking", "between_tools", {"type": "between_tools"}),
    Row(
        "thinking",
        "display",
        {**BASE, "thinking": {"type": "adaptive", "display": "summarized"}},
        {**BASE, "thinking": {"type": "adaptive"}},
        "thoughts are shown wherever they are asked for",
    ),
    setting("tool_choice", {"type": "any"}, tools=[TOOL]),
    *(
        Row(
            "tool_choice",
            kind,
            {**BASE, "tools": [TOOL], "tool_choice": choice},
            {**BASE, "tools": [TOOL]},
            "what is done unasked",
        )
        for kind, choice in {
            "auto": {"type": "auto"},
            "any": {"type": "any"},
            "tool": {"type": "tool", "name": "f"},
            "none": {"type": "none"},
        }.items()
    ),
    Row(
        "tool_choice",
        "disable_parallel_tool_use",
        {**BASE, "tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        {**BASE, "tools": [TOOL], "tool_choice": {"type": "any"}},
    ),
    setting("tools", [TOOL]),
    setting("top_k", 40),
    setting("top_p", 0.5),
    setting("user_profile_id", "p"),
    setting("workspace_id", "w"),
    Row("messages", "user", {**BASE, "messages": [USER, USER]}, BASE),
    Row("messages", "assistant", said(tools=False), {**BASE, "messages": [USER, USER]}),
    Row(
        "messages",
        "system",
        {**BASE, "messages": [USER, {"role": "system", "content": "be brief"}, USER]},
        {**BASE, "messages": [USER, USER]},
    ),
    content("text", {"type": "text", "text": "more"}),
    content("text.cache_control", TEXT | {"cache_control": HINT}, TEXT),
    content(
        "text.cache_control.ttl",
        TEXT | {"cache_control": HINT | {"ttl": "1h"}},
        TEXT | {"cache_control": HINT},
    ),
    Row(
        "content",
        "text.citations",
        said(
            TEXT
            | {
                "citations": [
                    {
                        "type": "web_search_result_location",
                        "cited_text": "q",
                        "encrypted_index": "e",
                        "title": "t",
                        "url": "https://example.com",
                    }
                ]
            }
        ),
        said(TEXT),
    ),
    content("image", PICTURE),
    content("image url", {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}),
    content("image file", {"type": "image", "source": {"type": "file", "file_id": "file_1"}}),
    content("document", PAPER),
    *(
        Row(
            "sources",
            kind,
            asked(TEXT, {"type": "document", "source": {"type": kind, **source}}),
            asked(TEXT),
        )
        for kind, source in {
            "base64": {"media_type": "application/pdf", "data": PDF},
            "text": {"media_type": "text/plain", "data": "text"},
            "content": {"content": "text"},
            "url": {"url": "https://example.com/a.pdf"},
            "file": {"file_id": "file_1"},
        }.items()
    ),
    content("document.title", PAPER | {"title": "t"}, PAPER),
    content("document.context", PAPER | {"context": "c"}, PAPER),
    content("document.citations", PAPER | {"citations": {"enabled": True}}, PAPER),
    content("search_result", {"type": "search_result", "source": "s", "title": "t", "content": [TEXT]}),
    content("container_upload", {"type": "container_upload", "file_id": "file_1"}),
    Row("content", "thinking", said({"type": "thinking", "thinking": "hm", "signature": "sig"}), said()),
    Row("content", "redacted_thinking", said({"type": "redacted_thinking", "data": "enc"}), said()),
    Row("content", "tool_use", answered(RESULT), said()),
    Row(
        "content", "tool_result", answered(RESULT | {"content": "done"}), answered(RESULT | {"content": "no"})
    ),
    Row("content", "tool_result.is_error", answered(RESULT | {"is_error": True}), answered(RESULT)),
    Row("content", "tool_result.cache_control", answered(RESULT | {"cache_control": HINT}), answered(RESULT)),
    Row(
        "content",
        "tool_result image",
        answered(RESULT | {"content": [TEXT, PICTURE]}),
        answered(RESULT | {"content": [TEXT]}),
    ),
    Row(
        "content",
        "tool_result document",
        answered(RESULT | {"content": [TEXT, PAPER]}),
        answered(RESULT | {"content": [TEXT]}),
    ),
    *(Row("content", kind, said({"type": kind, **block}), said()) for kind, block in SERVER_BLOCKS.items()),
    Row("tool_types", "custom", {**BASE, "tools": [TOOL | {"type": "custom"}]}, BASE),
    *(
        Row("tool_types", kind, {**BASE, "tools": [{"type": kind, "name": kind.rpartition("_")[0]}]}, BASE)
        for kind in sorted(SERVER_TOOLS)
    ),
    Row("tools", "name", {**BASE, "tools": [TOOL]}, {**BASE, "tools": [TOOL | {"name": "g"}]}),
    Row(
        "tools",
        "input_schema",
        {**BASE, "tools": [TOOL]},
        {**BASE, "tools": [TOOL | {"input_schema": {"type": "object"}}]},
    ),
    Row("tools", "type", {**BASE, "tools": [TOOL | {"type": "custom"}]}, BASE),
    tool("description", {"description": "d"}),
    tool("strict", {"strict": True}),
    tool("cache_control", {"cache_control": HINT}),
    tool("allowed_callers", {"allowed_callers": ["direct"]}),
    tool("defer_loading", {"defer_loading": True}),
    tool("eager_input_streaming", {"eager_input_streaming": True}),
    tool("input_examples", {"input_examples": [{"a": "b"}]}),
)

CALLER = Caller(
    "anthropic",
    ROWS,
    sdk={
        "request": keys(MessageCreateParamsBase) | {"stream"},
        "metadata": keys(MetadataParam),
        "output_config": keys(OutputConfigParam),
        "thinking": tags(ThinkingConfigParam),
        "tool_choice": tags(ToolChoiceParam),
        "content": tags(ContentBlockParam),
        "sources": tags(Source),
        "tool_types": tags(ToolUnionParam),
        "tools": keys(ToolParam),
    },
)
