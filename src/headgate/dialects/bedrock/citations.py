"""Citations of Converse, both ways."""

from __future__ import annotations

from typing import Any, Literal

from headgate.core.loss import Loss
from headgate.core.messages import Citation
from headgate.dialects.bedrock.vocabulary import NAME

_INDEXES = {
    "documentChar": "documentIndex",
    "documentPage": "documentIndex",
    "documentChunk": "documentIndex",
    "searchResultLocation": "searchResultIndex",
}


def citation_from_wire(item: dict[str, Any]) -> Citation:
    """Its own form is kept whole, because its offsets count the source's text, not the answer's."""
    location = item.get("location")
    place = location if isinstance(location, dict) else {}
    kind: Literal["url", "document", "search", "other"] = "other"
    url, index = None, None
    web = place.get("web")
    if isinstance(web, dict):
        kind, url = "url", _text(web.get("url"))
    for name, field in _INDEXES.items():
        where = place.get(name)
        if isinstance(where, dict):
            kind = "search" if name == "searchResultLocation" else "document"
            index = where.get(field)
    quotes = item.get("sourceContent")
    quote = "".join(
        each["text"]
        for each in (quotes if isinstance(quotes, list) else ())
        if isinstance(each, dict) and isinstance(each.get("text"), str)
    )
    return Citation(
        kind,
        url=url or (_text(item.get("source")) if kind == "search" else None),
        title=_text(item.get("title")),
        quote=quote or None,
        source=index if type(index) is int else None,
        extensions={NAME: item},
    )


def citation_to_wire(citation: Citation, path: str, losses: list[Loss]) -> dict[str, Any]:
    """A citation of any origin. Where in the answer it stands is told by the block that holds it."""
    if own_form := citation.extensions.get(NAME):
        return dict(own_form)
    if citation.start is not None or citation.end is not None:
        losses.append(Loss(path, "a citation covers its whole block: offsets have no place"))
    wire: dict[str, Any] = {}
    if citation.title is not None:
        wire["title"] = citation.title
    if citation.quote is not None:
        wire["sourceContent"] = [{"text": citation.quote}]
    if citation.url is not None:
        wire["location"] = {"web": {"url": citation.url}}
    elif citation.source is not None:
        name = "searchResultLocation" if citation.kind == "search" else "documentChunk"
        wire["location"] = {name: {_INDEXES[name]: citation.source}}
    return wire


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
