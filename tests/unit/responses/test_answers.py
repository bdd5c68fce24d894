"""Answers to callers: the vendor's event sequence, checked against its own types, and losses."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.core.errors import Internal, RateLimited, StreamBroken, UpstreamError
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
from headgate.core.messages import Citation, Media, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_responses import (
    StreamEncoder,
    decode_request,
    decode_result,
    echo_of,
    encode_result,
)
from headgate.dialects.openai_responses.vocabulary import mint_item_id, own_id
from tests.unit.responses.test_streams import EXPECTED, RICH
from tests.unit.responses.wire import OPTIONS, decode, encode, kinds, read, valid

START: ChatEvent = Started("up_1", "upstream", 3)
OWN = "openai_responses"


def result(*parts: Part, stop: str = "stop", **fields: Any) -> ChatResult:
    return ChatResult("up_1", "upstream", 3, (Choice(0, parts, Stop(stop)),), **fields)  # type: ignore[arg-type]


def whole(*parts: Part, **fields: Any) -> dict[str, Any]:
    return valid(encode_result(result(*parts, **fields), OPTIONS)[0])


def finish(reason: str = "stop") -> ChatEvent:
    return Finished((Stop(reason),))  # type: ignore[arg-type]


def test_a_text_in_the_order_of_the_vendor() -> None:
    events = [START, PartStarted(0, Text("")), PartDelta(0, "a%d"), PartDelta(0, 'b"\n'), PartEnded(0)]
    wire = encode([*events, UsageReported(Usage(3, 4, 1, None, 2)), finish()])
    told = read(wire)
    assert kinds(wire) == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "completed"),
    ]
    assert [value["delta"] for value in told if value["type"].endswith("text.delta")] == ["a%d", 'b"\n']
    assert told[6]["text"] == 'a%db"\n'
    response = told[-1]["response"]
    assert (response["id"], response["model"], response["created_at"]) == ("resp_1", "m", 7)
    assert response["output"][0]["content"][0]["text"] == 'a%db"\n'
    assert response["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 7,
    }


def test_interleaved_calls_keep_their_places() -> None:
    first, second = ToolCall("call_a", "f", ""), ToolCall("call_b", "g", "", "custom")
    events: list[ChatEvent] = [
        *(START, PartStarted(0, first), PartDelta(0, "1", 0, "arguments"), PartStarted(1, second)),
        *(PartDelta(1, "x", 0, "arguments"), PartDelta(0, "2", 0, "arguments"), PartEnded(0)),
        *(PartEnded(1), finish("tool_calls")),
    ]
    wire = encode(events)
    told = read(wire)
    deltas = [(v["output_index"], v["delta"]) for v in told if v["type"].endswith(".delta")]
    assert deltas == [(0, "1"), (1, "x"), (0, "2")]
    ids = {v["item_id"] for v in told if v["type"].endswith(".delta")}
    output = told[-1]["response"]["output"]
    assert ids == {item["id"] for item in output}
    assert [item.get("arguments", item.get("input")) for item in output] == ["12", "x"]
    assert fold(decode(wire)).choices[0].parts == (
        ToolCall("call_a", "f", "12"),
        ToolCall("call_b", "g", "x", "custom"),
    )


def test_texts_that_follow_each_other_are_one_message() -> None:
    output = whole(Text("a"), Text("b"), Refusal("c"), ToolCall("i", "f", "{}"), Text("d"))["output"]
    assert [item["type"] for item in output] == ["message", "function_call", "message"]
    assert [part["type"] for part in output[0]["content"]] == ["output_text", "output_text", "refusal"]


def test_reasoning_of_another_vendor_comes_back_to_it() -> None:
    """Signed, redacted, and a signature that belongs to the call behind it."""
    parts = (
        Reasoning("Hm.", "sig", origin="anthropic"),
        Reasoning(data="blob", redacted=True, origin="anthropic"),
        Reasoning(signature="s:x.y", origin="gemini"),
        ToolCall("call_a", "f", "{}"),
    )
    output = whole(*parts)["output"]
    assert output[0]["summary"] == [{"type": "summary_text", "text": "Hm."}]
    assert output[0]["encrypted_content"].startswith("hgs1.anthropic.")
    request = decode_request(msgspec.json.encode({"model": "m", "input": output}))
    assert request.messages[0].parts == parts


def test_reasoning_streamed() -> None:
    thought = Reasoning(origin="anthropic")
    events = [
        *(START, PartStarted(0, thought), PartDelta(0, "H"), PartDelta(0, "m")),
        *(
            PartDelta(0, "si", field="signature"),
            PartDelta(0, "g", field="signature"),
            PartEnded(0),
            finish(),
        ),
    ]
    wire = encode(events)
    assert kinds(wire)[2:-1] == [
        *("output_item.added", "reasoning_summary_part.added"),
        *("reasoning_summary_text.delta", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
    ]
    assert read(wire)[-1]["response"]["output"][0]["encrypted_content"] == "hgs1.anthropic.s:sig"


def test_opaque_reasoning_of_nobody_is_lost_with_a_report() -> None:
    body, losses = encode_result(result(Reasoning("a", "sig")), OPTIONS)
    assert "encrypted_content" not in valid(body)["output"][0]
    assert [loss.path for loss in losses] == ["choices[0].parts[0].signature"]


def test_what_came_from_this_dialect_goes_back_whole() -> None:
    body, losses = encode_result(EXPECTED, AnswerOptions())
    assert not losses
    assert decode_result(body) == EXPECTED
    assert fold(decode(encode(unfold(EXPECTED), AnswerOptions()))) == EXPECTED
    assert fold(decode(encode(decode(RICH), AnswerOptions()))) == EXPECTED


@pytest.mark.parametrize(
    ("reason", "parts", "status", "details"),
    [
        ("stop", (), "completed", None),
        ("tool_calls", (), "completed", None),
        ("pause", (), "completed", None),
        ("length", (), "incomplete", {"reason": "max_output_tokens"}),
        ("context_length", (), "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", (), "incomplete", {"reason": "content_filter"}),
        ("refusal", (), "incomplete", {"reason": "content_filter"}),
        ("refusal", (Refusal("no"),), "completed", None),
    ],
)
def test_why_it_ended(reason: str, parts: tuple[Part, ...], status: str, details: Any) -> None:
    body, losses = encode_result(result(*parts, Text("a"), stop=reason), OPTIONS)
    response = valid(body)
    assert (response["status"], response["incomplete_details"]) == (status, details)
    assert response["output"][-1]["status"] == status
    told_less = reason in ("pause", "context_length") or (reason == "refusal" and not parts)
    assert [loss.path for loss in losses] == ["choices[0].stop"] * told_less


def test_a_failure_closes_what_is_open_and_says_so_twice() -> None:
    events: list[ChatEvent] = [
        START,
        PartStarted(0, Text("")),
        PartDelta(0, "a"),
        PartStarted(1, ToolCall("i", "f", "")),
    ]
    wire = encode(
        [*events, Failed(UpstreamError("oh", status=500, code="vector_store_timeout")), PartDelta(0, "late")]
    )
    told = read(wire)
    assert kinds(wire)[-7:] == [
        *("output_text.done", "content_part.done", "output_item.done"),
        *("function_call_arguments.done", "output_item.done", "error", "failed"),
    ]
    assert {v["item"]["status"] for v in told if v["type"].endswith("item.done")} == {"incomplete"}
    assert told[-2]["message"] == told[-2]["error"]["message"] == "oh"
    assert told[-1]["response"]["status"] == "failed"
    assert told[-1]["response"]["error"] == {"code": "vector_store_timeout", "message": "oh"}
    assert told[-1]["response"]["output"][0]["content"][0]["text"] == "a"
    assert b"response.completed" not in wire


@pytest.mark.parametrize(
    ("error", "code"), [(Internal("x"), "server_error"), (RateLimited("x"), "rate_limit_exceeded")]
)
def test_failures_of_our_own(error: Exception, code: str) -> None:
    assert read(encode([START, Failed(error)]))[-1]["response"]["error"]["code"] == code  # type: ignore[arg-type]
    assert kinds(encode([Failed(error)])) == ["error"]  # type: ignore[arg-type]


def test_log_probabilities_and_citations() -> None:
    entry: Any = {
        "token": "a",
        "logprob": -1.0,
        "bytes": None,
        "top_logprobs": [{"token": "b", "logprob": -2.0}],
    }
    events: list[ChatEvent] = [
        *(START, PartStarted(0, Text("")), PartDelta(0, "a", logprobs=[entry])),
        *(PartCited(0, Citation("document", title="T")), PartEnded(0), finish()),
    ]
    told = read(encode(events))
    part = told[-1]["response"]["output"][0]["content"][0]
    assert part["logprobs"][0]["token"] == "a"
    assert part["annotations"] == [
        {"type": "url_citation", "url": "", "title": "T", "start_index": 0, "end_index": 0}
    ]


def test_losses_of_an_answer() -> None:
    foreign = Opaque("anthropic", {"type": "server_tool_use"})
    events: list[ChatEvent] = [
        *(START, PartStarted(0, foreign), PartEnded(0), PartStarted(0, Text("x"), 1), PartEnded(0, 1)),
        *(PartStarted(1, Media("audio", data="aa")), PartEnded(1)),
        *(PartStarted(2, Refusal("")), PartCited(2, Citation("url")), PartEnded(2)),
        Finished((Stop("stop"), Stop("stop", 1))),
    ]
    encoder = StreamEncoder(OPTIONS)
    wire = b"".join(encoder.encode(event) for event in events)
    assert [loss.path for loss in encoder.losses] == [
        "choices[0].parts[0]",
        "choices[1]",
        "choices[0].parts[1]",
        "choices[0].parts[2].citations",
    ]
    assert len(read(wire)[-1]["response"]["output"]) == 1


def test_an_image_is_a_generated_one() -> None:
    (item,) = whole(Media("image", "image/webp", "aGk="))["output"]
    assert (item["type"], item["result"], item["output_format"]) == ("image_generation_call", "aGk=", "webp")


def test_the_request_is_echoed() -> None:
    asked: dict[str, Any] = {
        "model": "m",
        "input": "x",
        "temperature": 0.5,
        "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": False}],
        "tool_choice": "required",
        "metadata": {"a": "b"},
        "instructions": "Be kind.",
        "background": True,
        "previous_response_id": "resp_0",
    }
    body, _ = encode_result(result(Text("a")), OPTIONS, echo_of(asked))
    response = valid(body)
    for key in asked.keys() - {"model", "input", "tools"}:
        assert response[key] == asked[key]
    assert response["tools"] == [{**asked["tools"][0], "description": None}]


def test_a_raw_request_is_echoed_like_a_read_one() -> None:
    asked = {"temperature": None, "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}]}
    raw = {key: msgspec.Raw(msgspec.json.encode(value)) for key, value in asked.items()}
    assert echo_of(raw) == echo_of(asked)
    assert echo_of(raw)["temperature"] == 1.0
    assert echo_of(raw)["tools"] == [
        {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None},
        {"type": "web_search"},
    ]


def test_a_queued_answer_begins_before_its_upstream() -> None:
    encoder = StreamEncoder(OPTIONS)
    wire = encoder.begin("resp_1", "m", 7, queued=True)
    wire += b"".join(encoder.encode(event) for event in (START, finish()))
    assert kinds(wire) == ["created", "queued", "in_progress", "completed"]
    assert [v["response"]["status"] for v in read(wire)] == ["queued", "queued", "in_progress", "completed"]


def test_minted_ids_are_told_from_the_vendors() -> None:
    assert own_id(mint_item_id("msg", "resp_ab", 3)) is None
    assert own_id("msg_hgab") == "msg_hgab"
    assert own_id(None) is None


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
PARTS: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, TEXTS),
    st.builds(Refusal, TEXTS),
    st.builds(Reasoning, TEXTS, st.none() | st.just("sig"), origin=st.just("anthropic")),
    st.builds(Reasoning, TEXTS, data=st.none() | st.just("d"), origin=st.just(OWN)),
    st.builds(
        ToolCall, st.just("i"), st.sampled_from(["f", "100%"]), TEXTS, st.sampled_from(["function", "custom"])
    ),
)


@settings(max_examples=150, deadline=None, database=None)
@given(st.lists(PARTS, max_size=6), st.sampled_from(["stop", "length"]))
def test_stream_and_plain_answer_are_one(parts: list[Part], stop: str) -> None:
    told = result(*parts, stop=stop, usage=Usage(1, 2, 0, 0, 0))
    wire = encode(unfold(told))
    last = read(wire)[-1]["response"]
    assert last == valid(encode_result(told, OPTIONS)[0])
    again = fold(decode(wire))
    assert [type(part) for part in again.choices[0].parts] == [type(part) for part in parts]
    assert again == decode_result(msgspec.json.encode(last))
    indexes = [v["output_index"] for v in read(wire) if v["type"].endswith("item.added")]
    assert indexes == list(range(len(indexes)))


@pytest.mark.parametrize(
    ("events", "completed"),
    [
        ((Finished((Stop("stop"),)),), 9),
        ((Finished((Stop("length"),)),), None),
        ((Failed(StreamBroken("cut")),), None),
    ],
)
def test_an_answer_tells_when_it_was_complete(events: tuple[ChatEvent, ...], completed: int | None) -> None:
    answer: list[ChatEvent] = [Started("r", "m", 1), PartStarted(0, Text("a")), PartEnded(0), *events]
    told = [each["response"] for each in read(encode(answer)) if "response" in each]
    assert [each["completed_at"] for each in told] == [None, None, completed]


def test_no_answer_is_complete_before_it_began() -> None:
    late = replace(OPTIONS, created=11)
    assert valid(encode_result(result(Text("a")), late)[0])["completed_at"] == 11
    by_the_clock = encode_result(result(Text("a")), AnswerOptions())[0]
    assert abs(msgspec.json.decode(by_the_clock)["completed_at"] - time.time()) < 60


def test_an_item_may_hold_thousands_of_thoughts() -> None:
    many = 10_000
    summary = [{"type": "summary_text", "text": str(number)} for number in range(many)]
    item = {"type": "reasoning", "id": "rs", "summary": summary, "encrypted_content": "e"}
    body = {"id": "r", "object": "response", "created_at": 1, "status": "completed", "output": [item]}
    thoughts = decode_result(msgspec.json.encode(body)).choices[0].parts
    assert [part.text for part in thoughts if isinstance(part, Reasoning)] == [str(n) for n in range(many)]
    data = [part.data for part in thoughts if isinstance(part, Reasoning)]
    assert data == [*([None] * (many - 1)), "e"]
