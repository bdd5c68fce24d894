"""Usage that the caller did not ask for: asked of the upstream, and gone from the caller's bytes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import StreamBroken
from headgate.dialects import sse
from headgate.dialects.envelope import Envelope
from headgate.dialects.openai_chat import OPENAI_CHAT
from headgate.dialects.openai_stream_usage import UsageStripper, ask_for_usage
from tests.unit.openai_chunks import DONE, choice, chunk, text

USAGE = {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}
ALONE = chunk(usage=USAGE)
KEPT = [
    chunk(prompt_filter_results=[{"prompt_index": 0}]),
    text("a"),
    chunk(choice({"content": "b"}), usage=None),
    text('"usage": {"choices": []}'),
    text("Wörld 🌍"),
    b": keep-alive\n\n",
    chunk(choice({"content": "c"}), usage=USAGE),
    chunk(choice({}, "stop")),
    chunk(usage=USAGE, error={"message": "boom"}),
    b'data: {"usage": {"x": }\n\n',
    b'data: {"choices": 3, "usage": {}}\n\n',
]


def ask(**fields: Any) -> Any:
    envelope = Envelope.read(json.dumps({"model": "m", **fields}).encode())
    value = ask_for_usage(envelope.fields)
    return None if value is None else json.loads(value)


def strip(wire: bytes, *cuts: int) -> bytes:
    stripper = UsageStripper()
    out = b"".join(
        stripper.feed(wire[start:end]) for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)
    )
    return out + stripper.end()


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": None}, {"include_usage": True}),
        ({"stream_options": {}}, {"include_usage": True}),
        ({"stream_options": {"include_usage": False}}, {"include_usage": True}),
        ({"stream_options": {"include_usage": None}}, {"include_usage": True}),
        (
            {"stream_options": {"include_obfuscation": False, "x": [1]}},
            {"include_obfuscation": False, "x": [1], "include_usage": True},
        ),
        ({"stream_options": {"include_usage": True}}, None),
        ({"stream_options": "x"}, None),
        ({"stream_options": [1]}, None),
        ({"stream": False}, None),
        ({"stream": None}, None),
    ],
)
def test_usage_is_asked_for_where_the_caller_did_not(options: dict[str, Any], asked: Any) -> None:
    assert ask(**{"stream": True, **options}) == asked


def test_a_plain_answer_needs_no_asking() -> None:
    assert ask() is None


def test_the_records_offer_it() -> None:
    assert OPENAI_CHAT.ask_for_usage is ask_for_usage
    assert OPENAI_CHAT.usage_field == "stream_options"
    assert OPENAI_CHAT.strip_usage is UsageStripper


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_only_the_usage_chunk_goes_at_every_split(line_end: bytes) -> None:
    wire = b"".join([*KEPT, ALONE, DONE]).replace(b"\n", line_end)
    expected = b"".join([*KEPT, DONE]).replace(b"\n", line_end)
    assert strip(wire) == expected
    for cut in range(len(wire)):
        assert strip(wire, cut) == expected
    assert strip(wire, *range(len(wire))) == expected


def test_the_usage_chunk_in_other_forms() -> None:
    lines = ALONE.replace(b'{"id"', b'{\ndata: "id"')
    spaced = b'id: 7\ndata:{"usage" : {"prompt_tokens":1}, "choices" : [ ]}\n\n'
    for wire in (lines, spaced, ALONE[:-1], ALONE[:-2]):
        assert strip(wire) == b""
        for cut in range(len(wire)):
            assert strip(wire, cut) == b""


def test_an_ordinary_read_comes_back_as_the_same_object() -> None:
    stripper = UsageStripper()
    for data in (text("a"), chunk(choice({"content": "b"}), usage=None), text("a") + text("b")):
        assert stripper.feed(data) is data


def test_only_whole_events_come_out() -> None:
    stripper = UsageStripper()
    assert stripper.feed(text("a") + text("b")[:20]) == text("a")
    assert stripper.feed(text("b")[20:-1]) == b""
    assert stripper.feed(text("b")[-1:] + ALONE + b"data: x") == text("b")
    assert stripper.end() == b"data: x"


def test_an_event_too_long_to_hold_passes_and_all_after_it() -> None:
    stripper = UsageStripper()
    piece = b"x" * 1024 * 1024
    passed = sum(len(stripper.feed(piece)) for _ in range(18))
    passed += len(stripper.feed(b"\n\n")) + len(stripper.feed(DONE)) + len(stripper.end())
    assert passed == 18 * len(piece) + 2 + len(DONE)


@settings(max_examples=150, deadline=None, database=None)
@given(
    st.lists(st.sampled_from([*KEPT, ALONE, DONE]), max_size=10),
    st.lists(st.integers(0, 3000), max_size=8),
)
def test_any_split_gives_the_same_bytes(pieces: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(pieces)
    out = strip(wire, *sorted(cut for cut in cuts if cut <= len(wire)))
    assert out == strip(wire)
    assert ALONE not in out
    assert len(out) == len(wire) - pieces.count(ALONE) * len(ALONE)


def test_stray_line_ends_do_no_harm() -> None:
    wire = text("a") + b"\n" + ALONE + b"\r\n" + text("b")
    for cut in range(len(wire)):
        assert [event.data for event in sse.Decoder().feed(strip(wire, cut))] == [
            event.data for event in sse.Decoder().feed(text("a") + text("b"))
        ]


@settings(max_examples=150, deadline=None, database=None)
@given(st.binary(max_size=80), st.lists(st.integers(0, 80), max_size=4))
def test_bytes_that_hold_no_usage_pass(data: bytes, cuts: list[int]) -> None:
    assert strip(data, *sorted(cut for cut in cuts if cut <= len(data))) == data


def test_what_is_left_reads_as_a_stream() -> None:
    decoder = sse.Decoder()
    try:
        events = decoder.feed(strip(b"".join([text("a"), ALONE, DONE])))
    except StreamBroken:
        pytest.fail("not a stream of events")
    assert [msgspec.json.decode(event.data)["choices"][0]["delta"] for event in events[:-1]] == [
        {"content": "a"}
    ]
