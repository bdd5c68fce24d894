"""What a client and a vendor can't tell each other: the paths that `x-headgate-loss` then lists."""

from __future__ import annotations

import re

IN_REQUESTS: dict[tuple[str, str, str], set[str]] = {
    # Effort words and budgets are no translation of each other; who knows only one loses the other.
    ("thinks", "openai", "converse"): {"reasoning.effort"},
    ("thinks", "openai-responses", "converse"): {"reasoning.effort", "reasoning.summary"},
    ("thinks", "openai-responses", "openai_chat"): {"reasoning.summary"},
    ("thinks", "anthropic", "openai_chat"): {"reasoning.budget_tokens", "reasoning.enabled"},
    ("thinks", "anthropic", "openai_responses"): {"reasoning.budget_tokens"},
    ("thinks", "google-genai", "openai_chat"): {"reasoning.budget_tokens", "reasoning.summary"},
    ("thinks", "google-genai", "openai_responses"): {"reasoning.budget_tokens"},
    ("thinks", "google-genai", "converse"): {"reasoning.summary"},
    # A model's own fields are read by the model's name, and these names are not Claude's.
    ("thinks", "boto3", "openai_chat"): {"additionalModelRequestFields"},
    ("thinks", "boto3", "openai_responses"): {"additionalModelRequestFields"},
}
"""By scenario, client and vendor."""

NOT_ASKED = {
    *(("openai", "converse"), ("openai-responses", "converse"), ("anthropic", "openai_chat")),
    *(("google-genai", "openai_chat"), ("boto3", "openai_chat"), ("boto3", "openai_responses")),
}
"""Client and vendor where the wish for thinking itself is what gets lost."""

_ENVELOPE = re.compile(r"(candidates\[0\]\.content|choices\[0\])\.parts\[\d\]\.(item|id|format|index|type)")


def in_answer(path: str, vendor: str) -> bool:
    """OpenAI's and OpenRouter's names for pieces of a plain answer, which have no place in some others."""
    return vendor.startswith("openai") and _ENVELOPE.fullmatch(path) is not None
