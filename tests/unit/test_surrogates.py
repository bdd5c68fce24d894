"""Characters that an upstream cut in two: JavaScript counts texts in halves of UTF-16 pairs."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.events import (
    ChatEvent,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
)
from headgate.core.fold import fold
from headgate.core.messages import Text
from headgate.dialects.dialect import AnswerOptions, ChatDialect
from headgate.dialects.registry import dialect
from headgate.dialects.surrogates import Surrogates

DIALECTS = ("openai_chat", "openai_completions", "openai_responses", "anthropic", "gemini", "invoke_chat")
CUT = ["It is ", "HIGH", "LOW", " and HIGH", "LOW."]
"""Two emojis, each cut; an upstream of each dialect writes it, and then the words become escapes."""


def streamed(name: str, texts: list[str]) -> bytes:
    spoken = dialect(name)
    assert isinstance(spoken, ChatDialect)
    encoder = spoken.stream_encoder(AnswerOptions(framing="sse"))
    events: list[ChatEvent] = [
        Started("a", "m", 1),
        PartStarted(0, Text("")),
        *(PartDelta(0, text) for text in texts),
        PartEnded(0),
        Finished((Stop("stop"),)),
    ]
    wire = b"".join(encoder.encode(event) for event in events)
    return wire.replace(b"HIGH", b"\\ud83d").replace(b"LOW", b"\\uDE00")


def read(name: str, wire: bytes) -> list[ChatEvent]:
    spoken = dialect(name)
    assert isinstance(spoken, ChatDialect)
    decoder = spoken.stream_decoder("text/event-stream")
    events: list[ChatEvent] = []
    for block in re.split(rb"(?<=\n\n)", wire):
        events += decoder.feed(block)
    return events + decoder.end()


def text_of(events: list[ChatEvent]) -> str:
    assert not [event for event in events if isinstance(event, Failed)]
    return "".join(part.text for part in fold(events).choices[0].parts if isinstance(part, Text))


@pytest.mark.parametrize("name", DIALECTS)
def test_the_halves_are_joined(name: str) -> None:
    assert text_of(read(name, streamed(name, CUT))) == "It is \U0001f600 and \U0001f600."


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    ("texts", "text"),
    [
        (["LOW lost"], "\ufffd lost"),
        (["aHIGHb", "HIGH and LOW"], "a\ufffdb\ufffd and \ufffd"),
        (["HIGHHIGHLOW"], "\ufffd\U0001f600"),
        (["whole HIGHLOW", "\\HIGH stays, LOW goes"], "whole \U0001f600\\\ufffd stays, \ufffd goes"),
    ],
)
def test_a_half_alone_is_an_unknown_character(name: str, texts: list[str], text: str) -> None:
    assert text_of(read(name, streamed(name, texts))) == text


@pytest.mark.parametrize("name", DIALECTS)
def test_a_stream_that_ends_in_a_half_is_whole(name: str) -> None:
    assert text_of(read(name, streamed(name, ["so ", "it HIGH"]))) == "so it "


def test_escaped_backslashes_are_no_escapes() -> None:
    said = json.dumps({"a": r'"\ud83d"', "b": "\\"})
    assert Surrogates().mend(said.encode()) == said.encode()
    assert Surrogates().mend(rb'"\\\\ud83d\\\ud83d!"') == rb'"\\\\ud83d\\\ufffd!"'


@given(st.text())
def test_what_is_whole_stays_as_it_is(text: str) -> None:
    said = json.dumps([text, text]).encode()
    assert Surrogates().mend(said) == said


@given(st.text(), st.integers(1, 5))
def test_a_text_cut_anywhere_is_whole_again(text: str, units: int) -> None:
    wide = text.encode("utf-16-le")
    cut = [wide[at : at + 2 * units] for at in range(0, len(wide), 2 * units)]
    halves = Surrogates()
    read = [
        msgspec.json.decode(halves.mend(json.dumps(piece.decode("utf-16-le", "surrogatepass")).encode()))
        for piece in cut
    ]
    assert "".join(read) == text


@given(st.lists(st.text(st.characters() | st.characters(categories=["Cs"]))))
def test_any_halves_can_be_read(texts: list[str]) -> None:
    read: list[str] = msgspec.json.decode(Surrogates().mend(json.dumps(texts).encode()))
    assert len(read) == len(texts)
