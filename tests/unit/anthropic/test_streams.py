"""Streams, both ways: every byte split, vendors' habits, broken ends, and one block at a time."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from headgate.core.call import Usage
from headgate.core.errors import InvalidRequest, StreamBroken, UpstreamError
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
from headgate.dialects.anthropic import StreamDecoder, StreamEncoder, decode_result
from headgate.dialects.dialect import AnswerOptions
from tests.unit.anthropic.test_answers import CITED, RICH
from tests.unit.anthropic.wire import block, decode, encode, event, finish, start, text_block

START_USAGE = {**RICH["usage"], "output_tokens": 3}
del START_USAGE["output_tokens_details"], START_USAGE["server_tool_use"]

RICH_STREAM = b"".join(
    [
        start(model="claude-opus-5", usage=START_USAGE),
        event("ping"),
        block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "Hm"},
            {"type": "thinking_delta", "thinking": "."},
            {"type": "signature_delta", "signature": "sig"},
        ),
        block(1, {"type": "redacted_thinking", "data": "enc"}),
        block(
            2,
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "input_json_delta", "partial_json": ""},
            {"type": "input_json_delta", "partial_json": '{"que'},
            {"type": "input_json_delta", "partial_json": 'ry":"q"}'},
        ),
        block(3, {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}),
        block(
            4,
            {"type": "text", "text": ""},
            {"type": "text_delta", "text": "Grü"},
            {"type": "citations_delta", "citation": CITED},
            {"type": "text_delta", "text": "ße"},
        ),
        event("from_the_future", index=0),
        block(
            5,
            {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            {"type": "input_json_delta", "partial_json": ""},
            {"type": "input_json_delta", "partial_json": '{"x"'},
            {"type": "input_json_delta", "partial_json": ":1}"},
        ),
        event(
            "message_delta",
            delta={"stop_reason": "tool_use", "stop_sequence": None, "container": RICH["container"]},
            usage={
                "output_tokens": 40,
                "output_tokens_details": RICH["usage"]["output_tokens_details"],
                "server_tool_use": RICH["usage"]["server_tool_use"],
            },
        ),
        event("message_stop"),
    ]
)


def parts(wire: bytes) -> tuple[Part, ...]:
    return fold(decode(wire)).choices[0].parts


def error_of(events: list[ChatEvent]) -> Any:
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(each, Finished | Failed) for each in events[:-1])
    return events[-1].error


def understood(wire: list[dict[str, Any]]) -> Message:
    """What the official client makes of a stream."""
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for data in wire:
        read = adapter.validate_python(data)
        snapshot = accumulate_event(event=read, current_snapshot=snapshot, json_bufs=buffers)
    assert isinstance(snapshot, Message)
    return snapshot


def test_a_rich_stream_folds_to_the_whole_answer() -> None:
    assert fold(decode(RICH_STREAM)) == decode_result(json.dumps(RICH).encode())


def test_any_split_gives_the_same_answer() -> None:
    whole = fold(decode(RICH_STREAM))
    for cut in range(len(RICH_STREAM)):
        assert fold(decode(RICH_STREAM, cut)) == whole
    single = StreamDecoder()
    events = [each for byte in RICH_STREAM for each in single.feed(bytes([byte]))]
    assert fold(events + single.end()) == whole


def test_the_official_client_reads_it_as_it_came() -> None:
    told, losses = encode(decode(RICH_STREAM))
    assert losses == []
    message = understood(told)
    assert message.model_dump(exclude_none=True, mode="json") == {
        key: value for key, value in RICH.items() if value is not None
    } | {"stop_reason": "tool_use"}
    assert [data["index"] for data in told if data["type"] == "content_block_start"] == list(range(6))
    assert told[-2]["delta"]["container"] == RICH["container"]


def test_a_whole_answer_becomes_a_stream_that_the_official_client_reads_alike() -> None:
    told, losses = encode(unfold(decode_result(json.dumps(RICH).encode())))
    assert losses == []
    assert understood(told).model_dump(exclude_none=True, mode="json")["content"] == RICH["content"]
    assert told[-2]["delta"]["stop_reason"] == "tool_use"
    assert told[-2]["usage"] == RICH["usage"]


def test_usage_is_told_at_the_start_and_cumulative() -> None:
    wire = start(usage={"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 4})
    events = decode(wire + text_block(0, "x") + finish(output_tokens=2))
    reports = [each.usage for each in events if isinstance(each, UsageReported)]
    assert reports == [Usage(12, None, 7), Usage(12, 2, 7)]
    shrinking = wire + event("message_delta", delta={}, usage={"output_tokens": 9}) + finish(output_tokens=2)
    assert fold(decode(shrinking)).usage == Usage(12, 9, 7)


def test_stop_sequence_refusal_and_context_management() -> None:
    result = fold(decode(start() + finish("stop_sequence", stop_sequence="END")))
    assert result.choices[0].stop == Stop("stop", sequence="END", native="stop_sequence")
    details: dict[str, Any] = {"type": "refusal", "category": None, "explanation": "no"}
    told = event(
        "message_delta",
        delta={"stop_reason": "refusal", "stop_details": details},
        usage={"output_tokens": 1},
        context_management={"applied_edits": []},
    )
    events = decode(start() + told + event("message_stop"))
    assert events[-1] == Finished(
        (Stop("refusal", native="refusal"),),
        {"anthropic": {"stop_details": details, "context_management": {"applied_edits": []}}},
    )
    again = encode(events)[0][-2]
    assert again["delta"] == {"stop_reason": "refusal", "stop_sequence": None, "stop_details": details}
    assert again["context_management"] == {"applied_edits": []}


def test_a_stop_word_newer_than_this_code_is_handed_on() -> None:
    assert encode(decode(start() + finish("compaction")))[0][-2]["delta"]["stop_reason"] == "compaction"


@pytest.mark.parametrize(
    ("opening", "deltas", "part"),
    [
        ({"type": "text"}, [{"type": "text_delta", "text": "a"}], Text("a")),
        ({"type": "text", "text": "a"}, [{"type": "text_delta", "text": "b"}], Text("ab")),
        ({"type": "thinking"}, [], Reasoning(origin="anthropic")),
        ({"type": "tool_use", "id": "t", "name": "f"}, [], ToolCall("t", "f", "{}")),
        ({"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}, [], ToolCall("t", "f", '{"x":1}')),
        (
            {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
            [{"type": "input_json_delta", "partial_json": '{"y":2}'}],
            ToolCall("t", "f", '{"y":2}'),
        ),
        (
            {"type": "compaction", "content": None},
            [
                {"type": "compaction_delta", "content": "so"},
                {"type": "compaction_delta", "content": " far", "encrypted_content": "e"},
            ],
            Opaque("anthropic", {"type": "compaction", "content": "so far", "encrypted_content": "e"}),
        ),
    ],
)
def test_blocks_as_compatible_servers_send_them(
    opening: dict[str, Any], deltas: list[dict[str, Any]], part: Part
) -> None:
    assert parts(start() + block(0, opening, *deltas) + finish()) == (part,)


def test_blocks_left_open_end_with_the_message_and_events_may_lack_their_names() -> None:
    opening = event("content_block_start", index=0, content_block={"type": "text", "text": "a"})
    assert parts(start() + opening + finish()) == (Text("a"),)
    wire = (start() + text_block(0, "a", "b") + finish()).split(b"\n")
    assert parts(b"\n".join(line for line in wire if not line.startswith(b"event:"))) == (Text("ab"),)
    assert parts((start() + text_block(0, "a", "b") + finish()).replace(b"\n", b"\r\n")) == (Text("ab"),)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        start(),
        start() + text_block(0, "a"),
        start() + text_block(0, "a") + event("message_delta", delta={"stop_reason": "end_turn"}),
        RICH_STREAM[: RICH_STREAM.rfind(b"event: message_stop")],
        RICH_STREAM[: len(RICH_STREAM) // 2],
    ],
)
def test_an_end_before_the_terminal_event_is_a_failure(wire: bytes) -> None:
    error = error_of(decode(wire))
    assert isinstance(error, StreamBroken)
    assert error.code == "upstream_stream_cut"


@pytest.mark.parametrize(
    "wire",
    [
        text_block(0, "a"),
        finish(),
        start() + start(),
        event("message_start", message=3),
        start() + event("content_block_start", index=0),
        start() + event("content_block_start", index="0", content_block={"type": "text", "text": ""}),
        start() + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"}),
        start() + event("content_block_stop", index=0),
        start() + block(0, {"type": "text", "text": ""}, 3),  # type: ignore[arg-type]
        start()
        + block(0, {"type": "server_tool_use"}, {"type": "input_json_delta", "partial_json": "{"})
        + finish(),
        b"data: nonsense\n\n",
        b"data: []\n\n",
        b"data: \xff\n\n",
        b"data: " + b"[" * 5000 + b"\n\n",
    ],
)
def test_garble_is_a_failure(wire: bytes) -> None:
    assert isinstance(error_of(decode(wire)), StreamBroken)


def test_deltas_that_do_not_fit_their_block_are_ignored() -> None:
    deltas: list[dict[str, Any]] = [
        {"type": "input_json_delta", "partial_json": "{"},
        {"type": "signature_delta", "signature": "s"},
        {"type": "from_the_future", "x": 1},
        {"type": "text_delta", "text": "a"},
    ]
    assert parts(start() + block(0, {"type": "text", "text": ""}, *deltas) + finish()) == (Text("a"),)


@pytest.mark.parametrize(
    ("kind", "status", "retryable"),
    [
        ("overloaded_error", 529, True),
        ("api_error", 500, True),
        ("invalid_request_error", 400, False),
        ("?", 502, True),
    ],
)
def test_an_error_in_mid_stream(kind: str, status: int, retryable: bool) -> None:
    wire = start() + text_block(0, "a") + event("error", error={"type": kind, "message": "Sorry"})
    error = error_of(decode(wire + finish()))
    assert isinstance(error, UpstreamError)
    assert (error.message, error.status, error.retryable) == ("Sorry", status, retryable)
    assert error.upstream_type == kind


def test_a_plain_answer_where_a_stream_was_asked_for() -> None:
    decoder = StreamDecoder("application/json; charset=utf-8")
    body = json.dumps(RICH).encode()
    assert decoder.feed(body[:50]) + decoder.feed(body[50:]) == []
    events = decoder.end()
    assert fold(events) == decode_result(body)
    assert decoder.feed(body) + decoder.end() == []
    cut = StreamDecoder("application/json")
    cut.feed(body[:50])
    assert isinstance(error_of(cut.end()), StreamBroken)


def opened(*parts: tuple[int, Part]) -> list[ChatEvent]:
    return [Started("c", "m", 0), *(PartStarted(index, part) for index, part in parts)]


def shown(wire: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The middle of a stream, in short."""
    short: list[tuple[Any, ...]] = []
    for data in wire:
        match data:
            case {"type": "content_block_start", "index": index, "content_block": opening}:
                short.append((index, opening["type"]))
            case {"type": "content_block_delta", "index": index, "delta": delta}:
                short.append((index, *list(delta.values())[1:]))
            case {"type": "content_block_stop", "index": index}:
                short.append((index,))
    return short


