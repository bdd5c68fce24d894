"""Responses, as the openai SDK types it."""

from __future__ import annotations

from typing import Any

from openai.types.responses import response_create_params
from openai.types.responses.response_input_content_param import ResponseInputContentParam
from openai.types.responses.response_input_item_param import ResponseInputItemParam
from openai.types.responses.tool_param import ToolParam

from tests.support.fields.row import PDF, PNG, SCHEMA, WAV, Body, Caller, Row, keys, tags

TEXT = {"type": "input_text", "text": "hi"}
USER = {"role": "user", "content": "hi"}
BASE: Body = {"model": "m", "input": [USER]}
TOOLS = [{"type": "function", "name": "f", "parameters": SCHEMA}]
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":"b"}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "done"}
CUSTOM = {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "free"}
CUSTOM_RESULT = {"type": "custom_tool_call_output", "call_id": "c2", "output": "done"}


def setting(name: str, value: Any, implied: str | None = None, **beside: Any) -> Row:
    return Row("request", name, {**BASE, **beside, name: value}, {**BASE, **beside}, implied)


def nested(name: str, inner: str, value: Any, **beside: Any) -> Row:
    return Row(
        "request",
        f"{name}.{inner}",
        {**BASE, name: {**beside, inner: value}},
        {**BASE, name: {**beside}} if beside else BASE,
    )


def item(kind: str, *before: Any, **fields: Any) -> Row:
    both = [USER, *before]
    return Row("input", kind, {**BASE, "input": [*both, {"type": kind, **fields}]}, {**BASE, "input": both})


def content(name: str, part: Any, without: Any = None) -> Row:
    bare = [TEXT] if without is None else [TEXT, without]
    return Row(
        "content",
        name,
        {**BASE, "input": [{"role": "user", "content": [TEXT, part]}]},
        {**BASE, "input": [{"role": "user", "content": bare}]},
    )


def tool(kind: str, **fields: Any) -> Row:
    return Row("tools", kind, {**BASE, "tools": [{"type": kind, **fields}]}, BASE)


