"""What a client and a vendor can't tell each other: the paths that `x-headgate-loss` then lists."""

from __future__ import annotations

BUDGET = "generationConfig.thinkingConfig.thinkingBudget"
SHOWN = "generationConfig.thinkingConfig.includeThoughts"
STRICT = "tools[0].strict"

IN_REQUESTS: dict[tuple[str, str, str], set[str]] = {
    # Gemini has no word for a tool whose schema is held to; the Responses API takes it for granted.
    **{(scenario, "openai-responses", "gemini"): {STRICT} for scenario in ("tool", "tools", "thinks")},
    # Effort words and budgets are no translation of each other: where one becomes the other, that is told.
    ("thinks", "openai", "anthropic"): {"reasoning_effort"},
    ("thinks", "openai", "converse"): {"reasoning_effort"},
    ("thinks", "openai-responses", "anthropic"): {"reasoning.effort"},
    ("thinks", "openai-responses", "converse"): {"reasoning.effort"},
    ("thinks", "openai-responses", "openai_chat"): {"reasoning.summary"},
    ("thinks", "anthropic", "openai_chat"): {"thinking.budget_tokens"},
    ("thinks", "anthropic", "openai_responses"): {"thinking.budget_tokens"},
    ("thinks", "google-genai", "openai_chat"): {BUDGET, SHOWN},
    ("thinks", "google-genai", "openai_responses"): {BUDGET},
    # A model's own fields are read by the model's name, and these names are not Claude's.
    ("thinks", "boto3", "openai_chat"): {"additionalModelRequestFields"},
    ("thinks", "boto3", "openai_responses"): {"additionalModelRequestFields"},
}
"""By scenario, client and vendor."""

NOT_ASKED = {
    ("boto3", "openai_chat"),
    ("boto3", "openai_responses"),
}
"""Client and vendor where the wish for thinking itself is what gets lost."""
