"""Chat Completions answers: streams at every byte split, vendors' habits, and the complete answer."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken, UpstreamError
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
from headgate.core.messages import Citation, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects import sse
from headgate.dialects.openai_chat import StreamDecoder, decode_result
from tests.unit.openai_chunks import ANSWER, DONE, call, choice, chunk, decode, text

GIVEN = settings(max_examples=120, deadline=None, database=None)


def parts(*chunks: bytes) -> tuple[Part, ...]:
    return fold(decode(b"".join(chunks))).choices[0].parts


def error_of(events: list[ChatEvent]) -> Any:
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Finished | Failed) for event in events[:-1])
    return events[-1].error


FINISH = chunk(choice({}, "tool_calls"))

RICH = b"".join(
    [
        chunk(id="", model="", created=0, prompt_filter_results=[{"prompt_index": 0}]),
        chunk(choice({"role": "assistant", "content": "", "refusal": None}), system_fingerprint="fp"),
        b": keep-alive\n\n",
        chunk(choice({"reasoning_content": "Hm"})),
        chunk(choice({"reasoning": "m."})),
        text("Grüße, "),
        text("Wörld 🌍"),
        chunk(choice({"content": "!"}, index=1, logprobs={"content": [{"token": "!"}], "refusal": None})),
        call(index=0, id="a", type="function", function={"name": "f", "arguments": ""}),
        call(index=0, function={"arguments": '{"x":'}),
        call(index=1, id="b", type="function", function={"name": "g", "arguments": "{"}),
        call(index=0, function={"arguments": "1}"}),
        call(index=1, function={"arguments": "}"}),
        chunk(choice({}, "tool_calls")),
        chunk(choice({}, "stop", 1, content_filter_results={"hate": {"filtered": False}})),
        chunk(usage={"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}, service_tier="flex"),
        DONE,
    ]
)


def test_a_rich_stream_folds_to_the_whole_answer() -> None:
    entry: Any = {"token": "!"}
    extra: Any = {
        "prompt_filter_results": [{"prompt_index": 0}],
        "system_fingerprint": "fp",
        "choices": {"1": {"content_filter_results": {"hate": {"filtered": False}}}},
    }
    assert fold(decode(RICH)) == ChatResult(
        "c1",
        "m",
        7,
        (
            Choice(
                0,
                (
                    Reasoning("Hmm."),
                    Text("Grüße, Wörld 🌍"),
                    ToolCall("a", "f", '{"x":1}'),
                    ToolCall("b", "g", "{}"),
                ),
                Stop("tool_calls", native="tool_calls"),
            ),
            Choice(1, (Text("!"),), Stop("stop", 1, native="stop"), (entry,)),
        ),
        Usage(3, 9),
        {"openai_chat": extra, "openai": {"service_tier": "flex"}},
    )


def test_two_calls_with_one_id_stay_apart() -> None:
    twice = [{"id": "f", "type": "function", "function": {"name": "f", "arguments": text}} for text in "12"]
    message = {"role": "assistant", "content": None, "tool_calls": twice}
    whole = {**ANSWER, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    expected = (ToolCall("f", "f", "1"), ToolCall("f", "f", "2"))
    assert decode_result(json.dumps(whole).encode()).choices[0].parts == expected
    streamed = [
        call(index=0, id="f", function={"name": "f", "arguments": ""}),
        call(index=1, id="f", function={"name": "f", "arguments": ""}),
        call(index=0, id="f", function={"arguments": "1"}),
        call(index=1, function={"arguments": "2"}),
    ]
    assert parts(*streamed, FINISH, DONE) == expected


def test_calls_end_in_the_order_in_which_they_became_parts() -> None:
    late = [
        call(index=0, id="a", function={"arguments": "1"}),
        call(index=1, id="b", function={"name": "g", "arguments": "2"}),
        call(index=0, function={"name": "f"}),
    ]
    events = decode(b"".join([*late, FINISH, DONE]))
    assert [event.index for event in events if isinstance(event, PartEnded)] == [0, 1]
    assert fold(events).choices[0].parts == (ToolCall("b", "g", "2"), ToolCall("a", "f", "1"))


def test_ids_tell_calls_apart_where_every_index_is_the_same() -> None:
    streamed = [
        call(index=0, id="a", function={"name": "f", "arguments": ""}),
        call(index=0, id="b", function={"name": "g", "arguments": ""}),
        call(index=0, id="a", function={"arguments": "1"}),
        call(index=0, id="b", function={"arguments": "2"}),
        call(index=0, function={"arguments": "3"}),
    ]
    assert parts(*streamed, FINISH, DONE) == (ToolCall("a", "f", "1"), ToolCall("b", "g", "23"))


def test_every_byte_split_gives_the_same_events() -> None:
    expected = decode(RICH)
    for cut in range(len(RICH)):
        assert decode(RICH, cut) == expected
    assert decode(RICH, *range(len(RICH))) == expected


@GIVEN
@given(st.lists(st.integers(0, len(RICH)), max_size=10), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_and_line_end_give_the_same_events(cuts: list[int], line_end: bytes) -> None:
    assert decode(RICH.replace(b"\n", line_end), *sorted(cuts)) == decode(RICH)


def test_deltas_come_out_with_the_bytes_that_hold_them() -> None:
    decoder = StreamDecoder()
    assert decoder.feed(text("a")) == [
        Started("c1", "m", 7),
        PartStarted(0, Text("")),
        PartDelta(0, "a"),
    ]
    assert decoder.feed(text("b")) == [PartDelta(0, "b")]


chunks = st.one_of(
    st.builds(text, st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
    st.builds(text, st.sampled_from(["a", '"', "\\", "\n", " ", "data: x"]), index=st.integers(0, 1)),
    st.sampled_from(
        [
            chunk(choice({"reasoning_content": "r", "reasoning": "r"})),
            chunk(choice({"content": "a"}), usage={"prompt_tokens": 1, "completion_tokens": 1}),
            chunk(choice({"content": "a", "extra": 1})),
            chunk(choice({"content": "a"}, logprobs={"content": [{"token": "a"}]})),
            call(index=0, function={"name": "f", "arguments": "1"}),
            call(index=0, function={"arguments": "2"}),
            call(index=0, id="b", function={"name": "g", "arguments": "3"}),
            chunk(choice({"refusal": "no"})),
            chunk(choice({"content": "a", "refusal": "b"})),
            text("a") + text("b"),
            chunk(choice({}, "stop")),
            b": ping\n\n",
            b'data: {"error":{"message":"x"}}\n\n',
        ]
    ),
)


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(chunks, max_size=12), st.data())
def test_reads_of_whole_events_give_what_any_other_split_gives(
    pieces: list[bytes], data: st.DataObject
) -> None:
    """Chunks that repeat each other's form take a shorter way, alone or together: to the same events."""
    decoder = StreamDecoder()
    events: list[ChatEvent] = []
    waiting = [*pieces, DONE]
    while waiting:
        together = data.draw(st.integers(1, 3))
        events += decoder.feed(b"".join(waiting[:together]))
        del waiting[:together]
    events += decoder.end()
    wire = b"".join([*pieces, DONE])
    other = decode(wire, *range(len(wire)))
    if isinstance(events[-1], Failed):
        assert events[:-1] == other[:-1]
        assert isinstance(other[-1], Failed)
    else:
        assert events == other
        fold(events)


