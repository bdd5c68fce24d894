"""What model families take beside Converse's own fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.messages import (
    ReasoningOptions,
    Sampling,
)
from headgate.dialects.bedrock import encode_request
from tests.unit.bedrock.converse_bodies import CLAUDE, OPUS, ask, decode, encode


@pytest.mark.parametrize(
    ("model", "options", "extra", "output"),
    [
        (CLAUDE, {"budget_tokens": 2000}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}, None),
        (CLAUDE, {"budget_tokens": 0}, {"thinking": {"type": "disabled"}}, None),
        (CLAUDE, {"effort": "none"}, {"thinking": {"type": "disabled"}}, None),
        (OPUS, {"enabled": False}, {"thinking": {"type": "disabled"}}, None),
        (OPUS, {"enabled": True, "effort": "max"}, {"thinking": {"type": "adaptive"}}, {"effort": "max"}),
        (OPUS, {"budget_tokens": -1}, {"thinking": {"type": "adaptive"}}, None),
        ("anthropic--claude-4.5-opus", {"effort": "low"}, None, {"effort": "low"}),
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
        (CLAUDE, {"effort": "high"}, ["reasoning.effort"]),
        (CLAUDE, {"enabled": True}, ["reasoning.enabled"]),
        (CLAUDE, {"budget_tokens": 5}, ["reasoning.budget_tokens"]),
        (OPUS, {"effort": "minimal"}, ["reasoning.effort"]),
        ("amazon.nova-2-lite-v1:0", {"budget_tokens": 5}, ["reasoning.budget_tokens"]),
        ("amazon.nova-2-lite-v1:0", {"enabled": True}, ["reasoning.enabled"]),
        ("meta.llama3-1-70b", {"effort": "low", "enabled": True}, ["reasoning.effort", "reasoning.enabled"]),
    ],
)
def test_reasoning_that_a_model_family_can_not(model: str, options: dict[str, Any], lost: list[str]) -> None:
    _, losses = encode_request(ask(reasoning=ReasoningOptions(**options)), model=model)
    assert [loss.path for loss in losses] == lost


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