def test_parallel_calls_that_come_interleaved_are_put_in_a_row() -> None:
    events = [
        *opened((0, Text("")), (1, ToolCall("a", "f", "")), (2, ToolCall("b", "g", "{"))),
        PartDelta(0, "x"),
        PartDelta(2, "}", field="arguments"),
        PartDelta(1, "{", field="arguments"),
        PartEnded(0),
        PartDelta(1, "}", field="arguments"),
        PartEnded(2),
        PartEnded(1),
        Finished((Stop("tool_calls"),)),
    ]
    told, losses = encode(events)
    assert shown(told) == [
        (0, "text"),
        (0, "x"),
        (0,),
        (1, "tool_use"),
        (1, "{"),
        (1, "}"),
        (1,),
        (2, "tool_use"),
        (2, "{"),
        (2, "}"),
        (2,),
    ]
    assert losses == []
    assert told[-2]["delta"]["stop_reason"] == "tool_use"


def test_signatures_go_out_in_one_piece() -> None:
    events = [
        *opened((0, Reasoning(origin="anthropic"))),
        PartDelta(0, "si", field="signature"),
        PartDelta(0, "Hm", field="text"),
        PartDelta(0, "g", field="signature"),
        PartEnded(0),
        PartStarted(1, Reasoning(data="e", redacted=True, origin="anthropic")),
        PartDelta(1, "nc", field="data"),
        PartEnded(1),
        PartStarted(2, Reasoning(signature="s", origin="gemini")),
        PartEnded(2),
        PartStarted(3, Reasoning(origin="openai_responses")),
        PartDelta(3, "enc", field="data"),
        PartEnded(3),
        Finished((Stop("stop"),)),
    ]
    told, losses = encode(events)
    assert shown(told) == [
        (0, "thinking"),
        (0, "Hm"),
        (0, "sig"),
        (0,),
        (1, "redacted_thinking"),
        (1,),
        (2, "thinking"),
        (2, "hgs1.gemini.s"),
        (2,),
        (3, "thinking"),
        (3, "hgs1.openai_responses.~enc"),
        (3,),
    ]
    assert told[4]["index"] == 0
    assert [data["content_block"]["data"] for data in told if "data" in data.get("content_block", {})] == [
        "enc"
    ]
    assert losses == []


