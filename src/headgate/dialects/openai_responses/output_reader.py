"""Output items of an upstream's answer, read into parts: as they grow, or whole.

What an item held when it was done is taken for the truth: text that no delta brought is made up for.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from headgate.core.events import ChatEvent, DeltaField, PartCited, PartDelta, PartEnded, PartStarted
from headgate.core.messages import Media, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.dialects.openai_responses.input_decoder import reasoning_marks
from headgate.dialects.openai_responses.vocabulary import (
    NAME,
    citation_from_wire,
    extended,
    settled,
)

Place: TypeAlias = tuple[str, int]
"""Where in an item a text stands: `content`, `summary` or `input`, and its index there."""

_TEXTS = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text", "summary_text": "text"}
_MESSAGE_FIELDS = frozenset({"type", "role", "content"})
_REASONING_FIELDS = frozenset({"type", "summary", "content", "encrypted_content"})
_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}


@dataclass(slots=True)
class OpenPart:
    """A part that has been started. `size` is in characters; only output texts are `citable`."""

    index: int
    field: DeltaField
    size: int = 0
    citations: int = 0
    citable: bool = False
    ended: bool = False


@dataclass(slots=True)
class _Item:
    wire: dict[str, Any]
    parts: dict[Place, OpenPart] = field(default_factory=dict)
    done: bool = False


class OutputReader:
    """Feeds on items and deltas by `output_index`."""

    def __init__(self) -> None:
        self.called = False
        """The answer holds calls of the caller's tools."""
        self._items: dict[int, _Item] = {}
        self._next = 0

    def added(self, index: int, wire: dict[str, Any], events: list[ChatEvent]) -> None:
        if index in self._items:
            return
        item = self._items[index] = _Item(wire)
        if _kind(wire) in _CALLS:
            self._start_call(item, events)

    def content_added(self, index: int, place: Place, part: dict[str, Any], events: list[ChatEvent]) -> None:
        item = self._items.get(index)
        if item is not None and not item.done:
            self._text(item, place, part, events)

    def delta(
        self, index: int, place: Place, kind: str, delta: str, logprobs: object, events: list[ChatEvent]
    ) -> None:
        item = self._items.get(index)
        if item is None:
            holder = "reasoning" if kind in ("summary_text", "reasoning_text") else "message"
            item = self._items[index] = _Item({"type": holder})
        if item.done:
            return
        part = item.parts.get(place)
        if part is None and place[0] != "input":
            part = self._text(item, place, {"type": kind}, events)
        if part is not None and not part.ended:
            _grow(part, delta, logprobs, events)

    def cited(self, index: int, place: Place, annotation: object, events: list[ChatEvent]) -> None:
        item = self._items.get(index)
        part = None if item is None or item.done else item.parts.get(place)
        if part is not None and not part.ended:
            _cite(part, annotation, events)

    def part_done(self, index: int, place: Place, events: list[ChatEvent]) -> None:
        """A message's content part is complete; a text of a reasoning item may still be followed by data."""
        item = self._items.get(index)
        if item is not None and item.wire.get("type") != "reasoning" and place in item.parts:
            self._end(item.parts[place], events)

    def done(self, index: int, wire: dict[str, Any], events: list[ChatEvent]) -> None:
        """The complete item: makes up for what was not streamed, and ends its parts. Once for each item."""
        item = self._items.setdefault(index, _Item(wire))
        if item.done:
            return
        if item.parts and _kind(item.wire) != _kind(wire):  # nothing that could be set right
            self._close(item, events)
            return
        if not item.parts:
            item.wire = wire
        match wire.get("type"):
            case "message":
                self._message(item, wire, events)
            case "reasoning":
                self._reasoning(item, wire, events)
            case "function_call" | "custom_tool_call":
                self._call(item, wire, events)
            case "image_generation_call" if isinstance(wire.get("result"), str):
                self._whole(_image(wire), events)
            case _:
                self._whole(Opaque(NAME, wire), events)
        self._close(item, events)

    def find(self, index: int, place: Place) -> OpenPart | None:
        """The open part that deltas of this place go to."""
        item = self._items.get(index)
        part = None if item is None else item.parts.get(place)
        return None if part is None or part.ended else part

    def finish(self, output: object, events: list[ChatEvent]) -> None:
        """The answer is over; `output` is the whole of it, if the upstream told."""
        for index, wire in enumerate(output if isinstance(output, list) else ()):
            if isinstance(wire, dict):
                self.done(index, wire, events)
        for item in self._items.values():
            self._close(item, events)

    # Items.

    def _message(self, item: _Item, wire: dict[str, Any], events: list[ChatEvent]) -> None:
        content = wire.get("content")
        for number, part in enumerate(content if isinstance(content, list) else ()):
            if not isinstance(part, dict):
                continue
            opened = self._text(item, ("content", number), part, events)
            if opened is None or opened.ended:
                continue
            text, entries = part.get(_TEXTS.get(_kind(part), "text")), part.get("logprobs")
            _make_up(opened, text, entries, events)
            annotations = part.get("annotations")
            cited = annotations if isinstance(annotations, list) else []
            for each in cited[opened.citations :]:
                _cite(opened, each, events)
            self._end(opened, events)

    def _reasoning(self, item: _Item, wire: dict[str, Any], events: list[ChatEvent]) -> None:
        for place in ("summary", "content"):
            texts = wire.get(place)
            for number, part in enumerate(texts if isinstance(texts, list) else ()):
                if isinstance(part, dict):
                    opened = self._text(item, (place, number), part, events)
                    if opened is not None and not opened.ended:
                        _make_up(opened, part.get("text"), None, events)
        if not item.parts:
            self._text(item, ("summary", 0), {"type": "summary_text"}, events)
        last = next(reversed(item.parts.values()))
        encrypted = wire.get("encrypted_content")
        if isinstance(encrypted, str) and encrypted and not last.ended:
            events.append(PartDelta(last.index, encrypted, field="data"))

    def _call(self, item: _Item, wire: dict[str, Any], events: list[ChatEvent]) -> None:
        if not item.parts:
            item.wire = wire
            self._start_call(item, events)
        for part in item.parts.values():
            _make_up(part, wire.get(_CALLS[wire["type"]]), None, events)

    # Parts.

    def _start(self, part: Part, name: DeltaField, events: list[ChatEvent]) -> OpenPart:
        events.append(PartStarted(self._next, part))
        self._next += 1
        return OpenPart(self._next - 1, name)

    def _whole(self, part: Part, events: list[ChatEvent]) -> None:
        self._end(self._start(part, "text", events), events)

    def _end(self, part: OpenPart, events: list[ChatEvent]) -> None:
        if not part.ended:
            part.ended = True
            events.append(PartEnded(part.index))

    def _close(self, item: _Item, events: list[ChatEvent]) -> None:
        item.done = True
        for part in item.parts.values():
            self._end(part, events)

    def _start_call(self, item: _Item, events: list[ChatEvent]) -> None:
        wire = item.wire
        kind = "custom" if wire["type"] == "custom_tool_call" else "function"
        call_id, name = wire.get("call_id") or wire.get("id"), wire.get("name")
        if not isinstance(call_id, str) or not isinstance(name, str):
            return
        self.called = True
        rest = _rest(wire, {"type", "call_id", "name", _CALLS[wire["type"]]})
        call = ToolCall(call_id, name, "", kind, extensions=extended(rest))
        item.parts["input", 0] = self._start(call, "arguments", events)

    def _text(
        self, item: _Item, place: Place, wire: dict[str, Any], events: list[ChatEvent]
    ) -> OpenPart | None:
        """The part for a text of an item, started if it has not been; None for content of unknown type."""
        found = item.parts.get(place)
        if found is not None:
            return found
        if item.wire.get("type") == "reasoning":
            part: Part = self._thought(item, place, events)
        else:
            if _kind(wire) not in _TEXTS:
                self._whole(Opaque(NAME, {"type": "message", "role": "assistant", "content": [wire]}), events)
                return None
            part = _message_part(wire, item.wire if not item.parts else {})
        opened = self._start(part, "text", events)
        opened.citable = isinstance(part, Text)
        item.parts[place] = opened
        return opened

    def _thought(self, item: _Item, place: Place, events: list[ChatEvent]) -> Reasoning:
        continued = bool(item.parts)
        if continued:
            self._end(next(reversed(item.parts.values())), events)
        item_fields = {} if continued else _rest(item.wire, _REASONING_FIELDS)
        marks = reasoning_marks(item_fields, place[0], continued)
        return Reasoning("", origin=NAME, extensions=extended(marks))


