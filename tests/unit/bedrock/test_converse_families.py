"""What model families take beside Converse's own fields."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from headgate.core.loss import Loss
from headgate.core.messages import (
    Message,
    Reasoning,
    ReasoningOptions,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from headgate.dialects.anthropic.profile import ANTHROPIC, Profile
from headgate.dialects.bedrock import encode_request, invoke_anthropic
from tests.unit.bedrock.converse_bodies import ANY, CLAUDE, OPUS, ask, decode, encode


@pytest.mark.parametrize(
    ("model", "options", "extra", "output"),
    [
        (CLAUDE, {"budget_tokens": 2000}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, None),
        (CLAUDE, {"budget_tokens": 0}, {"thinking": {"type": "disabled"}}, None),
        (CLAUDE, {"effort": "none"}, {"thinking": {"type": "disabled"}}, None),
        (OPUS, {"enabled": False}, {"thinking": {"type": "disabled"}}, None),
        (OPUS, {"enabled": True, "effort": "max"}, {"thinking": {"type": "adaptive"}}, {"effort": "max"}),
        (OPUS, {"budget_tokens": -1}, {"thinking": {"type": "adaptive"}}, None),
        (OPUS, {"effort": "low"}, {"thinking": {"type": "adaptive"}}, {"effort": "low"}),
        (OPUS, {"effort": "low", "effort_only": True}, None, {"effort": "low"}),
        (
            "anthropic--claude-4.5-opus",
            {"effort": "low"},
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            {"effort": "low"},
        ),
        (
            "anthropic.claude-opus-4-7",
            {"effort": "xhigh", "summary": "auto"},
            {"thinking": {"type": "adaptive", "display": "summarized"}},
            {"effort": "xhigh"},
        ),
        ("anthropic.claude-opus-5", {"effort": "max"}, None, {"effort": "max"}),
        (ANY, {"effort": "max"}, None, {"effort": "max"}),
        (
            "amazon.nova-2-lite-v1:0",
            {"effort": "low"},
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
            None,
        ),
        (
            "amazon.nova-2-lite-v1:0",
            {"enabled": False},
            {"reasoningConfig": {"type": "disabled"}},
            None,
        ),
        ("openai.gpt-oss-120b-1:0", {"effort": "medium"}, {"reasoning_effort": "medium"}, None),
        ("openai.gpt-oss-120b-1:0", {"enabled": True}, {"reasoning_effort": "medium"}, None),
    ],
)
def test_reasoning_by_model_family(
    model: str, options: dict[str, Any], extra: dict[str, Any] | None, output: dict[str, Any] | None
) -> None:
    body, losses = encode_request(ask(reasoning=ReasoningOptions(**options)), model=model)
    wire = json.loads(body)
    assert losses == []
    assert (wire.get("additionalModelRequestFields"), wire.get("outputConfig")) == (extra, output)


@pytest.mark.parametrize(
    ("model", "options", "lost"),
    [
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", {"effort": "high"}, ["reasoning.effort"]),
        ("anthropic.claude-v2:1", {"effort": "high"}, ["reasoning.effort"]),
        (CLAUDE, {"enabled": True}, ["reasoning.enabled"]),
        (CLAUDE, {"budget_tokens": 5}, ["reasoning.budget_tokens"]),
        (OPUS, {"effort": "minimal"}, ["reasoning.effort"]),
        (OPUS, {"effort": "xhigh"}, ["reasoning.effort"]),
        ("anthropic.claude-opus-4-7", {"budget_tokens": 2000}, ["reasoning.budget_tokens"]),
        ("anthropic.claude-opus-5-5", {"enabled": False}, ["reasoning.enabled"]),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", {"budget_tokens": 2000}, ["reasoning.budget_tokens"]),
        ("amazon.nova-2-lite-v1:0", {"budget_tokens": 5}, ["reasoning.budget_tokens"]),
        ("amazon.nova-2-lite-v1:0", {"enabled": True}, ["reasoning.enabled"]),
        ("openai.gpt-oss-120b-1:0", {"enabled": False}, ["reasoning.enabled"]),
        ("openai.gpt-oss-120b-1:0", {"effort": "low", "enabled": False}, ["reasoning.enabled"]),
        ("meta.llama3-1-70b", {"effort": "low", "enabled": True}, ["reasoning.effort", "reasoning.enabled"]),
    ],
)
def test_reasoning_that_a_model_family_can_not(model: str, options: dict[str, Any], lost: list[str]) -> None:
    _, losses = encode_request(ask(reasoning=ReasoningOptions(**options)), model=model)
    assert [loss.path for loss in losses] == lost


@pytest.mark.parametrize(
    ("model", "effort", "budget"),
    [
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", "minimal", 1024),
        (CLAUDE, "low", 1024),
        ("anthropic.claude-opus-4-1-20250805-v1:0", "medium", 8192),
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", "high", 24576),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", "max", 24576),
        ("anthropic--claude-4-sonnet", "low", 1024),
        ("anthropic--claude-4.5-haiku", "medium", 8192),
    ],
)
def test_an_effort_becomes_a_budget_where_a_claude_knows_no_efforts(
    model: str, effort: str, budget: int
) -> None:
    body, losses = encode_request(ask(reasoning=ReasoningOptions(effort=effort)), model=model)
    wire = json.loads(body)
    assert wire["additionalModelRequestFields"] == {"thinking": {"type": "enabled", "budget_tokens": budget}}
    assert "outputConfig" not in wire
    assert losses == [Loss("reasoning.effort", f"sent as a budget of {budget} tokens")]


USER = Message("user", (Text("Hi"),))
CALL = ToolCall("c", "f", "{}")
RESULT = Message("tool", (ToolResult("c", (Text("r"),)),))
THOUGHT = Reasoning("hm", signature="s", origin="converse")


@pytest.mark.parametrize(
    ("fields", "messages", "budget"),
    [
        ({"sampling": Sampling(max_tokens=4096)}, (USER,), 2048),
        ({"sampling": Sampling(max_tokens=2048)}, (USER,), 1024),
        ({"sampling": Sampling(max_tokens=2047)}, (USER,), None),
        ({"sampling": Sampling(temperature=1, top_p=0.95)}, (USER,), 24576),
        ({"sampling": Sampling(temperature=0.5)}, (USER,), None),
        ({"sampling": Sampling(top_p=0.9)}, (USER,), None),
        ({"sampling": Sampling(top_p=0)}, (USER,), None),
        ({"sampling": Sampling(top_k=5)}, (USER,), None),
        ({"tool_choice": ToolChoice("auto")}, (USER,), 24576),
        ({"tool_choice": ToolChoice("required")}, (USER,), None),
        ({"tool_choice": ToolChoice("tool", "f")}, (USER,), None),
        ({}, (USER, Message("assistant", (Text("So"),)), USER), 24576),
        ({}, (USER, Message("assistant", (Text("So"),))), None),
        ({}, (USER, Message("assistant", (Text("So"), CALL)), RESULT), None),
        ({}, (USER, Message("assistant", (CALL,)), RESULT, USER), None),
        ({}, (USER, Message("assistant", (THOUGHT, CALL)), RESULT), 24576),
        ({}, (USER, Message("assistant", (THOUGHT,)), Message("assistant", (CALL,)), RESULT), 24576),
        ({}, (USER, Message("assistant", (replace(THOUGHT, origin="gemini"), CALL)), RESULT), None),
        ({}, (USER, Message("assistant", (CALL,)), RESULT, Message("assistant", (Text("So"),)), USER), 24576),
    ],
)
def test_an_effort_becomes_no_budget_where_the_model_would_refuse_it(
    fields: dict[str, Any], messages: tuple[Message, ...], budget: int | None
) -> None:
    body, losses = encode_request(
        ask(*messages, reasoning=ReasoningOptions(effort="high"), tools=(Tool("f"),), **fields)
    )
    told = json.loads(body).get("additionalModelRequestFields", {}).get("thinking")
    assert told == (None if budget is None else {"type": "enabled", "budget_tokens": budget})
    assert "reasoning.effort" in [loss.path for loss in losses]


def test_what_a_claude_refuses_is_not_sent() -> None:
    asked = ask(
        sampling=Sampling(max_tokens=200_000, temperature=0.2, top_p=0.5, top_k=3),
        tools=(Tool("f"),),
        tool_choice=ToolChoice("required"),
    )
    body, losses = encode_request(asked, model="anthropic.claude-sonnet-5-5")
    wire = json.loads(body)
    assert wire["inferenceConfig"] == {"maxTokens": 128_000}
    assert wire["toolConfig"]["toolChoice"] == {"auto": {}}
    assert "additionalModelRequestFields" not in wire
    assert [loss.path for loss in losses] == ["tool_choice", "temperature", "top_p", "top_k", "max_tokens"]


@pytest.mark.parametrize("encode", [encode_request, invoke_anthropic.encode_request])
def test_a_row_of_the_registry_may_say_what_a_name_does_not(encode: Any) -> None:
    own = Profile(unknown=ANTHROPIC.for_model("claude-haiku-4-5"))
    asked = ask(reasoning=ReasoningOptions(effort="high"))
    assert b'"budget_tokens":24576' in encode(asked, model=ANY, profile=own)[0]
    assert b"budget_tokens" not in encode(asked, model=ANY)[0]
    assert b'"adaptive"' in encode(asked, model=OPUS, profile=own)[0]


def test_a_budget_becomes_an_effort_where_a_model_knows_only_these() -> None:
    asked = ask(reasoning=ReasoningOptions(budget_tokens=50_000))
    body, losses = encode_request(asked, model="openai.gpt-oss-120b-1:0")
    assert json.loads(body)["additionalModelRequestFields"] == {"reasoning_effort": "high"}
    assert losses == [Loss("reasoning.budget_tokens", "sent as the effort 'high'")]


@pytest.mark.parametrize(
    ("model", "extra"),
    [
        (CLAUDE, {"top_k": 3}),
        ("arn:aws:bedrock:eu-west-1:1:application-inference-profile/x", {"top_k": 3}),
        ("us.amazon.nova-pro-v1:0", {"inferenceConfig": {"topK": 3}}),
        ("cohere.command-r-v1:0", {"k": 3}),
        ("mistral.mistral-large", {"top_k": 3}),
        ("meta.llama3-1-70b", None),
    ],
)
def test_top_k_by_model_family(model: str, extra: dict[str, Any] | None) -> None:
    body, losses = encode_request(ask(sampling=Sampling(top_k=3)), model=model)
    wire = json.loads(body)
    assert wire.get("additionalModelRequestFields") == extra
    assert [loss.path for loss in losses] == ([] if extra else ["top_k"])
    if extra:
        request = decode(model, additionalModelRequestFields=extra)
        assert (request.sampling.top_k, dict(request.extensions)) == (3, {})
        assert json.loads(encode_request(request)[0])["additionalModelRequestFields"] == extra


@pytest.mark.parametrize(
    "extra",
    [
        {"top_k": "x"},
        {"top_k": 1.5},
        {"thinking": {"type": "enabled"}},
        {"thinking": {"type": "disabled", "budget_tokens": 1}},
        {"thinking": {"type": "adaptive", "display": "summarized"}},
        {"thinking": {"type": "disabled"}},
        {"thinking": "x"},
        {"inferenceConfig": {"topK": "x"}},
        {"reasoningConfig": {"type": "enabled"}},
        {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
        {"reasoning_effort": "low"},
    ],
)
def test_additional_fields_that_are_the_models_to_judge_come_back(extra: dict[str, Any]) -> None:
    for model in (OPUS, "amazon.nova-2-lite", "openai.gpt-oss-20b", "meta.llama"):
        assert (
            encode(decode(model, additionalModelRequestFields=extra))["additionalModelRequestFields"] == extra
        )
