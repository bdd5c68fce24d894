"""The bytes of a plain answer, held by whoever reads along until it is over."""

from __future__ import annotations

MAX_BODY = 1024 * 1024
"""Bytes of an answer that are kept to be parsed at its end; of a longer one only the end is."""
TAIL = 16 * 1024
"""Bytes of that end: few enough to be searched in Python."""


class HeldBody:
    """Bounded: what is held never grows beyond `limit` by more than one read."""

    __slots__ = ("_chunks", "_limit", "_long", "_size")

    def __init__(self, limit: int = MAX_BODY) -> None:
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self._long = False

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size > self._limit:
            self._long = True
            self._chunks = [b"".join(self._chunks)[-TAIL:]]
            self._size = len(self._chunks[0])

    def take(self) -> tuple[bytes, bool]:
        """What is held, and whether it is the whole body; it is let go of."""
        body = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        return (body[-TAIL:], False) if self._long else (body, True)