def _rest(wire: dict[str, Any], known: Set[str]) -> dict[str, Any]:
    """An item's own fields. Not its status: how the answer ended says it all, and a stream tells it late."""
    return settled(
        {key: item for key, item in wire.items() if key not in known and key != "status" and item is not None}
    )


def _kind(wire: dict[str, Any]) -> str:
    kind = wire.get("type")
    return kind if isinstance(kind, str) else ""


def _grow(part: OpenPart, delta: str, logprobs: object, events: list[ChatEvent]) -> None:
    entries = logprobs if isinstance(logprobs, list) and logprobs else None
    if delta or entries is not None:
        part.size += len(delta)
        events.append(PartDelta(part.index, delta, 0, part.field, entries))


def _cite(part: OpenPart, annotation: object, events: list[ChatEvent]) -> None:
    part.citations += 1
    if part.citable and isinstance(annotation, dict):
        events.append(PartCited(part.index, citation_from_wire(annotation)))


def _make_up(part: OpenPart, text: object, logprobs: object, events: list[ChatEvent]) -> None:
    if isinstance(text, str) and len(text) > part.size:
        _grow(part, text[part.size :], logprobs if not part.size else None, events)


def _message_part(wire: dict[str, Any], item: dict[str, Any]) -> Text | Refusal:
    kind = _kind(wire)
    known = {"type", _TEXTS[kind], "annotations", "logprobs"}
    rest = {key: value for key, value in wire.items() if key not in known and value is not None}
    own_fields = _rest(item, _MESSAGE_FIELDS)
    if own_fields:
        rest["item"] = own_fields
    return Refusal("", extended(rest)) if kind == "refusal" else Text("", extensions=extended(rest))


def _image(wire: dict[str, Any]) -> Media:
    form = wire.get("output_format")
    rest = _rest(wire, {"type", "result"})
    mime = f"image/{form if isinstance(form, str) else 'png'}"
    return Media("image", mime, wire["result"], extensions=extended(rest))
