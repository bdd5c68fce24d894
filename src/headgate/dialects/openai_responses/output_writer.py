"""Output items of an answer as they grow: each writes its own stream events and ends as its complete form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from typing_extensions import override

from headgate.core.events import PartDelta
from headgate.core.messages import JSON, Citation, Media, Reasoning, Refusal, Text, ToolCall
from headgate.dialects.openai_responses.input_encoder import encode_call, encode_image
from headgate.dialects.openai_responses.vocabulary import (
    citation_to_wire,
    mint_item_id,
    own,
    seal_reasoning,
)

_json = msgspec.json.encode


class Frames:
    """Frames events and counts them. `response_id` is what minted item ids are made of."""

    __slots__ = ("response_id", "sequence")

    def __init__(self) -> None:
        self.response_id = ""
        self.sequence = 0

    def frame(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        number = self.sequence
        self.sequence += 1
        data = _json({"type": kind, "sequence_number": number, **fields})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def delta_template(kind: str, place: Mapping[str, Any], tail: bytes = b"") -> bytes:
    """A delta event but for its number and text: `template % (number, text)`."""
    middle = _json(place)[1:-1].replace(b"%", b"%%")
    name = kind.encode()
    start = b'event: %b\ndata: {"type":"%b","sequence_number":%%d,' % (name, name)
    return start + middle + b',"delta":%b' + tail + b"}\n\n"


class Item:
    """One output item. A message or a reasoning item may take further parts until it is `sealed`."""

    __slots__ = ("done", "frames", "index", "open_parts", "sealed", "wire")

    def __init__(self, frames: Frames, index: int, wire: dict[str, Any], sealed: bool) -> None:
        self.frames = frames
        self.index = index
        self.wire = wire
        self.sealed = sealed
        self.open_parts = 0
        self.done = False

    @property
    def place(self) -> dict[str, Any]:
        return {"item_id": self.wire["id"], "output_index": self.index}

    def added(self) -> bytes:
        return self._event("added")

    def settle(self, status: str = "completed") -> bytes:
        """Write the end of the item if nothing more can come to it."""
        if self.done or not self.sealed or self.open_parts:
            return b""
        self.done = True
        if self.wire.get("status") == "in_progress":
            self.wire["status"] = status
        return self._event("done")

    def _event(self, what: str) -> bytes:
        return self.frames.frame(
            f"response.output_item.{what}", {"output_index": self.index, "item": self.wire}
        )


class PartWriter:
    """One neutral part within its item: `open`, deltas, `close`."""

    __slots__ = ("item", "pieces", "template")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.pieces: list[str] = []
        self.template = b""
        item.open_parts += 1

    @property
    def weighs(self) -> bool:
        """Its tokens' log probabilities have a place."""
        return False

    def open(self) -> bytes:
        return b""

    def delta(self, event: PartDelta) -> bytes:
        """Called for each delta but those of plain text, which the encoder writes with `template` alone."""
        return self.grow(event.delta)

    def grow(self, text: str) -> bytes:
        self.pieces.append(text)
        frames = self.item.frames
        number = frames.sequence
        frames.sequence += 1
        return self.template % (number, _json(text))

    def cite(self, citation: Citation) -> bytes | None:
        """None where the part can't be cited."""
        return None

    def close(self) -> bytes:
        self.item.open_parts -= 1
        return b""


class TextWriter(PartWriter):
    """`output_text` or `refusal`, content of a message item."""

    __slots__ = ("_field", "_index", "_kind", "_part")

    def __init__(self, item: Item, part: Text | Refusal) -> None:
        super().__init__(item)
        self._index = len(item.wire["content"])
        extra = own(part.extensions)
        extra.pop("item", None)
        self._kind, self._field = "refusal", "refusal"
        self._part: dict[str, Any] = {"type": "refusal", "refusal": ""}
        tail = b""
        if isinstance(part, Text):
            self._kind, self._field = "output_text", "text"
            self._part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            tail = b',"logprobs":[]'
        self._part |= extra
        place = self._place()
        self.template = delta_template(f"response.{self._kind}.delta", place, tail)

    @property
    @override
    def weighs(self) -> bool:
        return self._kind == "output_text"

    def _place(self) -> dict[str, Any]:
        return self.item.place | {"content_index": self._index}

    @override
    def open(self) -> bytes:
        event = self.item.frames.frame("response.content_part.added", self._place() | {"part": self._part})
        self._part = dict(self._part)
        self.item.wire["content"].append(self._part)
        return event

    @override
    def delta(self, event: PartDelta) -> bytes:
        if event.logprobs is None or self._kind != "output_text":
            return self.grow(event.delta)
        entries = [_logprob(entry) for entry in event.logprobs]
        self._part["logprobs"] += entries
        self.pieces.append(event.delta)
        fields = self._place() | {"delta": event.delta, "logprobs": entries}
        return self.item.frames.frame("response.output_text.delta", fields)

    @override
    def cite(self, citation: Citation) -> bytes | None:
        if self._kind != "output_text":
            return None
        annotation = citation_to_wire(citation)
        number = len(self._part["annotations"])
        self._part["annotations"].append(annotation)
        fields = self._place() | {"annotation_index": number, "annotation": annotation}
        return self.item.frames.frame("response.output_text.annotation.added", fields)

    @override
    def close(self) -> bytes:
        super().close()
        text = "".join(self.pieces)
        self._part[self._field] = text
        fields = self._place() | {self._field: text}
        if self._kind == "output_text":
            fields["logprobs"] = self._part["logprobs"]
        frames = self.item.frames
        done = frames.frame(f"response.{self._kind}.done", fields)
        return done + frames.frame("response.content_part.done", self._place() | {"part": self._part})


