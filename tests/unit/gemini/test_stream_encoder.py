"""Events, written as Gemini streams of both framings."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.core.errors import RateLimited, StreamBroken
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
    UsageReported,
)
from headgate.core.fold import fold, unfold
from headgate.core.loss import Loss
from headgate.core.messages import (
    Citation,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from headgate.core.result import ChatResult, Choice
from headgate.dialects.dialect import AnswerOptions, Framing
from headgate.dialects.gemini import StreamDecoder, StreamEncoder, decode_request, encode_result
from headgate.dialects.gemini.vocabulary import made_id
from tests.unit.gemini.chunks import decode, elements, encode, text_of
from tests.unit.gemini.test_answers import SSE

GIVEN = settings(max_examples=120, deadline=None, database=None)
START = Started("r1", "up", 7)
STOP = Finished((Stop("stop"),))


ENDED = Stop("stop", native="STOP")


def result_of(*parts: Part, stop: Stop = ENDED, **fields: Any) -> ChatResult:
    return ChatResult("r1", "m", 0, (Choice(0, parts, stop),), **fields)


def streamed(*parts: Part) -> tuple[list[dict[str, Any]], list[Loss]]:
    """The wire's parts of an answer, as its stream has them."""
    encoder = StreamEncoder(AnswerOptions())
    wire = b"".join(encoder.encode(event) for event in unfold(result_of(*parts)))
    found = [
        part
        for element in elements(wire)
        for candidate in element["candidates"]
        for part in candidate["content"].get("parts", ())
        if part != {"text": ""}
    ]
    return found, encoder.losses


def test_the_form_of_a_stream() -> None:
    encoder = StreamEncoder(AnswerOptions(id="id", model="public"))
    assert encoder.encode(START) == b""
    assert encoder.encode(PartStarted(0, Text("a"))) == (
        b'data: {"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"},"index":0}],'
        b'"modelVersion":"public","responseId":"id"}\n\n'
    )
    assert encoder.encode(PartEnded(0)) == b""
    assert encoder.encode(UsageReported(Usage(3, 4, None, None, 1))) == b""
    assert encoder.encode(STOP) == (
        b'data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP",'
        b'"index":0}],'
        b'"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":3,"thoughtsTokenCount":1,'
        b'"totalTokenCount":7},"modelVersion":"public","responseId":"id"}\n\n'
    )
    assert encoder.encode(STOP) == b""


def test_an_array_is_an_array() -> None:
    events: list[ChatEvent] = [START, PartStarted(0, Text("")), PartDelta(0, "a"), PartEnded(0), STOP]
    wire = encode(events, "json_array")
    assert wire.startswith(b'[{"candidates"') and wire.endswith(b"}]")
    assert json.loads(wire) == elements(encode(events))
    assert len(elements(encode([START, STOP], "json_array"))) == 1


@pytest.mark.parametrize("framing", ["sse", "json_array"])
def test_a_streams_round_trip_loses_nothing(framing: Framing) -> None:
    events = decode(SSE)
    assert fold(decode(encode(events, framing))) == fold(events)


PARTS = st.lists(
    st.one_of(
        st.builds(Text, st.text(min_size=1, max_size=20)),
        st.builds(Reasoning, st.text(min_size=1, max_size=20)),
        st.builds(
            Reasoning, st.text(min_size=1, max_size=9), signature=st.just("AAAA"), origin=st.just("gemini")
        ),
        st.builds(
            ToolCall, st.text("abc", min_size=1), st.just("f"), st.sampled_from(["{}", '{"x":[1,"\u2028"]}'])
        ),
        st.just(Media("image", "image/png", "AAAA")),
        st.just(Opaque("gemini", {"executableCode": {"code": "1\n2"}})),
    ),
    max_size=6,
)