def test_a_chunk_with_more_than_the_last_one_had_is_parsed() -> None:
    more = chunk(choice({"content": "d", "refusal": "e"}))
    assert parts(more, FINISH) == (Text("d"), Refusal("e"))
    decoder = StreamDecoder()
    events = [event for piece in (text("a"), text("b"), text("c"), more) for event in decoder.feed(piece)]
    deltas = [event.delta for event in events if isinstance(event, PartDelta)]
    assert deltas == ["a", "b", "c", "d", "e"]


def test_chunks_like_the_last_one_may_come_together() -> None:
    decoder = StreamDecoder()
    reads = [text("a"), text("b"), text("c") + text("d") + text("e"), text("f"), text("g") + text('"')]
    events = [event for read in reads for event in decoder.feed(read)]
    assert [event.delta for event in events if isinstance(event, PartDelta)] == [*"abcdefg", '"']


def test_a_chunk_like_the_last_one_but_malformed_still_breaks_the_stream() -> None:
    decoder = StreamDecoder()
    for content in ("a", "b", "c"):
        decoder.feed(text(content))
    error_of(decoder.feed(text("x").replace(b'"x"', b'"\n"')))
    decoder = StreamDecoder()
    for content in ("a", "b", "c"):
        decoder.feed(text(content))
    error_of(decoder.feed(text("x").replace(b'"x"', b'"\xff"')))


