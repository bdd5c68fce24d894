"""Streams that are cut into events anew, and frames that are held until they are whole."""

from __future__ import annotations

from typing import cast

import pytest

from headgate.core.errors import StreamBroken
from headgate.core.events import Failed, Finished, PartDelta
from headgate.dialects import eventstream
from headgate.dialects.dialect import ChatDialect, Framing
from headgate.dialects.registry import dialect
from headgate.server.lanes.framing import Reframer, WholeFrames, framing_of
from tests.contract.dialect_cases import GOOD, TEXT, stream_of

FRAMES = [eventstream.encode({":event-type": name}, name.encode() * 9) for name in ("one", "two", "three")]


def chat(name: str) -> ChatDialect:
    return cast("ChatDialect", dialect(name))


@pytest.mark.parametrize("size", [1, 7, 11, 12, 13, 50, 1000])
def test_only_whole_frames_pass(size: int) -> None:
    wire = b"".join(FRAMES)
    guard = WholeFrames()
    passed = b""
    for start in range(0, len(wire), size):
        passed += guard.feed(wire[start : start + size])
        assert passed in (b"".join(FRAMES[:count]) for count in range(4))
    assert passed == wire
    assert guard.end() == b""


def test_what_is_no_frame_passes_as_it_is() -> None:
    guard = WholeFrames()
    assert guard.feed(FRAMES[0] + b"no frame at all") == FRAMES[0] + b"no frame at all"
    assert guard.feed(b"x") == b"x"
    with pytest.raises(StreamBroken):
        WholeFrames().feed(b"no frame from its first byte on")
    half = WholeFrames()
    assert half.feed(FRAMES[0][:20]) == b""
    assert half.end() == FRAMES[0][:20]


def test_a_framing_is_told_by_the_content_type() -> None:
    assert framing_of(chat("gemini"), "application/json; charset=utf-8") == "json_array"
    assert framing_of(chat("converse"), "text/event-stream") == "sse"
    assert framing_of(chat("converse"), "application/json") is None


@pytest.mark.parametrize(("name", "wanted"), [("gemini", "json_array"), ("converse", "sse")])
def test_another_framing_says_the_same(name: str, wanted: Framing) -> None:
    codec = chat(name)
    reframer = Reframer(codec, next(iter(codec.stream_types.values())), wanted)
    wire = b"".join(stream_of(codec, GOOD))
    written = b"".join(reframer.feed(wire[at : at + 9]) for at in range(0, len(wire), 9)) + reframer.end()
    decoder = codec.stream_decoder(codec.stream_types[wanted])
    events = [*decoder.feed(written), *decoder.end()]
    assert [event.delta for event in events if isinstance(event, PartDelta)] == list(TEXT)
    assert isinstance(events[-1], Finished)
    assert not reframer.failed


@pytest.mark.parametrize(("name", "wanted"), [("gemini", "json_array"), ("converse", "sse")])
def test_a_failure_follows_in_the_same_framing(name: str, wanted: Framing) -> None:
    codec = chat(name)
    reframer = Reframer(codec, next(iter(codec.stream_types.values())), wanted)
    written = reframer.feed(b"".join(stream_of(codec, GOOD[:3]))) + reframer.fail(StreamBroken("cut"))
    decoder = codec.stream_decoder(codec.stream_types[wanted])
    *_, last = [*decoder.feed(written), *decoder.end()]
    assert isinstance(last, Failed)
    assert last.error.message == "cut"
