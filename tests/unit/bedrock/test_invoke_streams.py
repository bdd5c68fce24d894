"""Answers of every body form of InvokeModel: whole, streamed in both framings, observed, broken."""

from __future__ import annotations

import importlib
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, RateLimited, StreamBroken, UpstreamError
from headgate.core.events import (
    ChatEvent,
    Failed,
    Finished,
    PartCited,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
)
from headgate.core.fold import fold
from headgate.core.messages import Citation, Reasoning, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects.dialect import AnswerOptions, Framing
from headgate.dialects.openai_chat import OPENAI_CHAT
from tests.unit.bedrock.aws import frame, parsed_stream
from tests.unit.bedrock.invoke_cases import (
    FORMS,
    GOOD,
    TELLS_NO_USAGE,
    TEXT,
    UPSTREAM,
    WHOLE,
    chunk,
    content_type,
    decode,
    encode,
    error_of,
    line,
    record,
    stream_of,
)

GIVEN = settings(max_examples=100, deadline=None, database=None)
FRAMINGS: tuple[Framing, ...] = ("eventstream", "sse")

pytestmark = pytest.mark.parametrize("form", FORMS)


def said(events: list[ChatEvent]) -> ChatResult:
    """Without what only a stream or only a whole answer tells."""
    result = fold(events)
    return replace(result, id="", model="", created=0, extensions={})


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_stream_says_what_the_whole_answer_says(form: str, framing: Framing) -> None:
    wire = b"".join(stream_of(form, framing))
    result = said(decode(form, wire, framing=framing))
    assert result.choices[0].parts == (Text(TEXT),)
    assert result.usage is not None
    assert (result.usage.input_tokens, result.usage.output_tokens) == (5, 2)
    whole = record(form).decode_result(json.dumps(WHOLE[form]).encode())
    whole = replace(whole, id="", model="", created=0, extensions={})
    if form in TELLS_NO_USAGE:
        assert whole.usage is None
        whole = replace(whole, usage=result.usage)
    assert result == whole


@pytest.mark.parametrize("framing", FRAMINGS)
def test_any_split_gives_the_same_events(form: str, framing: Framing) -> None:
    pieces = stream_of(form, framing)
    wire = b"".join(pieces)
    expected = said(decode(form, wire, framing=framing))
    for cut in range(len(wire)):
        assert said(decode(form, wire, cut, framing=framing)) == expected
    assert said(decode(form, wire, *range(len(wire)), framing=framing)) == expected
    decoder = record(form).stream_decoder(content_type(framing))
    events = [event for piece in pieces for event in decoder.feed(piece)] + decoder.end()
    assert said(events) == expected
    assert sum(isinstance(event, Finished | Failed) for event in events) == 1


@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_is_written_is_read(form: str, framing: Framing) -> None:
    wire, losses = encode(form, GOOD, framing)
    assert losses == []
    again = said(decode(form, wire, framing=framing))
    assert again.choices[0].parts == (Text(TEXT),)
    assert again.choices[0].stop.reason == "stop"
    assert again.usage is not None
    assert (again.usage.input_tokens, again.usage.output_tokens) == (5, 2)
    body, losses_whole = record(form).encode_result(fold(list(GOOD)), AnswerOptions())
    assert losses_whole == []
    whole = record(form).decode_result(body)
    assert whole.choices[0].parts == (Text(TEXT),)
    assert whole.choices[0].stop.reason == "stop"


def test_the_sdk_reads_the_frames(form: str) -> None:
    wire, _ = encode(form, GOOD)
    events = parsed_stream(wire, "InvokeModelWithResponseStream")
    assert all(json.loads(event["chunk"]["bytes"]) for event in events)


def test_a_failure_is_an_exception_and_no_end(form: str) -> None:
    broken = [*GOOD[:4], Failed(RateLimited("slow down"))]
    wire, _ = encode(form, broken)
    raised = importlib.import_module("botocore.exceptions").EventStreamError
    with pytest.raises(raised, match="slow down"):
        parsed_stream(wire, "InvokeModelWithResponseStream")
    for framing in FRAMINGS:
        error = error_of(decode(form, encode(form, broken, framing)[0], framing=framing))
        assert (error.message, error.status) == ("slow down", 429)
    assert encode(form, [*GOOD, Failed(RateLimited("late"))]) == encode(form, GOOD)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_stream_that_is_cut_has_failed(form: str, framing: Framing) -> None:
    pieces = stream_of(form, framing)
    for count in range(len(pieces) - 2):
        assert isinstance(error_of(decode(form, b"".join(pieces[:count]), framing=framing)), StreamBroken)