@pytest.mark.parametrize("cut", [0, 1, len(RICH) // 2, len(RICH) - len(FINISH) * 3])
def test_a_cut_stream_fails(cut: int) -> None:
    error = error_of(decode(RICH[:cut]))
    assert isinstance(error, StreamBroken)
    assert error.retryable


def test_a_finish_reason_for_each_choice_is_an_end_without_done() -> None:
    assert isinstance(decode(text("a", "stop"))[-1], Finished)
    assert isinstance(decode(text("a") + DONE)[-1], Finished)
    error_of(decode(text("a", "stop") + text("b", index=1)))
    error_of(decode(text("a")))
    error_of(decode(DONE))


def test_nothing_follows_the_end() -> None:
    decoder = StreamDecoder()
    decoder.feed(text("a", "stop") + DONE + text("late"))
    assert decoder.feed(text("later")) == []
    assert decoder.end() == []


@pytest.mark.parametrize(
    ("wire", "kind"),
    [
        (b"data: {not json}\n\n", StreamBroken),
        (b"data: [1]\n\n", StreamBroken),
        (b"data: " + b"[" * 100_000 + b"\n\n", StreamBroken),
        (b"<html><body>Bad gateway</body></html>", StreamBroken),
        (b"", StreamBroken),
        (b'data: {"error": {"message": "boom", "type": "t", "code": 503}}\n\n', UpstreamError),
        (b'event: error\ndata: {"message": "boom"}\n\n', UpstreamError),
        (b'{"error": {"message": "boom"}}', UpstreamError),
        (b'{"choices": [', StreamBroken),
    ],
)
def test_trouble_in_mid_stream_is_the_terminal_event(wire: bytes, kind: type[Exception]) -> None:
    assert isinstance(error_of(decode(wire)), kind)
    if wire.startswith(b"data"):
        assert isinstance(error_of(decode(text("a") + wire + text("b") + DONE)), kind)


def test_an_upstreams_error_keeps_message_type_and_status() -> None:
    error = error_of(decode(b'data: {"error": {"message": "boom", "type": "t", "code": 503}}\n\n'))
    assert (error.message, error.upstream_type, error.status, error.retryable) == ("boom", "t", 503, True)


def test_a_plain_answer_in_place_of_a_stream_is_taken() -> None:
    body = b"\n" + json.dumps(ANSWER).encode()
    for cut in range(len(body)):
        assert decode(body, cut) == unfold(decode_result(body))


@pytest.mark.parametrize(
    "deltas",
    [
        # OpenAI: index always, id and name at first.
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "1"}},
            {"index": 0, "function": {"arguments": "2"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "3"}},
        ],
        # id and name on every delta
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "1"}},
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "2"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "3"}},
        ],
        # no index
        [
            {"id": "a", "function": {"name": "f", "arguments": "1"}},
            {"function": {"arguments": "2"}},
            {"id": "b", "function": {"name": "g", "arguments": "3"}},
        ],
        # every call has index 0
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "12"}},
            {"index": 0, "id": "b", "function": {"name": "g", "arguments": "3"}},
        ],
        # the name comes after the id, the arguments in between
        [
            {"index": 0, "id": "a", "function": {"arguments": "1"}},
            {"index": 0, "function": {"name": "f"}},
            {"index": 1, "function": {"arguments": ""}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "3"}},
            {"index": 0, "function": {"arguments": "2"}},
        ],
        # null and missing fields
        [
            {"index": 0, "id": "a", "type": None, "function": {"name": "f", "arguments": None}},
            {"index": 0, "id": None, "function": {"name": None, "arguments": "12"}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "3"}},
        ],
    ],
)
def test_tool_calls_as_vendors_send_them(deltas: list[dict[str, Any]]) -> None:
    assert parts(*(call(**delta) for delta in deltas), FINISH) == (
        ToolCall("a", "f", "12"),
        ToolCall("b", "g", "3"),
    )


