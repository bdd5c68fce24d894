"""Responses streams from an upstream: the whole event set at every byte split, and upstreams' habits."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, StreamBroken, UpstreamError
from headgate.core.events import ChatEvent, Failed, Finished, PartDelta, PartStarted, Started, Stop
from headgate.core.fold import Assembler, fold, unfold
from headgate.core.messages import JSON, Citation, Media, Opaque, Reasoning, Refusal, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects import sse
from headgate.dialects.openai_responses import StreamDecoder, decode_result
from tests.unit.responses.wire import USAGE, Script, answer, decode, message

GIVEN = settings(max_examples=100, deadline=None, database=None)

NOTE: dict[str, JSON] = {
    "type": "url_citation",
    "url": "https://a.b",
    "title": "A",
    "start_index": 0,
    "end_index": 2,
}
THOUGHT: dict[str, Any] = {
    "id": "rs_0",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}],
    "encrypted_content": "gAAA",
}
TEXT: dict[str, Any] = message("Grüße 🌍", "msg_1", phase="final_answer")
TEXT["content"][0]["annotations"] = [NOTE]
TEXT["content"].append({"type": "refusal", "refusal": "no"})
SEARCH: dict[str, JSON] = {
    "id": "ws_2",
    "type": "web_search_call",
    "status": "completed",
    "action": {"type": "search"},
}
CALL = {
    "id": "fc_3",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_a",
    "name": "f",
    "arguments": '{"x":1}',
}
CUSTOM = {"id": "ctc_4", "type": "custom_tool_call", "call_id": "call_b", "name": "g", "input": "free text"}
IMAGE = {"id": "ig_5", "type": "image_generation_call", "status": "completed", "result": "aGk="}
OUTPUT = [THOUGHT, TEXT, SEARCH, CALL, CUSTOM, IMAGE]


def rich() -> Script:
    script = Script().begin()
    script.add(0, THOUGHT | {"summary": [], "encrypted_content": None})
    for number, texts in enumerate((("On", "e."), ("Two.",))):
        place: dict[str, Any] = {"output_index": 0, "summary_index": number, "item_id": "rs_0"}
        part = {"type": "summary_text", "text": ""}
        script.event("response.reasoning_summary_part.added", **place, part=part)
        for text in texts:
            script.event("response.reasoning_summary_text.delta", **place, delta=text)
        script.event("response.reasoning_summary_text.done", **place, text="".join(texts))
        script.event("response.reasoning_summary_part.done", **place, part=part)
    script.done(0, THOUGHT)
    script.add(1, TEXT | {"content": [], "status": "in_progress"})
    place = {"output_index": 1, "content_index": 0, "item_id": "msg_1"}
    opened: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    script.event("response.content_part.added", **place, part=opened)
    for text in ("Grü", "ße ", "🌍"):
        script.event("response.output_text.delta", **place, delta=text, logprobs=[], obfuscation="xyz")
    script.event("response.output_text.annotation.added", **place, annotation_index=0, annotation=NOTE)
    script.event("response.output_text.done", **place, text="Grüße 🌍", logprobs=[])
    script.event("response.content_part.done", **place, part=TEXT["content"][0])
    place["content_index"] = 1
    script.event("response.content_part.added", **place, part={"type": "refusal", "refusal": ""})
    script.event("response.refusal.delta", **place, delta="no")
    script.event("response.refusal.done", **place, refusal="no")
    script.event("response.content_part.done", **place, part=TEXT["content"][1])
    script.done(1, TEXT)
    script.add(2, SEARCH | {"status": "in_progress"})
    script.event("response.web_search_call.searching", output_index=2, item_id="ws_2")
    script.done(2, SEARCH)
    script.add(3, CALL | {"arguments": "", "status": "in_progress"})
    script.add(4, CUSTOM | {"input": ""})
    script.delta("function_call_arguments", 3, '{"x"')
    script.delta("custom_tool_call_input", 4, "free ")
    script.delta("function_call_arguments", 3, ":1}")
    script.delta("custom_tool_call_input", 4, "text")
    script.event("response.function_call_arguments.done", output_index=3, arguments='{"x":1}')
    script.done(3, CALL).done(4, CUSTOM)
    script.add(5, IMAGE | {"result": None}).done(5, IMAGE)
    return script.end(*OUTPUT, service_tier="flex", surprise=1)


RICH = rich().wire


def own(**values: Any) -> dict[str, dict[str, Any]]:
    return {"openai_responses": values}


EXPECTED = ChatResult(
    "resp_1",
    "m",
    7,
    (
        Choice(
            0,
            (
                Reasoning("One.", origin="openai_responses", extensions=own(id="rs_0")),
                Reasoning("Two.", None, "gAAA", origin="openai_responses", extensions=own(continued=True)),
                Text(
                    "Grüße 🌍",
                    (
                        Citation(
                            "url", "https://a.b", "A", start=0, end=2, extensions={"openai_responses": NOTE}
                        ),
                    ),
                    extensions=own(item={"id": "msg_1", "phase": "final_answer"}),
                ),
                Refusal("no"),
                Opaque("openai_responses", SEARCH),
                ToolCall("call_a", "f", '{"x":1}', extensions=own(id="fc_3")),
                ToolCall("call_b", "g", "free text", "custom", extensions=own(id="ctc_4")),
                Media("image", "image/png", "aGk=", extensions=own(id="ig_5")),
            ),
            Stop("tool_calls", native="completed"),
        ),
    ),
    Usage(9, 5, 4, 2, 3),
    {**own(surprise=1), "openai": {"service_tier": "flex"}},
)


def parts_of(script: Script) -> tuple[Any, ...]:
    return fold(decode(script.wire)).choices[0].parts


def error_of(events: list[ChatEvent]) -> HeadgateError:
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Finished | Failed) for event in events[:-1])
    assembler = Assembler()
    for event in events:
        assembler.feed(event)
    return events[-1].error


def test_a_rich_stream_folds_to_the_whole_answer() -> None:
    assert fold(decode(RICH)) == EXPECTED


def test_the_plain_answer_is_the_same() -> None:
    assert decode_result(json.dumps(answer(*OUTPUT, service_tier="flex", surprise=1)).encode()) == EXPECTED


def test_every_byte_split_gives_the_same_events() -> None:
    expected = decode(RICH)
    for cut in range(len(RICH)):
        assert decode(RICH, cut) == expected
    assert decode(RICH, *range(len(RICH))) == expected


@GIVEN
@given(st.lists(st.integers(0, len(RICH)), max_size=10), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_and_line_end_give_the_same_events(cuts: list[int], line_end: bytes) -> None:
    assert decode(RICH.replace(b"\n", line_end), *sorted(cuts)) == decode(RICH)


def test_a_read_for_each_event_gives_the_same_events() -> None:
    cuts = []
    position = 0
    for sent in rich().sent[:-1]:
        position += len(sent)
        cuts.append(position)
    assert decode(RICH, *cuts) == decode(RICH)


def test_deltas_come_out_with_the_bytes_that_hold_them() -> None:
    sent = Script().begin().message(0, "a", "b").sent
    decoder = StreamDecoder()
    told = [decoder.feed(each) for each in sent]
    assert told[0] == [Started("resp_1", "m", 7)]
    assert told[4] == [PartDelta(0, "a")]
    assert told[5] == [PartDelta(0, "b")]


def test_nobody_needs_event_lines() -> None:
    script = Script(named=False).begin().message(0, "a", "b").end(message("ab", "msg_0"))
    assert [part.text for part in parts_of(script)] == ["ab"]


def test_what_was_not_streamed_is_made_up_for() -> None:
    """From the item, or from the whole response."""
    for script in (
        Script().begin().add(0, message("")).done(0, message("abc")).end(),
        Script().begin().end(message("abc")),
        Script().begin().delta("output_text", 0, "ab", content_index=0).end(message("abc")),
    ):
        assert [part.text for part in parts_of(script)] == ["abc"]
    (call,) = parts_of(Script().begin().end(CALL))
    assert (call.name, call.arguments) == ("f", '{"x":1}')


def test_the_whole_is_not_taken_twice() -> None:
    script = Script().begin().message(0, "ab").end(message("ab"))
    assert [part.text for part in parts_of(script)] == ["ab"]


def test_thoughts_of_open_models() -> None:
    item: dict[str, Any] = {"id": "rs_0", "type": "reasoning", "summary": [], "content": []}
    whole = item | {"content": [{"type": "reasoning_text", "text": "Hm."}]}
    script = Script().begin().add(0, item)
    script.delta("reasoning_text", 0, "Hm", content_index=0).delta("reasoning_text", 0, ".", content_index=0)
    streamed = parts_of(script.done(0, whole).end(whole))
    assert streamed == decode_result(json.dumps(answer(whole)).encode()).choices[0].parts
    assert streamed == (
        Reasoning("Hm.", origin="openai_responses", extensions=own(id="rs_0", place="content")),
    )


def test_log_probabilities() -> None:
    entry = {"token": "a", "logprob": -0.5, "top_logprobs": []}
    script = Script().begin().add(0, message(""))
    script.delta("output_text", 0, "a", content_index=0, logprobs=[entry]).end(message("a"))
    assert fold(decode(script.wire)).choices[0].logprobs == (entry,)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"incomplete_details": {"reason": "new"}}, "other"),
        ({}, "other"),
    ],
)
def test_incomplete_answers(fields: dict[str, Any], reason: str) -> None:
    streamed = fold(decode(Script().begin().end(message("a"), kind="incomplete", **fields).wire))
    assert streamed.choices[0].stop.reason == reason
    assert streamed == decode_result(json.dumps(answer(message("a"), status="incomplete", **fields)).encode())


@pytest.mark.parametrize("cut", [0, 1, len(RICH) // 2, len(RICH) - 200])
def test_a_cut_stream_fails(cut: int) -> None:
    error = error_of(decode(RICH[:cut]))
    assert isinstance(error, StreamBroken)
    assert error.retryable


def test_done_is_no_end() -> None:
    assert isinstance(
        error_of(decode(Script().begin().message(0, "a").wire + b"data: [DONE]\n\n")), StreamBroken
    )
    whole = Script().begin().end(message("a")).wire
    assert isinstance(decode(whole + b"data: [DONE]\n\n")[-1], Finished)


@pytest.mark.parametrize(
    ("detail", "status"),
    [
        ({"code": "server_error", "message": "oh"}, 500),
        ({"code": "rate_limit_exceeded", "message": "oh"}, 429),
        ({"code": "invalid_prompt", "message": "oh"}, 400),
        ({"code": "image_too_large", "message": "oh"}, 400),
        ({"code": None, "type": "invalid_request_error", "message": "oh"}, 400),
        ({"code": "odd", "message": "oh"}, 502),
    ],
)
def test_errors_in_mid_stream(detail: dict[str, Any], status: int) -> None:
    failed = Script().begin().message(0, "a").end(kind="failed", error=detail)
    flat = Script().begin().event("error", **detail | {"type": "error"}) if "type" not in detail else None
    nested = Script().begin().event("error", error=detail)
    for script in (failed, flat, nested):
        if script is not None:
            error = error_of(decode(script.wire + b"data: {}\n\n"))
            assert isinstance(error, UpstreamError)
            assert (error.status, error.message) == (status, "oh")


def test_a_failure_without_a_reason() -> None:
    error = error_of(decode(Script().begin().end(kind="failed").wire))
    assert error.status == 502
    assert "no reason" in error.message


def test_a_whole_answer_where_a_stream_was_asked_for() -> None:
    body = json.dumps(answer(*OUTPUT)).encode()
    assert decode(body, 1, 50) == unfold(decode_result(body))
    assert isinstance(error_of(decode(body[:-1])), StreamBroken)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b'{"output": 1}',
        b'{"output": [], "status": "queued"}',
        b'{"output": [], "status": "cancelled"}',
        b'{"error": {"message": "x"}}',
        b"[" * 100_000,
    ],
)
def test_answers_that_are_none(body: bytes) -> None:
    with pytest.raises((StreamBroken, UpstreamError)):
        decode_result(body)


def test_nothing_follows_the_end() -> None:
    decoder = StreamDecoder()
    decoder.feed(Script().begin().end(message("a")).wire + Script().message(1, "late").wire)
    assert decoder.feed(Script().message(1, "later").wire) == []
    assert decoder.end() == []


ANY: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KINDS = [
    *("created", "output_item.added", "output_item.done", "content_part.added", "content_part.done"),
    *("output_text.delta", "refusal.delta", "function_call_arguments.delta", "custom_tool_call_input.delta"),
    *("reasoning_summary_part.added", "reasoning_summary_text.delta", "reasoning_text.delta"),
    *("output_text.annotation.added", "completed", "incomplete", "failed", "output_text.done"),
]
INDEX = st.integers(0, 2) | ANY
ITEMS = st.sampled_from(OUTPUT) | st.fixed_dictionaries(
    {"type": st.sampled_from([item["type"] for item in OUTPUT]) | ANY},
    optional=dict.fromkeys(("id", "call_id", "name", "arguments", "input", "content", "result"), ANY),
)
EVENT: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS).map("response.{}".format)},
    optional={
        "output_index": INDEX,
        "content_index": INDEX,
        "summary_index": INDEX,
        "delta": st.text(max_size=3) | ANY,
        "logprobs": ANY,
        "annotation": ANY,
        "item": ITEMS | ANY,
        "part": st.sampled_from([part for item in (TEXT,) for part in item["content"]]) | ANY,
        "response": st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("id", "model", "created_at", "output", "usage", "error"), ANY)
        )
        | ANY,
    },
)


@settings(max_examples=400, deadline=None, database=None)
@given(st.lists(EVENT, max_size=12), st.booleans())
def test_any_events_make_a_lawful_stream(values: list[dict[str, Any]], named: bool) -> None:
    wire = b"".join(
        sse.encode(msgspec.json.encode(value), value["type"] if named else None) for value in values
    )
    decoder = StreamDecoder()
    events = decoder.feed(wire) + decoder.end()
    assembler = Assembler()
    for event in events:
        assembler.feed(event)
    assert isinstance(events[-1], Finished | Failed)
    other = decode(wire, *range(len(wire)))
    if isinstance(events[-1], Failed):
        assert events[:-1] == other[:-1]
    else:
        assert events == other


@GIVEN
@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"data:", b"event:", b"\n", b"{", b"\xff", b"[]"])).map(b"".join)
)
def test_any_bytes_end_in_one_failure(data: bytes) -> None:
    error_of(decode(data))


@GIVEN
@given(
    st.fixed_dictionaries(
        {"output": st.lists(ITEMS | ANY, max_size=4)},
        optional=dict.fromkeys(("id", "created_at", "usage", "status", "incomplete_details", "model"), ANY),
    )
)
def test_any_answer_is_read_or_refused(value: dict[str, Any]) -> None:
    try:
        result = decode_result(msgspec.json.encode(value))
    except (StreamBroken, UpstreamError):
        return
    assert fold(unfold(result)).choices == result.choices


def test_usage_is_that_of_the_vendor() -> None:
    assert fold(decode(Script().begin().end(message("a")).wire)).usage == Usage(9, 5, 4, 2, 3)
    assert isinstance(decode(Script().begin().message(0, "a").wire)[1], PartStarted)
    assert USAGE["total_tokens"] == 14
