"""A stream of JSON objects in one array, as `streamGenerateContent` answers without `alt=sse`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from headgate.core.errors import StreamBroken
from headgate.dialects.sse import MAX_EVENT

_UNMARKED = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
"""All up to a bracket, whole strings included, or up to a string that is cut."""
_WITHIN = re.compile(rb'["\\]')
_BETWEEN = b" \t\r\n,"


class ArrayDecoder:
    """Bytes in at any split, objects out. A lone object in place of the array is taken too.

    Only the framing is judged here, not the JSON within. Raises StreamBroken: bytes that are neither, or an
    object of more than `limit` bytes.
    """

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._position = 0
        self._depth = 0
        self._in_string = False
        self._opened = False
        self._closed = False

    @property
    def complete(self) -> bool:
        """The array was closed, or there was none and no object is open."""
        return self._closed or (not self._opened and self._depth == 0 and not self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Objects as they are found: those before a fault come out before it is raised."""
        self._buffer += data
        while (step := self._step()) is not None:
            self._check(len(step))
            if step:
                yield step
        self._check(len(self._buffer))

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise StreamBroken(
                f"The upstream sent an element of more than {self._limit:,} bytes; it was closed.",
                code="upstream_event_too_large",
            )

    def _step(self) -> bytes | None:
        """On to the next mark. The object that it ends, nothing, or None where more bytes are needed."""
        buffer = self._buffer
        at = self._mark()
        if at == len(buffer):
            self._position = at
            if self._depth == 0:
                self._skip(at)
            return None
        byte = buffer[at]
        if self._in_string:
            if byte == 0x5C:  # the byte after a backslash is no mark
                if at + 1 == len(buffer):
                    self._position = at
                    return None
                at += 1
            else:
                self._in_string = False
        elif self._depth == 0:
            return self._outer(at, byte)
        elif byte == 0x22:
            self._in_string = True
        elif byte in b"{[":
            self._depth += 1
        else:
            self._depth -= 1
            if self._depth == 0:
                element = bytes(buffer[: at + 1])
                del buffer[: at + 1]
                self._position = 0
                return element
        self._position = at + 1
        return b""

    def _mark(self) -> int:
        """Where the next mark is; the end of the buffer where there is none."""
        if self._in_string:
            found = _WITHIN.search(self._buffer, self._position)
            return len(self._buffer) if found is None else found.start()
        unmarked = _UNMARKED.match(self._buffer, self._position)
        return self._position if unmarked is None else unmarked.end()

    def _outer(self, at: int, byte: int) -> bytes:
        """A mark between the objects."""
        self._skip(at)
        if byte == 0x7B and not self._closed:
            self._depth = 1
            self._position = 1
            return b""
        if byte == 0x5B and not self._opened:
            self._opened = True
        elif byte == 0x5D and self._opened and not self._closed:
            self._closed = True
        else:
            raise _broken()
        del self._buffer[:1]
        return b""

    def _skip(self, end: int) -> None:
        if self._buffer[:end].strip(_BETWEEN):
            raise _broken()
        del self._buffer[:end]
        self._position = 0


def _broken() -> StreamBroken:
    return StreamBroken("The upstream's stream is not an array of JSON objects.")
