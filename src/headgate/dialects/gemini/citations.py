"""Citations and grounding of an answer's text, and log probabilities of its tokens, both ways.

Source: Gemini API reference, "CitationMetadata", "GroundingMetadata" (offsets are bytes of UTF-8), and
"LogprobsResult".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from headgate.core.messages import JSON, Citation
from headgate.dialects.gemini.vocabulary import NAME


def citations_from_wire(candidate: Mapping[str, Any], text: str) -> Iterator[Citation]:
    """What the text of an answer rests on. Each keeps its own form, by which callers of this dialect, who get
    the metadata whole, are told from others.

    Args:
        candidate: holds `citationMetadata` and `groundingMetadata`.
        text: the whole text, for the offsets.
    """
    offsets = _Offsets(text)
    sources = _dicts(_object(candidate.get("citationMetadata")).get("citations"))
    for item in sources:
        yield Citation(
            "url" if isinstance(item.get("uri"), str) else "other",
            url=_text(item.get("uri")),
            title=_text(item.get("title")),
            start=offsets.characters(item.get("startIndex", 0)),
            end=offsets.characters(item.get("endIndex")),
            extensions={NAME: {"citation": item}},
        )
    grounding = _object(candidate.get("groundingMetadata"))
    chunks = grounding.get("groundingChunks")
    for support in _dicts(grounding.get("groundingSupports")):
        yield from _supported(support, chunks if isinstance(chunks, list) else [], offsets)


def _supported(support: dict[str, Any], chunks: list[Any], offsets: _Offsets) -> Iterator[Citation]:
    segment = _object(support.get("segment"))
    first_part = not segment.get("partIndex")
    indices = support.get("groundingChunkIndices")
    for index in indices if isinstance(indices, list) else ():
        if type(index) is not int or not 0 <= index < len(chunks):
            continue
        kind, source = next(iter(_object(chunks[index]).items()), ("", None))
        source = _object(source)
        yield Citation(
            "url" if kind in ("web", "maps") else "file" if kind == "retrievedContext" else "other",
            url=_text(source.get("uri")),
            title=_text(source.get("title")),
            quote=_text(source.get("text")),
            start=offsets.characters(segment.get("startIndex", 0)) if first_part else None,
            end=offsets.characters(segment.get("endIndex")) if first_part else None,
            extensions={NAME: {"groundingSupport": support}},
        )


def citations_to_wire(citations: Iterable[Citation], text: str) -> list[dict[str, Any]]:
    """Other vendors' citations, as those of `citationMetadata`."""
    wire: list[dict[str, Any]] = []
    for citation in citations:
        fields = {
            "startIndex": None if citation.start is None else len(text[: citation.start].encode()),
            "endIndex": None if citation.end is None else len(text[: citation.end].encode()),
            "uri": citation.url,
            "title": citation.title or citation.quote,
        }
        wire.append({key: value for key, value in fields.items() if value is not None})
    return wire


class _Offsets:
    """Byte offsets as character offsets; a text in ASCII needs no counting."""

    def __init__(self, text: str) -> None:
        self._data = None if text.isascii() else text.encode("utf-8", "replace")

    def characters(self, offset: object) -> int | None:
        if type(offset) is not int or offset < 0:
            return None
        return offset if self._data is None else len(self._data[:offset].decode("utf-8", "ignore"))


def logprobs_from_wire(value: object) -> list[JSON]:
    """Token entries in OpenAI's shape, this vendor's `token_id` beside."""
    result = _object(value)
    tops = result.get("topCandidates")
    ranked = tops if isinstance(tops, list) else []
    entries: list[JSON] = []
    for number, chosen in enumerate(_dicts(result.get("chosenCandidates"))):
        entry = _entry(chosen)
        others = _object(ranked[number]).get("candidates") if number < len(ranked) else None
        entry["top_logprobs"] = [_entry(other) for other in _dicts(others)]
        entries.append(entry)
    return entries


def _entry(item: Mapping[str, Any]) -> dict[str, JSON]:
    token = _text(item.get("token")) or ""
    logprob = item.get("logProbability")
    number = logprob if isinstance(logprob, int | float) else 0.0
    entry: dict[str, JSON] = {
        "token": token,
        "logprob": number,
        "bytes": list(token.encode("utf-8", "replace")),
    }
    return entry if item.get("tokenId") is None else {**entry, "token_id": item["tokenId"]}


def logprobs_to_wire(entries: Iterable[JSON]) -> dict[str, Any]:
    chosen = _dicts(list(entries))
    return {
        "chosenCandidates": [_token(entry) for entry in chosen],
        "topCandidates": [
            {"candidates": [_token(other) for other in _dicts(entry.get("top_logprobs"))]} for entry in chosen
        ],
    }


def _token(entry: Mapping[str, Any]) -> dict[str, Any]:
    wire = {"token": entry.get("token", ""), "logProbability": entry.get("logprob", 0.0)}
    return wire if entry.get("token_id") is None else {**wire, "tokenId": entry["token_id"]}


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
