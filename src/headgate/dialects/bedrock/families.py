"""What model families of Bedrock take beside Converse's own fields, in `additionalModelRequestFields`: data.

Source: Amazon Bedrock user guide, "Inference request parameters and response fields for foundation models".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from headgate.core.loss import Loss
from headgate.core.messages import ReasoningOptions
from headgate.dialects.efforts import BUDGETS, effort_of


@dataclass(frozen=True, slots=True)
class Family:
    """One row.

    Args:
        models: matches a model id, profile or public name.
        top_k: where `top_k` stands; empty: nowhere.
        reasoning: `thinking` {type, budget_tokens}; `reasoningConfig` {type, maxReasoningEffort};
            `reasoning_effort`; or none of these.
        efforts: words that say how hard to think; empty: the model is told a budget only, or nothing.
        budgets: tokens for effort words, where the model takes a budget only; empty: it may not think at all.
        system_turns: takes system messages among the turns.
    """

    models: re.Pattern[str]
    top_k: tuple[str, ...] = ()
    reasoning: Literal["thinking", "reasoningConfig", "reasoning_effort"] | None = None
    efforts: tuple[str, ...] = ()
    budgets: Mapping[str, int] = field(default_factory=dict)
    system_turns: bool = False


MIN_BUDGET = 1024
"""Tokens; Claude takes no smaller thinking budget."""

_CLAUDE_EFFORTS = ("low", "medium", "high", "xhigh", "max")

FAMILIES: tuple[Family, ...] = (
    # From Opus 4.8 on, and from the fifth generation of the others.
    Family(
        re.compile(r"claude-(?:opus-4-[89]|[a-z]+-[5-9]|4\.[89]-opus|[5-9])"),
        ("top_k",),
        "thinking",
        _CLAUDE_EFFORTS,
        system_turns=True,
    ),
    # Opus from 4.5, the others from 4.6: these take `outputConfig.effort` and think adaptively.
    Family(
        re.compile(r"claude-(?:opus-4-[5-7]|[a-z]+-4-[6-9]|4\.5-opus|4\.[6-9])"),
        ("top_k",),
        "thinking",
        _CLAUDE_EFFORTS,
    ),
    # From 3.7 on: these think by a budget only.
    Family(
        re.compile(r"claude-(?:3[-.]7|[a-z]+-4|4(?:\.[0-5])?-[a-z])"), ("top_k",), "thinking", budgets=BUDGETS
    ),
    Family(re.compile(r"claude|anthropic"), ("top_k",), "thinking"),
    Family(re.compile(r"nova"), ("inferenceConfig", "topK"), "reasoningConfig", ("low", "medium", "high")),
    Family(re.compile(r"openai|gpt-oss"), (), "reasoning_effort", ("low", "medium", "high")),
    Family(re.compile(r"mistral"), ("top_k",)),
    Family(re.compile(r"cohere|command-r"), ("k",)),
    Family(re.compile(r"meta\.|llama|titan|deepseek|jamba"), ()),
)
UNKNOWN = Family(re.compile(""), ("top_k",), "thinking", _CLAUDE_EFFORTS)
"""For names that tell nothing (an inference profile's ARN): what a Claude model takes."""


def family_of(model: str) -> Family:
    name = model.lower()
    return next((family for family in FAMILIES if family.models.search(name)), UNKNOWN)


def take_top_k(family: Family, extra: dict[str, Any]) -> int | None:
    """Take `top_k` out of the additional fields; what is no whole number is left to the model to judge."""
    if not family.top_k:
        return None
    value = extra
    for key in family.top_k[:-1]:
        inner = value.get(key)
        if not isinstance(inner, dict):
            return None
        value[key] = inner = dict(inner)
        value = inner
    last = family.top_k[-1]
    if type(value.get(last)) is not int:
        return None
    found = value.pop(last)
    if len(family.top_k) > 1 and not value:
        del extra[family.top_k[0]]
    assert isinstance(found, int)
    return found


def put_top_k(family: Family, top_k: int | None, extra: dict[str, Any], losses: list[Loss]) -> None:
    if top_k is None:
        return
    if not family.top_k:
        losses.append(Loss("top_k", "the model has no such setting"))
        return
    for key in family.top_k[:-1]:
        extra = extra.setdefault(key, {})
    extra[family.top_k[-1]] = top_k


def take_reasoning(family: Family, extra: dict[str, Any]) -> ReasoningOptions:
    """Take what is said about reasoning out of the additional fields; further keys of the object stay."""
    match family.reasoning:
        case "thinking":
            return _take_thinking(extra)
        case "reasoningConfig":
            return _take_config(extra)
        case "reasoning_effort" if isinstance(extra.get("reasoning_effort"), str):
            return ReasoningOptions(effort=extra.pop("reasoning_effort"))
        case _:
            return ReasoningOptions()


_KINDS = {"enabled": True, "adaptive": True, "disabled": False}


def _take_thinking(extra: dict[str, Any]) -> ReasoningOptions:
    thinking = extra.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") not in list(_KINDS):
        return ReasoningOptions()
    kind = thinking["type"]
    rest = {key: value for key, value in thinking.items() if key != "type"}
    budget = rest.pop("budget_tokens") if type(rest.get("budget_tokens")) is int else None
    if budget is not None and (kind != "enabled" or budget < MIN_BUDGET):
        return ReasoningOptions()  # the model's to judge
    if budget is None and kind == "enabled":
        return ReasoningOptions()
    _put_back(extra, "thinking", rest)
    return ReasoningOptions(enabled=_KINDS[kind], budget_tokens=budget)


def _take_config(extra: dict[str, Any]) -> ReasoningOptions:
    config = extra.get("reasoningConfig")
    if not isinstance(config, dict) or config.get("type") not in ("enabled", "disabled"):
        return ReasoningOptions()
    rest = dict(config)
    enabled = rest.pop("type") == "enabled"
    effort = rest.pop("maxReasoningEffort") if isinstance(rest.get("maxReasoningEffort"), str) else None
    if enabled == (effort is None):
        return ReasoningOptions()
    _put_back(extra, "reasoningConfig", rest)
    return ReasoningOptions(enabled=enabled, effort=effort)


def _put_back(extra: dict[str, Any], key: str, rest: dict[str, Any]) -> None:
    if rest:
        extra[key] = rest
    else:
        del extra[key]


def put_reasoning(
    family: Family, options: ReasoningOptions, wire: dict[str, Any], losses: list[Loss]
) -> dict[str, Any]:
    """The additional fields that `options` need; for Claude the effort goes to `wire["outputConfig"]`."""
    if options.summary is not None:
        losses.append(Loss("reasoning.summary", "the dialect has no such setting"))
    effort = options.effort
    if effort == "none":
        options, effort = replace(options, enabled=False, budget_tokens=None), None
    elif effort == "minimal" and family.efforts:
        losses.append(Loss("reasoning.effort", "sent as 'low', the least that the model has"))
        effort = "low"
    if effort is not None and effort not in family.efforts:
        losses.append(Loss("reasoning.effort", "the model takes no such effort word"))
        effort = None
    if family.reasoning == "thinking":
        if effort is not None:
            wire.setdefault("outputConfig", {})["effort"] = effort
        return _thinking(family, options, losses)
    why = "the model takes no budget for reasoning"
    if family.reasoning == "reasoning_effort" and (word := effort_of(options)) in family.efforts:
        effort = effort or word
        why = f"sent as the effort '{effort}'"
    if options.budget_tokens is not None:
        losses.append(Loss("reasoning.budget_tokens", why))
    if family.reasoning == "reasoningConfig":
        return _config(options.enabled, effort, losses)
    if options.enabled is False or (options.enabled and effort is None):
        losses.append(Loss("reasoning.enabled", "the model's reasoning can't be switched"))
    return {} if effort is None else {"reasoning_effort": effort}


def _thinking(family: Family, options: ReasoningOptions, losses: list[Loss]) -> dict[str, Any]:
    budget = options.budget_tokens
    if options.enabled is False or budget == 0:
        return {"thinking": {"type": "disabled"}}
    if budget is not None and budget > 0:
        if budget < MIN_BUDGET:
            losses.append(Loss("reasoning.budget_tokens", f"sent as {MIN_BUDGET}, the least that is taken"))
        return {"thinking": {"type": "enabled", "budget_tokens": max(budget, MIN_BUDGET)}}
    if not options.enabled and budget is None:
        return {}
    if family.efforts:  # a negative budget leaves it to the model
        return {"thinking": {"type": "adaptive"}}
    losses.append(Loss("reasoning.enabled", "the model thinks only with a budget of tokens"))
    return {}


def _config(enabled: bool | None, effort: str | None, losses: list[Loss]) -> dict[str, Any]:
    if enabled is False:
        return {"reasoningConfig": {"type": "disabled"}}
    if effort is not None:
        return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}}
    if enabled:
        losses.append(Loss("reasoning.enabled", "the model thinks only with an effort word"))
    return {}
