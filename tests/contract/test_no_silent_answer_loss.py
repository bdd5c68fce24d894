"""Whatever an upstream answers, a caller of any dialect is told, or the loss is; whole and streamed."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.core.events import ChatEvent, FinishReason, Stop
from headgate.core.fold import fold, unfold
from headgate.core.loss import Loss
from headgate.core.messages import (
    JSON,
    Citation,
    Extensions,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
)
from headgate.core.result import ChatResult, Choice
from headgate.dialects.sealed import unseal
from tests.support.answer_table import (
    BY_NAME,
    CALLERS,
    NAMES,
    OPTIONS,
    Ending,
    cell,
    codec,
    ending,
    events_of,
    reread,
    small_vanished,
    streamed_to,
)
from tests.support.answers.row import Vendor
from tests.support.fields.row import PNG, WAV

GIVEN = settings(max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

Fact: TypeAlias = tuple[object, ...]

vendors = pytest.mark.parametrize("vendor", [pytest.param(BY_NAME[name], id=name) for name in NAMES])
callers = pytest.mark.parametrize("caller", CALLERS)
streams = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


# What vendors answer, field by field and by example.


@vendors
@callers
@streams
def test_no_field_of_an_answer_vanishes(vendor: Vendor, caller: str, stream: bool) -> None:
    found = {name: cell(caller, vendor, sample, stream) for name, sample in vendor.samples()}
    assert [name for name, each in found.items() if each is not None and each.word == "vanished"] == []


def test_no_field_of_embeddings_and_rankings_vanishes() -> None:
    assert list(small_vanished()) == []


@vendors
@callers
@streams
def test_no_word_for_the_end_is_taken_for_another(vendor: Vendor, caller: str, stream: bool) -> None:
    """Without a loss, what a caller reads is why the answer ended; and no two words look alike to it."""
    endings = {word: ending(caller, vendor, body, stream) for word, body in vendor.words.items()}
    told = {word: each for word, each in endings.items() if not each.losses}
    assert [word for word, each in told.items() if _reason(each) != each.meant.reason] == []
    alike: dict[tuple[str, FinishReason], list[str]] = {}
    for word, each in told.items():
        alike.setdefault((each.word, each.meant.reason), []).append(word)
    assert [words for words in alike.values() if len(words) > 1 and set(words) != _CALLS] == []


_CALLS = {"tool_calls", "function_call"}
"""The new word and the old for the same."""


def _reason(found: Ending) -> FinishReason:
    return found.read.reason


# Whatever a neutral answer may hold.

_THOUGHT = st.sampled_from(["", "pondering"])
_ORIGIN = st.sampled_from(NAMES)
_ELSEWHERE: st.SearchStrategy[Extensions] = st.sampled_from([{}, {"elsewhere": {"special": 1, "nil": 0}}])
citations = st.builds(
    Citation,
    st.sampled_from(["url", "document", "file", "search", "other"]),
    url=st.sampled_from([None, "https://example.com/a"]),
    title=st.sampled_from([None, "title"]),
    quote=st.sampled_from([None, "quote"]),
    start=st.just(1),
    end=st.just(3),
    source=st.sampled_from([None, 1]),
)
texts = st.builds(
    Text,
    st.sampled_from(["<one>", "<two>", "<three>"]),
    st.lists(citations, max_size=2).map(tuple),
    extensions=_ELSEWHERE,
)
thoughts: st.SearchStrategy[Reasoning] = st.one_of(
    st.builds(Reasoning, _THOUGHT, signature=st.just("c2ln"), origin=_ORIGIN),
    st.builds(Reasoning, data=st.just("ZW5j"), redacted=st.just(True), origin=_ORIGIN),
    st.builds(Reasoning, st.just("pondering"), extensions=_ELSEWHERE),
)
calls = st.builds(
    ToolCall,
    st.sampled_from(["call_1", "call_2"]),
    st.just("f"),
    st.sampled_from(["{}", '{"a":"b"}']),
    extensions=_ELSEWHERE,
)
free_calls = st.just(ToolCall("call_3", "g", "free as the wind", "custom"))
others: st.SearchStrategy[Part] = st.sampled_from(
    [
        Refusal("<refusal>"),
        Media("image", "image/png", PNG),
        Media("audio", "audio/wav", WAV),
        Opaque("elsewhere", {"type": "novelty"}),
        Opaque("anthropic", {"type": "novelty", "a": 1}),
    ]
)
TOKENS: tuple[JSON, ...] = (
    {
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [{"token": "b", "logprob": -1.5, "bytes": [98]}],
    },
)
reasons: st.SearchStrategy[FinishReason] = st.sampled_from(
    ["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "context_length", "other"]
)


@st.composite
def choices(draw: st.DrawFn, index: int) -> Choice:
    said: list[Part] = [*draw(st.lists(thoughts, max_size=1)), draw(texts)]
    said += draw(st.lists(st.one_of(texts, others), max_size=2))
    made: list[ToolCall] = draw(st.lists(calls, max_size=2, unique_by=lambda call: call.id))
    said += made
    said += draw(st.lists(free_calls, max_size=1))
    called = any(isinstance(part, ToolCall) for part in said)
    reason: FinishReason = "tool_calls" if called else draw(reasons.filter(lambda each: each != "tool_calls"))
    sequence = draw(st.sampled_from([None, "END"])) if reason == "stop" else None
    weighed = draw(st.booleans())
    return Choice(index, tuple(said), Stop(reason, index, sequence), TOKENS if weighed else None)


@st.composite
def answers(draw: st.DrawFn) -> ChatResult:
    counts = st.none() | st.integers(1, 5)
    usage = Usage(20, 10, draw(counts), draw(counts), draw(counts))
    number = draw(st.integers(1, 2))
    told = tuple(draw(choices(index)) for index in range(number))
    return ChatResult("answer", "m", 1, told, usage, draw(_ELSEWHERE))


# What an answer says, fact by fact, each with the places that its loss would have.


def facts(result: ChatResult) -> Iterator[tuple[Fact, list[str]]]:
    for choice in result.choices:
        whole = f"choices[{choice.index}]"
        for number, part in enumerate(choice.parts):
            for fact, field in _of_part(part):
                yield (choice.index, *fact), [place + field for place in _places(choice, number)]
        if choice.logprobs is not None:
            weighed = [f"{whole}.parts[{number}].logprobs" for number in range(len(choice.parts))]
            yield (choice.index, "weighed", len(choice.logprobs)), [f"{whole}.logprobs", *weighed]
        yield (choice.index, "stop", choice.stop.reason), [f"{whole}.stop"]
        if choice.stop.sequence is not None:
            yield (choice.index, "sequence", choice.stop.sequence), [f"{whole}.stop.sequence"]
    for name in Usage.__dataclass_fields__:
        if value := getattr(result.usage, name, None):
            yield ("usage", name, value), [f"usage.{name}"]
    for key in result.extensions.get("elsewhere", {}):
        if key != "nil":
            yield ("extension", key), [key]


def _places(choice: Choice, number: int) -> list[str]:
    """A part's, as callers of each dialect would have it; citations may be told for a candidate."""
    places = [f"choices[{choice.index}].parts[{number}]"]
    places += [f"candidates[{choice.index}].content.parts[{number}]", f"candidates[{choice.index}]"]
    return places if choice.index else [*places, f"content[{number}]"]


