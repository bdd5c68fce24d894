"""Chat Completions answers as callers get them: streams and complete ones, which say the same."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from headgate.core.call import Usage
from headgate.core.errors import RateLimited
from headgate.core.events import (
    ChatEvent,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.fold import fold, unfold
from headgate.core.loss import Loss
from headgate.core.messages import Citation, Media, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects import sse
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_chat import StreamEncoder, decode_result, encode_result
from tests.unit.openai_chunks import ANSWER, DONE, choice, chunk, decode, text

ENTRY = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
GIVEN = settings(max_examples=120, deadline=None, database=None)


def encode(events: list[ChatEvent], **options: Any) -> list[Any]:
    """Chunks as JSON; `[DONE]` as it is."""
    encoder = StreamEncoder(AnswerOptions(**options))
    wire = b"".join(encoder.encode(event) for event in events)
    decoded = sse.Decoder().feed(wire)
    return [event.data if event.data == b"[DONE]" else json.loads(event.data) for event in decoded]


def test_a_stream_as_a_caller_sees_it() -> None:
    head = {"id": "mine", "object": "chat.completion.chunk", "created": 9, "model": "public"}
    role = {"role": "assistant", "content": "", "refusal": None}
    events: list[ChatEvent] = [
        Started("theirs", "m", 7),
        PartStarted(0, Text("")),
        PartDelta(0, 'a"\n', logprobs=[{"token": "a"}]),
        PartEnded(0),
        PartStarted(1, ToolCall("t", "f", "")),
        PartDelta(1, "{}", field="arguments"),
        PartEnded(1),
        UsageReported(Usage(1, 2, cached_tokens=0, reasoning_tokens=1)),
        Finished((Stop("tool_calls"),)),
    ]
    tool = {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": "{}"}}

    def one(delta: Any, finish: str | None = None, logprobs: Any = None) -> dict[str, Any]:
        body = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return head | {"choices": [body], "usage": None}

    assert encode(events, include_usage=True, id="mine", created=9, model="public") == [
        one(role),
        one({"content": 'a"\n'}, logprobs={"content": [{"token": "a"}], "refusal": None}),
        one({"tool_calls": [tool]}),
        one({"tool_calls": [more]}),
        one({}, "tool_calls"),
        head
        | {
            "choices": [],
            "usage": {
                "prompt_tokens": 1,
                "completion_tokens": 2,
                "total_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
        },
        b"[DONE]",
    ]
    plain = encode(events)
    assert plain[0]["id"] == "theirs"
    assert all("usage" not in item for item in plain[:-1])


def test_parallel_calls_are_numbered_in_each_choice() -> None:
    events: list[ChatEvent] = [
        Started("i", "m", 1),
        PartStarted(0, Text("x")),
        PartEnded(0),
        PartStarted(1, ToolCall("a", "f", "")),
        PartStarted(2, ToolCall("b", "g", "", "custom")),
        PartStarted(0, ToolCall("c", "f", "1"), choice=1),
        PartDelta(2, "2", field="arguments"),
        PartDelta(1, "3", field="arguments"),
    ]
    calls = [
        (item["choices"][0]["index"], call["index"], call.get("id"), call.get("function") or call["custom"])
        for item in encode(events)
        for call in item["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert calls == [
        (0, 0, "a", {"name": "f", "arguments": ""}),
        (0, 1, "b", {"name": "g", "input": ""}),
        (1, 0, "c", {"name": "f", "arguments": "1"}),
        (0, 1, None, {"input": "2"}),
        (0, 0, None, {"arguments": "3"}),
    ]


def test_a_failure_is_framed_and_nothing_follows() -> None:
    encoder = StreamEncoder(AnswerOptions())
    encoder.encode(Started("i", "m", 1))
    wire = encoder.encode(Failed(RateLimited("slow down")))
    assert wire.startswith(b'data: {"error":{') and wire.endswith(b"}}\n\n")
    assert json.loads(wire[6:])["error"] == {
        "message": "slow down",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert encoder.encode(Finished(())) == b""


def test_what_a_stream_has_no_place_for_is_reported() -> None:
    encoder = StreamEncoder(AnswerOptions())
    events: list[ChatEvent] = [
        Started("i", "m", 1),
        PartStarted(0, Reasoning()),
        PartDelta(0, "s", field="signature"),
        PartDelta(0, "t", field="signature"),
        PartEnded(0),
        PartStarted(1, Media("image", "image/png", "AA")),
        PartStarted(2, Opaque("anthropic", {})),
    ]
    for event in events:
        encoder.encode(event)
    assert [loss.path for loss in encoder.losses] == [f"choices[0].parts[{index}]" for index in range(3)]
    assert isinstance(encoder.losses[0], Loss)


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@st.composite
def results(draw: st.DrawFn) -> ChatResult:
    choices = []
    for index in range(draw(st.integers(1, 3))):
        found: list[Part] = []
        if draw(st.booleans()):
            found.append(Reasoning(draw(words)))
        if draw(st.booleans()):
            found.append(Text(draw(words)))
        if draw(st.booleans()):
            found.append(Refusal(draw(words)))
        for number in range(draw(st.integers(0, 3))):
            kind = draw(st.sampled_from(["function", "custom"]))
            found.append(ToolCall(f"id{number}", draw(words), draw(words), kind))
        has_text = any(isinstance(part, Text) for part in found)
        logprobs: Any = (ENTRY,) if has_text and draw(st.booleans()) else None
        word: Any = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
        choices.append(Choice(index, tuple(found), Stop(word, index, native=word), logprobs))
    extra: Any = {"system_fingerprint": "fp", "choices": {"0": {"x": 1}}}
    return ChatResult("i", "m", 1, tuple(choices), Usage(1, 2, 3, 4, 5), {"openai_chat": extra})


@GIVEN
@given(results())
def test_the_official_client_reads_both(result: ChatResult) -> None:
    ChatCompletion.model_validate_json(encode_result(result, AnswerOptions())[0])
    calls = [part for choice in result.choices for part in choice.parts if isinstance(part, ToolCall)]
    if all(call.kind == "function" for call in calls):  # its chunk type knows no other yet
        for item in encode(unfold(result), include_usage=True)[:-1]:
            ChatCompletionChunk.model_validate(item)


@GIVEN
@given(results(), st.lists(st.integers(0, 5000), max_size=6))
def test_the_stream_and_the_plain_answer_say_the_same(result: ChatResult, cuts: list[int]) -> None:
    encoder = StreamEncoder(AnswerOptions(include_usage=True))
    events = unfold(result)
    finish = events[-1]
    assert isinstance(finish, Finished)
    events[-1] = Finished(finish.stops, result.extensions)
    wire = b"".join(encoder.encode(event) for event in events)
    assert encoder.losses == []
    assert fold(decode(wire, *sorted(cut for cut in cuts if cut <= len(wire)))) == result
    assert decode_result(encode_result(result, AnswerOptions())[0]) == result


def test_a_plain_answer_on_the_wire() -> None:
    assert json.loads(encode_result(decode_result(json.dumps(ANSWER).encode()), AnswerOptions())[0]) == ANSWER


def test_unknown_deltas_are_merged_into_the_message() -> None:
    def audio(**fields: Any) -> bytes:
        return chunk(choice({"audio": fields}))

    events = decode(
        text("a")
        + audio(id="x", data="AA", transcript="Hi ")
        + audio(data="BB", transcript="you", expires_at=5)
        + chunk(choice({"images": [1]}))
        + chunk(choice({"images": [2]}))
        + chunk(choice({"function_call": {"name": "f", "arguments": "{}"}}, "function_call"))
        + DONE
    )
    message = json.loads(encode_result(fold(events), AnswerOptions())[0])["choices"][0]["message"]
    assert message == {
        "role": "assistant",
        "content": "a",
        "refusal": None,
        "audio": {"id": "x", "data": "AABB", "transcript": "Hi you", "expires_at": 5},
        "images": [1, 2],
        "function_call": {"name": "f", "arguments": "{}"},
    }
    replayed = encode(events)
    assert replayed[2]["choices"][0]["delta"] == {"audio": {"id": "x", "data": "AA", "transcript": "Hi "}}
    assert replayed[-2]["choices"][0]["finish_reason"] == "function_call"


def test_parts_that_open_with_their_text() -> None:
    events: list[ChatEvent] = [
        Started("i", "m", 1),
        PartStarted(0, Reasoning("t")),
        PartEnded(0),
        PartStarted(1, Text("a", (Citation("url", extensions={"openai_chat": {"type": "url_citation"}}),))),
        PartEnded(1),
        PartStarted(2, Refusal("no")),
        PartEnded(2),
        Finished((Stop("refusal"),)),
    ]
    chunks = encode(events)
    assert [item["choices"][0]["delta"] for item in chunks[1:-1]] == [
        {"reasoning_content": "t"},
        {"content": "a", "annotations": [{"type": "url_citation"}]},
        {"refusal": "no"},
        {},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "content_filter"
    message = json.loads(encode_result(fold(events), AnswerOptions())[0])["choices"][0]["message"]
    assert message == {
        "role": "assistant",
        "content": "a",
        "refusal": "no",
        "annotations": [{"type": "url_citation"}],
        "reasoning_content": "t",
    }


def test_unknown_fields_of_a_call_are_kept() -> None:
    function = {"name": "f", "arguments": "{}", "inner": 2}
    call = {"id": "call_1", "type": "function", "vendor": 1, "function": function}
    wire = chunk(choice({"tool_calls": [{**call, "index": 0}]})) + chunk(choice({}, "tool_calls")) + DONE
    body, _ = encode_result(fold(decode(wire)), AnswerOptions())
    assert json.loads(body)["choices"][0]["message"]["tool_calls"] == [call]
    encoder = StreamEncoder(AnswerOptions())
    streamed = b"".join(encoder.encode(event) for event in decode(wire))
    assert fold(decode(streamed)).choices == fold(decode(wire)).choices