def test_what_a_stream_can_not_hold_is_reported_once_and_leaves_no_gap() -> None:
    entries: Any = [{"token": "a"}]
    events = [
        *opened((0, Media("image", data="AAAA"))),
        PartEnded(0),
        PartStarted(1, Opaque("gemini", {"x": 1})),
        PartEnded(1),
        PartStarted(0, Text(""), 1),
        PartDelta(0, "other", 1),
        PartEnded(0, 1),
        PartStarted(2, Text("")),
        PartDelta(2, "a", logprobs=entries),
        PartDelta(2, "b", logprobs=entries),
        PartCited(2, Citation("file", title="t")),
        PartCited(2, Citation("url", "https://a")),
        PartEnded(2),
        PartStarted(3, Reasoning("a", "s")),
        PartEnded(3),
        PartStarted(4, Reasoning(redacted=True)),
        PartDelta(4, "text"),
        PartEnded(4),
        PartStarted(5, ToolCall("c", "f", "free ", "custom")),
        PartDelta(5, "text", field="arguments"),
        PartEnded(5),
        Finished((Stop("stop"), Stop("stop", 1))),
    ]
    told, losses = encode(events)
    assert [item[0] for item in shown(told) if len(item) == 1] == [0, 1, 2]
    assert [loss.path for loss in losses] == [
        "content[0]",
        "content[1]",
        "choices[1]",
        "choices[0].logprobs",
        "content[2]",
        "content[3]",
        "content[4]",
        "content[5]",
        "content[5]",
    ]
    assert understood(told).content[2].input == {"arguments": "free text"}  # type: ignore[union-attr]