def _logprob(entry: JSON) -> JSON:
    """A chat token entry; here bytes and alternatives are lists always."""
    if not isinstance(entry, dict):
        return entry
    alternatives = entry.get("top_logprobs")
    if not isinstance(alternatives, list):
        alternatives = []
    filled = [{**each, "bytes": each.get("bytes") or []} for each in alternatives if isinstance(each, dict)]
    return {**entry, "bytes": entry.get("bytes") or [], "top_logprobs": [*filled]}


class ReasoningWriter(PartWriter):
    """A text of a reasoning item: a summary's, or (`place: content` in the extensions) the thoughts' own.

    What is opaque goes to the item's `encrypted_content`, sealed if another vendor made it.
    """

    __slots__ = ("_content", "_index", "_opaque", "_opened", "_part", "unsealable")

    def __init__(self, item: Item, part: Reasoning) -> None:
        super().__init__(item)
        self._content = own(part.extensions).get("place") == "content"
        self._index = len(item.wire.get("content" if self._content else "summary", ()))
        self._opened = False
        self._part = part
        self._opaque: dict[str, list[str]] = {"signature": [], "data": []}
        self.unsealable = False
        kind = "reasoning_text" if self._content else "reasoning_summary_text"
        self.template = delta_template(f"response.{kind}.delta", self._place())

    def _place(self) -> dict[str, Any]:
        name = "content_index" if self._content else "summary_index"
        return self.item.place | {name: self._index}

    def _boundary(self, what: str, text: str) -> bytes:
        kind = "content_part" if self._content else "reasoning_summary_part"
        part = {"type": "reasoning_text" if self._content else "summary_text", "text": text}
        return self.item.frames.frame(f"response.{kind}.{what}", self._place() | {"part": part})

    @override
    def delta(self, event: PartDelta) -> bytes:
        if event.field != "text":
            self._opaque.setdefault(event.field, []).append(event.delta)
            return b""
        return self.grow(event.delta)

    @override
    def grow(self, text: str) -> bytes:
        if self._opened:
            return super().grow(text)
        self._opened = True
        place = "content" if self._content else "summary"
        kind = "reasoning_text" if self._content else "summary_text"
        self.item.wire[place] = [*self.item.wire.get(place, ()), {"type": kind, "text": ""}]
        return self._boundary("added", "") + super().grow(text)

    @override
    def close(self) -> bytes:
        super().close()
        out = b""
        if self._opened:
            text = "".join(self.pieces)
            self.item.wire["content" if self._content else "summary"][self._index]["text"] = text
            kind = "reasoning_text" if self._content else "reasoning_summary_text"
            out = self.item.frames.frame(f"response.{kind}.done", self._place() | {"text": text})
            out += self._boundary("done", text)
        grown = {
            name: (getattr(self._part, name) or "") + "".join(pieces) or None
            for name, pieces in self._opaque.items()
        }
        whole = Reasoning("", grown["signature"], grown["data"], self._part.redacted, self._part.origin)
        try:
            sealed = seal_reasoning(whole)
        except ValueError:
            self.unsealable = True
            return out
        if sealed is not None:
            self.item.wire["encrypted_content"] = sealed
        return out


class CallWriter(PartWriter):
    """A `function_call` or `custom_tool_call` item."""

    __slots__ = ("_custom",)

    def __init__(self, item: Item, custom: bool) -> None:
        super().__init__(item)
        self._custom = custom
        self.template = delta_template(f"response.{self._kind}.delta", item.place)

    @property
    def _kind(self) -> str:
        return "custom_tool_call_input" if self._custom else "function_call_arguments"

    @override
    def close(self) -> bytes:
        super().close()
        text = "".join(self.pieces)
        field = "input" if self._custom else "arguments"
        self.item.wire[field] = text
        return self.item.frames.frame(f"response.{self._kind}.done", self.item.place | {field: text})


# The forms in which items begin.


def message_item(part: Text | Refusal, response_id: str, number: int) -> dict[str, Any]:
    wire = {
        "id": mint_item_id("msg", response_id, number),
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }
    item = own(part.extensions).get("item")
    return wire | item if isinstance(item, dict) else wire


def reasoning_item(part: Reasoning, response_id: str, number: int) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "id": mint_item_id("rs", response_id, number),
        "type": "reasoning",
        "summary": [],
    }
    marks = own(part.extensions)
    return wire | {key: value for key, value in marks.items() if key not in ("place", "continued")}


def call_item(part: ToolCall, response_id: str, number: int) -> dict[str, Any]:
    wire = encode_call(part)
    wire["input" if part.kind == "custom" else "arguments"] = ""
    if part.kind != "custom":
        wire = {"status": "in_progress"} | wire
    return {"id": mint_item_id("ctc" if part.kind == "custom" else "fc", response_id, number)} | wire


def image_item(part: Media, response_id: str, number: int) -> dict[str, Any]:
    return encode_image(part, str(own(part.extensions).get("id") or mint_item_id("ig", response_id, number)))
