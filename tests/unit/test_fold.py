"""The assembler: its rules, and that `unfold` is its inverse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken
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
from headgate.core.fold import Assembler, ProtocolViolation, fold, unfold
from headgate.core.messages import Media, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.core.result import ChatResult, Choice

START = Started("id", "m", 1)
STOP = Finished((Stop("stop"),))
TEXT = PartStarted(0, Text(""))
CALL = PartStarted(0, ToolCall("c", "f", ""))


def test_a_stream_folds_to_the_whole_answer() -> None:
    entry: Any = {"token": "Hi", "logprob": -0.1}
    result = fold(
        [
            Started("id", "m", 1, {"openai_chat": {"system_fingerprint": "fp"}}),
            PartStarted(0, Reasoning()),
            PartDelta(0, "thin"),
            PartDelta(0, "k"),
            PartDelta(0, "sig", field="signature"),
            PartEnded(0),
            PartStarted(1, Text("")),
            PartStarted(0, Text("other "), choice=1),
            PartDelta(1, "H", logprobs=[entry]),
            PartDelta(0, "choice", choice=1),
            PartDelta(1, "i", logprobs=[entry]),
            PartEnded(1),
            PartEnded(0, choice=1),
            PartStarted(2, ToolCall("a", "f", "")),
            PartStarted(3, ToolCall("b", "g", "")),
            PartDelta(2, "{", field="arguments"),
            PartDelta(3, "[]", field="arguments"),
            PartDelta(2, "}", field="arguments"),
            PartEnded(2),
            PartEnded(3),
            UsageReported(Usage(input_tokens=3, output_tokens=1)),
            UsageReported(Usage(output_tokens=5)),
            Finished((Stop("tool_calls"), Stop("length", 1)), {"openai_chat": {"service_tier": "flex"}}),
        ]
    )
    assert result == ChatResult(
        "id",
        "m",
        1,
        (
            Choice(
                0,
                (Reasoning("think", "sig"), Text("Hi"), ToolCall("a", "f", "{}"), ToolCall("b", "g", "[]")),
                Stop("tool_calls"),
                (entry, entry),
            ),
            Choice(1, (Text("other choice"),), Stop("length", 1)),
        ),
        Usage(input_tokens=3, output_tokens=5),
        {"openai_chat": {"system_fingerprint": "fp", "service_tier": "flex"}},
    )


@pytest.mark.parametrize(
    ("events", "rule"),
    [
        ([TEXT], "Started first"),
        ([STOP], "Started first"),
        ([START, START], "one start"),
        ([START, PartStarted(1, Text(""))], "part indexes grow by one"),
        ([START, TEXT, TEXT], "part indexes grow by one"),
        ([START, PartStarted(0, Text(""), choice=-1)], "choices count from 0"),
        ([START, PartDelta(0, "x")], "only open parts"),
        ([START, TEXT, PartDelta(0, "x", choice=1)], "only open parts"),
        ([START, TEXT, PartEnded(0), PartDelta(0, "x")], "only open parts"),
        ([START, TEXT, PartEnded(0), PartEnded(0)], "only open parts"),
        ([START, TEXT, PartEnded(-1)], "only open parts"),
        ([START, TEXT, PartDelta(0, "x", field="arguments")], "deltas fit the part"),
        ([START, CALL, PartDelta(0, "x")], "deltas fit the part"),
        ([START, PartStarted(0, Opaque("x", {})), PartDelta(0, "x")], "deltas fit the part"),
        (
            [START, UsageReported(Usage(output_tokens=2)), UsageReported(Usage(output_tokens=1))],
            "usage is cumulative",
        ),
        ([START, TEXT, STOP], "parts end before the answer"),
        ([START, TEXT, PartEnded(0), Finished(())], "one stop for each choice"),
        ([START, Finished((Stop("stop", 1), Stop("stop", 0)))], "one stop for each choice"),
        ([START, STOP, STOP], "one terminal event"),
        ([START, STOP, Failed(StreamBroken("x"))], "one terminal event"),
        ([Failed(StreamBroken("x")), START], "one terminal event"),
        ([START], "one terminal event"),
    ],
)
def test_a_broken_rule_is_named(events: list[ChatEvent], rule: str) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        fold(events)
    assert caught.value.rule == rule


def test_a_failed_stream_raises_its_error() -> None:
    assembler = Assembler()
    error = StreamBroken("cut")
    assembler.feed(Failed(error))
    with pytest.raises(StreamBroken) as caught:
        assembler.result()
    assert caught.value is error


texts = st.text(max_size=10)
parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, texts, st.just(({"type": "url_citation"},))),
    st.builds(Refusal, texts),
    st.builds(Reasoning, texts, st.none() | texts, st.none() | texts, st.booleans()),
    st.builds(ToolCall, texts, texts, texts, st.sampled_from(["function", "custom"])),
    st.builds(Media, st.just("image"), st.just("image/png"), texts),
    st.builds(Opaque, st.just("x"), st.just({"a": 1})),
)


@st.composite
def results(draw: st.DrawFn) -> ChatResult:
    choices = []
    for index in range(draw(st.integers(0, 3))):
        drawn = tuple(draw(st.lists(parts, max_size=4)))
        logprobs: Any = draw(st.none() | st.just(({"token": "a"}, {"token": "b"})))
        if not any(isinstance(part, Text | Refusal) for part in drawn):
            logprobs = None
        choices.append(Choice(index, drawn, Stop("stop", index), logprobs))
    usage = draw(st.none() | st.just(Usage(1, 2, 0, None, 1)))
    return ChatResult("id", "m", 1, tuple(choices), usage, {"openai_chat": {"x": 1}} if usage else {})


@settings(max_examples=150, deadline=None, database=None)
@given(results())
def test_fold_undoes_unfold(result: ChatResult) -> None:
    assert fold(unfold(result)) == result
