"""AWS event-stream frames, judged by botocore's own parser, at every byte split."""

from __future__ import annotations

import importlib
import struct
import uuid
from binascii import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import StreamBroken
from headgate.dialects import eventstream
from headgate.dialects.eventstream import Decoder, Frame, HeaderValue, Timestamp, encode

botocore_eventstream = importlib.import_module("botocore.eventstream")
GIVEN = settings(max_examples=150, deadline=None, database=None)

HEADERS: dict[str, HeaderValue] = {
    "yes": True,
    "no": False,
    "int": -7,
    "long": 2**40,
    "bytes": b"\0\xff",
    "text": "Grüße",
    "when": Timestamp(1_700_000_000_000),
    "id": uuid.UUID(int=5),
}

values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    st.integers(-(2**63), 2**63 - 1).map(Timestamp),
    st.uuids(),
)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
frames = st.tuples(st.dictionaries(names, values, max_size=5), st.binary(max_size=60))


def botocore_frames(wire: bytes) -> list[tuple[dict[str, object], bytes]]:
    buffer = botocore_eventstream.EventStreamBuffer()
    buffer.add_data(wire)
    return [(message.headers, message.payload) for message in buffer]


def feed(wire: bytes, *cuts: int) -> list[Frame]:
    decoder = Decoder()
    found: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        found += decoder.feed(wire[start:end])
    assert decoder.idle
    return found


def plain(value: HeaderValue) -> object:
    """As botocore tells it."""
    if isinstance(value, uuid.UUID):
        return value.bytes
    return int(value) if isinstance(value, Timestamp) else value


@GIVEN
@given(st.lists(frames, max_size=4), st.lists(st.integers(0, 400), max_size=8))
def test_what_is_encoded_is_what_botocore_and_we_read(
    messages: list[tuple[dict[str, HeaderValue], bytes]], cuts: list[int]
) -> None:
    wire = b"".join(encode(headers, payload) for headers, payload in messages)
    expected = [({k: plain(v) for k, v in headers.items()}, payload) for headers, payload in messages]
    assert botocore_frames(wire) == expected
    places = sorted(min(cut, len(wire)) for cut in cuts)
    assert [(dict(frame.headers), frame.payload) for frame in feed(wire, *places)] == messages


def test_every_byte_split() -> None:
    wire = encode(HEADERS, b"first") + encode({}, b"") + encode({":event-type": "x"}, b"third")
    expected = feed(wire)
    assert [frame.payload for frame in expected] == [b"first", b"", b"third"]
    assert dict(expected[0].headers) == HEADERS
    assert {type(value) for value in expected[0].headers.values()} == {
        bool,
        int,
        bytes,
        str,
        Timestamp,
        uuid.UUID,
    }
    for cut in range(len(wire)):
        assert feed(wire, cut) == expected
    assert feed(wire, *range(len(wire))) == expected


def test_narrow_integers_are_read() -> None:
    block = b"\x01b\x02\xff" + b"\x01s\x03\x01\x00"
    (frame,) = feed(eventstream.encode_frame(block, b""))
    assert dict(frame.headers) == {"b": -1, "s": 256}


def test_one_wrong_bit_anywhere_breaks_the_stream() -> None:
    wire = encode({":event-type": "contentBlockDelta"}, b'{"a": 1}')
    follower = encode({}, b"next")
    for index in range(len(wire)):
        for bit in (0, 7):
            garbled = bytearray(wire)
            garbled[index] ^= 1 << bit
            with pytest.raises(StreamBroken):
                feed(bytes(garbled) + follower)


def test_frames_before_a_broken_one_are_told() -> None:
    decoder = Decoder()
    frames = decoder.feed(encode({}, b"first") + b"\0" * 20)
    assert next(frames).payload == b"first"
    with pytest.raises(StreamBroken):
        next(frames)


def framed(total: int, headers: int, block: bytes = b"", payload: bytes = b"") -> bytes:
    """A frame with the given lengths and right checksums."""
    lengths = struct.pack(">II", total, headers)
    head = lengths + struct.pack(">I", crc32(lengths)) + block + payload
    return head + struct.pack(">I", crc32(head))


@pytest.mark.parametrize(
    "wire",
    [
        framed(15, 0),
        framed(16, 1),
        framed(16 + eventstream.MAX_HEADERS + 8, eventstream.MAX_HEADERS + 4),
        framed(0, 0),
        framed(18, 2, b"\x05a"),  # the name is longer than the headers
        framed(19, 3, b"\x01a\x0a"),  # no such type
        framed(19, 3, b"\x01a\x09"),  # no room for the value
        framed(21, 5, b"\x01a\x07\0\x05"),
        framed(22, 6, b"\x01a\x07\0\x01\xff"),  # not UTF-8
        framed(22, 6, b"\x01a\x00\x01a\x00"),  # twice the same name
    ],
)
def test_lengths_and_headers_that_make_no_sense(wire: bytes) -> None:
    with pytest.raises(StreamBroken):
        list(Decoder().feed(wire))


def test_a_frame_above_the_limit_is_refused_by_its_prelude() -> None:
    wire = encode({}, b"x" * 100)
    with pytest.raises(StreamBroken, match="more than 50 bytes") as raised:
        list(Decoder(limit=50).feed(wire[:12]))
    assert raised.value.code == "upstream_event_too_large"
    assert next(Decoder(limit=len(wire)).feed(wire)).payload == b"x" * 100


@pytest.mark.parametrize(
    "headers",
    [
        {"": True},
        {"x" * 256: True},
        {"x": "y" * 40_000},
        {"x": 2**63},
        {f"{n}": b"y" * 30_000 for n in range(5)},
    ],
)
def test_headers_that_have_no_place_in_a_frame(headers: dict[str, HeaderValue]) -> None:
    with pytest.raises(ValueError, match=r"header|bytes"):
        encode(headers, b"")


@GIVEN
@given(st.binary(max_size=80))
def test_any_bytes_are_frames_or_refused(data: bytes) -> None:
    decoder = Decoder()
    try:
        list(decoder.feed(data))
    except StreamBroken as error:
        assert error.message
