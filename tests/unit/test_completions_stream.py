"""Legacy Completions streams: at every byte split, as upstreams send and callers get them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion

from headgate.core.call import Usage
from headgate.core.errors import RateLimited, StreamBroken, UpstreamError
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
from headgate.core.messages import Citation, Reasoning, Refusal, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects import sse
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_completions import (
    OPENAI_COMPLETIONS,
    StreamDecoder,
    StreamEncoder,
    decode_result,
    encode_result,
)
from tests.unit.openai_chunks import DONE

GIVEN = settings(max_examples=120, deadline=None, database=None)


def chunk(*choices: dict[str, Any], **fields: Any) -> bytes:
    head = {"id": "c1", "object": "text_completion", "created": 7, "model": "m"}
    return sse.encode(json.dumps(head | {"choices": list(choices)} | fields, ensure_ascii=False).encode())


def text(content: str, finish: str | None = None, index: int = 0, **fields: Any) -> bytes:
    choice = {"text": content, "index": index, "logprobs": None, "finish_reason": finish}
    return chunk(choice | fields)


def decode(wire: bytes, *cuts: int) -> list[ChatEvent]:
    decoder = StreamDecoder()
    events: list[ChatEvent] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        events += decoder.feed(wire[start:end])
    return events + decoder.end()


def encode(events: list[ChatEvent], **options: Any) -> list[Any]:
    encoder = StreamEncoder(AnswerOptions(**options))
    wire = b"".join(encoder.encode(event) for event in events)
    return [
        event.data if event.data == b"[DONE]" else json.loads(event.data)
        for event in sse.Decoder().feed(wire)
    ]


LOGPROBS = {"tokens": ["!"], "token_logprobs": [-1.0], "top_logprobs": [{"!": -1.0}], "text_offset": [0]}
USAGE = {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12, "queue_time": 0.5}
RICH = b"".join(
    [
        text("Grüße, ", system_fingerprint=None),
        b": keep-alive\n\n",
        text("Wörld 🌍"),
        text("!", index=1, logprobs=LOGPROBS),
        text("a"),
        text("b"),
        text("", "length", stop_reason=None),
        text("", "stop", 1, stop_reason=5),
        chunk(usage=USAGE, service_tier="flex"),
        DONE,
    ]
)


def test_a_rich_stream_folds_to_the_whole_answer() -> None:
    entry: Any = {
        "token": "!",
        "logprob": -1.0,
        "bytes": [33],
        "top_logprobs": [{"token": "!", "logprob": -1.0, "bytes": [33]}],
    }
    extra: Any = {"service_tier": "flex", "choices": {"1": {"stop_reason": 5}}, "usage": {"queue_time": 0.5}}
    assert fold(decode(RICH)) == ChatResult(
        "c1",
        "m",
        7,
        (
            Choice(0, (Text("Grüße, Wörld 🌍ab"),), Stop("length", native="length")),
            Choice(1, (Text("!"),), Stop("stop", 1, native="stop"), (entry,)),
        ),
        Usage(3, 9),
        {"openai_completions": extra},
    )


def test_every_byte_split_gives_the_same_events() -> None:
    expected = decode(RICH)
    for cut in range(len(RICH)):
        assert decode(RICH, cut) == expected
    assert decode(RICH, *range(len(RICH))) == expected


@GIVEN
@given(st.lists(st.integers(0, len(RICH)), max_size=10), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_and_line_end_give_the_same_events(cuts: list[int], line_end: bytes) -> None:
    assert decode(RICH.replace(b"\n", line_end), *sorted(cuts)) == decode(RICH)


pieces = st.one_of(
    st.builds(text, st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
    st.builds(text, st.sampled_from(["a", '"', "\\", "\n", " ", "data: x"]), index=st.integers(0, 1)),
    st.sampled_from(
        [
            text("a", logprobs=LOGPROBS),
            text("a", extra=1),
            text("a", "stop"),
            text("a") + text("b"),
            chunk(usage=USAGE),
            b": ping\n\n",
            b'data: {"error":{"message":"x"}}\n\n',
        ]
    ),
)


@GIVEN
@given(st.lists(pieces, max_size=12))
def test_a_read_for_each_event_gives_what_any_other_split_gives(chunks: list[bytes]) -> None:
    decoder = StreamDecoder()
    events = [event for piece in [*chunks, DONE] for event in decoder.feed(piece)] + decoder.end()
    wire = b"".join([*chunks, DONE])
    other = decode(wire, *range(len(wire)))
    if isinstance(events[-1], Failed):
        assert events[:-1] == other[:-1]
        assert isinstance(other[-1], Failed)
    else:
        assert events == other
        fold(events)


@pytest.mark.parametrize(
    ("wire", "kind"),
    [
        (b"", StreamBroken),
        (text("a"), StreamBroken),
        (text("a", "stop") + text("b", index=1), StreamBroken),
        (RICH[: len(RICH) // 2], StreamBroken),
        (DONE, StreamBroken),
        (b"data: {not json}\n\n", StreamBroken),
        (b"data: [1]\n\n", StreamBroken),
        (b"<html>", StreamBroken),
        (b'{"choices": [', StreamBroken),
        (b'data: {"error": {"message": "boom"}}\n\n', UpstreamError),
        (b'event: error\ndata: {"message": "boom"}\n\n', UpstreamError),
        (b'{"error": {"message": "boom"}}', UpstreamError),
    ],
)
def test_trouble_is_the_terminal_event(wire: bytes, kind: type[Exception]) -> None:
    events = decode(wire)
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, kind)
    assert not any(isinstance(event, Finished | Failed) for event in events[:-1])


def test_an_end_without_done_and_what_follows_an_end() -> None:
    assert isinstance(decode(text("a", "stop"))[-1], Finished)
    assert isinstance(decode(text("a") + DONE)[-1], Finished)
    decoder = StreamDecoder()
    decoder.feed(text("a", "stop") + DONE + text("late"))
    assert decoder.feed(text("later")) == []
    assert decoder.end() == []


def test_a_plain_answer_in_place_of_a_stream_is_taken() -> None:
    choice = {"text": "Hi", "index": 0, "logprobs": None, "finish_reason": "stop"}
    body = b"\n" + json.dumps({"id": "c", "choices": [choice]}).encode()
    for cut in range(len(body)):
        assert decode(body, cut) == unfold(decode_result(body))
    decoder = StreamDecoder()
    decoder.feed(b"{")
    piece = b"x" * 1024 * 1024
    events = [event for _ in range(18) for event in decoder.feed(piece)]
    assert isinstance(events[-1], Failed)


def test_deltas_come_out_with_the_bytes_that_hold_them() -> None:
    decoder = StreamDecoder()
    assert decoder.feed(text("a")) == [Started("c1", "m", 7), PartStarted(0, Text("")), PartDelta(0, "a")]
    for content in ("b", "c", "d\n"):
        assert decoder.feed(text(content)) == [PartDelta(0, content)]


def test_a_stream_as_a_caller_sees_it() -> None:
    head = {"id": "mine", "object": "text_completion", "created": 9, "model": "public"}
    entry: Any = {"token": 'a"', "logprob": -1, "bytes": None, "top_logprobs": []}
    events: list[ChatEvent] = [
        Started("theirs", "m", 7),
        PartStarted(0, Text("")),
        PartDelta(0, 'a"', logprobs=[entry]),
        PartDelta(0, 'a"', logprobs=[entry]),
        PartEnded(0),
        UsageReported(Usage(1, 2)),
        Finished((Stop("length"),)),
    ]

    def one(text: str, finish: str | None = None, offset: int | None = None) -> dict[str, Any]:
        logprobs = None
        if offset is not None:
            logprobs = {
                "tokens": ['a"'],
                "token_logprobs": [-1],
                "top_logprobs": [{}],
                "text_offset": [offset],
            }
        choice = {"text": text, "index": 0, "logprobs": logprobs, "finish_reason": finish}
        return head | {"choices": [choice], "usage": None}

    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert encode(events, include_usage=True, id="mine", created=9, model="public") == [
        one('a"', offset=0),
        one('a"', offset=2),
        one("", "length"),
        head | {"choices": [], "usage": usage},
        b"[DONE]",
    ]
    plain = encode(events)
    assert plain[0]["id"] == "theirs"
    assert all("usage" not in item for item in plain[:-1])
    for item in plain[:-1]:
        Completion.model_validate(item | {"choices": [item["choices"][0] | {"finish_reason": "stop"}]})


def test_a_failure_is_framed_and_nothing_follows() -> None:
    encoder = StreamEncoder(AnswerOptions())
    encoder.encode(Started("i", "m", 1))
    wire = encoder.encode(Failed(RateLimited("slow down")))
    assert wire.startswith(b'data: {"error":{"message":"slow down"') and wire.endswith(b"}}\n\n")
    assert encoder.encode(Finished(())) == b""


def test_what_a_stream_has_no_place_for_is_reported() -> None:
    encoder = StreamEncoder(AnswerOptions())
    events: list[ChatEvent] = [
        Started("i", "m", 1),
        PartStarted(0, Reasoning()),
        PartDelta(0, "Hm."),
        PartEnded(0),
        PartStarted(1, Text("a")),
        PartCited(1, Citation("url")),
        PartCited(1, Citation("url")),
        PartEnded(1),
        PartStarted(2, Refusal("")),
        PartDelta(2, "No."),
        PartEnded(2),
        PartStarted(3, ToolCall("c", "f", "")),
        PartDelta(3, "{}", field="arguments"),
        PartEnded(3),
        Finished((Stop("tool_calls"),)),
    ]
    wire = sse.Decoder().feed(b"".join(encoder.encode(event) for event in events))
    assert [json.loads(event.data)["choices"][0]["text"] for event in wire[:-1]] == ["a", "No.", ""]
    assert [loss.path for loss in encoder.losses] == [
        "choices[0].parts[0]",
        "choices[0].parts[1].citations",
        "choices[0].parts[2]",
        "choices[0].parts[3]",
        "choices[0].stop",
    ]


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@st.composite
def results(draw: st.DrawFn) -> ChatResult:
    choices = []
    for index in range(draw(st.integers(1, 3))):
        parts = (Text(draw(words)),) if draw(st.booleans()) else ()
        entry: Any = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
        logprobs = (entry,) if parts and draw(st.booleans()) else None
        word: Any = draw(st.sampled_from(["stop", "length", "content_filter"]))
        choices.append(Choice(index, parts, Stop(word, index, native=word), logprobs))
    extra: Any = {"system_fingerprint": "fp", "choices": {"0": {"x": 1}}, "usage": {"y": 2}}
    return ChatResult("i", "m", 1, tuple(choices), Usage(1, 2, 3, 4, 5), {"openai_completions": extra})


@GIVEN
@given(results(), st.lists(st.integers(0, 5000), max_size=6))
def test_the_stream_and_the_plain_answer_say_the_same(result: ChatResult, cuts: list[int]) -> None:
    encoder = StreamEncoder(AnswerOptions(include_usage=True))
    wire = b"".join(encoder.encode(event) for event in unfold(result))
    assert encoder.losses == []
    assert fold(decode(wire, *sorted(cut for cut in cuts if cut <= len(wire)))) == result
    assert decode_result(encode_result(result, AnswerOptions())[0]) == result


garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "choices", "text", "index", "logprobs", "tokens", "usage", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@GIVEN
@given(st.lists(garbage, max_size=4))
def test_any_json_in_a_stream_ends_in_one_terminal_event_and_keeps_the_rules(values: list[Any]) -> None:
    events = decode(b"".join(sse.encode(json.dumps(value).encode()) for value in values) + DONE)
    if isinstance(events[-1], Failed):
        with pytest.raises((StreamBroken, UpstreamError)):
            fold(events)
    else:
        fold(events)


@GIVEN
@given(st.binary(max_size=60))
def test_any_bytes_end_in_one_terminal_event(data: bytes) -> None:
    assert isinstance(decode(data)[-1], Finished | Failed)


def test_reading_along() -> None:
    for size in (1, 7, 64, len(RICH)):
        seen = OPENAI_COMPLETIONS.observer(True, "text/event-stream")
        for start in range(0, len(RICH), size):
            seen.feed(RICH[start : start + size])
        seen.end()
        assert (seen.usage, seen.finish_reason, seen.terminal) == (Usage(3, 9), "stop", True)
    seen = OPENAI_COMPLETIONS.observer(True, "text/event-stream")
    for piece in (text("a"), text("b"), text("c"), text("d", "length")):
        seen.feed(piece)
    assert seen.finish_reason == "length"
