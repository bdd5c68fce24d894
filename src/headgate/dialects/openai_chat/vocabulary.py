"""Words and small objects that requests, answers and streams of OpenAI Chat Completions share.

Source: OpenAI API reference, "Chat Completions", as the openai SDK 3.x types it. Of compatible vendors
`reasoning_content` and `reasoning` are read as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.events import FinishReason, Stop
from headgate.core.messages import Citation, Extensions

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


def citation_from_wire(item: dict[str, Any]) -> Citation:
    """An annotation of an answer's text; its own form is kept for callers of this dialect."""
    told = item.get("url_citation")
    fields: dict[str, Any] = told if isinstance(told, dict) else {}
    start, end = fields.get("start_index"), fields.get("end_index")
    return Citation(
        "url" if item.get("type") == "url_citation" else "other",
        url=fields.get("url"),
        title=fields.get("title"),
        start=start if isinstance(start, int) else None,
        end=end if isinstance(end, int) else None,
        extensions={NAME: item},
    )


def citation_to_wire(citation: Citation) -> dict[str, Any]:
    """Any citation as an annotation: what has no address is told by its title and quote."""
    if own_form := citation.extensions.get(NAME):
        return dict(own_form)
    told = {
        "url": citation.url or "",
        "title": citation.title or citation.quote or "",
        "start_index": citation.start or 0,
        "end_index": citation.end or 0,
    }
    return {"type": "url_citation", "url_citation": told}
