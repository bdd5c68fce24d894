"""Neutral requests written for an upstream: what is reported lost, and in what upstreams differ."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.errors import InvalidRequest
from headgate.core.loss import Loss
from headgate.core.messages import (
    ChatRequest,
    Citation,
    Media,
    Message,
    Opaque,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from headgate.dialects.openai_chat import OPENAI, Profile, encode_request


def ask(**fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=(Message("user", (Text("x"),)),), **fields)


def encode(request: ChatRequest, profile: Profile | None = None) -> dict[str, Any]:
    body, losses = encode_request(request, profile=profile) if profile else encode_request(request)
    assert losses == []
    return json.loads(body)  # type: ignore[no-any-return]


CALLED = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_what_another_dialect_alone_knows_is_reported_lost() -> None:
    foreign: dict[str, Any] = {"anthropic": {"cache_control": {"type": "ephemeral"}}}
    request = ChatRequest(
        model="m",
        messages=(
            Message("system", (Text("s", extensions=foreign),)),
            Message(
                "user",
                (
                    Text("next"),
                    Media("video", file_id="f"),
                    Media("file", url="https://x/y.pdf"),
                    Opaque("anthropic", {"type": "search_result"}),
                ),
            ),
            Message(
                "assistant",
                (Reasoning("t", signature="s"), Text("a", (Citation("other"),)), ToolCall("c", "f", "{}")),
            ),
            Message(
                "user", (ToolResult("c", (Text("r"), Media("image", "image/png", "AA")), is_error=True),)
            ),
            Message("assistant", (Opaque("gemini", {}),)),
        ),
        tools=(Tool("f", extensions=foreign),),
        sampling=Sampling(top_k=5),
        reasoning=ReasoningOptions(budget_tokens=1024),
        extensions={"anthropic": {"container": "x"}},
    )
    body, losses = encode_request(request, profile=OPENAI)
    assert json.loads(body) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "next"},
            {"role": "assistant", "content": "a", "tool_calls": [CALLED]},
            {"role": "tool", "tool_call_id": "c", "content": "r"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    assert [loss.path for loss in losses] == [
        "container",
        "messages[0].content[0].cache_control",
        "messages[1].content[1]",
        "messages[1].content[2]",
        "messages[1].content[3]",
        "messages[2].content[0]",
        "messages[2].content[0]",
        "messages[2].content[1].citations",
        "messages[3].content[0].content[1]",
        "messages[3].content[0].is_error",
        "messages[4].content[0]",
        "tools[0].cache_control",
        "top_k",
        "reasoning.budget_tokens",
    ]
    assert Loss("container", "only anthropic has this field") in losses


def test_parts_that_fit_no_place_in_their_message_are_reported_lost() -> None:
    request = ChatRequest(
        model="m",
        messages=(
            Message("assistant", (ToolCall("c", "f", "{}"),)),
            Message("tool", (ToolResult("c", (Text("r"),)), Text("stray")), name="n"),
            Message("user", (ToolCall("c", "f", "{}"),)),
            Message("user", (Text("x"),)),
        ),
    )
    body, losses = encode_request(request)
    assert json.loads(body)["messages"] == [
        {"role": "assistant", "content": None, "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "c", "content": "r", "name": "n"},
        {"role": "user", "content": "x"},
    ]
    assert [loss.path for loss in losses] == ["messages[1].content[1]", "messages[2].content[0]"]


def test_a_request_too_deep_to_be_written_is_refused() -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        encode_request(ask(tools=(Tool("f", parameters=deep),)))


def test_profile_says_what_an_upstream_takes() -> None:
    request = ChatRequest(
        model="m",
        messages=(Message("assistant", (Reasoning("r"), Text("a"))),),
        sampling=Sampling(max_tokens=5),
    )
    wire = encode(request, Profile(max_tokens_field="max_tokens", reasoning_field="reasoning"))
    assert wire["max_tokens"] == 5
    assert wire["messages"][0]["reasoning"] == "r"


def test_usage_of_a_plain_answer_is_not_asked_for() -> None:
    assert "stream_options" not in encode(ask(include_usage=True))
    assert encode(ask(include_usage=True, stream=True))["stream_options"] == {"include_usage": True}


def test_a_schema_without_a_name_gets_one() -> None:
    request = ask(response_format=ResponseFormat("json_schema", schema={}))
    assert encode(request)["response_format"]["json_schema"] == {"name": "answer", "schema": {}}
