"""Conversations that an upstream would refuse: told by the caller's own name for what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.errors import InvalidRequest
from headgate.core.messages import ChatRequest, Message, Text, ToolCall, ToolResult
from headgate.dialects import bedrock
from headgate.dialects.dialect import ChatDialect
from headgate.dialects.registry import dialect
from headgate.dialects.terms import param_in_callers_terms

UPSTREAMS = ("openai_chat", "openai_responses", "anthropic", "gemini", "converse")
SCHEMA = {"type": "object"}
TOOL = {"type": "function", "name": "f", "parameters": SCHEMA}

ORPHANS: dict[str, tuple[dict[str, Any], str]] = {
    "openai_chat": (
        {
            "messages": [
                {"role": "user", "content": "x"},
                {"role": "tool", "tool_call_id": "c", "content": "r"},
            ]
        },
        "messages[1]",
    ),
    "openai_responses": (
        {
            "previous_response_id": "resp_elsewhere",
            "input": [{"type": "function_call_output", "call_id": "c", "output": "r"}],
        },
        "input[0]",
    ),
    "anthropic": (
        {
            "max_tokens": 9,
            "messages": [
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "r"}]}
            ],
        },
        "messages[0].content[0]",
    ),
    "gemini": (
        {
            "contents": [
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "r"}}}]}
            ]
        },
        "contents[0].parts[0]",
    ),
    "converse": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"toolResult": {"toolUseId": "c", "content": [{"text": "r"}]}}],
                }
            ]
        },
        "messages[0].content[0]",
    ),
}
"""A result without its call, and where it stands."""


def codec(name: str) -> ChatDialect:
    found = dialect(name)
    assert isinstance(found, ChatDialect)
    return found


def asked(caller: str, body: dict[str, Any]) -> ChatRequest:
    spoken = codec(caller)
    named = {"model": "m", **body} if spoken.model_in_body else body
    model = None if spoken.model_in_body else "m"
    return spoken.decode_request(json.dumps(named).encode(), model=model)


@pytest.mark.parametrize("caller", ORPHANS)
@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_result_without_its_call_is_refused_by_its_place(caller: str, upstream: str) -> None:
    body, place = ORPHANS[caller]
    request = asked(caller, body)
    if caller == upstream in ("gemini", "openai_responses"):  # where a name, or stored items, will do
        assert codec(upstream).encode_request(request)[1] == []
        return
    with pytest.raises(InvalidRequest) as refused:
        codec(upstream).encode_request(request)
    param = refused.value.param or ""
    assert param == place or param.startswith(f"{place}.")
    assert refused.value.status == 400
    assert f"'{param}'" in refused.value.message


CONTINUED = (
    Message("user", (Text("go"),)),
    Message("assistant", (ToolCall("c", "f", "{}"),)),
    Message("tool", (ToolResult("c", (Text("r"),)),)),
)


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_result_behind_its_call_goes_on(upstream: str) -> None:
    body, losses = codec(upstream).encode_request(ChatRequest(model="m", messages=CONTINUED))
    sent = json.dumps(json.loads(body))
    assert '"r"' in sent and '"go"' in sent
    assert {loss.path for loss in losses} <= {"tools"}  # Converse wants the tool defined, and nobody did


def test_the_deprecated_results_of_functions_need_no_call() -> None:
    said = {"messages": [{"role": "function", "name": "f", "content": "r"}]}
    body, losses = codec("openai_chat").encode_request(asked("openai_chat", said))
    assert json.loads(body)["messages"] == said["messages"]
    assert losses == []


def test_a_call_of_the_vendors_own_tool_has_its_result() -> None:
    said = {
        "messages": [
            {"role": "user", "content": [{"text": "go"}]},
            {
                "role": "assistant",
                "content": [
                    {"toolUse": {"toolUseId": "s", "name": "w", "input": {}, "type": "server_tool_use"}}
                ],
            },
            {"role": "user", "content": [{"toolResult": {"toolUseId": "s", "content": [{"text": "r"}]}}]},
        ],
        "toolConfig": {"tools": [{"systemTool": {"name": "w"}}]},
    }
    body, losses = codec("converse").encode_request(asked("converse", said))
    assert (json.loads(body), losses) == (said, [])


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_an_empty_conversation_is_refused(upstream: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        codec(upstream).encode_request(ChatRequest(model="m", messages=()))
    assert (refused.value.status, refused.value.param) == (400, "messages")
    named = {caller: param_in_callers_terms("messages", caller) for caller in ORPHANS}
    assert named == {
        "openai_chat": "messages",
        "openai_responses": "input",
        "anthropic": "messages",
        "gemini": "contents",
        "converse": "messages",
    }


@pytest.mark.parametrize("upstream", ["gemini", "converse"])
def test_a_conversation_that_nothing_is_left_of_is_empty(upstream: str) -> None:
    request = ChatRequest(model="m", messages=(Message("assistant", ()),))
    with pytest.raises(InvalidRequest, match="empty") as refused:
        codec(upstream).encode_request(request)
    assert refused.value.param == "messages"


@pytest.mark.parametrize(
    ("upstream", "turns", "system"),
    [
        ("gemini", {"contents": [{"role": "user", "parts": [{"text": "Say hi."}]}]}, "systemInstruction"),
        ("converse", {"messages": [{"role": "user", "content": [{"text": "Say hi."}]}]}, "system"),
        ("anthropic", {"messages": [{"role": "user", "content": "Say hi."}]}, "system"),
    ],
)
def test_the_last_of_nothing_but_system_messages_is_the_question(
    upstream: str, turns: dict[str, Any], system: str
) -> None:
    said = (Message("system", (Text("Be brief."),)), Message("developer", (Text("Say hi."),)))
    body, losses = codec(upstream).encode_request(ChatRequest(model="m", messages=said))
    wire = json.loads(body)
    assert {key: wire[key] for key in turns} == turns
    assert "Be brief." in json.dumps(wire[system])
    assert [loss.path.split(".")[0] for loss in losses] == ["messages[1]"]
    assert losses[0].reason.startswith("moved to")


def test_a_managed_prompt_brings_its_own_messages() -> None:
    name = "arn:aws:bedrock:us-east-1:1:prompt/P:1"
    body, losses = bedrock.encode_request(ChatRequest(model=name, messages=()))
    assert (json.loads(body), losses) == ({"messages": []}, [])
