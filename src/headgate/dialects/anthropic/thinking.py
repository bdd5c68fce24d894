"""What a Claude model is told of thinking, in the form that it takes, and of what it refuses beside it.

For Anthropic's own dialect and for all that carry it. Sources: as `headgate.dialects.anthropic.profile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import (
    ChatRequest,
    Message,
    Reasoning,
    ReasoningOptions,
    Sampling,
    ToolChoice,
    ToolResult,
)
from headgate.dialects.anthropic.profile import MIN_BUDGET, Family
from headgate.dialects.efforts import BUDGETS, effort_of, nearest

DEFAULT_MAX_TOKENS = 4096
"""For an answer without thoughts. Every model can write this much."""

_MIN_TOP_P = 0.95
"""Of models that think and take a `top_p`."""


@dataclass(slots=True)
class Settled:
    """The fields of a request that depend on each other and on the model.

    thinking: as the wire has it. effort: a word of the model's.
    """

    thinking: dict[str, Any] | None
    effort: str | None
    sampling: Sampling
    choice: ToolChoice | None

    @property
    def thinks(self) -> bool:
        return self.thinking is not None and self.thinking["type"] in ("adaptive", "enabled")


def settle(request: ChatRequest, family: Family, origin: str, losses: list[Loss]) -> Settled:
    """Put what the caller asked for in the model's terms.

    An effort word asks for thinking, unless the caller's dialect has it for the answer as a whole. It is what
    gets lost where the model would refuse to think beside settings that were asked for by name; thinking that
    was itself asked for by name goes before sampling, but not before a tool that must be called.

    Args:
        request: what to ask.
        family: the model's.
        origin: whose thoughts, in earlier turns, the upstream knows for its own.
        losses: added to.
    """
    options = request.reasoning or ReasoningOptions()
    choice = _choice(request.tool_choice, family, losses)
    asked = replace(request, tool_choice=choice)
    effort = _effort(options, family, losses)
    if options.effort == "none" or options.enabled is False or options.budget_tokens == 0:
        thinking, effort = _off(options, effort, family, losses)
    else:
        thinking, effort = _on(asked, options, effort, family, origin, losses)
    told = Settled(thinking, effort, request.sampling, choice)
    if _shown(options) and not told.thinks:
        losses.append(Loss("reasoning.summary", "a summary is shown only where thinking is asked for"))
    told.sampling = _sampling(request.sampling, family, told.thinks, losses)
    return told


def room(settled: Settled, options: ReasoningOptions | None, family: Family) -> int:
    """`max_tokens` for a caller who sets none: thoughts count, too."""
    thoughts = 0
    if settled.thinks or (family.unasked and settled.thinking is None):
        word = settled.effort or effort_of(options or ReasoningOptions()) or "high"
        budget = (settled.thinking or {}).get("budget_tokens")
        thoughts = BUDGETS.get(word, BUDGETS["high"]) if budget is None else budget
    return min(DEFAULT_MAX_TOKENS + thoughts, family.max_tokens or DEFAULT_MAX_TOKENS + thoughts)


def _shown(options: ReasoningOptions) -> bool:
    return options.summary not in (None, "none")


def _effort(options: ReasoningOptions, family: Family, losses: list[Loss]) -> str | None:
    """The model's own word for the caller's, if it has any."""
    word = options.effort
    if word is None or word == "none":
        return None
    if not family.efforts:
        if options.effort_only or not family.modes:
            losses.append(Loss("reasoning.effort", "the model takes no effort word"))
        return None
    if word in family.efforts or (family.unasked is None and word != "minimal"):
        return word
    near = nearest(word, family.efforts)
    why = "the model takes no such effort word" if near is None else f"sent as '{near}': it has no '{word}'"
    losses.append(Loss("reasoning.effort", why))
    return near


def _off(
    options: ReasoningOptions, effort: str | None, family: Family, losses: list[Loss]
) -> tuple[dict[str, Any] | None, str | None]:
    if not family.modes:
        return None, effort
    if family.off is None:
        path = "effort" if options.effort == "none" else "budget_tokens" if options.budget_tokens == 0 else ""
        losses.append(
            Loss(f"reasoning.{path or 'enabled'}", "the model always thinks: the least was asked for")
        )
        return None, "low"
    if effort is not None and effort not in family.off_efforts:
        effort = family.off_efforts[-1]
        losses.append(
            Loss("reasoning.effort", f"sent as '{effort}', the most where the model does not think")
        )
    return {"type": family.off}, effort


def _on(
    request: ChatRequest,
    options: ReasoningOptions,
    effort: str | None,
    family: Family,
    origin: str,
    losses: list[Loss],
) -> tuple[dict[str, Any] | None, str | None]:
    explicit = bool(options.enabled) or options.budget_tokens is not None
    by_word = options.effort is not None and not options.effort_only and family.unasked is False
    if not (explicit or by_word or (_shown(options) and family.unasked)):
        return None, effort
    path = f"reasoning.{'budget_tokens' if options.budget_tokens else 'enabled' if explicit else 'effort'}"
    if not family.modes:
        if explicit:
            losses.append(Loss(path, "the model does not think"))
        return None, effort
    told: list[Loss] = []
    thinking, effort = _mode(request.sampling.max_tokens, options, effort, family, told)
    why = None if family.unasked is None else _hindrance(request, thinking, explicit, origin)
    if why is not None:
        losses.append(Loss(path, why))
        if explicit and effort is None and options.effort is not None:
            losses.append(Loss("reasoning.effort", why))
        return None, effort
    losses += told
    if _shown(options):
        thinking["display"] = "summarized"
    return thinking, effort


def _mode(
    limit: int | None, options: ReasoningOptions, effort: str | None, family: Family, losses: list[Loss]
) -> tuple[dict[str, Any], str | None]:
    """`thinking` in a way of the model's, and the effort to go with it."""
    budget = options.budget_tokens
    if budget is not None and budget > 0 and "enabled" in family.modes:
        if budget < MIN_BUDGET:
            losses.append(Loss("reasoning.budget_tokens", f"sent as {MIN_BUDGET}, the least that is taken"))
        if options.effort is not None and effort is None and not options.effort_only:
            losses.append(Loss("reasoning.effort", "the budget says how much the model may think"))
        return {"type": "enabled", "budget_tokens": max(budget, MIN_BUDGET)}, effort
    if "adaptive" in family.modes:
        if budget is not None and budget > 0:
            effort = effort or effort_of(replace(options, effort=None))
            losses.append(Loss("reasoning.budget_tokens", f"sent as the effort '{effort}'"))
        return {"type": "adaptive"}, effort
    tokens = BUDGETS.get(options.effort or "medium", BUDGETS["high"])
    if limit is not None and not options.enabled:
        tokens = min(tokens, limit // 2)  # the maximum holds the answer too
    field = "budget_tokens" if budget is not None else "effort" if options.effort else "enabled"
    if effort is None:
        losses.append(Loss(f"reasoning.{field}", f"sent as a budget of {tokens} tokens"))
    return {"type": "enabled", "budget_tokens": tokens}, effort


def _hindrance(request: ChatRequest, thinking: dict[str, Any], explicit: bool, origin: str) -> str | None:
    """Why the model can't think about this request in this way."""
    sampling, choice = request.sampling, request.tool_choice
    by_budget = thinking["type"] == "enabled"
    if by_budget and thinking["budget_tokens"] < MIN_BUDGET:
        return f"the model thinks only where at least {2 * MIN_BUDGET} tokens may be written"
    if not explicit and _sampled(sampling):
        return "the model does not think at a temperature, top_p or top_k of the caller's"
    if by_budget and choice is not None and choice.mode in ("required", "tool"):
        return "the model does not think where it must call a tool"
    if by_budget and not may_begin(request.messages, origin):
        return "the model can't begin to think in the middle of its turn"
    return None


def _sampled(sampling: Sampling) -> bool:
    narrow = sampling.top_p is not None and sampling.top_p < _MIN_TOP_P
    return sampling.temperature not in (None, 1) or sampling.top_k is not None or narrow


def _sampling(sampling: Sampling, family: Family, thinks: bool, losses: list[Loss]) -> Sampling:
    """What the model takes of it; a default that goes unsaid is no loss."""
    least = 1.0 if not family.sampling else _MIN_TOP_P if thinks and family.unasked is not None else 0.0
    free = least == 0.0
    why = "the model takes its default only" + ("" if not family.sampling else " where it thinks")
    temperature, top_p, top_k = sampling.temperature, sampling.top_p, sampling.top_k
    if not free and temperature is not None:
        if temperature != 1:
            losses.append(Loss("temperature", why))
        temperature = None
    if top_p is not None and (top_p < least or not family.sampling):
        if top_p < least:
            losses.append(Loss("top_p", why))
        top_p = None
    if not free and top_k is not None:
        losses.append(Loss("top_k", why))
        top_k = None
    if not family.both and temperature is not None and top_p is not None:
        if temperature == 1:
            temperature = None
        else:
            if top_p != 1:
                losses.append(Loss("top_p", "the model takes a temperature or a top_p, not both"))
            top_p = None
    return replace(
        sampling,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        max_tokens=_limit(sampling.max_tokens, family, losses),
    )


def _limit(tokens: int | None, family: Family, losses: list[Loss]) -> int | None:
    if tokens is None or family.max_tokens is None or tokens <= family.max_tokens:
        return tokens
    losses.append(Loss("max_tokens", f"sent as {family.max_tokens}, the most that the model can write"))
    return family.max_tokens


def _choice(choice: ToolChoice | None, family: Family, losses: list[Loss]) -> ToolChoice | None:
    if choice is None or family.forced_tools or choice.mode not in ("required", "tool"):
        return choice
    losses.append(Loss("tool_choice", "sent as 'auto': the model can't be made to call a tool"))
    return replace(choice, mode="auto", name=None)


def may_begin(messages: Sequence[Message], origin: str) -> bool:
    """The model's turn begins anew, or goes on after thoughts of its own."""
    rest = list(messages)
    calls = False
    while rest and rest[-1].role != "assistant":
        calls |= any(isinstance(part, ToolResult) for part in rest.pop().parts)
    if len(rest) == len(messages) and rest:  # it is to go on with its last words
        return False
    if not calls:
        return True
    said: list[object] = []
    while rest and rest[-1].role == "assistant":
        said[:0] = rest.pop().parts
    first = said[0] if said else None
    return isinstance(first, Reasoning) and first.origin == origin and bool(first.signature or first.data)
