"""Whole events of a stream, numbered, however its bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.errors import StreamBroken
from headgate.dialects import sse
from headgate.server.streams.numbering import EventSplitter

STREAM = "str-abc"


def cut(data: bytes, *places: int) -> list[bytes]:
    return [data[start:end] for start, end in pairwise((0, *sorted(places), len(data)))]


def numbered(pieces: list[bytes], stream: str = STREAM) -> list[bytes]:
    splitter = EventSplitter(stream)
    found = [event for piece in pieces for event in splitter.feed(piece)]
    return [*found, *splitter.end()]


def decoded(data: bytes) -> list[tuple[bytes, str | None]]:
    decoder = sse.Decoder()
    return [(each.data, each.event) for each in [*decoder.feed(data), *decoder.end()]]


STREAMS = {
    "LF": b'data: {"a":1}\n\ndata: two\n\ndata: [DONE]\n\n',
    "CRLF": b'data: {"a":1}\r\n\r\ndata: two\r\n\r\ndata: [DONE]\r\n\r\n',
    "CR": b"data: one\r\rdata: two\r\rdata: three\r\r",
    "mixed": b"data: one\r\n\ndata: two\n\r\ndata: three\r\r\ndata: four\n\n",
    "named": b'event: message_start\ndata: {"a":1}\n\n'
    b"event: ping\ndata: {}\n\nevent: message_stop\ndata: {}\n\n",
    "several lines": b"data: one\ndata: more\n\ndata: two\r\ndata: more\r\n\r\ndata:three\n\n",
    "comments": b": hello\n\ndata: one\n\n: ping\n: pong\n\n: again\n\n"
    b": here\ndata: two\n\ndata: three\n\n: bye\n\n",
    "blank lines": b"\n\n\ndata: one\n\n\n\n\r\n\r\ndata: two\n\n\r\rdata: three\n\n",
    "a byte order mark": b"\xef\xbb\xbfdata: one\n\ndata: \xef\xbb\xbftwo\n\ndata: three\n\n",
    "ids of their own": b"id: 7\ndata: one\n\ndata: two\nid: x\n\nretry: 10\ndata: three\n\n",
    "no end": b"data: one\n\ndata: two\n\ndata: three",
    "a line without an end": b"data: one\n\ndata: two\n\ndata: three\n",
}


@pytest.mark.parametrize("data", STREAMS.values(), ids=STREAMS.keys())
def test_at_every_split(data: bytes) -> None:
    """The events are the same in every cut, and those of the stream itself but for their ids."""
    whole = numbered([data])
    told = sse.Decoder()
    read = [*told.feed(b"".join(whole)), *told.end()]
    assert [(each.data, each.event) for each in read] == decoded(data)
    assert [each.id for each in read] == [f"{STREAM}:{n}" for n in range(1, len(read) + 1)]
    assert len(whole) == len(read) >= 3
    for event in whole:
        assert event.endswith(b"\n\n")
        assert not event.startswith((b"\n", b"\r"))
    bare = [without_comments(event) for event in whole]
    for place in range(1, len(data)):
        assert [without_comments(event) for event in numbered(cut(data, place))] == bare, place
        for other in range(place, min(place + 6, len(data))):
            assert [without_comments(event) for event in numbered(cut(data, place, other))] == bare
    assert [
        without_comments(event) for event in numbered([data[n : n + 1] for n in range(len(data))])
    ] == bare


def without_comments(event: bytes) -> bytes:
    """A comment comes before the event after it, or was told by itself: by where the bytes were cut."""
    while event.startswith(b":"):
        event = event[min(n for n in (event.find(b"\n"), event.find(b"\r")) if n >= 0) :].lstrip(b"\r\n")
    return event


def test_a_usual_event() -> None:
    splitter = EventSplitter(STREAM)
    assert splitter.feed(b"data: x\n\n") == [b"data: x\nid: str-abc:1\n\n"]
    assert splitter.feed(b"event: ping\ndata: {}\n\n") == [b"event: ping\ndata: {}\nid: str-abc:2\n\n"]
    assert splitter.feed(b"data: y\r\n\r\n") == [b"data: y\nid: str-abc:3\n\n"]
    assert splitter.last == 3


def test_a_comment_is_no_event_and_does_not_wait_for_one() -> None:
    """After an `id`, a block without data is an event for OpenAI's client: its JSON would be broken."""
    splitter = EventSplitter(STREAM)
    assert splitter.feed(b": OPENROUTER PROCESSING\n\n") == []
    assert splitter.comments == b": OPENROUTER PROCESSING\n"
    assert splitter.feed(b"data: x\n\n") == [b"data: x\nid: str-abc:1\n\n"]
    assert splitter.comments == b""
    assert splitter.feed(b": a\n\ndata: y\n\n: b\n\n") == [b": a\ndata: y\nid: str-abc:2\n\n"]
    assert splitter.comments == b": b\n"


def test_events_without_ids_are_counted() -> None:
    splitter = EventSplitter("")
    assert splitter.feed(b"data: x\n\ndata: y\n\n") == [b"data: x\n\n", b"data: y\n\n"]
    assert splitter.feed(b"data: z\n\n") == [b"data: z\n\n"]
    assert splitter.last == 3


def test_an_endless_event_is_refused() -> None:
    splitter = EventSplitter(STREAM, limit=100)
    assert len(splitter.feed(b"data: " + b"x" * 90 + b"\n\n")) == 1
    splitter.feed(b"data: " + b"x" * 90)
    with pytest.raises(StreamBroken, match="more than 100 bytes") as refused:
        splitter.feed(b"x" * 20)
    assert refused.value.code == "upstream_event_too_large"


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=12)
_END = st.sampled_from([b"\n", b"\r\n"])


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    end = draw(_END)
    lines = [f"data: {draw(_TEXT)}" for _ in range(draw(st.integers(1, 3)))]
    if draw(st.booleans()):
        lines.insert(0, f"event: {draw(_TEXT)}")
    if draw(st.booleans()):
        lines.insert(draw(st.integers(0, len(lines))), f":{draw(_TEXT)}")
    return end.join(line.encode() for line in lines) + end * 2


_COMMENT = _TEXT.map(lambda text: b":" + text.encode() + b"\n\n")


@given(st.data())
def test_nothing_is_lost_or_made_up(data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.one_of(blocks(), _COMMENT, st.just(b"\n")), max_size=12))
    wire = b"".join(parts)
    places = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))
    splitter = EventSplitter(STREAM)
    out, events = b"", 0
    for piece in cut(wire, *places):
        found = splitter.feed(piece)
        events += len(found)
        out += b"".join(found) + (splitter.comments if piece else b"")
    last = splitter.end()
    out += b"".join(last)
    assert decoded(out) == decoded(wire)
    assert splitter.last == events + len(last) == len(decoded(wire))
    comments = [line for line in wire.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b":")]
    assert [line for line in out.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b":")] == comments
