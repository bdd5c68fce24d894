"""ConverseStream for callers: whatever the upstream, one block at a time; judged by botocore."""

from __future__ import annotations

import importlib
import json

import pytest

from headgate.core.call import Usage
from headgate.core.errors import DeadlineExceeded, HeadgateError, RateLimited, StreamBroken, UpstreamError
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
from headgate.core.fold import fold, unfold
from headgate.core.messages import Citation, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects.bedrock import (
    StreamEncoder,
    decode_request,
    decode_result,
    encode_result,
)
from headgate.dialects.dialect import AnswerOptions, Framing
from headgate.dialects.sealed import seal
from tests.unit.bedrock.aws import FRAMES, SSE, frames, parsed_stream
from tests.unit.bedrock.converse_streams import (
    RICH,
    decode,
    encode,
    error_of,
)


@pytest.mark.parametrize("framing", ["eventstream", "sse"])
def test_the_same_dialect_loses_nothing(framing: Framing) -> None:
    events = decode(frames(*RICH))
    wire, losses = encode(events, framing)
    assert losses == []
    assert fold(decode(wire, content_type=FRAMES if framing == "eventstream" else SSE)) == fold(events)


def test_the_sdk_reads_what_is_written() -> None:
    wire, _ = encode(decode(frames(*RICH)))
    parsed = parsed_stream(wire)
    # What a tool of Bedrock's own was told, and what it said, come in one piece each.
    expected = [name for index, (name, _) in enumerate(RICH) if index not in (17, 21)]
    assert [next(iter(event)) for event in parsed] == expected
    texts = [
        event["contentBlockDelta"]["delta"].get("text", "")
        for event in parsed
        if "contentBlockDelta" in event
    ]
    assert "".join(texts) == 'Grüße, Wörld 🌍 it\'s "quoted"'
    assert parsed[-1]["metadata"]["usage"]["inputTokens"] == 4
    assert parsed[-2]["messageStop"]["stopReason"] == "tool_use"


def answer(*parts: Part, stop: Stop | None = None, usage: Usage | None = None) -> ChatResult:
    return ChatResult("i", "m", 7, (Choice(0, parts, stop or Stop("stop")),), usage)


FOREIGN = answer(
    Reasoning("t", "SIG", origin="anthropic"),
    Reasoning("", "G", origin="gemini"),
    Reasoning("s", data="ENC", origin="openai_responses"),
    Reasoning(data="RED", redacted=True, origin="anthropic"),
    Text("a", (Citation("url", url="https://x", title="t", quote="q"),)),
    ToolCall("1", "f", '{"x":1}'),
    ToolCall("2", "g", ""),
    usage=Usage(11, 9, 5, 2),
)


def test_what_other_upstreams_sealed_comes_back_in_the_next_turn() -> None:
    body, losses = encode_result(FOREIGN, AnswerOptions())
    assert losses == []
    wire, stream_losses = encode(unfold(FOREIGN))
    assert stream_losses == []
    streamed = fold(decode(wire))
    whole = decode_result(body)
    assert streamed.usage == whole.usage == FOREIGN.usage
    blocks = json.loads(body)["output"]["message"]["content"]
    assert blocks[0]["reasoningContent"]["reasoningText"]["signature"] == seal("anthropic", "SIG")
    turn = decode_request(
        json.dumps({"messages": [{"role": "assistant", "content": blocks}]}).encode(), model="m"
    )
    assert turn.messages[0].parts[:4] == FOREIGN.choices[0].parts[:4]
    # Upstreams do not seal, so that the stream's reader leaves the texts as they are.
    signatures = [part.signature for part in streamed.choices[0].parts if isinstance(part, Reasoning)]
    assert signatures[:3] == [
        seal("anthropic", "SIG"),
        seal("gemini", "G"),
        seal("openai_responses/data", "ENC"),
    ]
    assert streamed.choices[0].parts[4:6] == whole.choices[0].parts[4:6]


def test_parts_that_are_open_together_are_put_in_a_row() -> None:
    events: list[ChatEvent] = [
        Started("i", "m", 7),
        PartStarted(0, ToolCall("a", "f", "")),
        PartStarted(1, ToolCall("b", "g", "")),
        PartDelta(1, "1", field="arguments"),
        PartStarted(2, Text("")),
        PartDelta(0, "2", field="arguments"),
        PartDelta(2, "t"),
        PartCited(2, Citation("document", source=0)),
        PartDelta(1, "3", field="arguments"),
        PartEnded(1),
        PartDelta(0, "4", field="arguments"),
        PartEnded(0),
        PartDelta(2, "u"),
        PartEnded(2),
        Finished((Stop("tool_calls"),)),
    ]
    wire, losses = encode(events)
    assert losses == []
    parsed = parsed_stream(wire)
    indexes = [next(iter(event.values())).get("contentBlockIndex") for event in parsed]
    assert indexes == [None, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, None, None]
    assert fold(decode(wire)).choices[0].parts[:2] == (ToolCall("a", "f", "24"), ToolCall("b", "g", "13"))


