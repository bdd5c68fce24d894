"""Token counts as OpenAI writes them, in chat and embeddings alike.

Read as well: `prompt_cache_hit_tokens` (DeepSeek). Counts without a neutral place (audio, accepted and
rejected predictions, a vendor's own timings and prices) are kept beside the neutral ones.
"""

from __future__ import annotations

from collections.abc import Mapping
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


_DETAILS: Mapping[str, frozenset[str]] = {
    "prompt_tokens_details": frozenset({"cached_tokens", "cache_write_tokens"}),
    "completion_tokens_details": frozenset({"reasoning_tokens"}),
}


def usage_rest(value: object, usage: Usage) -> dict[str, Any]:
    """What `usage_from_wire` left out of a report: unknown fields of both levels, and a total of its own."""
    if not isinstance(value, dict):
        return {}
    rest = {
        key: found
        for key, found in value.items()
        if found is not None and key not in ("prompt_tokens", "completion_tokens", "total_tokens")
    }
    for key, known in _DETAILS.items():
        if isinstance(details := rest.get(key), dict):
            rest[key] = {name: n for name, n in details.items() if name not in known and n is not None}
            if not rest[key]:
                del rest[key]
    if (total := _count(value.get("total_tokens"))) is not None and total != usage.total_tokens:
        rest["total_tokens"] = total
    return rest


def usage_to_wire(usage: Usage, rest: object = None) -> dict[str, Any]:
    """Totals are numbers in this dialect: what nobody counted is 0. `rest` is what `usage_rest` gave."""
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
    for key, value in rest.items() if isinstance(rest, dict) else ():
        before: object = wire.get(key)
        wire[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return wire
