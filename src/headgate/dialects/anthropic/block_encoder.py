"""Neutral parts, written as the content blocks of a Messages request."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import (
    CacheHint,
    Citation,
    Extensions,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from headgate.dialects.anthropic.vocabulary import (
    NAME,
    UNREADABLE_ARGUMENTS,
    cache_to_wire,
    foreign_losses,
    input_from_arguments,
    own,
)

_STARTS: Mapping[str, str] = {
    "iVBORw0KGgo": "image/png",
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
    "JVBERi": "application/pdf",
}
"""How base64 of these types begins: for parts that do not say what they are."""

_CALL_ID = re.compile(r"[^a-zA-Z0-9_-]")


class BlockEncoder:
    """Writes parts one by one and notes in `losses` what is lost. One for each request."""

    def __init__(self, losses: list[Loss]) -> None:
        self._losses = losses
        self._call_ids: dict[str, str] = {}
        self._taken_ids: set[str] = set()
        self.list_word = "content"
        """What the caller calls the list of a tool result's parts."""

    def encode(
        self, parts: Iterable[tuple[Part, str]], allowed: tuple[type[Part], ...]
    ) -> list[dict[str, Any]]:
        """The blocks of parts with their paths; of other types than the `allowed` ones they are lost."""
        written = []
        for part, path in parts:
            if not isinstance(part, allowed):
                self.lose(path, f"a message of this role holds no {type(part).__name__.lower()}")
            elif (block := self._block(part, path)) is not None:
                written.append(block)
        return written

    def lose(self, path: str, reason: str) -> None:
        self._losses.append(Loss(path, reason))

    def _block(self, part: Part, path: str) -> dict[str, Any] | None:
        match part:
            case Text():
                return self._text(part, path)
            case Media():
                return self._media(part, path)
            case Reasoning():
                return self._reasoning(part, path)
            case ToolCall():
                return self._call(part, path)
            case ToolResult():
                return self._result(part, path)
            case Refusal():
                self.lose(path, "sent as plain text: this dialect has no block for refusals")
                return {"type": "text", "text": part.text} if part.text else None
            case Opaque(dialect=dialect, value=value) if dialect == NAME and isinstance(value, dict):
                return value
            case Opaque():
                self.lose(path, f"a block that only {part.dialect} understands")
        return None

    def _whole(
        self, wire: dict[str, Any], cache: CacheHint | None, extensions: Extensions, path: str
    ) -> dict[str, Any]:
        """A block with its cache hint and its unknown fields put back."""
        self._losses += foreign_losses(extensions, path)
        extra = own(extensions)
        control = extra.pop("cache_control", None)
        if cache is not None:
            wire["cache_control"] = cache_to_wire(cache, control)
        return wire | extra

    def _text(self, part: Text, path: str) -> dict[str, Any] | None:
        if not part.text:  # the vendor refuses empty blocks, and there is nothing to say
            if part.cache is not None:
                self.lose(f"{path}.cache_control", "an empty text can't be marked for caching")
            return None
        wire: dict[str, Any] = {"type": "text", "text": part.text}
        forms = [form for each in part.citations if (form := _own_citation(each)) is not None]
        if forms:
            wire["citations"] = forms
        if len(forms) < len(part.citations):
            self.lose(f"{path}.citations", "only citations made by this vendor can be sent back to it")
        return self._whole(wire, part.cache, part.extensions, path)

    def _reasoning(self, part: Reasoning, path: str) -> dict[str, Any] | None:
        """The vendor refuses thoughts that it has not signed."""
        if part.origin != NAME or not (part.data or part.signature):
            whose = f"signed by {part.origin}" if part.origin not in (None, NAME) else "without a signature"
            self.lose(path, f"reasoning {whose}: the vendor takes back only what it has signed itself")
            return None
        if part.redacted:
            wire: dict[str, Any] = {"type": "redacted_thinking", "data": part.data or ""}
        else:
            wire = {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}
        return self._whole(wire, None, part.extensions, path)

    def _call(self, part: ToolCall, path: str) -> dict[str, Any]:
        value, readable = input_from_arguments(part.arguments)
        if not readable:
            self.lose(f"{path}.arguments", UNREADABLE_ARGUMENTS)
        if part.kind != "function":
            self.lose(f"{path}.type", "sent as the call of a function, the only kind that the dialect has")
        wire = {"type": "tool_use", "id": self._call_id(part.id), "name": part.name, "input": value}
        return self._whole(wire, part.cache, part.extensions, path)

    def _result(self, part: ToolResult, path: str) -> dict[str, Any]:
        wire: dict[str, Any] = {"type": "tool_result", "tool_use_id": self._call_id(part.call_id)}
        items = ((item, f"{path}.{self.list_word}[{index}]") for index, item in enumerate(part.parts))
        content = self.encode(items, (Text, Media, Opaque))
        if content:
            wire["content"] = plain(content)
        if part.is_error:
            wire["is_error"] = True
        return self._whole(wire, part.cache, part.extensions, path)

    def _call_id(self, call_id: str) -> str:
        """The same id in the letters that this vendor takes; call and result get the same."""
        known = self._call_ids.get(call_id)
        if known is not None:
            return known
        wire = _CALL_ID.sub("_", call_id) or "call"
        if wire in self._taken_ids:
            wire = f"{wire}_{len(self._call_ids)}"
            while wire in self._taken_ids:
                wire += "_"
        self._taken_ids.add(wire)
        self._call_ids[call_id] = wire
        return wire

    def _media(self, part: Media, path: str) -> dict[str, Any] | None:
        mime = part.mime or _guess(part.data)
        source: dict[str, Any] | None
        match part:
            case Media(kind="image" | "file", file_id=str(file_id)):
                source = {"type": "file", "file_id": file_id}
            case Media(kind="image" | "file", url=str(url)) if url.startswith(("https://", "http://")):
                source = {"type": "url", "url": url}
            case Media(kind="image", data=str(data)) if mime is not None:
                source = {"type": "base64", "media_type": mime, "data": data}
            case Media(kind="file", data=str(data)):
                source = self._document(data, mime or "", path)
            case _:
                source = None
        if source is None:
            how = "at this kind of address" if part.url is not None else f"of type {mime or 'unknown'}"
            self.lose(path, f"the dialect takes no {part.kind} {how}")
            return None
        if part.detail not in (None, "auto"):
            self.lose(f"{path}.detail", "the dialect has no level of detail")
        wire: dict[str, Any] = {"type": "image" if part.kind == "image" else "document", "source": source}
        if part.name is not None and part.kind == "file":
            wire["title"] = part.name
        wire = self._whole(wire, part.cache, part.extensions, path)
        inner = own(part.extensions).get("source")
        wire["source"] = source | inner if isinstance(inner, dict) else source
        return wire

    def _document(self, data: str, mime: str, path: str) -> dict[str, Any] | None:
        """PDF as it is; any text as plain text, which is all the vendor reads."""
        if mime == "application/pdf":
            return {"type": "base64", "media_type": mime, "data": data}
        if not mime.startswith("text/"):
            return None
        try:
            text = b64decode(data).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        if mime != "text/plain":
            self.lose(f"{path}.media_type", "sent as plain text, the only text type of the dialect")
        return {"type": "text", "media_type": "text/plain", "data": text}


def plain(blocks: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """A string for a single plain text: the API's own shorthand."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} and isinstance(blocks[0]["text"], str):
        return blocks[0]["text"]
    return blocks


def _own_citation(citation: Citation) -> dict[str, Any] | None:
    """The form that this vendor gave it; None for one that was made up for a caller from another's."""
    form = own(citation.extensions)
    made_up = form.get("type") == "web_search_result_location" and not form.get("encrypted_index")
    return form if form and not made_up else None


def _guess(data: str | None) -> str | None:
    if data is None:
        return None
    return next((mime for start, mime in _STARTS.items() if data.startswith(start)), None)
