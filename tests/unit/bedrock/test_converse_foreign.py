"""Requests of other dialects, written for Converse: what they become, and what is lost."""

from __future__ import annotations

import base64
import json
from typing import Any

from headgate.core.messages import (
    CacheHint,
    Citation,
    Media,
    Message,
    Opaque,
    Reasoning,
    ReasoningOptions,
    Refusal,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from headgate.dialects.bedrock import encode_request
from headgate.dialects.sealed import seal
from tests.unit.bedrock.aws import complaints
from tests.unit.bedrock.converse_bodies import DATA, USER, ask, decode, losses_of


def test_system_messages_lead_or_are_moved() -> None:
    request = ask(
        Message("system", (Text("a"),)),
        Message("developer", (Text("b"),)),
        Message("user", (Text("c"),)),
        Message("system", (Text("d"),)),
        Message("assistant", (ToolCall("1", "f", ""),)),
        Message("developer", (Text("e"),)),
        Message("tool", (ToolResult("1", (Text("f"),)),)),
        Message("user", (Text("g"),)),
        tools=(Tool("f"),),
    )
    body, losses = encode_request(request)
    wire = json.loads(body)
    assert complaints(wire) == ""
    assert wire["system"] == [{"text": "a"}, {"text": "b"}]
    assert wire["messages"] == [
        {"role": "user", "content": [{"text": "c"}, {"text": "d"}]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "1", "name": "f", "input": {}}}]},
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "1", "content": [{"text": "f"}]}},
                {"text": "e"},
                {"text": "g"},
            ],
        },
    ]
    assert [loss.path for loss in losses] == ["messages[3]", "messages[5]"]
    assert all(loss.reason.startswith("moved to") for loss in losses)


def test_newer_models_take_system_messages_among_the_turns() -> None:
    request = ask(Message("user", (Text("a"),)), Message("system", (Text("b"),)))
    body, losses = encode_request(request, model="anthropic.claude-opus-4-8")
    assert losses == []
    assert [turn["role"] for turn in json.loads(body)["messages"]] == ["user", "system"]


def test_only_its_own_reasoning_goes_back() -> None:
    request = ask(
        Message("user", (Text("a"),)),
        Message(
            "assistant",
            (
                Reasoning("t", "SIG", origin="converse"),
                Reasoning("t", "SIG", origin="anthropic"),
                Reasoning(data=DATA, redacted=True, origin="gemini"),
                Reasoning("t"),
                Text("b"),
            ),
        ),
        Message("assistant", (Reasoning("x"),)),
        Message("user", (Text("c"),)),
    )
    body, losses = encode_request(request)
    assert json.loads(body)["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "t", "signature": "SIG"}}},
        {"text": "b"},
    ]
    assert len(json.loads(body)["messages"]) == 3
    assert [loss.path for loss in losses] == [
        "messages[1].content[1]",
        "messages[1].content[2]",
        "messages[1].content[3]",
        "messages[2].content[0]",
    ]


def test_sealed_reasoning_is_opened() -> None:
    sealed = base64.b64encode(seal("anthropic", "RED").encode()).decode()
    request = decode(
        messages=[
            USER,
            {
                "role": "assistant",
                "content": [
                    {
                        "reasoningContent": {
                            "reasoningText": {"text": "t", "signature": seal("anthropic", "SIG")}
                        }
                    },
                    {"reasoningContent": {"reasoningText": {"text": "", "signature": seal("gemini", "G")}}},
                    {"reasoningContent": {"redactedContent": sealed}},
                ],
            },
        ]
    )
    assert request.messages[1].parts == (
        Reasoning("t", "SIG", origin="anthropic"),
        Reasoning("", "G", origin="gemini"),
        Reasoning(data="RED", redacted=True, origin="anthropic"),
    )


def test_media_of_other_dialects() -> None:
    request = ask(
        Message(
            "user",
            (
                Media("image", "image/jpg", DATA),
                Media("file", "application/pdf", DATA, name="a/b.pdf"),
                Media("file", "application/pdf", DATA, name="a-b.PDF"),
                Media("file", None, base64.b64encode(b"%PDF-1.7").decode()),
                Media("file", None, DATA, name="notes.docx"),
                Media("file", "application/json", DATA),
                Media("file", "application/zip", DATA),
                Media("image", "image/png", url="https://x/y.png"),
                Media("image", "image/png", file_id="file-1"),
                Media("image", "image/png", DATA, detail="low"),
                Media("image", None, DATA),
                Media("audio", "audio/mp3", DATA),
                Media("image", "image/png", url="s3://b/k"),
            ),
        )
    )
    body, losses = encode_request(request)
    content = json.loads(body)["messages"][0]["content"]
    assert complaints(json.loads(body)) == ""
    assert [next(iter(block)) for block in content] == ["image"] + ["document"] * 5 + [
        "image",
        "audio",
        "image",
    ]
    documents = [block["document"] for block in content if "document" in block]
    assert [(each.get("format"), each["name"]) for each in documents] == [
        ("pdf", "a-b"),
        ("pdf", "a-b (2)"),
        ("pdf", "document"),
        ("docx", "notes"),
        ("txt", "document (2)"),
    ]
    assert [loss.path.removeprefix("messages[0].content") for loss in losses] == [
        "[1].name",
        "[2].name",
        "[5].mime",
        "[6]",
        "[7]",
        "[8]",
        "[9].detail",
        "[10]",
    ]


