"""A request with every field and every kind of item, and how tests send and read it."""

from __future__ import annotations

from typing import Any

import msgspec
from openai.types.responses import response_input_item_param
from pydantic import TypeAdapter

from headgate.core.messages import (
    ChatRequest,
    Message,
    Text,
)
from headgate.dialects.openai_responses import Profile, decode_request, encode_request

OWN = "openai_responses"
ITEM: TypeAdapter[Any] = TypeAdapter(response_input_item_param.ResponseInputItemParam)
BREAKPOINTS = Profile(cache_breakpoints=True)

ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": "Hello"},
    {
        "type": "message",
        "role": "user",
        "content": [
            {
                "type": "input_text",
                "text": "Look",
                "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"},
            },
            {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "high"},
            {"type": "input_image", "image_url": "https://a.b/c.png"},
            {"type": "input_image", "file_id": "file-1", "detail": "auto"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="},
            {"type": "input_file", "file_url": "https://a.b/c.pdf"},
            {"type": "input_file", "file_id": "file-2"},
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
            {"type": "input_hologram", "waves": [1]},
        ],
    },
    {"role": "developer", "content": "Be brief."},
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}],
        "encrypted_content": "gAAA",
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [
            {
                "type": "output_text",
                "text": "Well",
                "annotations": [{"type": "file_path", "file_id": "f", "index": 0}],
            },
            {"type": "refusal", "refusal": "no"},
        ],
    },
    {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "q"},
    },
    {"type": "function_call", "id": "fc_1", "call_id": "call_a", "name": "f", "arguments": "{}"},
    {"type": "custom_tool_call", "call_id": "call_b", "name": "g", "input": "text"},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGk="},
    {"type": "function_call_output", "call_id": "call_a", "output": "sunny"},
    {
        "type": "custom_tool_call_output",
        "call_id": "call_b",
        "output": [{"type": "input_text", "text": "a"}, {"type": "input_image", "file_id": "file-3"}],
    },
    {"type": "mcp_approval_response", "approval_request_id": "r", "approve": True},
    {"type": "item_reference", "id": "msg_0"},
    {"role": "assistant", "content": "And"},
    {"role": "assistant", "content": [{"type": "output_text", "text": "so"}]},
]

FIELDS: dict[str, Any] = {
    "model": "m",
    "instructions": "Be kind.",
    "input": ITEMS,
    "tools": [
        {
            "type": "function",
            "name": "f",
            "description": "d",
            "parameters": {"type": "object"},
            "strict": True,
        },
        {"type": "custom", "name": "g", "format": {"type": "text"}},
        {"type": "web_search", "search_context_size": "low"},
        {"type": "mcp", "server_label": "l", "server_url": "https://a.b"},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "parallel_tool_calls": False,
    "text": {
        "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
        "verbosity": "low",
    },
    "reasoning": {"effort": "high", "summary": "auto", "context": "all_turns"},
    "max_output_tokens": 100,
    "max_tool_calls": 3,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_logprobs": 2,
    "include": ["message.output_text.logprobs", "file_search_call.results"],
    "store": True,
    "previous_response_id": "resp_0",
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "service_tier": "flex",
    "metadata": {"a": "b"},
    "truncation": "auto",
    "user": "u",
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "novelty": {"x": 1},
}


def request(**fields: Any) -> ChatRequest:
    return decode_request(msgspec.json.encode({"model": "m", "input": "Hi"} | fields))


def messages(*items: dict[str, Any]) -> tuple[Message, ...]:
    return request(input=list(items)).messages


def encoded(asked: ChatRequest, **options: Any) -> dict[str, Any]:
    body, losses = encode_request(asked, **options)
    assert not losses
    value: dict[str, Any] = msgspec.json.decode(body)
    return value


def losses_of(**fields: Any) -> list[str]:
    fields.setdefault("messages", (Message("user", (Text("a"),)),))
    body, losses = encode_request(ChatRequest(model="m", **fields))
    assert msgspec.json.decode(body)["model"] == "m"
    return [loss.path for loss in losses]


def ext(**values: Any) -> dict[str, dict[str, Any]]:
    return {OWN: values}
