"""Words and small objects that requests, answers and streams of OpenAI Chat Completions share.

Source: OpenAI API reference, "Chat Completions", as the openai SDK 3.x types it. Fields of compatible
vendors that are read as well: `reasoning_content` and `reasoning`, `prompt_cache_hit_tokens` (DeepSeek).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.call import Usage
from headgate.core.events import FinishReason, Stop
from headgate.core.messages import Extensions

NAME = "openai_chat"

_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_WORDS: Mapping[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "context_length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "pause": "stop",
    "other": "stop",
}


def stop_from_word(word: str | None, choice: int) -> Stop:
    if word is None:
        return Stop("other", choice)
    return Stop(_REASONS.get(word, "other"), choice, native=word)


def word_from_stop(stop: Stop) -> str:
    """`finish_reason` has no word for a refusal or a pause: the nearest that clients know is sent."""
    if stop.native == "function_call":
        return stop.native
    return _WORDS[stop.reason]


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


def own(extensions: Extensions) -> dict[str, Any]:
    """A copy of this dialect's share of the extensions."""
    return dict(extensions.get(NAME, {}))


def extended(
    rest: Mapping[str, Any], key: str | None = None, inner: Mapping[str, Any] | None = None
) -> Extensions:
    """Extensions from unknown fields; those of the object under `key` are nested in it as on the wire."""
    values = dict(rest)
    if key is not None and inner:
        values[key] = dict(inner)
    return {NAME: values} if values else {}