def _of_part(part: Part) -> Iterator[tuple[Fact, str]]:
    """Facts with the field of the part that holds them."""
    match part:
        case Text():
            yield ("text", part.text), ""
            for citation in part.citations:
                for name in ("url", "title", "quote", "start", "end", "source"):
                    value = getattr(citation, name)
                    if value not in (None, ""):
                        yield ("cited", name, value), f".citations.{name}"
        case Refusal():
            yield ("refusal", part.text), ""
        case Media():
            yield ("media", part.kind, part.data), ""
        case Reasoning():
            if part.text:
                yield ("thought", part.text), ""
            if part.signature or part.data:
                yield ("opaque", _unsealed(part)), ".signature"
        case ToolCall():
            yield ("call", part.name, part.kind, _canonical(part.arguments)), ""
            yield ("id of a call", part.id), ".id"
        case Opaque():
            yield ("opaque block", part.dialect, json.dumps(part.value)), ""
    if not isinstance(part, Opaque) and part.extensions.get("elsewhere"):
        yield ("extension of a part", "special"), ".special"


def _unsealed(part: Reasoning) -> str:
    """The data that was sealed, by each gateway on the way: decoders of requests unseal it, those of answers
    need not."""
    opaque = part.signature or part.data or ""
    while True:
        opaque = re.sub(r"^([sdr]:|~)", "", opaque)
        with contextlib.suppress(ValueError):
            text = base64.b64decode(opaque, validate=True).decode()
            opaque = text if unseal(text) else opaque
        opened = unseal(opaque)
        if opened is None:
            return opaque
        opaque = opened[1]


