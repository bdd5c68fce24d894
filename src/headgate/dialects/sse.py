"""Server-sent events, both ways: the one module that knows their framing.

Source: WHATWG HTML, section 9.2 "Server-sent events". One departure, as every LLM client makes it: an
event whose blank line is missing when the stream ends is still handed out, by `Decoder.end()`; whether the
answer is whole is for the dialect to say.
"""

from __future__ import annotations

import msgspec

from headgate.core.errors import StreamBroken

CONTENT_TYPE = "text/event-stream"
MAX_EVENT = 16 * 1024 * 1024
"""Bytes of one event: a generated image in base64 fits, an endless line does not."""

_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """`data` is UTF-8 as it came, lines joined by LF; `id` is the last one seen in the stream, if any."""

    data: bytes
    event: str | None = None
    id: str | None = None


class Decoder:
    """Bytes in at any split, events out. Raises StreamBroken for an event of more than `limit` bytes."""

    __slots__ = (
        "_after_cr",
        "_data",
        "_event",
        "_fresh",
        "_line",
        "_size",
        "idle",
        "last_id",
        "limit",
        "retry",
    )

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self.limit = limit
        self.last_id: str | None = None
        self.retry: int | None = None
        """Milliseconds, where the sender set them."""
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._event: str | None = None
        self._after_cr = False
        self._fresh = True
        self.idle = True
        """Between events: nothing is held."""

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        if self.idle and data.endswith(b"\n\n") and len(data) <= self.limit and b"\r" not in data:
            if data.startswith(b"data: ") and data.find(b"\n") == len(data) - 2:
                self._fresh = False
                return [ServerSentEvent(data[6:-2], None, self.last_id)]
            return self._feed_whole(data, b"\n\n")
        if self.idle and data.endswith(b"\r\n\r\n") and len(data) <= self.limit:
            end = len(data) - 4
            if data.startswith(b"data: ") and data.find(b"\r") == end and data.find(b"\n") == end + 1:
                self._fresh = False
                return [ServerSentEvent(data[6:-4], None, self.last_id)]
            return self._feed_whole(data, b"\r\n\r\n")
        return self._feed_lines(data)

    def _feed_whole(self, data: bytes, blank: bytes) -> list[ServerSentEvent]:
        """Whole events, most of them of one `data` line: nearly every read is so. `blank` ends the last one;
        its line ends are LF, or CRLF as Google sends them."""
        events: list[ServerSentEvent] = []
        for block in data[: -len(blank)].split(blank):
            if block.startswith(b"data: ") and b"\n" not in block and b"\r" not in block:
                events.append(ServerSentEvent(block[6:], None, self.last_id))
                self._fresh = False
            elif block:
                events += self._feed_lines(block + blank)
            else:  # blank lines alone
                self._fresh = False
        return events

    def _feed_lines(self, data: bytes) -> list[ServerSentEvent]:
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if not data:
            return []
        self._after_cr = data.endswith(b"\r")
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        events: list[ServerSentEvent] = []
        if end:
            self._line += data[:end]
            lines = bytes(self._line).splitlines()
            self._line.clear()
            for line in lines:
                self._take(line, events)
        self._line += data[end:]
        if len(self._line) > self.limit:
            raise self._too_long()
        self.idle = not (self._line or self._data or self._event or self._after_cr)
        return events

    def end(self) -> list[ServerSentEvent]:
        """The stream is over: what was still waiting for its blank line."""
        events: list[ServerSentEvent] = []
        if self._line:
            line = bytes(self._line)
            self._line.clear()
            self._take(line, events)
        self._take(b"", events)
        return events

    def _take(self, line: bytes, events: list[ServerSentEvent]) -> None:
        if self._fresh:
            self._fresh = False
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(events)
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._size += len(value) + 1
                if self._size > self.limit:
                    raise self._too_long()
                self._data.append(value)
            case b"event":
                self._event = value.decode("utf-8", "replace") or None
            case b"id" if b"\0" not in value:
                self.last_id = value.decode("utf-8", "replace") or None
            case b"retry" if value.isdigit():
                self.retry = int(value[:15])
            case _:
                pass

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        if self._data:
            events.append(ServerSentEvent(b"\n".join(self._data), self._event, self.last_id))
            self._data.clear()
            self._size = 0
        self._event = None

    def _too_long(self) -> StreamBroken:
        return StreamBroken(
            f"The upstream sent a server-sent event of more than {self.limit:,} bytes; it was closed.",
            code="upstream_event_too_large",
        )


def encode(data: bytes, event: str | None = None, id: str | None = None) -> bytes:
    """One event, framed. `data` is UTF-8; each of its lines (CR, LF or CRLF) becomes a `data` line."""
    if event is None and id is None and b"\n" not in data and b"\r" not in data:
        return b"data: " + data + b"\n\n"
    head = b""
    for name, value in (("event", event), ("id", id)):
        if value is None:
            continue
        if "\n" in value or "\r" in value or "\0" in value:
            raise ValueError(f"a line end or NUL in the {name} of a server-sent event")
        head += f"{name}: {value}\n".encode()
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return head + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
