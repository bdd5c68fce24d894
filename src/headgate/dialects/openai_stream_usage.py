"""Usage of a stream on demand, for the pass-through lane: asked for where the caller did not, and taken out.

Source: OpenAI API reference, `stream_options.include_usage`, of chat and legacy completions: one more chunk
comes before `[DONE]`, its `choices` empty, its `usage` filled; the other chunks get `"usage": null`, which no
client minds and which stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from headgate.core.errors import StreamBroken
from headgate.dialects import sse

USAGE_FIELD = "stream_options"

_OPTIONS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BOUNDARY = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_COUNTS = re.compile(rb'"usage"\s*:\s*\{')
_KEY = b'"usage"'
_NULLS = (b'"usage":null', b'"usage": null')
_ENDS = (b"\n\n", b"\r\n\r\n")
_OVERLAP = 3
"""Bytes of a boundary that may have been at the end of what was searched before."""


class _Chunk(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)


def ask_for_usage(fields: Mapping[str, msgspec.Raw]) -> bytes | None:
    """`stream_options` with `include_usage`, the caller's other options kept, as JSON text.

    None where there is nothing to ask: the request does not stream, the caller asked already, or wrote
    options that are none, which is for the upstream to say.
    """
    if bytes(fields.get("stream", b"")) != b"true":
        return None
    given = bytes(fields.get(USAGE_FIELD, b"null"))
    try:
        options = _OPTIONS.decode(b"{}" if given == b"null" else given)
    except (ValueError, RecursionError):
        return None
    if bytes(options.get("include_usage", b"")) == b"true":
        return None
    options["include_usage"] = msgspec.Raw(b"true")
    return msgspec.json.encode(options)


class UsageStripper:
    """Takes the chunk out of a stream that holds nothing but usage; every other byte stays.

    Bytes of an event that is not whole yet are held back. An event of more than `sse.MAX_EVENT` bytes, and
    all that comes after it, passes as it is.
    """

    __slots__ = ("_after_cr", "_blind", "_held", "_idle")

    def __init__(self) -> None:
        self._held = bytearray()
        self._after_cr: Literal["kept", "taken", None] = None
        self._blind = False
        self._idle = True

    def feed(self, data: bytes) -> bytes:
        if self._idle and data.endswith(_ENDS):
            at = data.find(_KEY)
            if at < 0 or (data.startswith(_NULLS, at) and data.find(_KEY, at + 1) < 0):
                return data
        elif self._blind:
            return data
        return self._sift(data)

    def end(self) -> bytes:
        """What was held back; its blank line may be missing."""
        rest = bytes(self._held)
        self._held.clear()
        return b"" if _is_usage_alone(rest) else rest

    def _sift(self, data: bytes) -> bytes:
        kept: list[bytes] = []
        if self._after_cr is not None and data:  # perhaps the second half of the last event's line end
            if data.startswith(b"\n"):
                data = data[1:]
                kept += [b"\n"] if self._after_cr == "kept" else []
            self._after_cr = None
        searched = max(0, len(self._held) - _OVERLAP)
        self._held += data
        start = 0
        for boundary in _BOUNDARY.finditer(self._held, searched):
            event = bytes(self._held[start : boundary.end()])
            start = boundary.end()
            taken = _is_usage_alone(event)
            if not taken:
                kept.append(event)
            if start == len(self._held) and event.endswith(b"\r"):
                self._after_cr = "taken" if taken else "kept"
        del self._held[:start]
        if len(self._held) > sse.MAX_EVENT:
            self._blind = True
            kept.append(bytes(self._held))
            self._held.clear()
        self._idle = not (self._held or self._after_cr or self._blind)
        return b"".join(kept)


def _is_usage_alone(event: bytes) -> bool:
    """Whether one framed event is the chunk that comes only when usage is asked for."""
    if _COUNTS.search(event) is None:
        return False
    decoder = sse.Decoder()
    try:
        framed = decoder.feed(event) + decoder.end()
        if len(framed) != 1:
            return False
        chunk = _CHUNK.decode(framed[0].data)
    except (StreamBroken, ValueError, RecursionError):
        return False
    return chunk.choices == [] and chunk.usage is not None and chunk.error is None
