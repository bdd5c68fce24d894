"""How much a model may think, in words and in tokens, for dialects and models that know only one of these.

Source of the budgets: Gemini API, "OpenAI compatibility", "Thinking". The words' limits lie between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headgate.core.messages import ReasoningOptions

BUDGETS: Mapping[str, int] = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""Tokens by effort word; words that stand for more get those of `high`."""
ORDER = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""All effort words, the least first."""
_WORDS = ((2048, "low"), (16384, "medium"))
"""Effort words for budgets of up to so many tokens; `high` above."""


def effort_of(options: ReasoningOptions) -> str | None:
    """The effort word; without one, the word that suits the budget or the switch. None: nobody said."""
    budget = options.budget_tokens
    if options.effort is not None:
        return options.effort
    if options.enabled is False or budget == 0:
        return "none"
    if budget is not None and budget > 0:
        return next((word for limit, word in _WORDS if budget <= limit), "high")
    # A negative budget leaves it to the model.
    return "medium" if options.enabled or budget is not None else None


def nearest(word: str, words: Sequence[str]) -> str | None:
    """The one of a model's words that comes closest: the next one below that does not stop it from thinking,
    else the next above. None: `word` is none that is known here."""
    if word in words:
        return word
    if word not in ORDER:
        return None
    place = ORDER.index(word)
    below = [each for each in ORDER[1:place] if each in words]
    above = [each for each in ORDER[place:] if each in words]
    return below[-1] if below else above[0] if above else None