@GIVEN
@given(PARTS, st.sampled_from(["sse", "json_array"]), st.lists(st.integers(1, 400), max_size=4))
def test_any_answer_survives_its_stream(parts: list[Part], framing: Framing, cuts: list[int]) -> None:
    kinds = [type(part) if getattr(part, "signature", None) is None else None for part in parts]
    if any(a is b and a in (Text, Reasoning) for a, b in pairwise(kinds)):
        return  # adjacent pieces of text are one text
    called = any(isinstance(part, ToolCall) for part in parts)
    result = result_of(
        *parts, stop=Stop("tool_calls" if called else "stop", native="STOP"), usage=Usage(1, 2)
    )
    wire = encode(unfold(result), framing)
    assert fold(decode(wire, *sorted(min(cut, len(wire)) for cut in cuts))) == result
    body, losses = encode_result(result, AnswerOptions())
    assert losses == []
    assert fold(decode(b"data: " + body + b"\n\n")) == result


def test_line_separators_are_escaped_for_readers_that_split_at_them() -> None:
    events: list[ChatEvent] = [
        START,
        PartStarted(0, Text("")),
        PartDelta(0, "a\u2028b\x85\u2029"),
        PartEnded(0),
        STOP,
    ]
    wire = encode(events)
    assert len(wire.decode().splitlines()) == len(wire.split(b"\n")) - 1
    assert text_of(wire) == "a\u2028b\x85\u2029"


