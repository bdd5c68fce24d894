"""Blocks of a Converse stream that become a part only when they are whole.

A redacted thought, an image, and the calls and results of tools that Bedrock itself runs have no neutral
delta; they are collected.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from headgate.core.errors import StreamBroken
from headgate.core.messages import Media, Opaque, Part, Reasoning
from headgate.dialects.bedrock.vocabulary import NAME, extended
from headgate.dialects.sse import MAX_EVENT

MAX_COLLECTED = MAX_EVENT
"""Bytes of one collected block."""


class CollectedBlock:
    """Feeds on the `start` and `delta` objects of one block. Raises StreamBroken above MAX_COLLECTED."""

    def __init__(self, start: dict[str, Any]) -> None:
        self._start = start
        self._blob = bytearray()
        self._input: list[str] = []
        self._results: list[dict[str, Any]] = []
        self._image: dict[str, Any] = {}
        self._size = 0

    def add(self, delta: dict[str, Any], size: int) -> None:
        """`size`: bytes of the event that held the delta."""
        self._size += size
        if self._size > MAX_COLLECTED:
            raise StreamBroken(
                f"The upstream sent a block of more than {MAX_COLLECTED:,} bytes; it was closed.",
                code="upstream_event_too_large",
            )
        match delta:
            case {"toolUse": {"input": str(text)}}:
                self._input.append(text)
            case {"reasoningContent": {"redactedContent": str(data)}}:
                self._blob += _bytes(data)
            case {"image": dict(image)}:
                self._add_image(image)
            case {"toolResult": list(items)}:
                self._add_results(items)
            case _:
                pass

    def _add_image(self, image: dict[str, Any]) -> None:
        match image:
            case {"source": {"bytes": str(data)}}:
                self._blob += _bytes(data)
        self._image |= {key: image[key] for key in image.keys() - {"source"}}

    def _add_results(self, items: list[Any]) -> None:
        for item in items:
            if not isinstance(item, dict):
                continue
            last = self._results[-1] if self._results else {}
            if item.keys() == last.keys() == {"text"}:
                self._results[-1] = {"text": f"{last['text']}{item['text']}"}
            else:
                self._results.append(item)

    def part(self) -> Part:
        data = base64.b64encode(self._blob).decode()
        match self._start:
            case {"toolUse": dict(use)}:
                return Opaque(NAME, {"toolUse": {**use, "input": self._arguments()}})
            case {"toolResult": dict(result)}:
                return Opaque(NAME, {"toolResult": {**result, "content": list(self._results)}})
            case {"image": {"format": str(word)}}:
                extensions = extended({"image": self._image} if self._image else {})
                return Media("image", f"image/{word}", data, extensions=extensions)
            case _:
                return Reasoning(data=data, redacted=True, origin=NAME)

    def _arguments(self) -> Any:
        text = "".join(self._input)
        try:
            return msgspec.json.decode(text or "{}")
        except (ValueError, RecursionError):
            return text


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise StreamBroken("The upstream sent data that is not base64.") from None