def test_an_empty_part_says_nothing_and_takes_no_index() -> None:
    wire, _ = encode(unfold(answer(Text(""), Reasoning(), Text("a"))))
    assert [next(iter(event)) for event in parsed_stream(wire)] == [
        "messageStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    assert json.loads(encode_result(answer(Text(""), Reasoning(), Text("a")), AnswerOptions())[0])["output"][
        "message"
    ]["content"] == [{"text": "a"}]


LOSSY = ChatResult(
    "i",
    "m",
    7,
    (
        Choice(
            0,
            (
                Refusal("no"),
                Opaque("gemini", {}),
                Text("t", (Citation("url", url="u", start=0, end=1),), extensions={"openai_chat": {"x": 1}}),
            ),
            Stop("stop", sequence="END"),
            ({"token": "t"},),
        ),
        Choice(1, (Text("b"),), Stop("stop", 1)),
    ),
    Usage(1, 2, reasoning_tokens=1),
)


def test_no_reasoning_is_nothing_lost() -> None:
    result = ChatResult(
        "i", "m", 1, (Choice(0, (Text("t"),), Stop("stop")),), Usage(1, 2, reasoning_tokens=0)
    )
    assert encode_result(result, AnswerOptions())[1] == []


def test_losses_of_an_answer_are_listed_in_both_forms() -> None:
    _, losses = encode_result(LOSSY, AnswerOptions())
    _, stream_losses = encode(unfold(LOSSY))
    common = {
        "usage.reasoning_tokens",
        "choices[0].parts[0]",
        "choices[0].parts[1]",
        "choices[0].parts[2].x",
        "choices[0].stop.sequence",
        "choices[1]",
    }
    assert {loss.path for loss in losses} == common | {
        "choices[0].parts[2].citations[0]",
        "choices[0].logprobs",
    }
    assert set(stream_losses) == common | {"choices[0].parts[2].citations", "choices[0].parts[0].logprobs"}


@pytest.mark.parametrize(
    ("stop", "word"),
    [
        (Stop("stop"), "end_turn"),
        (Stop("stop", native="stop_sequence"), "stop_sequence"),
        (Stop("tool_calls", native="tool_calls"), "tool_use"),
        (Stop("length"), "max_tokens"),
        (Stop("context_length"), "model_context_window_exceeded"),
        (Stop("content_filter", native="guardrail_intervened"), "guardrail_intervened"),
        (Stop("content_filter"), "content_filtered"),
        (Stop("refusal"), "content_filtered"),
        (Stop("pause"), "end_turn"),
        (Stop("other", native="malformed_tool_use"), "malformed_tool_use"),
        (Stop("other", native="strange"), "end_turn"),
    ],
)
def test_stop_reasons(stop: Stop, word: str) -> None:
    result = answer(Text("a"), stop=stop)
    assert json.loads(encode_result(result, AnswerOptions())[0])["stopReason"] == word
    assert parsed_stream(encode(unfold(result))[0])[-2]["messageStop"]["stopReason"] == word


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (RateLimited("slow down"), "throttlingException"),
        (DeadlineExceeded("too late"), "internalServerException"),
        (StreamBroken("cut"), "internalServerException"),
        (UpstreamError("no", status=400), "validationException"),
        (UpstreamError("no", status=529), "serviceUnavailableException"),
        (UpstreamError("no", status=424), "modelStreamErrorException"),
        (UpstreamError("no", status=500, type="ModelStreamErrorException"), "modelStreamErrorException"),
    ],
)
def test_a_failure_closes_the_block_and_is_an_exception(error: HeadgateError, name: str) -> None:
    events: list[ChatEvent] = [
        Started("i", "m", 7),
        PartStarted(0, Text("")),
        PartDelta(0, "a"),
        Failed(error),
    ]
    wire, _ = encode(events)
    raised = importlib.import_module("botocore.exceptions").EventStreamError
    with pytest.raises(raised, match=name) as caught:
        parsed_stream(wire)
    assert error.message in str(caught.value)
    got = decode(wire)
    assert got[:-1] == [Started("", "", 0), PartStarted(0, Text("")), PartDelta(0, "a"), PartEnded(0)]
    assert error_of(got).message == error.message
    sse_wire, _ = encode(events, "sse")
    assert b"messageStop" not in sse_wire
    assert error_of(decode(sse_wire, content_type=SSE)).message == error.message


def test_after_the_end_nothing_is_written() -> None:
    encoder = StreamEncoder(AnswerOptions(framing="sse"))
    assert encoder.encode(Failed(StreamBroken("x")))
    assert encoder.encode(Failed(StreamBroken("x"))) == b""
    assert encoder.encode(Started("i", "m", 7)) == b""


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headgate.dialects.bedrock.stream_encoder.MAX_WAITING", 10)
    encoder = StreamEncoder(AnswerOptions(framing="sse"))
    events: list[ChatEvent] = [
        Started("i", "m", 7),
        PartStarted(0, ToolCall("a", "f", "")),
        PartStarted(1, ToolCall("b", "g", "")),
        PartDelta(1, "x" * 20, field="arguments"),
        PartEnded(0),
    ]
    out = b"".join(encoder.encode(event) for event in events)
    assert out.endswith(b"}}\n\n")
    assert b"internalServerException" in out
    assert out.count(b"contentBlockStop") == 1
