"""Token counts as OpenAI writes them, in chat and embeddings alike.

Read as well: `prompt_cache_hit_tokens` (DeepSeek).
"""

from __future__ import annotations

from typing import Any

from headgate.core.call import Usage


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def usage_from_wire(value: object) -> Usage | None:
    """Token counts; None where `value` holds none. `input_tokens` includes the cached ones."""
    if not isinstance(value, dict):
        return None
    sent, received = _count(value.get("prompt_tokens")), _count(value.get("completion_tokens"))
    if sent is None and received is None:
        return None
    cached = write = thought = None
    prompt, completion = value.get("prompt_tokens_details"), value.get("completion_tokens_details")
    if isinstance(prompt, dict):
        cached = _count(prompt.get("cached_tokens"))
        write = _count(prompt.get("cache_write_tokens"))
    if isinstance(completion, dict):
        thought = _count(completion.get("reasoning_tokens"))
    if cached is None:
        cached = _count(value.get("prompt_cache_hit_tokens"))
    return Usage(sent, received, cached, write, thought)


def usage_to_wire(usage: Usage) -> dict[str, Any]:
    """Totals are numbers in this dialect: what nobody counted is 0."""
    wire: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens or 0,
        "completion_tokens": usage.output_tokens or 0,
        "total_tokens": usage.total_tokens or 0,
    }
    prompt = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens}
    if known := {name: value for name, value in prompt.items() if value is not None}:
        wire["prompt_tokens_details"] = known
    if usage.reasoning_tokens is not None:
        wire["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return wire
