"""Token counts as the Gemini API writes them: thoughts and the prompts of tool use are counted apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.call import Usage

_MAPPED = frozenset(
    {
        "promptTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        "cachedContentTokenCount",
        "totalTokenCount",
    }
)


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def usage_from_wire(value: object) -> tuple[Usage, dict[str, Any]] | None:
    """Whole token counts, and the fields that have no neutral place; None where `value` holds none."""
    if not isinstance(value, dict):
        return None
    prompt, tool_use = _count(value.get("promptTokenCount")), _count(value.get("toolUsePromptTokenCount"))
    answer, thought = _count(value.get("candidatesTokenCount")), _count(value.get("thoughtsTokenCount"))
    if prompt is None and answer is None and thought is None:
        return None
    usage = Usage(
        input_tokens=None if prompt is None else prompt + (tool_use or 0),
        output_tokens=None if answer is None and thought is None else (answer or 0) + (thought or 0),
        cached_tokens=_count(value.get("cachedContentTokenCount")),
        reasoning_tokens=thought,
    )
    return usage, {key: item for key, item in value.items() if key not in _MAPPED and item is not None}


def usage_to_wire(usage: Usage, rest: Mapping[str, Any]) -> dict[str, Any]:
    """`rest` holds this vendor's other fields where it made the answer."""
    tool_use = _count(rest.get("toolUsePromptTokenCount")) or 0
    prompt = max(0, (usage.input_tokens or 0) - tool_use)
    thought = usage.reasoning_tokens or 0
    answer = max(0, (usage.output_tokens or 0) - thought)
    wire: dict[str, Any] = {"promptTokenCount": prompt, "candidatesTokenCount": answer}
    if usage.reasoning_tokens is not None:
        wire["thoughtsTokenCount"] = thought
    if usage.cached_tokens is not None:
        wire["cachedContentTokenCount"] = usage.cached_tokens
    return {**wire, "totalTokenCount": prompt + tool_use + answer + thought, **rest}