def _canonical(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except ValueError:
        return arguments


def silently_lost(result: ChatResult, losses: list[Loss], arrived: ChatResult) -> list[Fact]:
    paths = {re.sub(r"\.citations\[\d+\]", ".citations", loss.path) for loss in losses}
    found = {fact for fact, _ in facts(arrived)}
    return [
        fact
        for fact, places in facts(result)
        if fact not in found and not _excused(places, paths) and not _otherwise(fact, arrived, found)
    ]


def _excused(places: list[str], paths: set[str]) -> bool:
    """A loss names the fact's place, or one that holds it."""
    return any(place == path or place.startswith(f"{path}.") for place in places for path in paths)


def _otherwise(fact: Fact, arrived: ChatResult, found: set[Fact]) -> bool:
    """Texts that follow each other may have been joined, and a refusal may be told by the stop reason."""
    match fact:
        case (int(index), "text", str(text)):
            return text in _said(arrived, index, Text)
        case (int(index), "thought", str(text)):
            return text in _said(arrived, index, Reasoning)
        case (int(index), "refusal", str(text)):
            kept = (index, "stop", "refusal") in found and text in _said(arrived, index, Text)
            return kept or text in _said(arrived, index, Refusal)
        case (int(index), "cited", "quote", value):
            return (index, "cited", "title", value) in found
        case (int(index), "stop", "stop"):
            return any(each[:2] == (index, "stop") for each in found)
        case (int(index), "stop", "refusal"):
            return any(each[:2] == (index, "refusal") for each in found)
        case _:
            return False


def _said(result: ChatResult, index: int, kind: type[Text | Reasoning | Refusal]) -> str:
    return "".join(
        part.text
        for choice in result.choices
        if choice.index == index
        for part in choice.parts
        if isinstance(part, kind)
    )


def told_to(caller: str, result: ChatResult, stream: bool) -> tuple[ChatResult, list[Loss]]:
    """What a caller reads in an answer that it gets, and the losses."""
    if stream:
        body, losses = streamed_to(caller, unfold(result))
        return reread(caller, body, stream), losses
    body, losses = codec(caller).encode_result(result, OPTIONS)
    read, head = reread(caller, body, stream), codec(caller).usage_headers
    if read.usage is None and head is not None and result.usage is not None:
        read = replace(read, usage=head.read(head.write(result.usage)))
    return read, losses


def told_by(upstream: str, result: ChatResult, stream: bool) -> tuple[ChatResult, list[ChatEvent]]:
    """What is read of an upstream's answer, as far as its dialect can say it."""
    if not stream:
        body, _ = codec(upstream).encode_result(result, OPTIONS)
        read = codec(upstream).decode_result(body)
        return read, unfold(read)
    body, _ = streamed_to(upstream, unfold(result))
    events = events_of(upstream, body, "text/event-stream")
    return fold(events), events


@callers
@streams
@GIVEN
@given(answers())
def test_what_is_not_reported_is_told(caller: str, stream: bool, result: ChatResult) -> None:
    arrived, losses = told_to(caller, result, stream)
    assert silently_lost(result, losses, arrived) == []


@pytest.mark.parametrize("upstream", NAMES)
@callers
@streams
@GIVEN
@given(answers())
def test_what_an_upstream_can_say_is_told_or_reported(
    upstream: str, caller: str, stream: bool, result: ChatResult
) -> None:
    answer, events = told_by(upstream, result, stream)
    if stream:
        body, losses = streamed_to(caller, events)
        arrived = reread(caller, body, stream)
    else:
        arrived, losses = told_to(caller, answer, stream)
    assert silently_lost(answer, losses, arrived) == []