def test_a_refusal_is_text_that_ends_in_the_word_for_it() -> None:
    told, losses = encode(
        [
            *opened((0, Refusal(""))),
            PartDelta(0, "No."),
            PartEnded(0),
            Finished((Stop("stop", native="stop"),)),
        ]
    )
    assert shown(told) == [(0, "text"), (0, "No."), (0,)]
    assert told[-2]["delta"]["stop_reason"] == "refusal"
    assert losses == []


def test_usage_that_comes_last_is_told_whole_at_the_end() -> None:
    told, _ = encode(
        [*opened((0, Text("x"))), PartEnded(0), UsageReported(Usage(9, 4, 2)), Finished((Stop("stop"),))]
    )
    assert told[0]["message"]["usage"]["input_tokens"] == 0
    usage = understood(told).usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (7, 2, 4)


def test_a_failure_ends_what_is_open_and_shows_no_success() -> None:
    told, _ = encode(
        [
            *opened((0, Text("x")), (1, ToolCall("a", "f", ""))),
            Failed(UpstreamError("Sorry", status=529, type="overloaded_error")),
            Finished((Stop("stop"),)),
        ]
    )
    assert [data["type"] for data in told] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "error",
    ]
    assert told[-1]["error"] == {"type": "overloaded_error", "message": "Sorry"}


def test_a_failure_before_the_start_and_names_of_the_gateways_own() -> None:
    assert [data["type"] for data in encode([Failed(InvalidRequest("No", param="x"))])[0]] == ["error"]
    encoder = StreamEncoder(AnswerOptions(id="public", model="claude"))
    head = encoder.encode(Started("c", "m", 0))
    assert b'"id":"public"' in head and b'"model":"claude"' in head


def test_the_official_client_raises_on_the_error_event() -> None:
    wire = StreamEncoder(AnswerOptions()).encode(Failed(UpstreamError("Sorry", status=529)))
    assert wire.startswith(b"event: error\ndata: ")
    assert (
        TypeAdapter(anthropic.types.ErrorResponse).validate_json(wire[19:]).error.type == "overloaded_error"
    )
