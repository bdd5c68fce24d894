"""Cuts a stream of server-sent events into whole events and numbers them.

Source: WHATWG HTML, section 9.2 "Server-sent events": lines end with LF, CRLF or CR, a blank line ends an
event, `id` names it, a line that begins with a colon is a comment.
"""

from __future__ import annotations

import re

from headgate.core.errors import StreamBroken
from headgate.dialects.sse import MAX_EVENT

_LINE_END = rb"(?:\r\n|\n|\r(?!\n))"
_BLANK = re.compile(_LINE_END * 2)
_LINE = re.compile(_LINE_END)
_BOM = b"\xef\xbb\xbf"
_OVERLAP = 3
"""Bytes of a blank line that may be held already when its last one comes: CR LF CR, of CR LF CR LF."""


def is_one_event(data: bytes) -> bool:
    """It ends in a blank line, the only one; its lines end with LF."""
    return data.find(b"\n\n") == len(data) - 2 and b"\r" not in data


class EventSplitter:
    """Bytes in at any split, whole events out, each with `id: {stream}:{number}` for its last line.

    Numbers count from 1. A block of comments alone is no event: it would be one with an id in it, and clients
    take an event without data for broken JSON. Its lines stay, without the blank line, before the event that
    follows, or in `comments` where none has come yet. Blank lines beyond those that end events go.

    Args:
        stream: the stream's id; empty leaves events as they are, for clients that take no `id`.
        limit: bytes of one event.
    """

    __slots__ = ("_after_cr", "_fresh", "_held", "_mark", "comments", "last", "limit")

    def __init__(self, stream: str, limit: int = MAX_EVENT) -> None:
        self.limit = limit
        self.last = 0
        """The number of the last event."""
        self.comments = b""
        """What the latest bytes held of comments behind the last event: for whoever listens now."""
        self._mark = b"id: %b:%%d\n" % stream.encode("ascii") if stream else b""
        self._held = bytearray()
        self._after_cr = False
        self._fresh = True

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises StreamBroken for one that is over the limit."""
        if not self._held and data.startswith((b"data:", b"event:")) and is_one_event(data):  # nearly always
            self._fresh = self._after_cr = False
            self.comments = b""
            self.last += 1
            return [data[:-1] + self._mark % self.last + b"\n"] if self._mark else [data]
        return self._feed(data)

    def end(self) -> list[bytes]:
        """The stream is over: an event whose blank line is missing counts, as clients take it."""
        rest = bytes(self._held)
        self._held.clear()
        return self._take([rest]) if rest.strip(b"\r\n") else []

    def _feed(self, data: bytes) -> list[bytes]:
        if not data:
            return []
        if self._after_cr:
            self._after_cr = False
            if not self._held:  # the CR ended an event: this is the rest of that
                data = data.removeprefix(b"\n")
        if self._fresh:
            data = self._without_bom(data)
        self._after_cr = data.endswith(b"\r")
        held = self._held
        start = max(0, len(held) - _OVERLAP)
        held += data
        blocks: list[bytes] = []
        cut = 0
        while (blank := _BLANK.search(held, start)) is not None:
            blocks.append(bytes(held[cut : blank.end()]))
            cut = start = blank.end()
        del held[:cut]
        if len(held) > self.limit:
            raise StreamBroken(
                f"The upstream sent a server-sent event of more than {self.limit:,} bytes.",
                code="upstream_event_too_large",
            )
        return self._take(blocks)

    def _without_bom(self, data: bytes) -> bytes:
        """A byte order mark may come in pieces."""
        start = bytes(self._held) + data
        if len(start) < len(_BOM) and _BOM.startswith(start):
            return data
        self._fresh = False
        self._held.clear()
        return start.removeprefix(_BOM)

    def _take(self, blocks: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        comments = b""
        for block in blocks:
            text = block.strip(b"\r\n")
            if not text:
                continue
            if text.startswith(b":") and all(line.startswith(b":") for line in _LINE.split(text)):
                comments += text + b"\n"
                continue
            self.last += 1
            mark = self._mark % self.last if self._mark else b""
            events.append(comments + text + b"\n" + mark + b"\n")
            comments = b""
        self.comments = comments
        return events
