"""InvokeModel with Anthropic's bodies: what differs from that dialect is the outside."""

from __future__ import annotations

import base64
import importlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.core.errors import InvalidRequest, RateLimited, StreamBroken
from headgate.core.events import ChatEvent, Failed, Finished, PartDelta, PartStarted, Started, Stop
from headgate.core.fold import fold, unfold
from headgate.core.messages import Message, Reasoning, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects import anthropic, eventstream
from headgate.dialects.bedrock.invoke_anthropic import INVOKE_ANTHROPIC
from headgate.dialects.dialect import AnswerOptions, Framing
from tests.unit.bedrock.aws import FRAMES, SSE, feed, frame, parsed_stream

GIVEN = settings(max_examples=100, deadline=None, database=None)

BODY: dict[str, Any] = {
    "anthropic_version": "bedrock-2023-05-31",
    "anthropic_beta": ["computer-use-2025-01-24"],
    "max_tokens": 9,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "SIG"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "1"}]},
    ],
    "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    "temperature": 0.5,
    "top_k": 3,
    "stop_sequences": ["x"],
}
EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 3, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Grüße "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": '"}\n\n'}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 7},
    },
    {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3}},
]


def chunk(event: Any) -> bytes:
    data = json.dumps(event, separators=(",", ":")).encode()
    return frame("chunk", {"bytes": base64.b64encode(data).decode(), "p": "abc"})


def compact_chunk(event: Any) -> bytes:
    """As Bedrock writes it, without spaces."""
    data = base64.b64encode(json.dumps(event, separators=(",", ":")).encode())
    headers: dict[str, eventstream.HeaderValue] = {
        ":event-type": "chunk",
        ":content-type": "application/json",
        ":message-type": "event",
    }
    return eventstream.encode(headers, b'{"bytes":"%b","p":"abcd"}' % data)


WIRE = b"".join(compact_chunk(event) for event in EVENTS)


def decode(wire: bytes, *cuts: int, content_type: str = FRAMES) -> list[ChatEvent]:
    return feed(INVOKE_ANTHROPIC.stream_decoder(content_type), wire, *cuts)


def encode(events: list[ChatEvent], framing: Framing = "eventstream") -> bytes:
    encoder = INVOKE_ANTHROPIC.stream_encoder(AnswerOptions(framing=framing))
    return b"".join(encoder.encode(event) for event in events)


def error_of(events: list[ChatEvent]) -> Any:
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Finished | Failed) for event in events[:-1])
    return events[-1].error


def test_a_request_comes_back() -> None:
    request = INVOKE_ANTHROPIC.decode_request(json.dumps(BODY).encode(), model="m", stream=True)
    assert (request.model, request.stream) == ("m", True)
    assert dict(request.extensions) == {"invoke_anthropic": {"anthropic_beta": BODY["anthropic_beta"]}}
    body, losses = INVOKE_ANTHROPIC.encode_request(request, model="other")
    assert losses == []
    again = INVOKE_ANTHROPIC.decode_request(body, model="m", stream=True)
    assert again == request
    written = json.loads(body)
    assert written.keys() == BODY.keys()
    assert written["anthropic_version"] == "bedrock-2023-05-31"


def test_fields_that_bedrock_does_not_know_are_lost_but_told() -> None:
    request = anthropic.decode_request(
        json.dumps(
            {key: value for key, value in BODY.items() if not key.startswith("anthropic_")}
            | {
                "model": "m",
                "stream": True,
                "service_tier": "auto",
                "container": "c",
                "metadata": {"user_id": "u"},
            }
        ).encode()
    )
    body, losses = INVOKE_ANTHROPIC.encode_request(request)
    written = json.loads(body)
    assert not written.keys() & {"model", "stream", "service_tier", "container"}
    assert written["metadata"] == {"user_id": "u"}
    assert sorted(loss.path for loss in losses) == ["container", "service_tier"]


def test_signatures_are_anthropics_own() -> None:
    request = INVOKE_ANTHROPIC.decode_request(json.dumps(BODY).encode(), model="m")
    assert request.messages[2] == Message(
        "assistant", (Reasoning("t", "SIG", origin="anthropic"), ToolCall("a", "f", '{"x":1}'))
    )


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"anthropic_version": None}, "anthropic_version"),
        ({"anthropic_version": 1}, "anthropic_version"),
        ({"anthropic_beta": "x"}, "anthropic_beta"),
        ({"messages": 1}, "messages"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        INVOKE_ANTHROPIC.decode_request(json.dumps(BODY | change).encode(), model="m")
    assert raised.value.param == param


def test_a_stream_is_that_of_anthropic_in_frames() -> None:
    result = fold(decode(WIRE))
    assert result.choices[0].parts == (Text('Grüße "}\n\n'),)
    assert result.usage is not None
    assert (result.usage.input_tokens, result.usage.output_tokens) == (3, 7)
    plain = b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in EVENTS
    )
    assert decode(plain, content_type=SSE) == decode(WIRE)
    assert decode(b"".join(map(chunk, EVENTS))) == decode(WIRE)


