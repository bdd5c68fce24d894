"""Words and small objects that requests, answers and streams of Anthropic Messages share.

Source: Anthropic API reference, "Messages", as the anthropic SDK 2.x types it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.events import FinishReason, Stop
from headgate.core.loss import Loss
from headgate.core.messages import CacheHint, Citation, Extensions
from headgate.dialects import foreign

NAME = "anthropic"
DIRECT = {"type": "direct"}
"""The caller of a tool that is nobody but the model: the default, which answers spell out."""

_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_length",
}
_WORDS: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
    "pause": "pause_turn",
    "context_length": "model_context_window_exceeded",
    "other": "end_turn",
}


def stop_from_wire(word: object, sequence: object) -> Stop:
    if not isinstance(word, str):
        return Stop("other")
    hit = sequence if isinstance(sequence, str) else None
    return Stop(_REASONS.get(word, "other"), sequence=hit, native=word)


def unknown_word(stop: Stop) -> dict[str, Any]:
    """A stop reason that is newer than this module, as an extension: callers of this dialect get it back."""
    return {"stop_reason": stop.native} if stop.native is not None and stop.native not in _REASONS else {}


def stop_to_wire(stop: Stop, *, called: bool, refused: bool) -> str:
    """The stop reason in this dialect's words.

    Args:
        stop: why the answer ended.
        called: the answer holds tool calls. Some vendors say a plain "stop" then; agents wait for `tool_use`.
        refused: the answer holds a refusal, which this dialect tells by the stop reason alone.
    """
    if stop.native is not None and _REASONS.get(stop.native) == stop.reason:
        return stop.native
    if stop.reason in ("stop", "other"):
        if refused:
            return "refusal"
        if called:
            return "tool_use"
        if stop.sequence is not None:
            return "stop_sequence"
    return _WORDS[stop.reason]


def own(extensions: Extensions) -> dict[str, Any]:
    """A copy of this dialect's share of the extensions."""
    return dict(extensions.get(NAME, {}))


def extended(rest: Mapping[str, Any], **nested: Mapping[str, Any] | None) -> Extensions:
    """Extensions from unknown fields; those of nested objects stay under the object's name."""
    values = {**rest, **{key: dict(inner) for key, inner in nested.items() if inner}}
    return {NAME: values} if values else {}


def foreign_losses(extensions: Extensions, path: str) -> list[Loss]:
    """One loss for each field that belongs to another dialect."""
    return foreign.foreign_losses(extensions, path, NAME)


def cache_to_wire(cache: CacheHint, extra: object) -> dict[str, Any]:
    """A `cache_control` object; `extra` holds its unknown fields."""
    wire: dict[str, Any] = {"type": "ephemeral"}
    if cache.ttl is not None:
        wire["ttl"] = cache.ttl
    return wire | extra if isinstance(extra, dict) else wire


_CITATION_KINDS: Mapping[str, Any] = {
    "char_location": "document",
    "page_location": "document",
    "content_block_location": "document",
    "web_search_result_location": "url",
    "search_result_location": "search",
}


def citation_from_wire(item: Mapping[str, Any]) -> Citation:
    """A citation of an answer's text; its own form is kept whole.

    Offsets are left out: those of this dialect count the cited source, not the answer.
    """
    kind = item.get("type")
    index = item.get("document_index", item.get("search_result_index"))
    return Citation(
        _CITATION_KINDS.get(kind, "other") if isinstance(kind, str) else "other",
        url=_text(item.get("url")),
        title=_text(item.get("title")) or _text(item.get("document_title")),
        quote=_text(item.get("cited_text")),
        source=index if type(index) is int else None,
        extensions={NAME: dict(item)},
    )


def citation_to_wire(citation: Citation) -> dict[str, Any] | None:
    """None where the dialect has no form for it: all but its own must have an address."""
    if form := own(citation.extensions):
        return form
    if citation.url is None:
        return None
    return {
        "type": "web_search_result_location",
        "cited_text": citation.quote or "",
        "encrypted_index": "",
        "title": citation.title,
        "url": citation.url,
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


_ARGUMENTS = msgspec.json.Decoder(dict[str, msgspec.Raw])

UNREADABLE_ARGUMENTS = "not a JSON object: sent as text, as the field 'arguments' of one"


def input_from_arguments(arguments: str) -> tuple[msgspec.Raw | dict[str, str], bool]:
    """A tool call's `input` from its JSON text, and whether it is what the text says.

    Text that is no JSON object, which models do write, becomes the only field of one.
    """
    if not arguments.strip():
        return {}, True
    try:
        _ARGUMENTS.decode(arguments)
    except (ValueError, RecursionError):
        return {"arguments": arguments}, False
    return msgspec.Raw(arguments.encode()), True
