"""Reasoning parts, written as deltas of a Chat Completions stream."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from headgate.core.messages import Reasoning, ToolCall
from headgate.dialects.openai_chat.reasoning import (
    NO_ORIGIN,
    SUMMARY,
    TEXT,
    data_entry,
    detail_head,
    encode_details,
    gap,
    is_bare_signature,
    is_detailed,
    signature_to_wire,
)
from headgate.dialects.openai_chat.vocabulary import own

_json = msgspec.json.encode


@dataclass(slots=True)
class Thought:
    """A reasoning part under way. `again` is the delta after the first, with two places for its text; `last`
    the text that was sent last."""

    part: Reasoning
    detailed: bool
    again: bytes = b""
    last: str = ""
    index: int | None = None
    signature: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)


class ThoughtEncoder:
    """For one choice. Text goes out at once; where it may be signed, in `reasoning_details` as well.

    A signature follows when its part ends; one without text waits for the part that comes next, which may
    be the call that it signs. Fragments of one detail share an index, and only the first has `id` and
    `format`, because clients put the strings of fragments together.
    """

    def __init__(self) -> None:
        self._count = 0
        self._said = ""
        self._waiting: tuple[Reasoning, int] | None = None

    def start(self, part: Reasoning) -> tuple[Thought, bytes]:
        """The state of a part that opens, and the delta that says so, if any."""
        thought = Thought(part, is_detailed(part))
        if "detail" in own(part.extensions):
            return thought, _details([own(part.extensions)["detail"]])
        if part.signature:
            thought.signature.append(part.signature)
        if part.data:
            thought.data.append(part.data)
        return thought, self.text(thought, part.text) if part.text else b""

    def text(self, thought: Thought, text: str) -> bytes:
        if thought.index is not None:
            thought.last = text
            encoded = _json(text)
            return thought.again % (encoded, encoded)
        plain = text if thought.last else gap(self._said, thought.part) + text
        thought.last = text
        if not thought.detailed:
            return b'{"reasoning_content":%b}' % _json(plain)
        entry = self._open(thought)
        kind = entry["type"]
        name = "summary" if kind == SUMMARY else "text"
        more = {key: entry[key] for key in ("type", "index") if key in entry}
        thought.again = b'{"reasoning_content":%%b,"reasoning_details":[%b,"%b":%%b}]}' % (
            _json(more)[:-1].replace(b"%", b"%%"),
            name.encode(),
        )
        return _json({"reasoning_content": plain, "reasoning_details": [entry | {name: text}]})

    def end(self, thought: Thought) -> bytes:
        """The delta with the part's signature and data, if it has any that can go now.

        Raises:
            ValueError: they can't, because nobody knows whose they are.
        """
        self._said = thought.last[-2:] or self._said
        signature, data = "".join(thought.signature), "".join(thought.data)
        if (signature or data) and not thought.detailed:
            raise ValueError(NO_ORIGIN)
        part = replace(thought.part, signature=signature or None, data=data or None)
        if thought.index is None and is_bare_signature(replace(part, text="")):
            self._waiting = (replace(part, text=""), self._next())
            return b""
        entries: list[dict[str, Any]] = []
        if signature:
            entry = self._open(thought)
            more = {key: entry[key] for key in ("type", "index") if key in entry}
            entries.append(more | {"signature": signature_to_wire(part, signature)})
        if data:
            entries.append(data_entry(part, data, self._next(), alone=thought.index is None))
        return _details(entries) if entries else b""

    def release(self, call: ToolCall | None = None) -> tuple[Reasoning | None, bytes]:
        """The signature that waited, and its delta; `call` is what it turned out to sign."""
        if self._waiting is None:
            return None, b""
        part, index = self._waiting
        self._waiting = None
        return part, _details(encode_details(part, index, call))

    def _open(self, thought: Thought) -> dict[str, Any]:
        if thought.index is None:
            thought.index = self._next()
        return detail_head(thought.part, TEXT, thought.index)

    def _next(self) -> int:
        self._count += 1
        return self._count - 1


def _details(entries: list[dict[str, Any]]) -> bytes:
    return b'{"reasoning_details":%b}' % _json(entries)
