"""`cache_control` on content parts, tools and messages: an extension of OpenRouter and others.

Source: OpenRouter, "Prompt Caching"; the form is that of Anthropic's API, `{"type": "ephemeral", "ttl":
"1h"}`.
Anything else of that name is an unknown field, the upstream's to judge.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headgate.core.messages import CacheHint, Media, Part, Text
from headgate.dialects.json_bodies import Fields

FIELD = "cache_control"
_KNOWN = frozenset({"type", "ttl"})


def take_hint(fields: Fields) -> CacheHint | None:
    """The hint of an object that is being read; its field is taken out if it is one."""
    value = fields.peek(FIELD)
    if not isinstance(value, dict) or value.get("type") != "ephemeral" or not value.keys() <= _KNOWN:
        return None
    ttl = value.get("ttl")
    if ttl is not None and not isinstance(ttl, str):
        return None
    fields.take(FIELD)
    return CacheHint(ttl)


def hinted(parts: tuple[Part, ...], message: Fields) -> tuple[Part, ...]:
    """A message's own hint belongs to the last of its parts."""
    last = parts[-1] if parts else None
    if not isinstance(last, Text | Media):
        return parts
    hint = take_hint(message)
    return parts if hint is None else (*parts[:-1], replace(last, cache=last.cache or hint))


def hint_to_wire(hint: CacheHint) -> dict[str, Any]:
    wire: dict[str, Any] = {FIELD: {"type": "ephemeral"}}
    if hint.ttl is not None:
        wire[FIELD]["ttl"] = hint.ttl
    return wire
