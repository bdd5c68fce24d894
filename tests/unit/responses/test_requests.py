"""Responses requests, read and written: every kind of item, mistakes by field, losses, round trips."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec
import pytest
from openai.types.responses import response_create_params

from headgate.core.messages import (
    CacheHint,
    ChatRequest,
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
from headgate.dialects.openai_responses import decode_request, encode_request
from headgate.dialects.openai_responses.vocabulary import mint_item_id
from tests.unit.responses.asked import (
    BREAKPOINTS,
    FIELDS,
    ITEM,
    ITEMS,
    OWN,
    encoded,
    ext,
    losses_of,
    request,
)

HI = (Message("user", (Text("Hi"),)),)
CALL = ToolCall("c", "f", "{}")


def test_turns_are_gathered_from_items() -> None:
    told = request(instructions="Be kind.", input=ITEMS).messages
    assert [message.role for message in told] == [
        *("system", "user", "user", "developer", "assistant", "tool", "assistant", "assistant"),
    ]
    assert told[2].parts == (
        Text("Look", cache=CacheHint("12h")),
        Media("image", "image/png", "iVBORw0KGgo=", detail="high"),
        Media("image", url="https://a.b/c.png"),
        Media("image", file_id="file-1", detail="auto"),
        Media("file", "application/pdf", "aGk=", name="a.pdf"),
        Media("file", url="https://a.b/c.pdf"),
        Media("file", file_id="file-2"),
        Media("audio", "audio/mpeg", "aGk="),
        Opaque(OWN, {"type": "input_hologram", "waves": [1]}),
    )
    annotation = told[4].parts[2]
    assert isinstance(annotation, Text)
    assert annotation.citations[0].kind == "file"
    assert [type(part) for part in told[4].parts] == [
        *(Reasoning, Reasoning, Text, Refusal, Opaque, ToolCall, ToolCall, Media),
    ]
    assert told[4].parts[1] == Reasoning("b", data="gAAA", origin=OWN, extensions=ext(continued=True))
    assert told[5].parts[:2] == (
        ToolResult("call_a", (Text("sunny"),)),
        ToolResult("call_b", (Text("a"), Media("image", file_id="file-3"))),
    )


def test_every_field() -> None:
    told = request(**FIELDS)
    assert told.sampling == Sampling(
        max_tokens=100, temperature=0.5, top_p=0.9, logprobs=True, top_logprobs=2
    )
    assert told.reasoning == ReasoningOptions(effort="high", summary="auto")
    assert told.response_format == ResponseFormat("json_schema", "n", None, {"type": "object"}, True)
    assert told.tool_choice is not None
    assert told.tool_choice.mode == "auto"
    assert told.tools[2] == Tool("web_search", kind="web_search", extensions=ext(search_context_size="low"))
    assert (told.stream, told.include_usage, told.user, told.service_tier) == (True, True, "u", "flex")
    assert told.extensions[OWN].keys() == {
        *("reasoning", "include", "stream_options", "max_tool_calls", "previous_response_id"),
        *("truncation", "novelty"),
    }
    assert told.extensions["openai"] == {
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "store": True,
        "verbosity": "low",
    }


def test_what_is_written_is_what_was_read() -> None:
    told = request(**FIELDS)
    again = encoded(told, profile=BREAKPOINTS)
    assert decode_request(msgspec.json.encode(again)) == told
    for key in FIELDS.keys() - {"input", "include", "tools"}:
        assert again[key] == FIELDS[key], key
    hints = get_type_hints(response_create_params.ResponseCreateParamsBase)
    assert again.keys() - hints.keys() == {"stream", "novelty"}
    for item in again["input"]:
        if "input_hologram" not in str(item) and "input_audio" not in str(item):
            ITEM.validate_python(item)


def test_the_usual_request_leaves_no_trace() -> None:
    """Nothing that other dialects would have to report as lost."""
    minted = mint_item_id("msg", "resp_1", 0)
    part = {"type": "output_text", "text": "a", "annotations": [], "logprobs": []}
    told = request(
        store=False,
        background=False,
        truncation="disabled",
        include=["reasoning.encrypted_content"],
        input=[
            {"role": "user", "content": "Hi"},
            {"type": "message", "id": minted, "status": "completed", "role": "assistant", "content": [part]},
            {"type": "function_call", "id": mint_item_id("fc", "resp_1", 1), "status": "completed"}
            | {"call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "x", "status": "completed"},
        ],
    )
    assert not told.extensions
    assert told.messages[1:] == (
        Message("assistant", (Text("a"), ToolCall("c", "f", "{}"))),
        Message("tool", (ToolResult("c", (Text("x"),)),)),
    )


def test_upstreams_are_asked_to_keep_nothing_and_to_hand_out_thoughts() -> None:
    wire = encoded(request(reasoning={"effort": "low"}))
    assert wire["store"] is False
    assert wire["include"] == ["reasoning.encrypted_content"]
    assert "include" not in encoded(request())
    assert encoded(request(store=True))["store"] is True


def test_only_its_own_reasoning_is_sent_back() -> None:
    """As data, or as the signature that another dialect's caller carried it in."""
    parts = (
        Reasoning("a", "sig", origin="anthropic"),
        Reasoning("b"),
        Reasoning("c", signature="gAAA", origin=OWN),
        Reasoning("d", data="gBBB", origin=OWN),
        Text("e"),
    )
    body, losses = encode_request(ChatRequest(model="m", messages=(Message("assistant", parts),)))
    items = msgspec.json.decode(body)["input"]
    assert [item.get("encrypted_content") for item in items] == ["gAAA", "gBBB", None]
    assert [loss.path for loss in losses] == ["messages[0].content[0]", "messages[0].content[1]"]


