"""AWS event-stream frames, both ways: the one module that knows their layout.

Source: the `application/vnd.amazon.eventstream` specification of Smithy ("Amazon Event Stream"): a prelude
of total length, headers' length and their CRC32, then headers, payload, and the CRC32 of all before it.
Integers are big-endian.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Mapping
from typing import TypeAlias
from zlib import crc32

import msgspec

from headgate.core.errors import StreamBroken

CONTENT_TYPE = "application/vnd.amazon.eventstream"
MAX_FRAME = 24 * 1024 * 1024
"""Bytes of one frame: what AWS itself allows for a payload."""
MAX_HEADERS = 128 * 1024

_PRELUDE = struct.Struct(">III")
_LENGTHS = struct.Struct(">II")
_CRC = struct.Struct(">I")
_FIXED = 16
"""Bytes of a frame that are neither headers nor payload."""
_REMEMBERED = 32
"""Blocks of headers that one decoder remembers; the events of a stream use about six."""


class Timestamp(int):
    """Milliseconds since the epoch."""


HeaderValue: TypeAlias = bool | int | bytes | str | Timestamp | uuid.UUID


class Frame(msgspec.Struct, frozen=True, gc=False):
    headers: Mapping[str, HeaderValue]
    payload: bytes


class Decoder:
    """Bytes in at any split, frames out.

    Raises StreamBroken from `feed`, behind the frames before it, for a wrong checksum, lengths or headers
    that make no sense, or a frame of more than `limit` bytes; after that the decoder is of no more use.
    """

    __slots__ = ("_held", "_known", "_needed", "limit")

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self.limit = limit
        self._held = bytearray()
        self._needed = _PRELUDE.size
        self._known: dict[bytes, Mapping[str, HeaderValue]] = {}

    @property
    def idle(self) -> bool:
        """Between frames: nothing is held."""
        return not self._held

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole with these bytes. To be exhausted before the next bytes come."""
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return
            data = bytes(self._held)
            self._held.clear()
        start, size, total = 0, len(data), _PRELUDE.size
        while size - start >= _PRELUDE.size:
            total = frame_length(data, start, self.limit)
            if size - start < total:
                break
            yield self._frame(data, start, total)
            start += total
            total = _PRELUDE.size
        if start < size:
            self._held += data[start:]
            self._needed = total

    def _frame(self, data: bytes, start: int, total: int) -> Frame:
        end = start + total - 4
        if crc32(data[start:end]) != _CRC.unpack_from(data, end)[0]:
            raise _broken("the checksum of a frame is wrong")
        payload = start + _PRELUDE.size + _LENGTHS.unpack_from(data, start)[1]
        block = data[start + _PRELUDE.size : payload]
        headers = self._known.get(block)
        if headers is None:
            headers = decode_headers(block)
            if len(self._known) < _REMEMBERED:
                self._known[block] = headers
        return Frame(headers, data[payload:end])


def frame_length(data: bytes, start: int, limit: int = MAX_FRAME) -> int:
    """Bytes of the frame whose prelude stands at `start`. Raises StreamBroken as `Decoder` does."""
    total, headers, checksum = _PRELUDE.unpack_from(data, start)
    if crc32(data[start : start + _LENGTHS.size]) != checksum:
        raise _broken("the checksum of a frame's lengths is wrong")
    if total > limit:
        raise StreamBroken(
            f"The upstream sent an event-stream frame of more than {limit:,} bytes; it was closed.",
            code="upstream_event_too_large",
        )
    if headers > min(MAX_HEADERS, total - _FIXED):
        raise _broken("the lengths of a frame make no sense")
    assert isinstance(total, int)
    return total


def decode_headers(block: bytes) -> Mapping[str, HeaderValue]:
    """The headers of one frame, integers of every width as int. Raises StreamBroken."""
    headers: dict[str, HeaderValue] = {}
    at = 0
    try:
        while at < len(block):
            name_end = at + 1 + block[at]
            name = block[at + 1 : name_end].decode()
            value, at = _decode_value(block, name_end)
            if at > len(block) or name in headers:
                raise _broken("the headers of a frame make no sense")
            headers[name] = value
    except (IndexError, struct.error, UnicodeDecodeError):
        raise _broken("the headers of a frame make no sense") from None
    return headers


_INTEGERS = {2: struct.Struct(">b"), 3: struct.Struct(">h"), 4: struct.Struct(">i"), 5: struct.Struct(">q")}


def _decode_value(block: bytes, at: int) -> tuple[HeaderValue, int]:
    """The value whose type byte stands at `at`, and where the next header begins."""
    kind, at = block[at], at + 1
    if kind in (0, 1):
        return kind == 0, at
    if kind in _INTEGERS:
        integer = _INTEGERS[kind]
        return int(integer.unpack_from(block, at)[0]), at + integer.size
    if kind in (6, 7):
        start = at + 2
        end = start + int.from_bytes(block[at:start], "big")
        raw = block[start:end]
        return (raw if kind == 6 else raw.decode()), end
    if kind == 8:
        return Timestamp(_INTEGERS[5].unpack_from(block, at)[0]), at + 8
    if kind == 9:
        raw = block[at : at + 16]
        if len(raw) < 16:
            raise IndexError
        return uuid.UUID(bytes=raw), at + 16
    raise _broken("a header of a frame has an unknown type")


def encode(headers: Mapping[str, HeaderValue], payload: bytes) -> bytes:
    """One frame. Raises ValueError for a header that has no place in one."""
    return encode_frame(encode_headers(headers), payload)


def encode_frame(block: bytes, payload: bytes) -> bytes:
    """One frame from headers that `encode_headers` made."""
    lengths = _LENGTHS.pack(_FIXED + len(block) + len(payload), len(block))
    head = lengths + _CRC.pack(crc32(lengths)) + block
    return head + payload + _CRC.pack(crc32(payload, crc32(head)))


def encode_headers(headers: Mapping[str, HeaderValue]) -> bytes:
    """The headers' bytes; an int takes four bytes, or eight where it needs them."""
    out = bytearray()
    for name, value in headers.items():
        raw_name = name.encode()
        if not 0 < len(raw_name) < 256:
            raise ValueError(f"a header's name has 1 to 255 bytes, not {len(raw_name)}")
        out += bytes((len(raw_name),)) + raw_name + _encode_value(value)
    if len(out) > MAX_HEADERS:
        raise ValueError(f"headers of more than {MAX_HEADERS:,} bytes")
    return bytes(out)


def _encode_value(value: HeaderValue) -> bytes:
    match value:
        case bool():
            return b"\0" if value else b"\1"
        case Timestamp():
            return b"\x08" + _INTEGERS[5].pack(value)
        case int():
            kind = 4 if -(2**31) <= value < 2**31 else 5
            return bytes((kind,)) + _packed(kind, value)
        case uuid.UUID():
            return b"\x09" + value.bytes
        case bytes() | str():
            raw = value.encode() if isinstance(value, str) else value
            if len(raw) >= 2**15:
                raise ValueError(f"a header's value has at most {2**15 - 1:,} bytes, not {len(raw):,}")
            return bytes((7 if isinstance(value, str) else 6,)) + len(raw).to_bytes(2, "big") + raw


def _packed(kind: int, value: int) -> bytes:
    try:
        return _INTEGERS[kind].pack(value)
    except struct.error:
        raise ValueError("an integer of more than eight bytes") from None


def _broken(reason: str) -> StreamBroken:
    return StreamBroken(f"The upstream's event stream is garbled: {reason}.")
