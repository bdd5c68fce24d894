"""Token counts as Anthropic writes them: input tokens exclude what was read from or written to a cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.call import Usage


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def usage_from_wire(value: object) -> Usage | None:
    """Token counts, whole; None where `value` holds none."""
    if not isinstance(value, dict):
        return None
    fresh, received = _count(value.get("input_tokens")), _count(value.get("output_tokens"))
    read = _count(value.get("cache_read_input_tokens"))
    written = _count(value.get("cache_creation_input_tokens"))
    if fresh is None and received is None and read is None and written is None:
        return None
    known = [count for count in (fresh, read, written) if count is not None]
    details = value.get("output_tokens_details")
    thought = _count(details.get("thinking_tokens")) if isinstance(details, dict) else None
    return Usage(sum(known) if known else None, received, read, written, thought)


def usage_to_wire(usage: Usage, form: Mapping[str, Any]) -> dict[str, Any]:
    """Counts are numbers in this dialect: what nobody counted is 0.

    Args:
        usage: the counts.
        form: this vendor's own usage object where it made the answer: its other fields are kept.
    """
    read, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    wire: dict[str, Any] = {
        **form,
        "input_tokens": max(0, (usage.input_tokens or 0) - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": usage.output_tokens or 0,
    }
    if usage.reasoning_tokens is not None:
        wire["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return wire
