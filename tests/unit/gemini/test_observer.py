"""Reading along on the pass-through lane."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.dialects.gemini import observer
from headgate.dialects.held_body import MAX_BODY
from tests.unit.gemini.chunks import answer, as_array, as_sse, candidate, usage

FOOL = 'finishReason": "STOP" "error" \\"usageMetadata\\": {"promptTokenCount": 99} data: [{'
CHUNKS = (
    answer(candidate({"text": "a"}), usageMetadata=usage(5, 1)),
    answer(candidate({"text": FOOL}), usageMetadata=usage(5, 2)),
    answer(candidate({"text": FOOL, "thought": True}), usageMetadata=usage(5, 3)),
    answer(candidate({"functionCall": {"name": "f", "args": {"error": "x", "finishReason": "X"}}})),
)
LAST = answer(candidate(finish="STOP"), usageMetadata=usage(5, 9, 2))
GIVEN = settings(max_examples=120, deadline=None, database=None)


def watch(wire: bytes, *cuts: int, stream: bool = True) -> Any:
    seen = observer(stream, "text/event-stream")
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        seen.feed(wire[start:end])
    seen.end()
    return seen


WIRES = [as_sse(*CHUNKS, LAST), as_sse(*CHUNKS, LAST, line_end=b"\n"), as_array(*CHUNKS, LAST)]


@GIVEN
@given(st.sampled_from(WIRES), st.lists(st.integers(0, 2000), max_size=8))
def test_any_split_gives_usage_reason_and_end(wire: bytes, cuts: list[int]) -> None:
    seen = watch(wire, *sorted(min(cut, len(wire)) for cut in cuts))
    assert (seen.usage, seen.finish_reason) == (Usage(5, 11, None, None, 2), "STOP")
    assert (seen.terminal, seen.failed) == (True, False)


def test_event_by_event_and_in_the_middle() -> None:
    seen = observer(True, "text/event-stream")
    for number, chunk in enumerate(CHUNKS[:3], 1):
        seen.feed(as_sse(chunk))
        if number > 1:
            assert seen.usage == Usage(5, number, None, None, 0)
    assert (seen.finish_reason, seen.terminal) == (None, False)
    seen.end()
    assert (seen.usage, seen.terminal) == (Usage(5, 3, None, None, 0), False)


@pytest.mark.parametrize("frame", [as_sse, as_array])
def test_a_cut_or_failed_stream_is_not_whole(frame: Any) -> None:
    cut = watch(frame(*CHUNKS))
    assert (cut.finish_reason, cut.terminal, cut.failed) == (None, False, False)
    fault = {"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}}
    failed = watch(frame(*CHUNKS, LAST, fault))
    assert (failed.terminal, failed.failed) == (False, True)


def test_an_array_must_be_closed() -> None:
    assert not watch(as_array(*CHUNKS, LAST)[:-1]).terminal


def test_a_blocked_prompt_is_an_end() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage(4, 0)}
    for wire in (as_sse(blocked), json.dumps(blocked).encode()):
        seen = watch(wire)
        assert (seen.finish_reason, seen.terminal) == ("SAFETY", True)


@pytest.mark.parametrize("odd", [None, "SAFETY", ["SAFETY"], {"blockReason": 1}, {"blockReason": None}, {}])
def test_an_odd_feedback_hides_nothing_else(odd: Any) -> None:
    last = {**LAST, "promptFeedback": odd}
    seen = watch(as_sse(*CHUNKS, last))
    assert (seen.usage, seen.finish_reason, seen.terminal) == (Usage(5, 11, None, None, 2), "STOP", True)


def test_a_plain_answer() -> None:
    body = json.dumps(
        answer(candidate({"text": FOOL}, finish="MAX_TOKENS"), usageMetadata=usage(1, 2))
    ).encode()
    for cut in range(0, len(body), 7):
        seen = watch(body, cut, stream=False)
        assert (seen.usage, seen.finish_reason, seen.terminal) == (
            Usage(1, 2, None, None, 0),
            "MAX_TOKENS",
            True,
        )
    assert not watch(body[:-1], stream=False).terminal


def test_a_long_answer_is_read_at_its_end() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "A" * (2 * MAX_BODY)}}
    details = [{"modality": "TEXT", "tokenCount": 1}]
    counts = usage(1, 2, promptTokensDetails=details)
    body = json.dumps(answer(candidate(image, {"text": FOOL}, finish="STOP"), usageMetadata=counts)).encode()
    seen = watch(body, *range(0, len(body), 65536), stream=False)
    assert (seen.usage, seen.terminal) == (Usage(1, 2, None, None, 0), True)


@GIVEN
@given(st.binary(max_size=100), st.booleans(), st.sampled_from([b"", b"[", b"data: ", b'data: {"error": ']))
def test_nothing_is_raised_for_any_bytes(noise: bytes, stream: bool, start: bytes) -> None:
    wire = start + noise
    seen = watch(wire + b"\n\n", *range(len(wire)), stream=stream)
    assert seen.usage is None