@pytest.mark.parametrize(
    "garble",
    [b"!!!!", b"[1]", b'"text"', b"{", b'{"outputText":1,"generation":1,"outputs":1,"choices":1}'],
)
def test_a_garbled_event_ends_the_answer(form: str, garble: bytes) -> None:
    first, *rest = stream_of(form, "sse")
    event = b"event: content_block_delta\n" if form == "invoke_anthropic" else b""
    wire = first + event + b"data: " + garble + b"\n\n"
    events = decode(form, wire, framing="sse")
    assert isinstance(error_of(events), StreamBroken | UpstreamError)
    assert decode(form, wire + b"".join(rest), framing="sse")[-1] != GOOD[-1]


@pytest.mark.parametrize("name", ["throttlingException", "modelStreamErrorException"])
def test_an_exception_in_the_stream(form: str, name: str) -> None:
    status = {"throttlingException": 429, "modelStreamErrorException": 424}[name]
    told = chunk(UPSTREAM[form][0]) + frame(name, {"message": "slow"}, "exception")
    error = error_of(decode(form, told + b"".join(stream_of(form, "eventstream"))))
    assert (error.message, error.status) == ("slow", status)
    if form != "invoke_anthropic":  # which has an event of its own for errors
        lines = line(form, UPSTREAM[form][0]) + line(form, {name: {"message": "slow"}})
        error = error_of(decode(form, lines, framing="sse"))
        assert (error.message, error.status) == ("slow", status)


def watched(form: str, framing: Framing, pieces: list[bytes]) -> tuple[Any, ...]:
    seen = record(form).observer(True, content_type(framing))
    for piece in pieces:
        seen.feed(piece)
    seen.end()
    usage = seen.usage and (seen.usage.input_tokens, seen.usage.output_tokens)
    return usage, seen.finish_reason is not None, seen.terminal, seen.failed


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_observer_of_streams(form: str, framing: Framing) -> None:
    pieces = stream_of(form, framing)
    wire = b"".join(pieces)
    assert watched(form, framing, pieces) == ((5, 2), True, True, False)
    for cut in range(0, len(wire), 7):
        assert watched(form, framing, [wire[:cut], wire[cut:]]) == ((5, 2), True, True, False)
    assert watched(form, framing, pieces[:-1])[2] is (form == "invoke_nova")  # its counts come behind the end
    assert watched(form, framing, pieces[:-2])[2] is False
    assert watched(form, framing, [b"garbled!" * 4])[2] is False


def test_the_observer_sees_exceptions(form: str) -> None:
    told = [chunk(UPSTREAM[form][0]), frame("throttlingException", {"message": "slow"}, "exception")]
    assert watched(form, "eventstream", told)[2:] == (False, True)
    own, _ = encode(form, [*GOOD[:4], Failed(RateLimited("slow down"))], "sse")
    assert watched(form, "sse", [own])[2:] == (False, True)


def test_the_observer_of_bodies(form: str) -> None:
    body = json.dumps(WHOLE[form]).encode()
    for cut in range(0, len(body), 11):
        seen = record(form).observer(False, "application/json")
        seen.feed(body[:cut])
        seen.feed(body[cut:])
        seen.end()
        assert (seen.terminal, seen.failed) == (True, False)
        assert seen.finish_reason
        if form not in TELLS_NO_USAGE:
            assert seen.usage is not None
            assert (seen.usage.input_tokens, seen.usage.output_tokens) == (5, 2)
    seen = record(form).observer(False, "application/json")
    seen.feed(body[:-1])
    seen.end()
    assert not seen.terminal