def test_losses() -> None:
    hint = CacheHint("5m")
    assert losses_of(
        sampling=Sampling(
            top_k=1, min_p=0.1, seed=1, stop=("x",), n=2, logit_bias={"1": 1}, presence_penalty=1
        )
    ) == ["top_k", "min_p", "seed", "presence_penalty", "logit_bias", "stop", "n"]
    assert losses_of(reasoning=ReasoningOptions(budget_tokens=5000)) == ["reasoning.budget_tokens"]
    assert losses_of(extensions={"anthropic": {"container": "x"}}) == ["container"]
    assert losses_of(
        tools=(Tool("f", cache=hint), Tool("x", kind="bash", extensions={"anthropic": {"a": 1}}))
    ) == [
        "tools[0].cache_control",
        "tools[1]",
    ]
    assert losses_of(
        messages=(
            Message("user", (Text("a", cache=hint), Media("video", url="u"), Opaque("gemini", {})), name="n"),
            Message("assistant", (Text("a"), Opaque("gemini", {}), Media("image", data="aa"), CALL)),
            Message("tool", (ToolResult("c", (Text("x"),), is_error=True, cache=hint), Text("?"))),
        )
    ) == [
        "messages[0].name",
        "messages[0].content[0].cache_control",
        "messages[0].content[1]",
        "messages[0].content[2]",
        "messages[1].content[1]",
        "messages[1].content[2]",
        "messages[2].content[0].is_error",
        "messages[2].content[0].cache_control",
        "messages[2].content[1]",
    ]


def test_a_lifetime_of_another_vendor_is_reported() -> None:
    asked = ChatRequest(model="m", messages=(Message("user", (Text("a", cache=CacheHint("5m")),)),))
    body, losses = encode_request(asked, profile=BREAKPOINTS)
    part = msgspec.json.decode(body)["input"][0]["content"][0]
    assert part["prompt_cache_breakpoint"] == {"mode": "explicit"}
    assert [loss.path for loss in losses] == ["messages[0].content[0].cache_control.ttl"]