def test_a_tool_call_goes_out_whole_when_its_pieces_are_valid() -> None:
    encoder = StreamEncoder(AnswerOptions())
    encoder.encode(START)
    held: list[ChatEvent] = [
        PartStarted(0, ToolCall("a", "f", "")),
        PartDelta(0, '{"x":', field="arguments"),
        PartStarted(1, ToolCall("b", "g", "")),
        PartDelta(1, "{", field="arguments"),
        PartDelta(0, "1}", field="arguments"),
        PartDelta(1, "}", field="arguments"),
    ]
    assert b"".join(encoder.encode(event) for event in held) == b""
    first, second = encoder.encode(PartEnded(0)), encoder.encode(PartEnded(1))
    assert elements(first)[0]["candidates"][0]["content"]["parts"] == [
        {"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}}
    ]
    assert elements(second)[0]["candidates"][0]["content"]["parts"] == [
        {"functionCall": {"id": "b", "name": "g", "args": {}}}
    ]
    last = elements(encoder.encode(Finished((Stop("tool_calls", native="tool_calls"),))))
    assert last[0]["candidates"][0]["finishReason"] == "STOP"
    assert last[0]["candidates"][0]["content"] == {"parts": [{"text": ""}], "role": "model"}


@pytest.mark.parametrize("framing", ["sse", "json_array"])
@pytest.mark.parametrize("arguments", ['{"x":', "[]", "null", "oops", '{"x":1}}'])
def test_bad_arguments_end_the_answer_in_an_error(framing: Framing, arguments: str) -> None:
    events: list[ChatEvent] = [
        START,
        PartStarted(0, ToolCall("a", "f", "")),
        PartDelta(0, arguments, field="arguments"),
        PartEnded(0),
        Finished((Stop("tool_calls"),)),
    ]
    wire = encode(events, framing)
    (error,) = elements(wire)
    assert error["error"]["code"] == 502 and "'f'" in error["error"]["message"]
    with pytest.raises(StreamBroken, match="not a JSON object"):
        encode_result(fold(events), AnswerOptions())


@pytest.mark.parametrize("framing", ["sse", "json_array"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_failure_is_a_framed_error_and_no_success(framing: Framing, count: int) -> None:
    before: list[ChatEvent] = [START, PartStarted(0, Text("")), PartDelta(0, "a")]
    wire = encode([*before[:count], Failed(RateLimited("Slow down", retry_after=2)), STOP], framing)
    *_, last = elements(wire)
    assert last["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert b"finishReason" not in wire
    events = decode(wire)
    assert isinstance(events[-1], Failed) and events[-1].error.status == 429
    assert events[-1].error.retry_after == 2


def test_reasoning_of_other_vendors_is_sealed_and_comes_back() -> None:
    parts, losses = streamed(
        Reasoning("Let me", "sig", origin="anthropic"),
        Reasoning(data="secret", redacted=True, origin="anthropic"),
        Reasoning(signature="bare", origin="anthropic"),
        Reasoning("open", data="enc", origin="openai_responses"),
        Text("Hi"),
    )
    assert losses == []
    contents = [{"role": "model", "parts": [part]} for part in parts]
    request = decode_request(json.dumps({"contents": contents}).encode(), model="m")
    assert request.messages[0].parts == (
        Reasoning("Let me", "sig", origin="anthropic"),
        Reasoning(data="secret", redacted=True, origin="anthropic"),
        Reasoning(signature="bare", origin="anthropic"),
        Reasoning("open", data="enc", origin="openai_responses"),
        Text("Hi"),
    )
    body, _ = encode_result(result_of(Reasoning("Let me", "sig", origin="anthropic")), AnswerOptions())
    content = json.loads(body)["candidates"][0]["content"]
    again = decode_request(json.dumps({"contents": [content]}).encode(), model="m")
    assert again.messages[0].parts == (Reasoning("Let me", "sig", origin="anthropic"),)


def test_geminis_own_signatures_stand_where_they_stood() -> None:
    own: Any = {"origin": "gemini"}
    parts, losses = streamed(
        Reasoning("Hm", "AAAA", **own),
        Reasoning(signature="BBBB", **own),
        Text("a"),
        Reasoning(signature="CCCC", **own),
        ToolCall("c", "f", "{}"),
        ToolCall(made_id("x"), "g", "{}"),
        Reasoning(signature="DDDD", extensions={"gemini": {"text": ""}}, **own),
        Reasoning(signature="EEEE", **own),
    )
    assert losses == []
    assert parts == [
        {"text": "Hm", "thought": True, "thoughtSignature": "AAAA"},
        {"text": "a", "thoughtSignature": "BBBB"},
        {"functionCall": {"id": "c", "name": "f", "args": {}}, "thoughtSignature": "CCCC"},
        {"functionCall": {"name": "g", "args": {}}},
        {"text": "", "thoughtSignature": "DDDD"},
        {"text": "", "thoughtSignature": "EEEE"},
    ]


def test_a_signature_that_comes_behind_its_thought_is_sent_behind_it() -> None:
    def written(origin: str) -> list[dict[str, Any]]:
        events: list[ChatEvent] = [
            START,
            PartStarted(0, Reasoning(origin=origin)),
            PartDelta(0, "Hm"),
            PartDelta(0, "AA", field="signature"),
            PartDelta(0, "AA", field="signature"),
            PartEnded(0),
        ]
        return [element["candidates"][0]["content"]["parts"][0] for element in elements(encode(events))]

    thought, signature = written("anthropic")
    assert thought == {"text": "Hm", "thought": True}
    assert (signature["text"], signature["thought"]) == ("", True)
    assert signature["thoughtSignature"] not in ("", "AAAA")
    assert written("gemini") == [{"text": "Hm", "thought": True, "thoughtSignature": "AAAA"}]


def test_what_has_no_place_in_an_answer_is_reported() -> None:
    parts, losses = streamed(
        Refusal("no"),
        Opaque("anthropic", {}),
        Text("a", extensions={"openai_chat": {"x": 1}}),
        Media("image", file_id="f"),
        ToolCall("c", "grep", "x", kind="custom"),
        Reasoning("b", "sig"),
    )
    assert parts == [
        {"text": "no"},
        {"text": "a"},
        {"functionCall": {"id": "c", "name": "grep", "args": {"input": "x"}}},
        {"text": "b", "thought": True},
    ]
    path = "candidates[0].content.parts"
    assert [loss.path for loss in losses] == [
        f"{path}[0]",
        f"{path}[1]",
        f"{path}[2].x",
        f"{path}[3]",
        f"{path}[4]",
        f"{path}[5]",
    ]
    stop = Stop("stop", sequence="END")
    result = result_of(Text("a"), stop=stop, usage=Usage(1, 1, 0, 5))
    _, plain = encode_result(result, AnswerOptions())
    encoder = StreamEncoder(AnswerOptions())
    for event in unfold(result):
        encoder.encode(event)
    lost = {"choices[0].stop.sequence", "usage.cache_write_tokens"}
    assert {loss.path for loss in plain} == {loss.path for loss in encoder.losses} == lost


def test_a_tool_result_has_no_place_in_an_answer() -> None:
    encoder = StreamEncoder(AnswerOptions())
    encoder.encode(START)
    encoder.encode(PartStarted(0, ToolResult("c", (Text("r"),))))
    assert encoder.encode(PartEnded(0)) == b""
    assert [loss.path for loss in encoder.losses] == ["candidates[0].content.parts[0]"]


def test_other_vendors_citations_count_bytes() -> None:
    citation = Citation("url", "https://a", "A", start=6, end=9)
    events: list[ChatEvent] = [
        START,
        PartStarted(0, Text("")),
        PartDelta(0, "Grüße "),
        PartDelta(0, "aus"),
        PartCited(0, citation),
        PartEnded(0),
        STOP,
    ]
    metadata = {"citations": [{"startIndex": 8, "endIndex": 11, "uri": "https://a", "title": "A"}]}
    *_, last = elements(encode(events))
    assert last["candidates"][0]["citationMetadata"] == metadata
    body, _ = encode_result(fold(events), AnswerOptions())
    assert json.loads(body)["candidates"][0]["citationMetadata"] == metadata


def test_log_probabilities_go_with_their_text() -> None:
    entry: Any = {"token": "a", "logprob": -1.0, "top_logprobs": []}
    events: list[ChatEvent] = [
        START,
        PartStarted(0, Text("")),
        PartDelta(0, "a", logprobs=[entry]),
        PartEnded(0),
        STOP,
    ]
    first, _ = elements(encode(events))
    assert first["candidates"][0]["logprobsResult"]["chosenCandidates"] == [
        {"token": "a", "logProbability": -1.0}
    ]
    assert text_of(encode(events)) == "a"


def test_several_candidates() -> None:
    events: list[ChatEvent] = [
        START,
        PartStarted(0, Text("a")),
        PartStarted(0, Text("b"), 1),
        PartDelta(0, "B", 1),
        PartEnded(0),
        PartEnded(0, 1),
        Finished((Stop("stop", 0, native="STOP"), Stop("length", 1, native="MAX_TOKENS"))),
    ]
    decoder = StreamDecoder()
    choices = fold(decoder.feed(encode(events)) + decoder.end()).choices
    assert choices == (
        Choice(0, (Text("a"),), Stop("stop", 0, native="STOP")),
        Choice(1, (Text("bB"),), Stop("length", 1, native="MAX_TOKENS")),
    )


def test_parts_stand_in_their_order_whichever_ends_first() -> None:
    parts: tuple[Part, ...] = (
        Text("Both:"),
        ToolCall("a", "f", '{"n":1}'),
        Reasoning(signature="c2ln", origin="gemini"),
        ToolCall("b", "g", '{"n":2}'),
        Text("Done."),
        ToolCall("c", "h", "{}"),
    )
    events: list[ChatEvent] = [START]
    events += [PartStarted(index, part) for index, part in enumerate(parts)]
    events += [PartDelta(4, " Really."), *(PartEnded(index) for index in (3, 2, 5, 0, 4, 1)), STOP]
    encoder = StreamEncoder(AnswerOptions())
    pieces = [encoder.encode(event) for event in events]
    found = [
        part
        for element in elements(b"".join(pieces))
        for candidate in element["candidates"]
        for part in candidate["content"].get("parts", ())
        if part != {"text": ""}
    ]
    assert found == [
        {"text": "Both:"},
        {"functionCall": {"id": "a", "name": "f", "args": {"n": 1}}},
        {"functionCall": {"id": "b", "name": "g", "args": {"n": 2}}, "thoughtSignature": "c2ln"},
        {"text": "Done. Really."},
        {"functionCall": {"id": "c", "name": "h", "args": {}}},
    ]
    assert pieces[1]  # the first text goes out at once
    decoder = StreamDecoder()
    read = fold(decoder.feed(b"".join(pieces)) + decoder.end())
    assert [type(part) for part in read.choices[0].parts] == [
        Text,
        ToolCall,
        Reasoning,
        ToolCall,
        Text,
        ToolCall,
    ]
