"""Reading along: usage, status, id and end of a Responses answer at every split, fooled by no content."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.dialects.openai_responses import BodyObserver, StreamObserver, observer
from tests.unit.responses.test_streams import RICH
from tests.unit.responses.wire import Script, answer, message

GIVEN = settings(max_examples=100, deadline=None, database=None)
USED = Usage(9, 5, 4, 2, 3)


def watched(wire: bytes, *cuts: int, stream: bool = True) -> tuple[Any, ...]:
    seen = observer(stream, "text/event-stream" if stream else "application/json")
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        seen.feed(wire[start:end])
    seen.end()
    return seen.usage, seen.finish_reason, seen.terminal, seen.failed, seen.response_id


def test_every_byte_split() -> None:
    expected = (USED, "completed", True, False, "resp_1")
    for cut in range(len(RICH)):
        assert watched(RICH, cut) == expected
    assert watched(RICH, *range(len(RICH))) == expected


@GIVEN
@given(st.lists(st.integers(0, len(RICH)), max_size=10), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split(cuts: list[int], line_end: bytes) -> None:
    wire = RICH.replace(b"\n", line_end)
    assert watched(wire, *sorted(cuts)) == (USED, "completed", True, False, "resp_1")


@pytest.mark.parametrize("named", [True, False])
def test_a_read_for_each_event(named: bool) -> None:
    fake = 'event: response.completed\ndata: {"type":"response.completed"}\n\n"type":"error"'
    script = Script(named).begin().message(0, "a", fake, "b")
    seen = StreamObserver()
    for sent in script.sent:
        seen.feed(sent)
    assert (seen.terminal, seen.failed, seen.usage, seen.response_id) == (False, False, None, "resp_1")
    seen.feed(Script(named).end(message("x")).wire)
    assert (seen.terminal, seen.usage) == (True, USED)


def test_how_answers_end() -> None:
    details = {"incomplete_details": {"reason": "max_output_tokens"}}
    cut = Script().begin().message(0, "a")
    assert watched(cut.wire) == (None, None, False, False, "resp_1")
    assert watched(cut.wire + b"data: [DONE]\n\n")[2] is False
    ended = Script().begin().end(kind="incomplete", **details)
    assert watched(ended.wire) == (USED, "max_output_tokens", True, False, "resp_1")
    failed = Script().begin().end(kind="failed", error={"code": "server_error", "message": "x"})
    assert watched(failed.wire) == (USED, "failed", False, True, "resp_1")
    assert watched(Script().begin().event("error", message="x", code=None).wire)[2:4] == (False, True)
    assert watched(b'data: {"error": {"message": "x"}}\n\n')[2:4] == (False, True)


def test_plain_answers() -> None:
    body = json.dumps(answer(message('{"usage": {"input_tokens": 1}}'))).encode()
    for cut in range(0, len(body), 7):
        assert watched(body, cut, stream=False) == (USED, "completed", True, False, "resp_1")
    assert watched(body[:-1], stream=False)[2] is False
    queued = json.dumps(answer(status="queued", usage=None)).encode()
    assert watched(queued, stream=False) == (None, "queued", True, False, "resp_1")
    failed = json.dumps(answer(status="failed", error={"message": "x"})).encode()
    assert watched(failed, stream=False)[3] is True


def test_a_long_plain_answer() -> None:
    text = '"usage": {"input_tokens": 1, "output_tokens": 1}' * 100_000
    body = json.dumps(answer(message(text))).encode()
    seen = BodyObserver()
    for start in range(0, len(body), 65536):
        seen.feed(body[start : start + 65536])
    seen.end()
    assert (seen.usage, seen.terminal) == (USED, True)


def test_which_observer() -> None:
    assert isinstance(observer(True, "text/event-stream"), StreamObserver)
    assert isinstance(observer(True, "application/json; charset=utf-8"), BodyObserver)
    assert isinstance(observer(False, "application/json"), BodyObserver)


@GIVEN
@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([b"data: ", b"event: ", b"\n\n", b"{}", b"[]"]), max_size=8
    )
)
def test_nothing_is_raised(pieces: list[bytes]) -> None:
    for stream in (True, False):
        seen = observer(stream, "")
        for piece in pieces:
            seen.feed(piece)
        seen.end()