@GIVEN
@given(data=st.binary(max_size=60), framing=st.sampled_from(FRAMINGS))
def test_any_bytes_fail_in_one_event(form: str, data: bytes, framing: Framing) -> None:
    error_of(decode(form, data, framing=framing))
    watched(form, framing, [data])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """The value with one thing in it replaced, left out or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        match draw(st.integers(0, 5)):
            case 0:
                return {name: inner for name, inner in value.items() if name != key}
            case 1:
                return {**value, draw(st.text(max_size=5)): draw(JSON)}
            case _:
                return {**value, key: draw(mutated(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], draw(mutated(value[index])), *value[index + 1 :]]
    return draw(JSON)


@GIVEN
@given(data=st.data())
def test_garbled_answers_and_events_never_raise_anything_else(form: str, data: st.DataObject) -> None:
    whole = json.dumps(data.draw(mutated(WHOLE[form]))).encode()
    with suppress(HeadgateError):
        record(form).decode_result(whole)
    events = list(UPSTREAM[form])
    at = data.draw(st.integers(0, len(events) - 1))
    event = data.draw(mutated(events[at]))
    pieces = [chunk(each) for each in [*events[:at], event, *events[at + 1 :]]]
    seen = decode(form, b"".join(pieces))
    assert sum(isinstance(each, Finished | Failed) for each in seen) == 1
    if not isinstance(seen[-1], Failed):
        fold(seen)
    watched(form, "eventstream", pieces)


RICH: tuple[ChatEvent, ...] = (
    Started("a1", "m", 1, {"elsewhere": {"special": 1}}),
    PartStarted(0, Reasoning(origin="gemini")),
    PartDelta(0, "hm"),
    PartEnded(0),
    PartStarted(1, Text("")),
    PartDelta(1, "a"),
    PartCited(1, Citation("url", url="https://example.com", start=0, end=1)),
    PartStarted(2, ToolCall("c1", "f", "")),
    PartStarted(3, ToolCall("c2", "g", "")),
    PartDelta(3, '{"b":', field="arguments"),
    PartDelta(2, '{"a":1}', field="arguments"),
    PartDelta(3, "2}", field="arguments"),
    PartEnded(1),
    PartEnded(2),
    PartEnded(3),
    Finished((Stop("tool_calls"),)),
)
HAS_TOOLS = {"invoke_anthropic", "invoke_nova", "invoke_chat", "invoke_cohere"}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_calls_arrive_or_are_reported(form: str, framing: Framing) -> None:
    wire, losses = encode(form, RICH, framing)
    result = fold(decode(form, wire, framing=framing))
    calls = [part for part in result.choices[0].parts if isinstance(part, ToolCall)]
    whole, whole_losses = record(form).encode_result(fold(list(RICH)), AnswerOptions())
    if form in HAS_TOOLS:
        assert [(call.name, json.loads(call.arguments)) for call in calls] == [
            ("f", {"a": 1}),
            ("g", {"b": 2}),
        ]
        assert len({call.id for call in calls}) == 2
        assert result.choices[0].stop.reason == "tool_calls"
        again = record(form).decode_result(whole)
        assert [part.name for part in again.choices[0].parts if isinstance(part, ToolCall)] == ["f", "g"]
    else:
        assert {f"choices[0].parts[{index}]" for index in (0, 2, 3)} <= set(losses)
        assert {"special", "choices[0].parts[1].citations", "choices[0].stop"} <= set(losses)
        assert set(losses) == {loss.path for loss in whole_losses}


def test_a_second_choice_is_reported(form: str) -> None:
    choices = tuple(Choice(index, (Text("a"),), Stop("stop", index)) for index in (0, 1))
    body, losses = record(form).encode_result(ChatResult("i", "m", 0, choices, Usage(1, 1)), AnswerOptions())
    if form == "invoke_chat":
        assert losses == [] and len(json.loads(body)["choices"]) == 2
    else:
        assert "choices[1]" in {loss.path for loss in losses}


def test_callers_of_another_dialect_lose_nothing_of_a_plain_answer(form: str) -> None:
    encoder = OPENAI_CHAT.stream_encoder(AnswerOptions())
    for event in decode(form, b"".join(stream_of(form, "eventstream"))):
        encoder.encode(event)
    assert encoder.losses == []
