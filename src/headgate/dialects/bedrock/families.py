"""What model families of Bedrock take beside Converse's own fields, in `additionalModelRequestFields`: data.

Source: Amazon Bedrock user guide, "Inference request parameters and response fields for foundation models".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from headgate.core.loss import Loss
from headgate.core.messages import ReasoningOptions
from headgate.dialects.anthropic import profile as claude
from headgate.dialects.efforts import effort_of


@dataclass(frozen=True, slots=True)
class Family:
    """One row.

    Args:
        models: matches a model id, profile or public name.
        top_k: where `top_k` stands; empty: nowhere.
        reasoning: `thinking` {type, budget_tokens}; `reasoningConfig` {type, maxReasoningEffort};
            `reasoning_effort`; or none of these.
        efforts: words that say how hard to think.
        system_turns: takes system messages among the turns.
        claude: what a Claude model takes.
    """

    models: re.Pattern[str]
    top_k: tuple[str, ...] = ()
    reasoning: Literal["thinking", "reasoningConfig", "reasoning_effort"] | None = None
    efforts: tuple[str, ...] = ()
    system_turns: bool = False
    claude: claude.Family | None = None


FAMILIES: tuple[Family, ...] = (
    Family(re.compile(r"claude|anthropic"), ("top_k",), "thinking", claude=claude.UNKNOWN),
    Family(re.compile(r"nova"), ("inferenceConfig", "topK"), "reasoningConfig", ("low", "medium", "high")),
    Family(re.compile(r"openai|gpt-oss"), (), "reasoning_effort", ("low", "medium", "high")),
    Family(re.compile(r"mistral"), ("top_k",)),
    Family(re.compile(r"cohere|command-r"), ("k",)),
    Family(re.compile(r"meta\.|llama|titan|deepseek|jamba"), ()),
)
UNKNOWN = Family(re.compile(""), ("top_k",), "thinking", claude=claude.UNKNOWN)
"""For names that tell nothing (an inference profile's ARN): what a Claude model takes."""


def family_of(model: str, profile: claude.Profile = claude.ANTHROPIC) -> Family:
    """The row for a model; that of Claude, and of names that tell nothing, with what its models differ in."""
    found = _row(model.lower())
    if found.claude is None:
        return found
    known = profile.for_model(model)
    if known is found.claude:
        return found
    return replace(found, claude=known, system_turns=known.system_turns)


@lru_cache(maxsize=1024)
def _row(name: str) -> Family:
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
    if budget is not None and (kind != "enabled" or budget < claude.MIN_BUDGET):
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


def put_reasoning(family: Family, options: ReasoningOptions, losses: list[Loss]) -> dict[str, Any]:
    """The additional fields that `options` need, for other models than Claude."""
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


def _config(enabled: bool | None, effort: str | None, losses: list[Loss]) -> dict[str, Any]:
    if enabled is False:
        return {"reasoningConfig": {"type": "disabled"}}
    if effort is not None:
        return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}}
    if enabled:
        losses.append(Loss("reasoning.enabled", "the model thinks only with an effort word"))
    return {}