OPAQUE_ITEMS: dict[str, Body] = {
    "file_search_call": {"id": "fs_1", "status": "completed", "queries": ["q"]},
    "computer_call": {"id": "cu_1", "call_id": "c3", "status": "completed", "pending_safety_checks": []},
    "computer_call_output": {
        "call_id": "c3",
        "output": {"type": "computer_screenshot", "image_url": "https://example.com/a.png"},
    },
    "web_search_call": {"id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
    "tool_search_call": {"id": "ts_1", "arguments": {}, "status": "completed"},
    "tool_search_output": {"tools": [], "status": "completed"},
    "additional_tools": {"role": "developer", "tools": []},
    "configuration_update": {"configuration": {}},
    "compaction": {"id": "cmp_1", "encrypted_content": "enc"},
    "code_interpreter_call": {
        "id": "ci_1",
        "container_id": "k",
        "status": "completed",
        "code": "1",
        "outputs": [],
    },
    "local_shell_call": {
        "id": "ls_1",
        "call_id": "c4",
        "status": "completed",
        "action": {"type": "exec", "command": ["ls"], "env": {}},
    },
    "local_shell_call_output": {"id": "ls_2", "output": "{}"},
    "shell_call": {"call_id": "c5", "action": {"commands": ["ls"]}},
    "shell_call_output": {"call_id": "c5", "output": []},
    "apply_patch_call": {
        "call_id": "c6",
        "status": "completed",
        "operation": {"type": "delete_file", "path": "a"},
    },
    "apply_patch_call_output": {"call_id": "c6", "status": "completed"},
    "mcp_list_tools": {"id": "ml_1", "server_label": "s", "tools": []},
    "mcp_approval_request": {"id": "ma_1", "server_label": "s", "name": "n", "arguments": "{}"},
    "mcp_approval_response": {"approval_request_id": "ma_1", "approve": True},
    "mcp_call": {"id": "mc_1", "server_label": "s", "name": "n", "arguments": "{}"},
    "compaction_trigger": {},
    "item_reference": {"id": "msg_1"},
    "program": {"id": "p_1", "call_id": "c7", "code": "1", "fingerprint": "f"},
    "program_output": {"id": "p_2", "call_id": "c7", "result": "1", "status": "completed"},
}
HOSTED_TOOLS: dict[str, Body] = {
    "file_search": {"vector_store_ids": ["vs_1"]},
    "computer": {},
    "computer_use_preview": {"display_height": 9, "display_width": 9, "environment": "linux"},
    "web_search": {},
    "web_search_2025_08_26": {},
    "mcp": {"server_label": "s", "server_url": "https://example.com"},
    "code_interpreter": {"container": {"type": "auto"}},
    "programmatic_tool_calling": {},
    "image_generation": {},
    "local_shell": {},
    "shell": {},
    "namespace": {"name": "n", "description": "d", "tools": []},
    "tool_search": {},
    "web_search_preview": {},
    "web_search_preview_2025_03_11": {},
    "apply_patch": {},
}

ROWS = (
    setting("model", "n", "the target's own name for the model is sent"),
    setting("input", "hello"),
    setting("access_programs", ["p"]),
    setting("background", True),
    setting("context_management", [{"type": "compaction", "compact_threshold": 1000}]),
    setting("conversation", "conv_1"),
    setting("image", {"size": "auto"}),
    setting("include", ["web_search_call.results"]),
    Row(
        "request",
        "include message.output_text.logprobs",
        {**BASE, "include": ["message.output_text.logprobs"]},
        BASE,
    ),
    Row(
        "request",
        "include reasoning.encrypted_content",
        {**BASE, "include": ["reasoning.encrypted_content"]},
        BASE,
        "signatures and encrypted reasoning are handed out unasked",
    ),
    setting("instructions", "be brief"),
    setting("max_output_tokens", 9),
    setting("max_tool_calls", 3),
    setting("metadata", {"a": "b"}),
    setting("moderation", {"model": "omni-moderation-latest"}),
    setting("parallel_tool_calls", False, tools=TOOLS),
    setting("previous_response_id", "resp_1"),
    setting("prompt", {"id": "pmpt_1"}),
    setting("prompt_cache_key", "k"),
    setting("prompt_cache_options", {"mode": "implicit"}),
    setting("prompt_cache_retention", "24h"),
    setting("reasoning", {"effort": "high"}),
    nested("reasoning", "summary", "auto", effort="high"),
    nested("reasoning", "context", "all_turns", effort="high"),
    setting("safety_identifier", "s"),
    setting("service_tier", "flex"),
    setting("store", True),
    setting("stream", True, "the route says it"),
    setting("stream_options", {"include_obfuscation": True}, stream=True),
    setting("temperature", 0.5),
    setting("text", {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}),
    Row("request", "text.format json_object", {**BASE, "text": {"format": {"type": "json_object"}}}, BASE),
    nested("text", "verbosity", "low"),
    setting("tool_choice", "required", tools=TOOLS),
    Row(
        "request",
        "tool_choice function",
        {**BASE, "tools": TOOLS, "tool_choice": {"type": "function", "name": "f"}},
        {**BASE, "tools": TOOLS},
    ),
    setting("tools", TOOLS),
    setting("top_logprobs", 2, include=["message.output_text.logprobs"]),
    setting("top_p", 0.5),
    setting("truncation", "auto"),
    setting("user", "u"),
    Row(
        "input",
        "message",
        {**BASE, "input": [USER, {"type": "message", "role": "user", "content": "more"}]},
        BASE,
    ),
    Row(
        "input",
        "message, system, later",
        {**BASE, "input": [USER, {"role": "system", "content": "be brief"}, USER]},
        {**BASE, "input": [USER, USER]},
    ),
    Row(
        "input",
        "message, assistant",
        {
            **BASE,
            "input": [
                USER,
                {
                    "type": "message",
                    "role": "assistant",
                    "id": "msg_1",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "so", "annotations": []}],
                },
                USER,
            ],
        },
        {**BASE, "input": [USER, USER]},
    ),
    Row(
        "input",
        "refusal",
        {
            **BASE,
            "input": [
                USER,
                {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
                USER,
            ],
        },
        {**BASE, "input": [USER, USER]},
    ),
    item("reasoning", id="rs_1", summary=[{"type": "summary_text", "text": "hm"}], encrypted_content="enc"),
    Row(
        "input",
        "function_call",
        {**BASE, "tools": TOOLS, "input": [USER, CALL, RESULT]},
        {**BASE, "tools": TOOLS},
    ),
    Row(
        "input",
        "function_call_output",
        {**BASE, "tools": TOOLS, "input": [USER, CALL, RESULT]},
        {**BASE, "tools": TOOLS, "input": [USER, CALL, RESULT | {"output": "no"}]},
    ),
    Row(
        "input",
        "function_call_output with an image",
        {
            **BASE,
            "input": [
                USER,
                CALL,
                RESULT
                | {"output": [TEXT, {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}]},
            ],
        },
        {**BASE, "input": [USER, CALL, RESULT | {"output": [TEXT]}]},
    ),
    Row("input", "custom_tool_call", {**BASE, "input": [USER, CUSTOM, CUSTOM_RESULT]}, BASE),
    Row(
        "input",
        "custom_tool_call_output",
        {**BASE, "input": [USER, CUSTOM, CUSTOM_RESULT]},
        {**BASE, "input": [USER, CUSTOM, CUSTOM_RESULT | {"output": "no"}]},
    ),
    Row(
        "input",
        "image_generation_call",
        {
            **BASE,
            "input": [
                USER,
                {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PNG},
                USER,
            ],
        },
        {**BASE, "input": [USER, USER]},
    ),
    *(item(kind, **fields) for kind, fields in OPAQUE_ITEMS.items()),
    content("input_text", {"type": "input_text", "text": "more"}),
    content("input_image", {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}),
    content("input_image by address", {"type": "input_image", "image_url": "https://example.com/a.png"}),
    content("input_image by id", {"type": "input_image", "file_id": "file-1"}),
    content(
        "input_image.detail",
        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "high"},
        {"type": "input_image", "image_url": "https://example.com/a.png"},
    ),
    content(
        "input_file",
        {"type": "input_file", "file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"},
    ),
    content("input_file by address", {"type": "input_file", "file_url": "https://example.com/a.pdf"}),
    content("input_audio", {"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}),
    content("prompt_cache_breakpoint", TEXT | {"prompt_cache_breakpoint": {"mode": "explicit"}}, TEXT),
    tool("function", name="f", parameters=SCHEMA),
    Row(
        "tools", "function.strict", {**BASE, "tools": [TOOLS[0] | {"strict": True}]}, {**BASE, "tools": TOOLS}
    ),
    tool("custom", name="g"),
    *(tool(kind, **fields) for kind, fields in HOSTED_TOOLS.items()),
)

CALLER = Caller(
    "openai_responses",
    ROWS,
    note="`background`, `conversation`, `previous_response_id` and `store` are seen to by the server itself "
    "([State](responses.md#state)); the table says what would become of them at an upstream.",
    sdk={
        "request": keys(response_create_params.ResponseCreateParamsBase) | {"stream"},
        "input": tags(ResponseInputItemParam),
        "content": tags(ResponseInputContentParam),
        "tools": tags(ToolParam),
    },
)