def test_what_has_no_place_is_listed() -> None:
    other: Any = {"openai_chat": {"store": True}}
    request = ask(
        Message("system", (Text("a"), Media("image", "image/png", DATA))),
        Message("user", (Text("b", extensions=other), Opaque("gemini", {})), name="bob", extensions=other),
        Message("assistant", (Refusal("no"), Text("c", (Citation("url", url="u"),)))),
        tools=(Tool("f", extensions=other), Tool("web", kind="web_search"), Tool("g", kind="custom")),
        tool_choice=ToolChoice("auto", extensions=other),
        parallel_tool_calls=False,
        response_format=ResponseFormat("json_object"),
        sampling=Sampling(
            temperature=1.5,
            seed=0,
            n=2,
            min_p=0.1,
            presence_penalty=0.0,
            frequency_penalty=1,
            logit_bias={"1": 1},
            logprobs=True,
            top_logprobs=2,
        ),
        reasoning=ReasoningOptions(effort="high", summary="auto"),
        user="u",
        metadata={"ok": "1", "bad": "é"},
        service_tier="scale",
        extensions=other,
    )
    assert losses_of(request) == [
        "store",
        "messages[0]",
        "messages[1].store",
        "messages[1].name",
        "messages[1].content[0].store",
        "messages[1].content[1]",
        "messages[2].content[0]",
        "messages[2].content[1].citations[0]",
        "reasoning.effort",
        "reasoning.summary",
        "parallel_tool_calls",
        "tools[0].store",
        "tools[1]",
        "tools[2]",
        "tool_choice.store",
        "temperature",
        "min_p",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "seed",
        "n",
        "response_format",
        "user",
        "metadata",
        "service_tier",
    ]


def test_a_hint_within_a_result_moves_to_its_end() -> None:
    part = ToolResult("a", (Text("x", cache=CacheHint("1h")), Text("y")))
    request = ask(
        Message("assistant", (ToolCall("a", "f", "{}"),)), Message("tool", (part,)), tools=(Tool("f"),)
    )
    body, losses = encode_request(request)
    content = json.loads(body)["messages"][1]["content"]
    assert content[1] == {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert [loss.path for loss in losses] == ["messages[1].content[0].content[0].cache_control"]


def test_a_hint_on_nothing_is_lost_but_told() -> None:
    request = ask(Message("system", (Text("", cache=CacheHint()),)), Message("user", (Text("a"),)))
    assert losses_of(request) == ["messages[0].content[0].cache_control"]


def test_tool_choice_none_leaves_the_tools_out() -> None:
    tools = (Tool("f"),)
    body, losses = encode_request(ask(tools=tools, tool_choice=ToolChoice("none")))
    assert "toolConfig" not in json.loads(body)
    assert [loss.path for loss in losses] == ["tool_choice"]
    used = Message("assistant", (ToolCall("a", "f", "{}"),))
    body, losses = encode_request(ask(used, tools=tools, tool_choice=ToolChoice("none")))
    assert json.loads(body)["toolConfig"]["tools"]
    assert [loss.path for loss in losses] == ["tool_choice"]


def test_tools_of_earlier_calls_are_defined() -> None:
    used = Message("assistant", (ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}")))
    body, losses = encode_request(ask(used, Message("tool", (ToolResult("a", ()), ToolResult("b", ())))))
    wire = json.loads(body)
    assert complaints(wire) == ""
    assert wire["toolConfig"] == {
        "tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}]
    }
    assert [loss.path for loss in losses] == ["tools"]


def test_ids_and_arguments_that_the_dialect_does_not_take() -> None:
    call = Message("assistant", (ToolCall("x|" + "y" * 80, "f", "{broken"),))
    result = Message("tool", (ToolResult("x|" + "y" * 80, (Text("1"),)),))
    body, losses = encode_request(ask(call, result, tools=(Tool("f"),)))
    wire = json.loads(body)
    use = wire["messages"][0]["content"][0]["toolUse"]
    assert use["input"] == {"input": "{broken"}
    assert wire["messages"][1]["content"][0]["toolResult"]["toolUseId"] == use["toolUseId"]
    assert len(use["toolUseId"]) <= 64
    assert [loss.path for loss in losses] == ["messages[0].content[0].arguments"]
