"""An upstream's ConverseStream: frames and server-sent events at every byte split."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, StreamBroken, UpstreamError
from headgate.core.events import (
    Failed,
    Finished,
    PartDelta,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.fold import fold, unfold
from headgate.core.messages import Media, Opaque, Reasoning, Text, ToolCall
from headgate.dialects import eventstream
from headgate.dialects.bedrock import (
    StreamDecoder,
    decode_result,
)
from headgate.dialects.bedrock.wire_events import MAX_LITERAL, json_from_literal
from tests.unit.bedrock.aws import FRAMES, SSE, frame, frames, lines, python_lines
from tests.unit.bedrock.converse_streams import (
    ANSWER,
    BEGIN,
    METADATA,
    RICH,
    decode,
    delta,
    error_of,
    start,
)

GIVEN = settings(max_examples=120, deadline=None, database=None)
WIRES = [
    pytest.param(FRAMES, frames(*RICH), id="frames"),
    pytest.param(SSE, lines(*RICH), id="sse"),
    pytest.param(SSE, python_lines(*RICH), id="python"),
]


@pytest.mark.parametrize(("content_type", "wire"), WIRES)
def test_a_rich_stream_folds_to_the_whole_answer(content_type: str, wire: bytes) -> None:
    result = fold(decode(wire, content_type=content_type))
    assert result == decode_result(json.dumps(ANSWER).encode())
    assert result.usage == Usage(11, 9, 5, 2)
    assert result.choices[0].stop == Stop("tool_calls", native="tool_use")
    assert [type(part) for part in result.choices[0].parts] == [
        Reasoning,
        Reasoning,
        Text,
        ToolCall,
        Opaque,
        Opaque,
        Media,
    ]


@pytest.mark.parametrize(("content_type", "wire"), WIRES)
def test_every_byte_split_gives_the_same_events(content_type: str, wire: bytes) -> None:
    expected = decode(wire, content_type=content_type)
    step = 1 if content_type == FRAMES else 7  # sse has tests of its own
    for cut in range(0, len(wire), step):
        assert decode(wire, cut, content_type=content_type) == expected
    assert decode(wire, *range(len(wire)), content_type=content_type) == expected


@GIVEN
@given(st.lists(st.integers(0, len(frames(*RICH))), max_size=8))
def test_any_split_gives_the_same_events(cuts: list[int]) -> None:
    assert decode(frames(*RICH), *sorted(cuts)) == decode(frames(*RICH))


def test_deltas_come_out_with_the_bytes_that_hold_them() -> None:
    for content_type, write in ((FRAMES, frames), (SSE, lines), (SSE, python_lines)):
        decoder = StreamDecoder(content_type)
        assert decoder.feed(write(BEGIN)) == [Started("", "", 0)]
        assert decoder.feed(write(delta(0, text="a"))) == [PartStarted(0, Text("")), PartDelta(0, "a")]
        assert decoder.feed(write(delta(0, text="b"))) == [PartDelta(0, "b")]
        assert decoder.feed(write(delta(0, text="}}\n\n'\""))) == [PartDelta(0, "}}\n\n'\"")]


def test_a_stream_may_end_without_metadata_but_not_without_its_stop() -> None:
    whole = frames(BEGIN, delta(0, text="a"), ("messageStop", {"stopReason": "end_turn"}))
    assert decode(whole)[-1] == Finished((Stop("stop", native="end_turn"),))
    assert decode(whole + frame("metadata", {})[:-3])[-1] == Finished((Stop("stop", native="end_turn"),))
    for cut in range(len(whole)):
        error = error_of(decode(whole[:cut]))
        assert isinstance(error, StreamBroken)
        assert error.retryable


def test_nothing_follows_the_end() -> None:
    decoder = StreamDecoder()
    decoder.feed(frames(*RICH) + frames(delta(0, text="late")))
    assert decoder.feed(frames(delta(0, text="later"))) == []
    assert decoder.end() == []


@pytest.mark.parametrize(
    ("name", "payload", "status", "retryable"),
    [
        ("throttlingException", {"message": "slow"}, 429, True),
        ("validationException", {"message": "slow"}, 400, False),
        ("internalServerException", {"message": "slow"}, 500, True),
        ("serviceUnavailableException", {"message": "slow"}, 503, True),
        ("modelStreamErrorException", {"message": "slow"}, 424, False),
        ("modelStreamErrorException", {"message": "slow", "originalStatusCode": 503}, 503, True),
        ("brandNewException", {"message": "slow"}, 502, True),
    ],
)
def test_an_exception_in_the_stream(name: str, payload: Any, status: int, retryable: bool) -> None:
    before = [BEGIN, delta(0, text="a")]
    wires = [
        (FRAMES, frames(*before) + frame(name, payload, "exception") + frames(*RICH)),
        (SSE, lines(*before, (name, payload), *RICH)),
        (SSE, python_lines(*before, (name, payload), *RICH)),
    ]
    for content_type, wire in wires:
        error = error_of(decode(wire, content_type=content_type))
        assert (error.message, error.status, error.retryable) == ("slow", status, retryable)
        assert error.upstream_type == name
        assert isinstance(error, UpstreamError)


def test_other_errors_in_the_stream() -> None:
    headers = {":message-type": "error", ":error-code": "InternalError", ":error-message": "boom"}
    error = error_of(decode(eventstream.encode(headers, b"")))
    assert (error.message, error.status) == ("boom", 502)
    wire = lines(("error", {"code": "429", "message": "quota"}))
    assert error_of(decode(wire, content_type=SSE)).message == "quota"


@pytest.mark.parametrize(
    ("content_type", "wire"),
    [
        (FRAMES, b""),
        (FRAMES, b"<html>Bad gateway</html>"),
        (FRAMES, frames(BEGIN, delta(0, text="a"))[:-1] + b"\0"),
        (FRAMES, frame("contentBlockDelta", [])),
        (FRAMES, frame("contentBlockDelta", {"delta": {"text": 1}})),
        (FRAMES, frames(BEGIN, delta(0, image={"source": {"bytes": "!"}}))),
        (
            FRAMES,
            frames(BEGIN, start(0, image={"format": "png"}), delta(0, image={"source": {"bytes": "!"}})),
        ),
        (FRAMES, frame("messageStop", 1)),
        (SSE, b"data: <html>\n\n"),
        (SSE, b"data: [1]\n\n"),
        (SSE, b"data: {not json}\n\n"),
        (SSE, b"data: {'a': open('x')}\n\n"),
        (SSE, b"data: {'a': {1, 2}, 'b': 1j}\n\n"),
        (SSE, b"data: " + b"[" * 100_000 + b"\n\n"),
        (SSE, b"data: {'a': " + b"(" * 5_000 + b"\n\n"),
        (SSE, b"data: {'a': '" + b"x" * MAX_LITERAL + b"'}\n\n"),
        ("application/json", b"{"),
        ("application/json", b'{"message": "no"}'),
    ],
)
def test_garble_is_the_terminal_event(content_type: str, wire: bytes) -> None:
    assert isinstance(error_of(decode(wire, content_type=content_type)), StreamBroken | UpstreamError)


def test_a_plain_answer_in_place_of_a_stream_is_taken() -> None:
    body = json.dumps(ANSWER).encode()
    assert decode(body, 9, content_type="application/json") == unfold(decode_result(body))


def test_python_dictionaries_are_only_data() -> None:
    given_ = {"a": [1, -2.5, None, True, 'it\'s \\ "x" \N{GRINNING FACE}\n'], "b": {"c": "\x7f"}}
    assert json.loads(json_from_literal(repr(given_).encode())) == given_
    assert json.loads(json_from_literal(b"{'a': '\\d'}")) == {"a": "\\d"}  # no warning either


NAMES = ["contentBlockIndex", "delta", "start", "text", "toolUse", "input", "toolUseId", "name", "type"]
NAMES += ["reasoningContent", "redactedContent", "citation", "image", "source", "bytes", "toolResult"]
payloads = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
some_events = st.lists(
    st.tuples(st.sampled_from(sorted({name for name, _ in RICH} | {"other"})), payloads)
    | st.sampled_from(RICH),
    max_size=8,
)


@GIVEN
@given(some_events, st.sampled_from([(FRAMES, frames), (SSE, lines), (SSE, python_lines)]))
def test_any_events_end_in_one_terminal_and_keep_the_rules(
    events: list[tuple[str, Any]], form: tuple[str, Any]
) -> None:
    content_type, write = form
    wire = write(*events)
    decoded = decode(wire, content_type=content_type)
    other = decode(wire, *range(0, len(wire), 5), content_type=content_type)
    if isinstance(decoded[-1], Failed):
        assert decoded[:-1] == other[:-1]
        with pytest.raises((StreamBroken, UpstreamError)):
            fold(decoded)
    else:
        assert decoded == other
        fold(decoded)


@GIVEN
@given(st.binary(max_size=60), st.sampled_from([FRAMES, SSE, "application/json", ""]))
def test_any_bytes_fail_in_one_event(data: bytes, content_type: str) -> None:
    assert isinstance(error_of(decode(data, content_type=content_type)), HeadgateError)


def test_usage_of_an_aborted_stream_stays_with_its_last_report() -> None:
    events = decode(frames(BEGIN, METADATA, delta(0, text="a")))
    assert any(isinstance(event, UsageReported) for event in events)
    assert isinstance(error_of(events), StreamBroken)