def test_calls_without_id_or_name_or_with_arguments_as_an_object() -> None:
    assert parts(call(function={"name": "f", "arguments": {"x": 1}}), FINISH) == (
        ToolCall("call_0_0", "f", '{"x":1}'),
    )
    assert parts(call(index=0, id="a", function={"arguments": "1"}), FINISH) == (ToolCall("a", "", "1"),)


def test_custom_and_deprecated_calls() -> None:
    assert parts(
        call(index=0, id="a", type="custom", custom={"name": "f", "input": "x"}),
        call(index=0, custom={"input": "y"}),
        FINISH,
    ) == (ToolCall("a", "f", "xy", "custom"),)
    (legacy,) = parts(
        chunk(choice({"function_call": {"name": "f", "arguments": ""}})),
        chunk(choice({"function_call": {"arguments": "{}"}}, "function_call")),
    )
    assert isinstance(legacy, ToolCall)
    assert (legacy.name, legacy.arguments) == ("f", "{}")


def test_other_habits_of_vendors() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "prompt_cache_hit_tokens": 2}
    events = decode(
        chunk(choice({"content": "a"}), usage=usage)
        + chunk(choice({"content": "b"}, "stop"), usage=usage | {"completion_tokens": 2})
        + chunk(choice({}, "length"), usage={"prompt_tokens": 0, "completion_tokens": 0})
        + DONE
    )
    assert [event.usage for event in events if isinstance(event, UsageReported)] == [
        Usage(3, 1, cached_tokens=2),
        Usage(3, 2, cached_tokens=2),
    ]
    assert events[-1] == Finished((Stop("length", native="length"),))
    assert parts(
        chunk(choice({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}]})),
        chunk(choice({"content": [{"type": "text", "text": "a"}]}, "stop")),
    ) == (Reasoning("h"), Text("a"))
    assert parts(text("a"), chunk(choice({"annotations": [{"type": "url_citation"}]}, "stop"))) == (
        Text("a", (Citation("url", extensions={"openai_chat": {"type": "url_citation"}}),)),
    )
    assert parts(chunk(choice({"audio": {"id": "x"}}, "stop"))) == (
        Opaque("openai_chat", {"audio": {"id": "x"}}),
    )
    assert decode(text("a", "eos"))[-1] == Finished((Stop("other", native="eos"),))


def test_counts_that_are_none_are_not_counted() -> None:
    usage = {"prompt_tokens": -1, "completion_tokens": 2.5, "prompt_tokens_details": {"cached_tokens": "x"}}
    events = decode(chunk(choice({"content": "a"}, "stop"), usage=usage) + DONE)
    assert not any(isinstance(event, UsageReported) for event in events)
    events = decode(chunk(choice({"content": "a"}, "stop"), usage=usage | {"completion_tokens": 2}) + DONE)
    assert UsageReported(Usage(output_tokens=2)) in events


garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "choices", "delta", "content", "index", "tool_calls", "function", "name", "usage", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@GIVEN
@given(st.lists(garbage, max_size=4))
def test_any_json_in_a_stream_ends_in_one_terminal_event_and_keeps_the_rules(values: list[Any]) -> None:
    wire = b"".join(sse.encode(json.dumps(value).encode()) for value in values) + DONE
    events = decode(wire)
    if isinstance(events[-1], Failed):
        with pytest.raises((StreamBroken, UpstreamError)):
            fold(events)
    else:
        fold(events)


@GIVEN
@given(garbage)
def test_any_json_is_an_answer_or_refused(value: Any) -> None:
    with contextlib.suppress(StreamBroken, UpstreamError):
        decode_result(json.dumps(value).encode())
