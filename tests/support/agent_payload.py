"""A Messages request as coding agents send it, in Anthropic's form, and what it means.

The caller's side of tests that send such a payload through any pair of dialects.
"""

from __future__ import annotations

import copy
from typing import Any

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""One pixel."""
PDF = "JVBERi0xLjQKMSAwIG9iago8PC9UeXBlL0NhdGFsb2c+PgplbmRvYmoKdHJhaWxlcjw8L1Jvb3QgMSAwIFI+PgolJUVPRgo="

EPHEMERAL: dict[str, Any] = {"type": "ephemeral"}
AN_HOUR: dict[str, Any] = {"type": "ephemeral", "ttl": "1h"}


def agent_tools(count: int = 60) -> list[dict[str, Any]]:
    """Tools with nested schemas; the last is marked for caching, as agents do, and one runs at the vendor."""
    tools: list[dict[str, Any]] = [
        {
            "name": f"tool_{number}",
            "description": f"Does the thing with the number {number}.",
            "input_schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {
                    "path": {"type": "string", "description": "Absolute path"},
                    "edits": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"old": {"type": "string"}, "new": {"type": ["string", "null"]}},
                            "required": ["old"],
                        },
                    },
                    "limit": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
                },
                "required": ["path"],
                "additionalProperties": False,
            },
        }
        for number in range(count)
    ]
    tools[0] |= {"strict": True, "input_examples": [{"path": "/a"}]}
    tools[1] |= {"type": "custom", "defer_loading": True}
    tools.append({"type": "web_search_20250305", "name": "web_search", "max_uses": 5})
    tools[count - 1]["cache_control"] = AN_HOUR
    return tools


def agent_messages() -> list[dict[str, Any]]:
    """A question and two turns: signed thoughts, parallel tools, images and documents in results."""
    return [*_question(), *_parallel_tools(), *_redacted_thought()]


def _question() -> list[dict[str, Any]]:
    return [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>Be brief.</system-reminder>"},
                {"type": "text", "text": "Fix the layout in the screenshot; the spec is attached."},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                    "title": "spec.pdf",
                    "context": "the customer's own words",
                    "citations": {"enabled": True},
                    "cache_control": EPHEMERAL,
                },
            ],
        },
        {"role": "system", "content": [{"type": "text", "text": "The user has switched to plan mode."}]},
    ]


def _parallel_tools() -> list[dict[str, Any]]:
    return [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Two files matter.", "signature": "EqQBCkYIBxgCKkA="},
                {"type": "text", "text": "I'll read both files."},
                {"type": "tool_use", "id": "toolu_01A", "name": "tool_1", "input": {"path": "/a.css"}},
                {"type": "tool_use", "id": "toolu_01B", "name": "tool_2", "input": {"path": "/b.html"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_01A",
                    "content": [
                        {"type": "text", "text": "body { margin: 0 }"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                        },
                        {"type": "text", "text": "end of file", "cache_control": EPHEMERAL},
                    ],
                },
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_01B",
                    "content": "ENOENT: no such file",
                    "is_error": True,
                    "cache_control": EPHEMERAL,
                },
                {"type": "text", "text": "<system-reminder>The file list has changed.</system-reminder>"},
            ],
        },
    ]


def _redacted_thought() -> list[dict[str, Any]]:
    return [
        {
            "role": "assistant",
            "content": [
                {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix/LafPsn4="},
                {"type": "thinking", "thinking": "", "signature": "ErUBCkYIBxgCIkD="},
                {"type": "tool_use", "id": "toolu_02", "name": "tool_3", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_02",
                    "content": [
                        {
                            "type": "document",
                            "source": {"type": "text", "media_type": "text/plain", "data": "Grüße, Wörld 🌍"},
                        },
                        {
                            "type": "search_result",
                            "source": "https://example.com/flex",
                            "title": "Flexbox",
                            "content": [{"type": "text", "text": "A guide."}],
                        },
                    ],
                }
            ],
        },
    ]


def agent_payload(*, model: str = "claude-opus-5", stream: bool = True, tools: int = 60) -> dict[str, Any]:
    """The whole request. Its parts are the caller's to change."""
    return copy.deepcopy(
        {
            "model": model,
            "max_tokens": 32000,
            "system": [
                {"type": "text", "text": "You are a coding agent."},
                {"type": "text", "text": "Follow the house style. " * 40, "cache_control": AN_HOUR},
            ],
            "messages": agent_messages(),
            "tools": agent_tools(tools),
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": False},
            "thinking": {"type": "enabled", "budget_tokens": 16000},
            "output_config": {"effort": "high"},
            "metadata": {"user_id": "user_1_account_2_session_3"},
            "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
            "temperature": 1,
            "stream": stream,
        }
    )


def next_turn(payload: dict[str, Any], content: list[dict[str, Any]]) -> dict[str, Any]:
    """The request that follows an answer: its content echoed, and a result for each of its tool calls."""
    results = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": f"result of {block['name']}"}
        for block in content
        if block["type"] == "tool_use"
    ]
    turns = [
        {"role": "assistant", "content": content},
        {"role": "user", "content": results or [{"type": "text", "text": "Go on."}]},
    ]
    return {**payload, "messages": [*payload["messages"], *copy.deepcopy(turns)]}


def meaning(payload: dict[str, Any]) -> dict[str, Any]:
    """The request with the API's shorthands written out, so that requests of one meaning are equal.

    A string of content is one text block, consecutive turns of one role are one turn, the type "custom" of
    a tool goes without saying, and so does a result that is no error.
    """
    told = copy.deepcopy(payload)
    told["system"] = _blocks(told.get("system", []))
    turns: list[dict[str, Any]] = []
    for turn in told["messages"]:
        content = [_block(block) for block in _blocks(turn["content"])]
        if turns and turns[-1]["role"] == turn["role"]:
            turns[-1]["content"] += content
        else:
            turns.append({**turn, "content": content})
    told["messages"] = turns
    for tool in told.get("tools", []):
        if tool.get("type") == "custom":
            del tool["type"]
    return told


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _block(block: dict[str, Any]) -> dict[str, Any]:
    if block["type"] != "tool_result":
        return block
    rest = {key: value for key, value in block.items() if (key, value) != ("is_error", False)}
    return {**rest, "content": [_block(item) for item in _blocks(block.get("content", []))]}
