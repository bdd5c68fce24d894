"""How Bedrock cuts a stream into events: AWS frames, or server-sent events as SAP AI Core sends them.

A frame names its event in a header and holds the event's JSON. A server-sent event holds an object whose only
key is the name; some gateways write it as a Python dictionary with single quotes in place of JSON.
"""

from __future__ import annotations

import ast
import struct
import warnings
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple, Protocol
from zlib import crc32

import msgspec
from typing_extensions import override

from headgate.core.errors import StreamBroken
from headgate.dialects import eventstream, sse

MAX_LITERAL = 256 * 1024
"""Bytes of a Python dictionary that are parsed; it costs a hundred times what JSON does."""


def event_headers(name: str, kind: str = "event") -> bytes:
    """The headers of a frame: `kind` is `event` or `exception`."""
    return eventstream.encode_headers(
        {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    )


DELTA_HEADERS = event_headers("contentBlockDelta")


class WireEvent(NamedTuple):
    """`failed`: an exception, `name` is its type. `payload` is JSON."""

    name: str
    payload: bytes
    failed: bool = False


class Reader(Protocol):
    """Bytes in at any split, events out. Raises StreamBroken, behind the events before it."""

    @property
    def idle(self) -> bool:
        """Between events: nothing is held."""
        ...

    def delta(self, data: bytes) -> bytes | None:
        """The payload, if `data` is one whole content delta and nothing else, as nearly every read is.

        None says nothing; a payload has yet to be parsed, and if that fails `feed` must decide. Only to be
        asked between events. What is looked at stands before any content: no content can look like it.
        """
        ...

    def feed(self, data: bytes) -> Iterator[WireEvent]:
        """To be exhausted before the next bytes come."""
        ...

    def end(self) -> Iterator[WireEvent]: ...


_PRELUDE = struct.Struct(">III")


def whole_frame(data: bytes, headers: bytes) -> bytes | None:
    """The payload, if `data` is one frame with these headers and nothing else. None says nothing."""
    start = 12 + len(headers)
    if data[12:start] != headers:
        return None
    total, length, checksum = _PRELUDE.unpack_from(data)
    if total != len(data) or length != len(headers) or crc32(data[:8]) != checksum:
        return None
    return data[start:-4] if crc32(data[:-4]) == int.from_bytes(data[-4:], "big") else None


class FrameReader(Reader):
    def __init__(self) -> None:
        self._decoder = eventstream.Decoder()

    @property
    @override
    def idle(self) -> bool:
        return self._decoder.idle

    @override
    def delta(self, data: bytes) -> bytes | None:
        return whole_frame(data, DELTA_HEADERS)

    @override
    def feed(self, data: bytes) -> Iterator[WireEvent]:
        return map(_from_frame, self._decoder.feed(data))

    @override
    def end(self) -> Iterator[WireEvent]:
        return iter(())


def _from_frame(frame: eventstream.Frame) -> WireEvent:
    headers = frame.headers
    name = headers.get(":event-type")
    if isinstance(name, str) and headers.get(":message-type", "event") == "event":
        return WireEvent(name, frame.payload)
    kind = headers.get(":exception-type")
    if isinstance(kind, str):
        return WireEvent(kind, frame.payload, True)
    code, message = headers.get(":error-code"), headers.get(":error-message")
    if isinstance(code, str):
        told = message if isinstance(message, str) else ""
        return WireEvent(code, msgspec.json.encode({"message": told}), True)
    return WireEvent("", frame.payload)


_DELTA_LINES = (b'data: {"contentBlockDelta":', b"data: {'contentBlockDelta':")
_DELTA_START = len(_DELTA_LINES[0])


class SseReader(Reader):
    def __init__(self) -> None:
        self._decoder = sse.Decoder()

    @property
    @override
    def idle(self) -> bool:
        return self._decoder.idle

    @override
    def delta(self, data: bytes) -> bytes | None:
        whole = (
            data.startswith(_DELTA_LINES) and data.endswith(b"}}\n\n") and data.find(b"\n") == len(data) - 2
        )
        return data[_DELTA_START:-3] if whole and b"\r" not in data else None

    @override
    def feed(self, data: bytes) -> Iterator[WireEvent]:
        return chain.from_iterable(map(_from_sse, self._decoder.feed(data)))

    @override
    def end(self) -> Iterator[WireEvent]:
        return chain.from_iterable(map(_from_sse, self._decoder.end()))


_WRAPPED = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _from_sse(event: sse.ServerSentEvent) -> list[WireEvent]:
    data = event.data
    if not data.strip() or data.strip() == b"[DONE]":
        return []
    try:
        wrapped = _WRAPPED.decode(data)
    except (ValueError, RecursionError):
        wrapped = _WRAPPED.decode(json_from_literal(data))
    return [_named(name, raw, wrapped) for name, raw in wrapped.items()]


def _named(name: str, raw: msgspec.Raw, wrapped: Mapping[str, msgspec.Raw]) -> WireEvent:
    if name == "error":
        return WireEvent(name, msgspec.json.encode(wrapped), True)
    return WireEvent(name, bytes(raw), name.endswith("Exception"))


def json_from_literal(data: bytes) -> bytes:
    """A dictionary as Python writes it, as JSON. Raises StreamBroken for anything else."""
    if not data.lstrip().startswith(b"{") or len(data) > MAX_LITERAL:
        raise StreamBroken("The upstream sent an event that is not JSON.")
    try:
        with warnings.catch_warnings():  # the parser warns of escapes that it does not know
            warnings.simplefilter("ignore")
            value = ast.literal_eval(data.decode().strip())
        if isinstance(value, dict):
            return msgspec.json.encode(value)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        pass
    raise StreamBroken("The upstream sent an event that is neither JSON nor a Python dictionary.")
