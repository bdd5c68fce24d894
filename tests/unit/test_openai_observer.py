"""Reading along: what passes by is understood at every byte split, and text can't pretend to be more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.dialects import sse
from headgate.dialects.held_body import MAX_BODY, TAIL
from headgate.dialects.openai_observer import BodyObserver, StreamObserver, observer

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1}}
READ = Usage(3, 4, 1)


def chunk(content: str, finish: str | None = None, spaced: bool = False, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "logprobs": None, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "choices": [choice]} | fields
    return sse.encode(json.dumps(body, separators=None if spaced else (",", ":")).encode())


def watch(wire: bytes, *cuts: int, size: int | None = None) -> StreamObserver:
    seen = StreamObserver()
    if size is not None:
        cuts = tuple(range(size, len(wire), size))
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        seen.feed(wire[start:end])
    seen.end()
    return seen


def state(seen: StreamObserver | BodyObserver) -> tuple[Any, ...]:
    return seen.usage, seen.finish_reason, seen.terminal, seen.failed


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_stream_is_understood_at_every_split(spaced: bool, line_end: bytes) -> None:
    texts = ["", "Hel", "lo", " wörld", ' "quoted" \\', "[DONE]", '"usage":{"prompt_tokens":99}', "bye"]
    wire = b"".join(chunk(text, spaced=spaced, usage=None) for text in texts)
    wire += chunk("", "stop", spaced, usage=None) + chunk("", None, spaced, usage=USAGE) + DONE
    wire = wire.replace(b"\n", line_end)
    expected = (READ, "stop", True, False)
    assert state(watch(wire)) == expected
    for cut in range(len(wire)):
        assert state(watch(wire, cut)) == expected
    for size in (1, 7, len(chunk("x", usage=None))):
        assert state(watch(wire, size=size)) == expected


def events(wire: bytes) -> list[bytes]:
    return [part + b"\n\n" for part in wire.split(b"\n\n")[:-1]]


def fed(*pieces: bytes) -> StreamObserver:
    seen = StreamObserver()
    for piece in pieces:
        seen.feed(piece)
    return seen


def test_a_whole_event_a_read_as_in_practice() -> None:
    seen = fed(*[chunk(f"token {number}") for number in range(50)])
    assert state(seen) == (None, None, False, False)
    seen.feed(chunk("", "length"))
    assert seen.finish_reason == "length"
    seen.feed(chunk("", usage=USAGE))
    assert seen.usage == READ
    assert not seen.terminal
    seen.feed(DONE)
    assert seen.terminal


@pytest.mark.parametrize(
    "tail",
    [
        chunk("x", "stop"),
        chunk("x", usage=USAGE),
        chunk("x", error={"message": "boom"}),
        DONE,
        b'data: {"error":{"message":"boom"}}\n\n',
        b'event: error\ndata: {"message":"boom"}\n\n',
    ],
)
def test_what_follows_dull_chunks_is_not_overlooked(tail: bytes) -> None:
    dull = [chunk("a"), chunk("b"), chunk("c")]
    alone = state(fed(chunk("a"), tail))
    assert alone != state(fed(*dull))
    assert state(fed(*dull, tail)) == alone
    assert state(fed(*dull, chunk("d") + tail)) == alone
    assert state(fed(*dull, tail + chunk("d"))) == alone
    assert state(fed(*dull, chunk("d")[:30], chunk("d")[30:] + tail)) == alone


def test_a_chunk_like_the_others_ends_what_was_open_before_it() -> None:
    dull = [chunk("a"), chunk("b"), chunk("c")]
    assert fed(*dull, b"event: error\n", chunk("d")).failed
    seen = fed(*dull, b"data: [DONE]", chunk("d"))
    seen.end()
    assert not seen.terminal


def test_text_that_looks_like_the_end_of_an_event_does_not_fool_it() -> None:
    first = chunk("a")
    prefix, suffix = first.split(b'"content":"a', 1)
    sly = '"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\ndata: [DONE]\n\n'
    seen = fed(first, chunk("b"), chunk(sly), chunk("c"))
    assert state(seen) == (None, None, False, False)
    joined = prefix + b'"content":"x"},"finish_reason":"stop"}]}\n\n' + prefix + b'"content":"y' + suffix
    assert fed(first, chunk("b"), joined).finish_reason == "stop"


def test_usage_on_every_chunk_counts_once() -> None:
    wire = b"".join(chunk("a", usage={"prompt_tokens": 3, "completion_tokens": n}) for n in range(1, 5))
    assert watch(wire).usage == Usage(3, 4)
    assert fed(*events(wire)).usage == Usage(3, 4)


def test_an_end_without_done() -> None:
    assert watch(chunk("a") + chunk("", "stop")).terminal
    assert not watch(chunk("a")).terminal
    assert not watch(chunk("a") + b'data: {"error":{"message":"x"}}\n\n').terminal
    assert watch(chunk("a") + DONE[:-2]).terminal
    assert not watch(b"").terminal


def test_a_stream_cut_after_one_of_its_choices_is_not_whole() -> None:
    def of(index: Any, finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": {"content": "x"}, "finish_reason": finish}
        return sse.encode(json.dumps({"choices": [choice]}).encode())

    both = of(0) + of(1) + of(0) + of(1)
    assert not watch(both + of(0, "stop")).terminal
    assert not watch(both + of(0, "stop") + of(0)).terminal
    assert watch(both + of(0, "stop") + of(1, "length")).terminal
    assert watch(both + of(0, "stop") + DONE).terminal
    assert watch(of("x") + of(None, "stop") + of(-1)).terminal


def test_garbage_and_endless_lines_do_no_harm() -> None:
    assert not watch(b"data: {nonsense\n\ndata: [1]\n\ndata: " + b"[" * 5000 + b"\n\n").failed
    seen = StreamObserver()
    for _ in range(18):
        seen.feed(b"x" * 1024 * 1024)
    seen.feed(b"\n\n" + DONE)
    seen.end()
    assert state(seen) == (None, None, False, False)


def body(**fields: Any) -> bytes:
    choice = {"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}
    return json.dumps({"id": "c", "choices": [choice], "usage": USAGE} | fields).encode()


def look(*pieces: bytes) -> BodyObserver:
    seen = BodyObserver()
    for piece in pieces:
        seen.feed(piece)
    seen.end()
    return seen


def test_a_plain_answer() -> None:
    wire = body()
    assert state(look(wire)) == (READ, "stop", True, False)
    assert state(look(*(wire[at : at + 1] for at in range(len(wire))))) == (READ, "stop", True, False)
    assert not look(wire[:-1]).terminal
    assert not look().terminal
    assert look(b'{"error":{"message":"x"}}').failed
    assert look(b'{"choices":3}').terminal


def test_usage_of_a_long_answer_is_read_from_its_end() -> None:
    vector = [0.123456789] * 100_000
    wire = json.dumps({"object": "list", "data": [{"embedding": vector}], "usage": USAGE}).encode()
    assert len(wire) > MAX_BODY
    pieces = [wire[at : at + 65_536] for at in range(0, len(wire), 65_536)]
    assert state(look(*pieces)) == (READ, None, True, False)
    text = json.dumps({"choices": [], "x": "x" * MAX_BODY + '"usage":{"prompt_tokens":9}'}).encode()
    assert look(text).usage is None
    assert look(text[:-1]).terminal is False
    assert look(b"x" * (MAX_BODY + 1) + b'"usage":{').usage is None
    assert look(b"x" * (MAX_BODY + 1) + b'"usage":{x}').usage is None
    deep = b"x" * MAX_BODY + b'"usage":' + b'{"a":' * 3000 + b"1" + b"}" * 3000
    assert look(deep).usage is None


def test_of_a_long_answer_only_the_end_is_searched() -> None:
    usage = json.dumps({"usage": USAGE}).encode()
    assert look(b"x" * (MAX_BODY + 1), usage, b"x" * (TAIL - len(usage))).usage == READ
    assert look(b"x" * (MAX_BODY + 1), usage, b"x" * TAIL).usage is None


def test_choices_that_are_null_do_not_hide_the_usage() -> None:
    assert look(json.dumps({"choices": None, "usage": USAGE}).encode()).usage == READ


def test_the_factory_chooses() -> None:
    assert isinstance(observer(True, "text/event-stream"), StreamObserver)
    assert isinstance(observer(False, "application/json"), BodyObserver)


@settings(max_examples=150, deadline=None, database=None)
@given(
    st.lists(
        st.one_of(
            st.builds(chunk, st.text(max_size=6)),
            st.builds(chunk, st.sampled_from(["a", "b", "\\", '"', "]}", "[DONE]"])),
            st.sampled_from([chunk("", "stop"), chunk("", usage=USAGE), DONE, b": ping\n\n"]),
            st.sampled_from([b'data: {"error":{"message":"x"}}\n\n', b"data: x\n\n"]),
        ),
        max_size=12,
    ),
    st.lists(st.integers(0, 2500), max_size=6),
)
def test_it_sees_the_same_at_any_split(chunks: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(chunks)
    whole = fed(*chunks)
    whole.end()
    assert state(watch(wire, *sorted(cut for cut in cuts if cut <= len(wire)))) == state(whole)
    assert whole.terminal == (DONE in chunks or (chunk("", "stop") in chunks and not whole.failed))
    assert (whole.usage == READ) == (chunk("", usage=USAGE) in chunks)
    assert whole.failed == (b'data: {"error":{"message":"x"}}\n\n' in chunks)
