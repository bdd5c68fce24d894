"""Server-sent events: the framing of the WHATWG specification, at every byte split."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import StreamBroken
from headgate.dialects import sse
from headgate.dialects.sse import Decoder, ServerSentEvent

GIVEN = settings(max_examples=150, deadline=None, database=None)


def decode(data: bytes, *cuts: int) -> list[ServerSentEvent]:
    decoder = Decoder()
    events: list[ServerSentEvent] = []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        events += decoder.feed(data[start:end])
    return events + decoder.end()


@pytest.mark.parametrize(
    ("wire", "data"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\n\r\n\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b": comment\r\n\r\nevent: ping\r\n\r\ndata: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
        (b"data: a\n\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\rdata: b\r\n\r\n", [b"a\nb"]),
        (b"data: a\r\r\n\r\n", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\rdata: b\n\n", [b"a\nb"]),
        (b"data: a\rdata: b\r\ndata: c\n\n", [b"a\nb\nc"]),
        (b"data\n\n", [b""]),
        (b"data:\ndata\n\n", [b"\n"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b": comment\n\ndata: a\n\n: more\n\n", [b"a"]),
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"event: ping\n\ndata: a\n\n", [b"a"]),
        (b"dat: a\n\nunknown: x\ndata: b\n\n", [b"b"]),
        ("data: größer ✓\n\n".encode(), ["größer ✓".encode()]),
        (b"data: unfinished", [b"unfinished"]),
        (b"", []),
    ],
)
def test_every_split_gives_the_same_events(wire: bytes, data: list[bytes]) -> None:
    assert [event.data for event in decode(wire)] == data
    for cut in range(len(wire) + 1):
        assert [event.data for event in decode(wire, cut)] == data
    assert [event.data for event in decode(wire, *range(len(wire)))] == data


def test_event_type_holds_for_one_event_and_id_for_the_rest() -> None:
    wire = b"event: delta\nid: 7\ndata: a\n\ndata: b\n\nid:\ndata: c\n\nid: n\0l\ndata: d\n\n"
    for cut in range(len(wire) + 1):
        assert decode(wire, cut) == [
            ServerSentEvent(b"a", "delta", "7"),
            ServerSentEvent(b"b", None, "7"),
            ServerSentEvent(b"c", None, None),
            ServerSentEvent(b"d", None, None),
        ]


def test_retry_is_kept_when_it_is_a_number() -> None:
    decoder = Decoder()
    decoder.feed(b"retry: 1500\n\nretry: soon\n\n")
    assert decoder.retry == 1500


def test_an_event_comes_out_as_soon_as_its_blank_line_is_there() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: a\r\n\r") == [ServerSentEvent(b"a")]
    assert decoder.feed(b"\ndata: b\n\n") == [ServerSentEvent(b"b")]
    assert decoder.idle


@pytest.mark.parametrize("piece", [b"x" * 40, b"data: " + b"x" * 30 + b"\n"])
def test_an_endless_event_breaks_the_stream(piece: bytes) -> None:
    decoder = Decoder(limit=100)
    with pytest.raises(StreamBroken, match="more than 100 bytes"):
        for _ in range(10):
            decoder.feed(piece)


def test_an_event_above_the_limit_in_one_read_breaks_the_stream() -> None:
    with pytest.raises(StreamBroken):
        Decoder(limit=100).feed(b"data: " + b"x" * 200 + b"\n\n")


def test_encode_frames_each_line() -> None:
    assert sse.encode(b"a") == b"data: a\n\n"
    assert sse.encode(b"a\r\nb\rc", event="e", id="1") == b"event: e\nid: 1\ndata: a\ndata: b\ndata: c\n\n"


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b"])
def test_encode_refuses_line_ends_in_names(bad: str) -> None:
    with pytest.raises(ValueError, match="line end"):
        sse.encode(b"x", event=bad)


lines = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)
names = st.one_of(st.none(), st.text(st.characters(categories=["L"]), min_size=1, max_size=8))


@GIVEN
@given(
    st.lists(st.tuples(st.lists(lines, min_size=1, max_size=3), names), max_size=5),
    st.lists(st.integers(0, 400), max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_what_is_encoded_is_decoded_at_any_split(
    events: list[tuple[list[str], str | None]], cuts: list[int], line_end: bytes
) -> None:
    wire = b"".join(sse.encode("\n".join(text).encode(), event=name) for text, name in events)
    wire = wire.replace(b"\n", line_end)
    cuts = sorted(cut for cut in cuts if cut <= len(wire))
    expected = [("\n".join(text).encode(), name) for text, name in events]
    assert [(event.data, event.event) for event in decode(wire, *cuts)] == expected


fragments = st.sampled_from(
    [b"data: x", b"data", b"event: e", b"\n", b"\r", b"\r\n", b"\r\n\r\n", b"\n\n", b"y"]
)


@GIVEN
@given(st.lists(fragments, max_size=14))
def test_line_ends_of_every_kind_decode_alike_at_any_split(pieces: list[bytes]) -> None:
    """Read whole, where the short ways apply, and byte by byte, where they do not."""
    wire = b"".join(pieces)
    assert decode(wire) == decode(wire, *range(len(wire)))
    ends = [sum(map(len, pieces[:number])) for number in range(len(pieces))]
    assert decode(wire) == decode(wire, *ends)


@GIVEN
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_bytes_decode_alike_at_any_split(wire: bytes, cuts: list[int]) -> None:
    assert decode(wire) == decode(wire, *sorted(cut for cut in cuts if cut <= len(wire)))


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_blank_lines_alone_say_nothing(end: bytes) -> None:
    decoder = Decoder()
    assert decoder.feed(end * 8) == []
    assert decoder.idle
    told = decoder.feed(b"data: a" + end * 6 + b"data: b" + end * 2)
    assert [event.data for event in told] == [b"a", b"b"]
    assert decoder.idle
