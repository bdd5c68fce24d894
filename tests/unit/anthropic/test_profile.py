"""In what Claude models differ, row by row: how they are told to think, and what they refuse beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headgate.core.messages import (
    ChatRequest,
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
from headgate.dialects.anthropic import encode_count_request, encode_request
from headgate.dialects.anthropic.profile import ANTHROPIC, FAMILIES, UNKNOWN, Profile, short_name
from tests.unit.anthropic.wire import sent

HI = Message("user", (Text("Hi"),))
ADAPTIVE = {"type": "adaptive"}
DISABLED = {"type": "disabled"}
BETWEEN = {"type": "between_tools"}


def enabled(budget: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": budget}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("claude-opus-4-5-20251101", "opus-4.5"),
        ("eu.anthropic.claude-opus-4-5-20251101-v1:0", "opus-4.5"),
        ("anthropic--claude-4.5-opus", "opus-4.5"),
        ("anthropic/claude-opus-4.7", "opus-4.7"),
        ("us.anthropic.claude-opus-4-6-v1", "opus-4.6"),
        ("claude-haiku-4-5@20251001", "haiku-4.5"),
        ("claude-opus-4-20250514", "opus-4"),
        ("claude-sonnet-4-0", "sonnet-4"),
        ("anthropic--claude-4-sonnet", "sonnet-4"),
        ("claude-3-7-sonnet-latest", "sonnet-3.7"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "haiku-3"),
        ("anthropic.claude-v2:1", "claude-2.1"),
        ("claude-instant-1.2", "instant-1.2"),
        ("claude-mythos-preview", "mythos-preview"),
        ("Claude-Fable-5-2", "fable-5.2"),
        ("claude-opus-latest", None),
        ("arn:aws:bedrock:eu-west-1:1:application-inference-profile/x", None),
        ("gpt-5", None),
    ],
)
def test_models_are_known_by_any_of_their_names(model: str, name: str | None) -> None:
    assert short_name(model) == name
    known = ANTHROPIC.for_model(model)
    assert known in FAMILIES if name else known is UNKNOWN


def test_every_row_is_reached() -> None:
    names = (
        "fable-5-2 fable-5 mythos-preview sonnet-5-5 opus-5 sonnet-5 opus-4-8 opus-4-7 sonnet-4-6 opus-4-5"
        " haiku-4-5 opus-4-1 opus-4 sonnet-4 3-7-sonnet 3-5-haiku 2.1"
    )
    found = [ANTHROPIC.for_model(f"claude-{name}") for name in names.split()]
    assert found == list(FAMILIES)


@pytest.mark.parametrize(
    ("model", "word", "thinking", "effort", "lost"),
    [
        # Always think, or unless told not to: the word is all that they need.
        ("claude-opus-5-5", "low", None, "low", []),
        ("claude-opus-5", "max", None, "max", []),
        ("claude-haiku-5-5", "xhigh", None, "xhigh", []),
        ("claude-mythos-preview", "xhigh", None, "high", ["effort"]),
        # Think when told to, as much as they like.
        ("claude-opus-4-8", "high", ADAPTIVE, "high", []),
        ("claude-opus-4-7", "xhigh", ADAPTIVE, "xhigh", []),
        ("claude-opus-4-6", "medium", ADAPTIVE, "medium", []),
        ("claude-sonnet-4-6", "xhigh", ADAPTIVE, "high", ["effort"]),
        ("claude-sonnet-4-6", "max", ADAPTIVE, "max", []),
        # Knows words, and thinks by a budget.
        ("claude-opus-4-5", "low", enabled(1024), "low", []),
        ("claude-opus-4-5", "max", enabled(24576), "high", ["effort"]),
        # Budgets only.
        ("claude-sonnet-4-5", "minimal", enabled(1024), None, ["effort"]),
        ("claude-haiku-4-5", "medium", enabled(8192), None, ["effort"]),
        ("claude-opus-4-1", "high", enabled(24576), None, ["effort"]),
        ("claude-3-7-sonnet-20250219", "max", enabled(24576), None, ["effort"]),
        # Do not think.
        ("claude-3-5-haiku-latest", "high", None, None, ["effort"]),
        ("claude-2.1", "low", None, None, ["effort"]),
        # Words that there are not.
        ("claude-opus-4-8", "minimal", ADAPTIVE, "low", ["effort"]),
        ("claude-opus-4-8", "ultra", ADAPTIVE, None, ["effort"]),
        ("somebodys", "ultra", None, "ultra", []),
    ],
)
def test_an_effort_word_reaches_each_model_in_the_form_it_takes(
    model: str, word: str, thinking: dict[str, Any] | None, effort: str | None, lost: list[str]
) -> None:
    wire, losses = sent(HI, model=model, reasoning=ReasoningOptions(effort=word))
    told = wire.get("output_config", {}).get("effort")
    assert (wire.get("thinking"), told) == (thinking, effort)
    assert [loss.path for loss in losses] == [f"reasoning.{field}" for field in lost]


@pytest.mark.parametrize(
    ("model", "effort", "lost"),
    [
        ("claude-opus-4-8", "high", []),
        ("claude-opus-4-5", "high", []),
        ("claude-haiku-4-5", None, ["reasoning.effort"]),
    ],
)
def test_an_effort_for_the_answer_as_a_whole_asks_for_no_thinking(
    model: str, effort: str | None, lost: list[str]
) -> None:
    wire, losses = sent(HI, model=model, reasoning=ReasoningOptions(effort="high", effort_only=True))
    assert "thinking" not in wire
    assert wire.get("output_config", {}).get("effort") == effort
    assert [loss.path for loss in losses] == lost


@pytest.mark.parametrize(
    ("model", "options", "thinking", "effort", "lost"),
    [
        ("claude-opus-4-7", {"budget_tokens": 2000}, ADAPTIVE, "low", ["budget_tokens"]),
        ("claude-opus-5", {"budget_tokens": 20_000}, ADAPTIVE, "high", ["budget_tokens"]),
        ("claude-opus-5", {"budget_tokens": 20_000, "effort": "max"}, ADAPTIVE, "max", ["budget_tokens"]),
        ("claude-opus-4-6", {"budget_tokens": 2000}, enabled(2000), None, []),
        ("claude-sonnet-4-5", {"budget_tokens": 5}, enabled(1024), None, ["budget_tokens"]),
        ("claude-sonnet-4-5", {"budget_tokens": 2000, "effort": "low"}, enabled(2000), None, ["effort"]),
        ("claude-sonnet-4-5", {"budget_tokens": -1}, enabled(8192), None, ["budget_tokens"]),
        ("claude-sonnet-4-5", {"enabled": True}, enabled(8192), None, ["enabled"]),
        ("claude-opus-4-5", {"enabled": True, "effort": "high"}, enabled(24576), "high", []),
        ("claude-3-5-haiku-latest", {"budget_tokens": 2000}, None, None, ["budget_tokens"]),
        ("claude-3-5-haiku-latest", {"enabled": True}, None, None, ["enabled"]),
        (
            "claude-opus-4-8",
            {"enabled": True, "summary": "auto"},
            ADAPTIVE | {"display": "summarized"},
            None,
            [],
        ),
        ("claude-opus-5", {"summary": "auto"}, ADAPTIVE | {"display": "summarized"}, None, []),
        ("claude-opus-4-8", {"summary": "auto"}, None, None, ["summary"]),
        ("claude-opus-4-8", {"summary": "none"}, None, None, []),
    ],
)
def test_budgets_and_switches(
    model: str,
    options: dict[str, Any],
    thinking: dict[str, Any] | None,
    effort: str | None,
    lost: list[str],
) -> None:
    wire, losses = sent(HI, model=model, reasoning=ReasoningOptions(**options))
    told = wire.get("output_config", {}).get("effort")
    assert (wire.get("thinking"), told) == (thinking, effort)
    assert [loss.path for loss in losses] == [f"reasoning.{field}" for field in lost]


@pytest.mark.parametrize(
    ("model", "options", "thinking", "effort", "lost"),
    [
        ("claude-opus-4-8", {"effort": "none"}, DISABLED, None, []),
        ("claude-opus-4-8", {"enabled": False, "effort": "max"}, DISABLED, "max", []),
        ("claude-opus-5", {"enabled": False, "effort": "max"}, DISABLED, "high", ["effort"]),
        ("claude-sonnet-5", {"enabled": False, "effort": "max"}, DISABLED, "max", []),
        ("claude-sonnet-5-5", {"budget_tokens": 0}, BETWEEN, None, []),
        ("claude-sonnet-5-5", {"enabled": False, "effort": "xhigh"}, BETWEEN, "high", ["effort"]),
        ("claude-haiku-5-5", {"effort": "none"}, DISABLED, None, []),
        ("claude-opus-5-5", {"effort": "none"}, None, "low", ["effort"]),
        ("claude-fable-5", {"enabled": False}, None, "low", ["enabled"]),
        ("claude-mythos-preview", {"budget_tokens": 0}, None, "low", ["budget_tokens"]),
        ("claude-haiku-4-5", {"effort": "none"}, DISABLED, None, []),
        ("claude-3-haiku-20240307", {"effort": "none"}, None, None, []),
    ],
)
def test_thinking_is_stopped_as_the_model_wants_it(
    model: str,
    options: dict[str, Any],
    thinking: dict[str, Any] | None,
    effort: str | None,
    lost: list[str],
) -> None:
    wire, losses = sent(HI, model=model, reasoning=ReasoningOptions(**options))
    told = wire.get("output_config", {}).get("effort")
    assert (wire.get("thinking"), told) == (thinking, effort)
    assert [loss.path for loss in losses] == [f"reasoning.{field}" for field in lost]


WARM = Sampling(temperature=0.2, top_k=5)


@pytest.mark.parametrize(
    ("model", "options", "sampling", "left", "lost"),
    [
        (
            "claude-opus-4-7",
            None,
            Sampling(temperature=0.2, top_p=0.5, top_k=5),
            {},
            "temperature top_p top_k",
        ),
        ("claude-opus-5-5", None, Sampling(temperature=1, top_p=1), {}, ""),
        ("claude-sonnet-4-6", None, WARM, {"temperature": 0.2, "top_k": 5}, ""),
        ("claude-sonnet-4-6", {"enabled": True}, WARM, {}, "temperature top_k"),
        ("claude-sonnet-4-6", {"enabled": True}, Sampling(temperature=1, top_p=0.96), {"top_p": 0.96}, ""),
        ("claude-sonnet-4-6", {"enabled": True}, Sampling(top_p=0.9), {}, "top_p"),
        ("claude-haiku-4-5", {"budget_tokens": 2000}, Sampling(temperature=0.2), {}, "temperature"),
        ("claude-haiku-4-5", None, Sampling(temperature=0.2, top_p=0.5), {"temperature": 0.2}, "top_p"),
        ("claude-haiku-4-5", None, Sampling(temperature=1, top_p=0.5), {"top_p": 0.5}, ""),
        ("claude-haiku-4-5", None, Sampling(temperature=0.5, top_p=1), {"temperature": 0.5}, ""),
        ("claude-opus-4", None, Sampling(temperature=0.5, top_p=0.5), {"temperature": 0.5, "top_p": 0.5}, ""),
        ("somebodys", {"enabled": True}, WARM, {"temperature": 0.2, "top_k": 5}, ""),
    ],
)
def test_sampling_goes_before_thinking_that_was_asked_for(
    model: str, options: dict[str, Any] | None, sampling: Sampling, left: dict[str, Any], lost: str
) -> None:
    reasoning = None if options is None else ReasoningOptions(**options)
    wire, losses = sent(HI, model=model, reasoning=reasoning, sampling=sampling)
    assert {key: wire[key] for key in ("temperature", "top_p", "top_k") if key in wire} == left
    assert [loss.path for loss in losses if not loss.path.startswith("reasoning")] == lost.split()


CALLING = Message("assistant", (Text("So"), ToolCall("c", "f", "{}")))
RESULT = Message("tool", (ToolResult("c", (Text("r"),)),))
THOUGHT = Reasoning("hm", signature="s", origin="anthropic")


@pytest.mark.parametrize(
    ("model", "messages", "fields", "thinks"),
    [
        ("claude-haiku-4-5", (HI,), {}, True),
        ("claude-haiku-4-5", (HI,), {"sampling": Sampling(temperature=0.2)}, False),
        ("claude-opus-4-6", (HI,), {"sampling": Sampling(temperature=0.2)}, False),
        ("claude-haiku-4-5", (HI,), {"sampling": Sampling(max_tokens=2047)}, False),
        ("claude-haiku-4-5", (HI,), {"tool_choice": ToolChoice("required")}, False),
        ("claude-opus-4-6", (HI,), {"tool_choice": ToolChoice("required")}, True),
        ("claude-haiku-4-5", (HI, Message("assistant", (Text("So"),))), {}, False),
        ("claude-haiku-4-5", (HI, CALLING, RESULT), {}, False),
        ("claude-opus-4-6", (HI, CALLING, RESULT), {}, True),
        ("claude-haiku-4-5", (HI, replace(CALLING, parts=(THOUGHT, *CALLING.parts)), RESULT), {}, True),
    ],
)
def test_a_word_is_lost_where_the_model_would_refuse_to_think(
    model: str, messages: tuple[Message, ...], fields: dict[str, Any], thinks: bool
) -> None:
    wire, losses = sent(
        *messages, model=model, tools=(Tool("f"),), reasoning=ReasoningOptions(effort="high"), **fields
    )
    assert ("thinking" in wire) is thinks
    by_budget = model == "claude-haiku-4-5"
    assert ("reasoning.effort" in [loss.path for loss in losses]) is (by_budget or not thinks)


def test_a_tool_that_must_be_called_goes_before_a_budget() -> None:
    options = ReasoningOptions(enabled=True, budget_tokens=2000)
    choice = ToolChoice("tool", "f")
    wire, losses = sent(
        HI, model="claude-sonnet-4-5", tools=(Tool("f"),), tool_choice=choice, reasoning=options
    )
    assert "thinking" not in wire
    assert wire["tool_choice"] == {"type": "tool", "name": "f"}
    assert [loss.path for loss in losses] == ["reasoning.budget_tokens"]


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-sonnet-5-5", "claude-fable-5-1"])
def test_a_model_that_can_not_be_made_to_call_a_tool_may(model: str) -> None:
    wire, losses = sent(
        HI, model=model, tools=(Tool("f"),), tool_choice=ToolChoice("tool", "f"), parallel_tool_calls=False
    )
    assert wire["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert [loss.path for loss in losses] == ["tool_choice"]
    for other in ("claude-opus-5", "claude-haiku-5-5", "claude-fable-5", "claude-opus-4-8"):
        assert sent(HI, model=other, tools=(Tool("f"),), tool_choice=ToolChoice("required"))[1] == []


@pytest.mark.parametrize(
    ("model", "asked", "limit"),
    [
        ("claude-haiku-4-5", 64_000, 64_000),
        ("claude-haiku-4-5", 100_000, 64_000),
        ("claude-opus-4-1", 64_000, 32_000),
        ("claude-3-5-haiku-latest", 64_000, 8192),
        ("claude-3-haiku-20240307", 8192, 4096),
        ("claude-opus-4-8", 128_000, 128_000),
        ("somebodys", 10**9, 10**9),
    ],
)
def test_no_more_is_asked_for_than_the_model_can_write(model: str, asked: int, limit: int) -> None:
    wire, losses = sent(HI, model=model, sampling=Sampling(max_tokens=asked))
    assert wire["max_tokens"] == limit
    assert [loss.path for loss in losses] == (["max_tokens"] if limit < asked else [])


def test_a_row_of_the_registry_may_bring_its_own() -> None:
    request = ChatRequest(model="our-deployment", messages=(HI,), reasoning=ReasoningOptions(effort="high"))
    own = Profile(unknown=ANTHROPIC.for_model("claude-haiku-4-5"))
    assert b'"budget_tokens":24576' in encode_request(request, profile=own)[0]
    assert b'"budget_tokens":24576' in encode_count_request(request, profile=own)[0]
    assert b"budget_tokens" not in encode_request(request)[0]