@pytest.mark.parametrize(
    "form", [b'{"bytes":"%b"', b'{"bytes":"%b","p":"a', b'{"bytes":"%b" x}', b'{"bytes":"!%b"}']
)
def test_a_delta_of_no_usual_form_is_not_taken_for_one(form: bytes) -> None:
    data = base64.b64encode(json.dumps(EVENTS[3], separators=(",", ":")).encode())
    headers = compact_chunk(EVENTS[3])[12:].partition(b"{")[0]
    wire = eventstream.encode_frame(headers, form % data)
    decoder = INVOKE_ANTHROPIC.stream_decoder(FRAMES)
    decoder.feed(b"".join(map(compact_chunk, EVENTS[:2])))
    assert isinstance(error_of(decoder.feed(wire)), StreamBroken)


def test_every_byte_split_gives_the_same_events() -> None:
    expected = decode(WIRE)
    for cut in range(len(WIRE)):
        assert decode(WIRE, cut) == expected
    assert decode(WIRE, *range(len(WIRE))) == expected


@pytest.mark.parametrize(
    "wire",
    [
        WIRE[: len(WIRE) // 2],
        b"",
        WIRE[:-1] + b"\0",
        frame("chunk", {"bytes": "!"}),
        frame("chunk", {"bytes": 1}),
        frame("chunk", []),
        chunk(EVENTS[0]) + frame("chunk", {"bytes": base64.b64encode(b"{").decode()}),
    ],
)
def test_garble_is_the_terminal_event(wire: bytes) -> None:
    assert isinstance(error_of(decode(wire)), StreamBroken)


def test_an_exception_in_the_stream() -> None:
    wire = chunk(EVENTS[0]) + frame("throttlingException", {"message": "slow"}, "exception")
    error = error_of(decode(wire + WIRE))
    assert (error.message, error.status) == ("slow", 429)
    assert error_of(decode(chunk({"type": "error", "error": {"type": "overloaded_error", "message": "m"}})))


def test_an_exception_after_the_end_changes_nothing() -> None:
    wire = WIRE + frame("throttlingException", {"message": "slow"}, "exception")
    assert decode(wire) == decode(WIRE)


def test_a_frame_of_another_kind_is_nothing() -> None:
    assert decode(frame("initial-response", {}) + WIRE) == decode(WIRE)


RESULT = ChatResult(
    "msg_1",
    "claude",
    0,
    (
        Choice(
            0,
            (Reasoning("t", "SIG", origin="anthropic"), Text("a\n\nb"), ToolCall("a", "f", '{"x":1}')),
            Stop("tool_calls", native="tool_use"),
        ),
    ),
    Usage(3, 7),
)


def test_the_sdk_reads_what_is_written() -> None:
    wire = encode(unfold(RESULT))
    parsed = parsed_stream(wire, "InvokeModelWithResponseStream")
    events = [json.loads(event["chunk"]["bytes"]) for event in parsed]
    assert (events[0]["type"], events[-1]["type"]) == ("message_start", "message_stop")
    assert fold(decode(wire)).choices == RESULT.choices
    assert fold(decode(encode(unfold(RESULT), "sse"), content_type=SSE)).choices == RESULT.choices


def test_a_failure_is_an_exception() -> None:
    events: list[ChatEvent] = [
        Started("i", "m", 7),
        PartStarted(0, Text("")),
        PartDelta(0, "a"),
        Failed(RateLimited("slow down")),
    ]
    wire = encode(events)
    raised = importlib.import_module("botocore.exceptions").EventStreamError
    with pytest.raises(raised, match="slow down"):
        parsed_stream(wire, "InvokeModelWithResponseStream")
    assert error_of(decode(wire)).status == 429
    assert b"throttlingException" in wire
    assert b"message_stop" not in base64.b64decode(b"".join(wire.split(b'"bytes":"')[-1:]).split(b'"')[0])


def watch(wire: bytes, *cuts: int, content_type: str = FRAMES) -> tuple[Any, ...]:
    seen = INVOKE_ANTHROPIC.observer(True, content_type)
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        seen.feed(wire[start:end])
    seen.end()
    return seen.usage and seen.usage.output_tokens, seen.finish_reason, seen.terminal, seen.failed


def test_the_observer() -> None:
    for cut in range(0, len(WIRE), 3):
        assert watch(WIRE, cut) == (7, "end_turn", True, False)
    seen = INVOKE_ANTHROPIC.observer(True, FRAMES)
    for event in EVENTS:
        seen.feed(compact_chunk(event))
    assert seen.terminal
    assert watch(WIRE[:-40])[2] is False
    failed = frame("throttlingException", {"message": "slow"}, "exception")
    assert watch(chunk(EVENTS[0]) + failed + WIRE)[2:] == (False, True)
    assert watch(b"garbled!" * 4) == (None, None, False, False)
    assert watch(b"", content_type=SSE)[2] is False


@GIVEN
@given(st.binary(max_size=60))
def test_any_bytes_fail_in_one_event(data: bytes) -> None:
    error_of(decode(data))
    watch(data)


def test_the_route() -> None:
    assert INVOKE_ANTHROPIC.path("a:0", False) == "/model/a%3A0/invoke"
    assert INVOKE_ANTHROPIC.path("a:0", True) == "/model/a%3A0/invoke-with-response-stream"
    assert not INVOKE_ANTHROPIC.model_in_body
