"""Neutral requests on their way to an Anthropic upstream: what they become, and what is reported as lost."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from headgate.core.errors import InvalidRequest
from headgate.core.loss import Loss
from headgate.core.messages import (
    CacheHint,
    ChatRequest,
    Citation,
    Media,
    Message,
    Opaque,
    Part,
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
from headgate.dialects.anthropic import decode_count_request, encode_count_request
from headgate.dialects.anthropic.profile import ANTHROPIC
from tests.support.agent_payload import PDF, PNG, agent_payload
from tests.unit.anthropic.wire import sent

HI = Message("user", (Text("Hi"),))


def lost(losses: list[Loss]) -> list[str]:
    return [loss.path for loss in losses]


def test_a_bare_request_gets_the_limit_that_the_api_wants() -> None:
    wire, losses = sent(HI)
    assert wire == {"model": "m", "max_tokens": 4096, "messages": [{"role": "user", "content": "Hi"}]}
    assert losses == []


def test_leading_system_and_developer_messages_make_the_system_prompt() -> None:
    wire, losses = sent(
        Message("system", (Text("A"),)), Message("developer", (Text("B", cache=CacheHint("1h")),)), HI
    )
    assert wire["system"] == [
        {"type": "text", "text": "A"},
        {"type": "text", "text": "B", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert losses == []


def test_a_later_system_message_stays_where_the_model_takes_it() -> None:
    later = Message("developer", (Text("B"),))
    wire, losses = sent(HI, later, model="claude-opus-5")
    assert wire["messages"][1] == {"role": "system", "content": "B"}
    assert losses == []
    for messages, model in [
        ((HI, later), "claude-opus-4-5"),
        ((HI, Message("assistant", (Text("A"),)), later, HI), "claude-opus-5"),
    ]:
        wire, losses = sent(*messages, model=model)
        assert [turn["role"] for turn in wire["messages"]][-1] == "user"
        assert {"role": "user", "content": "B"} in wire["messages"]
        assert lost(losses) == [f"messages[{messages.index(later)}]"]
        assert losses[0].reason.startswith("moved to")


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("claude-opus-4-8", True),
        ("claude-fable-5", True),
        ("claude-haiku-5-5", True),
        ("claude-sonnet-5-5", True),
        ("claude-sonnet-5", False),
        ("somebody-elses", True),
        ("claude-sonnet-4-5-20250929", False),
        ("anthropic.claude-3-7-sonnet", False),
        ("claude-opus-4-20250514", False),
        ("claude-opus-4-1", False),
    ],
)
def test_which_models_take_system_turns(model: str, takes: bool) -> None:
    assert ANTHROPIC.for_model(model).system_turns is takes


def test_nothing_but_a_system_prompt_becomes_a_question() -> None:
    wire, losses = sent(Message("system", (Text("Say hi."),)))
    assert wire["messages"] == [{"role": "user", "content": "Say hi."}]
    assert "system" not in wire
    assert lost(losses) == ["messages[0]"]


CALLS = Message("assistant", (Text(""), ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", "")))


def test_tool_results_and_what_follows_make_one_user_turn() -> None:
    wire, losses = sent(
        HI,
        CALLS,
        Message("tool", (ToolResult("a", (Text("1"),)),)),
        Message("tool", (ToolResult("b", (), True),)),
        Message("user", (Text("Go on"),)),
    )
    assert wire["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                {"type": "tool_use", "id": "b", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "1"},
                {"type": "tool_result", "tool_use_id": "b", "is_error": True},
                {"type": "text", "text": "Go on"},
            ],
        },
    ]
    assert losses == []


def test_call_ids_are_put_in_the_letters_that_the_api_takes() -> None:
    wire, losses = sent(
        HI,
        Message("assistant", (ToolCall("functions.f:0", "f", "{}"), ToolCall("functions_f.0", "f", "{}"))),
        Message("tool", (ToolResult("functions_f.0", ()), ToolResult("functions.f:0", ()))),
    )
    calls, results = wire["messages"][1]["content"], wire["messages"][2]["content"]
    assert [call["id"] for call in calls] == ["functions_f_0", "functions_f_0_1"]
    assert [result["tool_use_id"] for result in results] == ["functions_f_0_1", "functions_f_0"]
    assert losses == []


def test_many_call_ids_that_look_alike_stay_apart_and_short() -> None:
    ids = [chr(0x4E00 + number) for number in range(2000)]
    calls = tuple(ToolCall(each, "f", "{}") for each in ids)
    wire, _ = sent(HI, Message("assistant", calls), Message("tool", tuple(ToolResult(i, ()) for i in ids)))
    called = [call["id"] for call in wire["messages"][1]["content"]]
    assert called == [result["tool_use_id"] for result in wire["messages"][2]["content"]]
    assert len(set(called)) == len(ids)
    assert max(map(len, called)) < 10


@pytest.mark.parametrize("arguments", ["[1]", "{", '{"a":', "null", '"x"'])
def test_arguments_that_are_no_object_are_sent_as_text_and_reported(arguments: str) -> None:
    wire, losses = sent(
        HI, Message("assistant", (ToolCall("a", "f", arguments),)), Message("tool", (ToolResult("a", ()),))
    )
    assert wire["messages"][1]["content"][0]["input"] == {"arguments": arguments}
    assert lost(losses) == ["messages[1].content[0].arguments"]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ((HI, Message("tool", (ToolResult("a", ()),))), "messages[1].content[0]"),
        ((HI, CALLS, HI), "messages[1].content[1]"),
        ((HI, CALLS, Message("tool", (ToolResult("a", ()),))), "messages[1].content[2]"),
        ((HI, CALLS, HI, Message("assistant", (Text("x"),)), HI), "messages[1].content[1]"),
        ((HI, Message("user", ())), "messages[1].content"),
        ((HI, Message("user", (Text(""),))), "messages[1].content"),
        ((), "messages"),
        ((Message("assistant", (Text(""),)),), "messages"),
    ],
)
def test_what_the_api_can_not_be_asked_is_refused_with_the_callers_path(
    messages: tuple[Message, ...], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sent(*messages)
    assert refused.value.param == param


def test_names_of_speakers_are_reported_but_not_a_tools() -> None:
    call, result = ToolCall("a", "f", "{}"), ToolResult("a", ())
    _, losses = sent(
        Message("user", (Text("x"),), "ann"), Message("assistant", (call,)), Message("tool", (result,), "f")
    )
    assert lost(losses) == ["messages[0].name"]


def test_an_empty_answer_of_the_model_is_left_out_and_reported() -> None:
    wire, losses = sent(HI, Message("assistant", (Text(""),)), HI)
    assert [turn["role"] for turn in wire["messages"]] == ["user", "user"]
    assert lost(losses) == ["messages[1]"]


TEXT = base64.b64encode("Grüße".encode()).decode()


@pytest.mark.parametrize(
    ("media", "source"),
    [
        (Media("image", "image/png", PNG), {"type": "base64", "media_type": "image/png", "data": PNG}),
        (Media("image", None, PNG), {"type": "base64", "media_type": "image/png", "data": PNG}),
        (Media("image", url="https://a/b"), {"type": "url", "url": "https://a/b"}),
        (Media("file", file_id="f"), {"type": "file", "file_id": "f"}),
        (
            Media("file", None, PDF),
            {"type": "base64", "media_type": "application/pdf", "data": PDF},
        ),
        (Media("file", "text/plain", TEXT), {"type": "text", "media_type": "text/plain", "data": "Grüße"}),
    ],
)
def test_media(media: Media, source: dict[str, Any]) -> None:
    wire, losses = sent(Message("user", (media, Text("?"))))
    assert wire["messages"][0]["content"][0]["source"] == source
    assert losses == []


@pytest.mark.parametrize(
    ("part", "path"),
    [
        (Media("audio", "audio/wav", TEXT), ""),
        (Media("video", url="https://a/b"), ""),
        (Media("image", url="gs://a/b"), ""),
        (Media("image", None, TEXT), ""),
        (Media("file", "application/zip", TEXT), ""),
        (Media("file", "text/plain", "no base64"), ""),
        (Media("file", "text/markdown", TEXT), ".media_type"),
        (Media("image", url="https://a/b", detail="high"), ".detail"),
        (Opaque("gemini", {"x": 1}), ""),
        (ToolCall("a", "f", "{}"), ""),
        (Reasoning("Hm.", "s", origin="anthropic"), ""),
        (Text("x", extensions={"gemini": {"thought": True}}), ".thought"),
        (Text("", cache=CacheHint()), ".cache_control"),
    ],
)
def test_what_a_user_can_not_say_here_is_reported(part: Part, path: str) -> None:
    _, losses = sent(Message("user", (Text("?"), part)))
    assert lost(losses) == [f"messages[0].content[1]{path}"]


def test_thoughts_go_back_to_the_vendor_that_signed_them_only() -> None:
    wire, losses = sent(
        HI,
        Message(
            "assistant",
            (
                Reasoning("A", "sig", origin="anthropic"),
                Reasoning(data="enc", redacted=True, origin="anthropic"),
                Reasoning("B", "sig", origin="gemini"),
                Reasoning("C"),
                Reasoning("D", origin="anthropic"),
                Text("x"),
            ),
        ),
    )
    assert wire["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "A", "signature": "sig"},
        {"type": "redacted_thinking", "data": "enc"},
        {"type": "text", "text": "x"},
    ]
    assert lost(losses) == [f"messages[1].content[{index}]" for index in (2, 3, 4)]


def test_parts_without_a_block_of_their_own() -> None:
    made_up = Citation("url", url="https://a/b")
    wire, losses = sent(
        HI, Message("assistant", (Refusal("No."), Text("x", (made_up,)), Opaque("anthropic", {"type": "y"})))
    )
    assert wire["messages"][1]["content"] == [
        {"type": "text", "text": "No."},
        {"type": "text", "text": "x"},
        {"type": "y"},
    ]
    assert lost(losses) == ["messages[1].content[0]", "messages[1].content[1].citations"]


def test_settings() -> None:
    wire, losses = sent(
        HI,
        sampling=Sampling(
            max_tokens=5, temperature=1.5, top_p=0.5, top_k=3, stop=("a",), n=1, seed=0, presence_penalty=0
        ),
        user="u",
        service_tier="default",
        stream=True,
    )
    assert wire == {
        "model": "m",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 1,
        "top_p": 0.5,
        "top_k": 3,
        "stop_sequences": ["a"],
        "metadata": {"user_id": "u"},
        "service_tier": "standard_only",
        "stream": True,
    }
    assert lost(losses) == ["temperature", "seed"]


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        (
            {"sampling": Sampling(n=2, min_p=0.1, logprobs=True, top_logprobs=2)},
            "n min_p logprobs top_logprobs",
        ),
        ({"sampling": Sampling(frequency_penalty=0.5, logit_bias={"1": 2})}, "frequency_penalty logit_bias"),
        ({"metadata": {"k": "v"}}, "metadata"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"response_format": ResponseFormat("json_object")}, "response_format"),
        ({"reasoning": ReasoningOptions(effort="minimal")}, "reasoning.effort"),
        ({"reasoning": ReasoningOptions(budget_tokens=10)}, "reasoning.budget_tokens"),
        ({"reasoning": ReasoningOptions(effort="high", summary="auto")}, "reasoning.summary"),
        ({"extensions": {"openai_chat": {"store": True}}}, "store"),
        ({"tools": (Tool("web_search", kind="web_search"),)}, "tools[0]"),
        ({"tools": (Tool("f", extensions={"gemini": {"behavior": "x"}}),)}, "tools[0].behavior"),
        ({"tool_choice": ToolChoice("auto", extensions={"openai_chat": {"x": 1}})}, "tool_choice.x"),
    ],
)
def test_what_has_no_place_is_reported(fields: dict[str, Any], paths: str) -> None:
    _, losses = sent(HI, **fields)
    assert lost(losses) == paths.split()


@pytest.mark.parametrize(
    ("options", "thinking", "config"),
    [
        (ReasoningOptions(effort="high"), None, {"effort": "high"}),
        (ReasoningOptions(effort="none"), {"type": "disabled"}, None),
        (ReasoningOptions(enabled=False), {"type": "disabled"}, None),
        (ReasoningOptions(budget_tokens=0), {"type": "disabled"}, None),
        (ReasoningOptions(budget_tokens=-1), {"type": "adaptive"}, None),
        (ReasoningOptions(budget_tokens=2048), {"type": "enabled", "budget_tokens": 2048}, None),
        (
            ReasoningOptions(enabled=True, summary="auto", effort="low"),
            {"type": "adaptive", "display": "summarized"},
            {"effort": "low"},
        ),
    ],
)
def test_reasoning(options: ReasoningOptions, thinking: Any, config: Any) -> None:
    wire, losses = sent(HI, reasoning=options)
    assert (wire.get("thinking"), wire.get("output_config")) == (thinking, config)
    assert losses == []


@pytest.mark.parametrize(
    ("model", "options", "limit"),
    [
        ("m", ReasoningOptions(budget_tokens=2048), 4096 + 2048),
        ("m", ReasoningOptions(effort="low", enabled=True), 4096 + 1024),
        ("m", ReasoningOptions(enabled=True), 4096 + 8192),
        ("m", None, 4096),
        ("claude-opus-4-8", ReasoningOptions(effort="max"), 4096 + 24576),
        ("claude-opus-4-8", ReasoningOptions(effort="max", effort_only=True), 4096),
        ("claude-opus-4-8", None, 4096),
        ("claude-opus-5", None, 4096 + 24576),
        ("claude-opus-5", ReasoningOptions(enabled=False), 4096),
        ("claude-opus-4-1", ReasoningOptions(budget_tokens=30_000), 32_000),
    ],
)
def test_the_limit_leaves_room_for_thoughts(model: str, options: ReasoningOptions | None, limit: int) -> None:
    assert sent(HI, model=model, reasoning=options)[0]["max_tokens"] == limit


def test_tools_and_choice() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {}}}
    wire, losses = sent(
        HI,
        tools=(
            Tool("f", "d", schema, True, cache=CacheHint()),
            Tool("g"),
            Tool("h", parameters={"properties": {}}),
        ),
        parallel_tool_calls=False,
    )
    assert wire["tools"] == [
        {
            "name": "f",
            "description": "d",
            "input_schema": schema,
            "strict": True,
            "cache_control": {"type": "ephemeral"},
        },
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        {"name": "h", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert wire["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert losses == []


@pytest.mark.parametrize(
    ("choice", "parallel", "told"),
    [
        (ToolChoice("required"), None, {"type": "any"}),
        (ToolChoice("tool", "f"), False, {"type": "tool", "name": "f", "disable_parallel_tool_use": True}),
        (ToolChoice("none"), False, {"type": "none"}),
        (None, True, None),
    ],
)
def test_tool_choice(choice: ToolChoice | None, parallel: bool | None, told: Any) -> None:
    wire, losses = sent(HI, tools=(Tool("f"),), tool_choice=choice, parallel_tool_calls=parallel)
    assert wire.get("tool_choice") == told
    assert losses == []


def test_structured_output_is_the_vendors_own() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    form = ResponseFormat("json_schema", "answer", "d", schema, True)
    wire, losses = sent(HI, response_format=form, reasoning=ReasoningOptions(effort="low"))
    assert wire["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": schema}}
    assert "tools" not in wire
    assert lost(losses) == ["response_format.description"]


def test_a_count_sends_what_is_counted_only() -> None:
    payload = {key: value for key, value in agent_payload().items() if key not in ("max_tokens", "stream")}
    wire, losses = encode_count_request(decode_count_request(json.dumps(payload).encode()), model="up")
    told = json.loads(wire)
    assert told.keys() == {
        "model",
        "system",
        "messages",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "context_management",
    }
    assert told["model"] == "up"
    assert losses == []
    request = ChatRequest(
        model="m",
        messages=(Message("user", (Media("audio", data=TEXT), Text("x"))),),
        sampling=Sampling(seed=1),
    )
    assert lost(encode_count_request(request)[1]) == ["messages[0].content[0]"]