@pytest.mark.parametrize(
    ("model", "options", "told", "lost"),
    [
        ("gpt-5", {"budget_tokens": 1024}, {"effort": "low"}, ["budget_tokens"]),
        ("gpt-5", {"budget_tokens": 10_000, "enabled": True}, {"effort": "medium"}, ["budget_tokens"]),
        ("o3", {"budget_tokens": 50_000}, {"effort": "high"}, ["budget_tokens"]),
        ("gpt-5", {"enabled": True}, {"effort": "medium"}, []),
        ("gpt-5.1", {"enabled": False}, {"effort": "none"}, []),
        ("gpt-5", {"enabled": False}, None, ["enabled"]),
        ("gpt-5.4", {"effort": "max", "summary": "auto"}, {"effort": "xhigh", "summary": "auto"}, ["effort"]),
        # do not reason: no word is made, and none is sent
        ("gpt-4.1", {"budget_tokens": 1024}, None, ["budget_tokens"]),
        ("gpt-4.1", {"enabled": True}, None, ["enabled"]),
        ("gpt-4o-mini", {"effort": "high", "summary": "auto"}, None, ["effort", "summary"]),
        ("gpt-4o", {"enabled": False}, None, []),
        ("gpt-4o", {"effort": "none"}, None, []),
        ("gpt-5-chat-latest", {"effort": "low"}, None, ["effort"]),
        # nobody knows
        ("our-deployment", {"effort": "high"}, {"effort": "high"}, []),
        ("our-deployment", {"budget_tokens": 1024}, None, ["budget_tokens"]),
    ],
)
def test_how_to_reason_by_the_model(
    model: str, options: dict[str, Any], told: dict[str, Any] | None, lost: list[str]
) -> None:
    asked = ChatRequest(model=model, messages=HI, reasoning=ReasoningOptions(**options), tools=(Tool("f"),))
    body, losses = encode_request(asked)
    wire = msgspec.json.decode(body)
    assert wire.get("reasoning") == told
    assert [loss.path for loss in losses] == [f"reasoning.{field}" for field in lost]
    thinks = not model.startswith("gpt-4") and model != "gpt-5-chat-latest"
    assert ("include" in wire) is thinks


def test_reasoning_models_take_no_sampling() -> None:
    sampling = Sampling(temperature=0.2, top_p=1, logprobs=True, top_logprobs=3)
    for model, effort, lost in (
        ("gpt-5", None, ["temperature", "logprobs", "top_logprobs"]),
        ("gpt-5.2", "none", []),
        ("gpt-4.1", None, []),
    ):
        options = ReasoningOptions(effort=effort) if effort else None
        asked = ChatRequest(model=model, messages=HI, sampling=sampling, reasoning=options)
        body, losses = encode_request(asked)
        wire = msgspec.json.decode(body)
        assert [loss.path for loss in losses] == lost
        assert ("temperature" in wire, "include" in wire) == (not lost, not lost)


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        (ToolChoice("none"), "none"),
        (ToolChoice("tool", "f"), {"type": "function", "name": "f"}),
        (ToolChoice("tool", "g"), {"type": "custom", "name": "g"}),
    ],
)
def test_tool_choices_of_others(choice: ToolChoice, wire: Any) -> None:
    asked = ChatRequest(
        model="m", messages=HI, tools=(Tool("f"), Tool("g", kind="custom")), tool_choice=choice
    )
    assert encoded(asked)["tool_choice"] == wire


@pytest.mark.parametrize(
    "choice",
    [
        "auto",
        {"type": "function", "name": "f"},
        {"type": "web_search_preview"},
        {"type": "mcp", "server_label": "l", "name": "n"},
    ],
)
def test_tool_choices_come_back(choice: Any) -> None:
    assert encoded(request(tool_choice=choice))["tool_choice"] == choice


@pytest.mark.parametrize(
    ("options", "shared", "ours"),
    [
        ({"mode": "implicit", "ttl": "30m"}, {"mode": "implicit", "ttl": "30m"}, {}),
        ({"mode": "explicit", "ttl": "12h"}, {"mode": "explicit"}, {"ttl": "12h"}),
        ({"prewarm": True}, {}, {"prewarm": True}),
        ({}, {}, {}),
    ],
)
def test_cache_options_that_only_this_dialect_knows_stay_here(
    options: dict[str, Any], shared: dict[str, Any], ours: dict[str, Any]
) -> None:
    told = request(prompt_cache_options=options)
    assert told.extensions.get("openai", {}).get("prompt_cache_options", {}) == shared
    assert told.extensions.get(OWN, {}).get("prompt_cache_options", {}) == ours
    assert encoded(told)["prompt_cache_options"] == options


def test_fields_shared_with_chat_completions() -> None:
    asked = {"store": False, "verbosity": None, "safety_identifier": None, "prompt_cache_key": "k"}
    wire = encoded(ChatRequest(model="m", messages=HI, extensions={"openai": asked}))
    assert (wire["store"], wire["prompt_cache_key"]) == (False, "k")
    assert not wire.keys() & {"text", "safety_identifier"}
