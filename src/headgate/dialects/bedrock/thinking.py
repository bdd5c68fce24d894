"""Effort words for Claude models that know thinking by a budget of tokens only.

Source: Amazon Bedrock user guide, "Extended thinking"; Anthropic, "Building with extended thinking" (what
thinking can't be combined with).
"""

from __future__ import annotations

from dataclasses import replace

from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest, Message, Reasoning, ReasoningOptions, ToolResult
from headgate.dialects.bedrock.families import MIN_BUDGET, Family
from headgate.dialects.bedrock.vocabulary import NAME


def reasoning_for(family: Family, request: ChatRequest, losses: list[Loss]) -> ReasoningOptions:
    """What the request says about reasoning, with a budget for an effort word where the family needs one.

    The model refuses thinking beside some other settings: where the caller asked for these by name, and for
    the effort by a word only, the word is what gets lost.
    """
    options = request.reasoning or ReasoningOptions()
    by_word = options.effort not in (None, "none") and options.budget_tokens is None
    if not (family.budgets and by_word) or options.enabled is False:
        return options
    budget = family.budgets.get(options.effort or "", max(family.budgets.values()))
    if (limit := request.sampling.max_tokens) is not None:
        budget = min(budget, limit // 2)  # the maximum holds the answer too
    if (why := _hindrance(request, budget)) is not None:
        losses.append(Loss("reasoning.effort", why))
        return replace(options, effort=None)
    losses.append(Loss("reasoning.effort", f"sent as a budget of {budget} tokens"))
    return replace(options, effort=None, enabled=True, budget_tokens=budget)


def _hindrance(request: ChatRequest, budget: int) -> str | None:
    """Why the model can't think about this request."""
    sampling, choice = request.sampling, request.tool_choice
    if budget < MIN_BUDGET:
        return f"the model thinks only where at least {2 * MIN_BUDGET} tokens may be written"
    narrow = sampling.top_p is not None and sampling.top_p < 0.95
    if sampling.temperature not in (None, 1) or sampling.top_k is not None or narrow:
        return "the model does not think at a temperature, top_p or top_k of the caller's"
    if choice is not None and choice.mode in ("required", "tool"):
        return "the model does not think where it must call a tool"
    if not _may_begin(request.messages):
        return "the model can't begin to think in the middle of its turn"
    return None


def _may_begin(messages: tuple[Message, ...]) -> bool:
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
    return isinstance(first, Reasoning) and first.origin == NAME and bool(first.signature or first.data)
