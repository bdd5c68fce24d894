"""The bytes of a plain answer, held by whoever reads along until it is over."""

from __future__ import annotations

MAX_BODY = 1024 * 1024
"""Bytes of an answer that are kept to be parsed at its end; of a longer one only the end is."""
TAIL = 16 * 1024
"""Bytes of that end: few enough to be searched in Python."""


class HeldBody:
    """Bounded: what is held never grows beyond `limit` by more than one read."""

    __slots__ = ("_bytes", "_limit", "_long")

    def __init__(self, limit: int = MAX_BODY) -> None:
        self._limit = limit
        self._bytes = bytearray()
        self._long = False

    def feed(self, data: bytes) -> None:
        self._bytes += data
        if len(self._bytes) > self._limit:
            self._long = True
            del self._bytes[:-TAIL]

    def take(self) -> tuple[bytes, bool]:
        """What is held, and whether it is the whole body; it is let go of."""
        body = bytes(self._bytes[-TAIL:] if self._long else self._bytes)
        self._bytes.clear()
        return body, not self._long
