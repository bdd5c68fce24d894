"""Plain answers and errors of Converse, and what the observer reads along."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Usage
from headgate.core.errors import (
    ContextLengthExceeded,
    Forbidden,
    HeadgateError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    RateLimited,
    StreamBroken,
    Unauthenticated,
    UpstreamError,
)
from headgate.core.events import Stop
from headgate.core.fold import fold, unfold
from headgate.core.messages import Media, Reasoning, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects.bedrock import (
    StreamDecoder,
    StreamEncoder,
    decode_error,
    decode_result,
    encode_error,
    encode_result,
    observer,
)
from headgate.dialects.dialect import AnswerOptions, Observer
from tests.unit.bedrock.aws import FRAMES, SSE, feed, frame, frames, lines, parsed_answer, python_lines
from tests.unit.bedrock.converse_streams import ANSWER, BEGIN, METADATA, PNG, RED, RICH, delta

GIVEN = settings(max_examples=120, deadline=None, database=None)


def test_an_answer_of_the_same_dialect_comes_back() -> None:
    body, losses = encode_result(decode_result(json.dumps(ANSWER).encode()), AnswerOptions())
    assert losses == []
    written = json.loads(body)
    assert written == ANSWER


def test_the_sdk_reads_what_is_written() -> None:
    body, _ = encode_result(decode_result(json.dumps(ANSWER).encode()), AnswerOptions())
    parsed = parsed_answer(body)
    assert parsed["output"]["message"]["content"][3]["toolUse"]["input"] == {"x": 1}
    assert parsed["output"]["message"]["content"][6]["image"]["source"]["bytes"] == b"\x89PNG\r\n\x1a\n"
    assert (parsed["stopReason"], parsed["usage"]["totalTokens"]) == ("tool_use", 20)


def test_broken_arguments_are_told_as_text() -> None:
    result = ChatResult("i", "m", 7, (Choice(0, (ToolCall("a", "f", "{"),), Stop("tool_calls")),))
    body, losses = encode_result(result, AnswerOptions())
    use = json.loads(body)["output"]["message"]["content"][0]["toolUse"]
    assert use["input"] == {"input": "{"}
    assert [loss.path for loss in losses] == ["choices[0].parts[0].arguments"]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
parts = st.one_of(
    st.builds(Text, texts),
    st.builds(lambda text, mark: Reasoning(text, mark, origin="converse"), texts, st.none() | texts),
    st.just(Reasoning(data=RED, redacted=True, origin="converse")),
    st.just(Media("image", "image/png", PNG)),
    st.builds(
        lambda name, arguments: ToolCall("a", name, msgspec.json.encode(arguments).decode()),
        texts,
        st.dictionaries(texts.filter(str.isascii), st.integers(0, 9), max_size=2),
    ),
)
results = st.builds(
    lambda parts, usage, stop: ChatResult(
        "", "", 0, (Choice(0, tuple(parts), stop),), usage, {"converse": {"metrics": {"latencyMs": 0}}}
    ),
    st.lists(parts, max_size=6),
    st.builds(
        lambda fresh, out, read, written: Usage(fresh + read + written, out, read, written),
        *[st.integers(0, 99)] * 4,
    ),
    st.sampled_from(
        [
            Stop("stop", native="end_turn"),
            Stop("tool_calls", native="tool_use"),
            Stop("length", native="max_tokens"),
        ]
    ),
)


@GIVEN
@given(results)
def test_a_stream_tells_what_the_plain_answer_tells(result: ChatResult) -> None:
    body, losses = encode_result(result, AnswerOptions())
    encoder = StreamEncoder(AnswerOptions(framing="eventstream"))
    wire = b"".join(encoder.encode(event) for event in unfold(result))
    assert losses == encoder.losses == []
    assert decode_result(body) == fold(feed(StreamDecoder(FRAMES), wire)) == result


garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["output", "message", "content", "stopReason", "usage", "text", "toolUse", "inputTokens"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@GIVEN
@given(garbage, garbage)
def test_any_json_is_an_answer_or_refused(value: Any, content: Any) -> None:
    wrapped = {"output": {"message": {"content": [content]}}, "stopReason": "end_turn", "usage": value}
    for each in (value, wrapped):
        with contextlib.suppress(StreamBroken, UpstreamError):
            encode_result(decode_result(json.dumps(each).encode()), AnswerOptions())


@GIVEN
@given(st.binary(max_size=40))
def test_any_bytes_are_an_answer_or_refused(data: bytes) -> None:
    with pytest.raises((StreamBroken, UpstreamError)):
        decode_result(data)
    assert isinstance(decode_error(400, [(b"x-amzn-errortype", data)], data), HeadgateError)


# Errors.


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidRequest("bad", param="messages"), 400, "ValidationException"),
        (Unauthenticated("who"), 401, "UnrecognizedClientException"),
        (Forbidden("no"), 403, "AccessDeniedException"),
        (ModelNotFound("none"), 404, "ResourceNotFoundException"),
        (RateLimited("slow", retry_after=1.2), 429, "ThrottlingException"),
        (Overloaded("full"), 503, "ServiceUnavailableException"),
        (StreamBroken("cut"), 502, "InternalServerException"),
        (UpstreamError("odd", status=418), 418, "ValidationException"),
        (UpstreamError("odd", status=400, type="ServiceQuotaExceededException"), 400, None),
        (UpstreamError("odd", status=399), 502, "InternalServerException"),
    ],
)
def test_an_error_to_a_caller(error: HeadgateError, status: int, kind: str | None) -> None:
    wire = encode_error(error)
    headers = dict(wire.headers)
    assert (wire.status, json.loads(wire.body)) == (status, {"message": error.message})
    assert headers[b"x-amzn-errortype"].decode() == (kind or "ServiceQuotaExceededException")
    assert headers.get(b"retry-after") == (b"2" if error.retry_after else None)
    again = decode_error(wire.status, wire.headers, wire.body)
    assert (again.status, again.message) == (status, error.message)


@pytest.mark.parametrize(
    ("headers", "body", "message", "kind"),
    [
        (
            [(b"X-Amzn-ErrorType", b"ThrottlingException:http://internal.amazon.com/coral/")],
            b'{"message":"Too many tokens"}',
            "Too many tokens",
            "ThrottlingException",
        ),
        (
            [],
            b'{"__type":"com.amazon.coral#AccessDeniedException","Message":"no"}',
            "no",
            "AccessDeniedException",
        ),
        ([], b'{"error":{"code":"1","message":"from AI Core"}}', "from AI Core", None),
        ([], b"{}", "The upstream answered 429 and gave no reason.", None),
        ([], b"", "The upstream answered 429 with an empty body.", None),
        ([], b"plain text", "The upstream answered 429 with 10 bytes that are not JSON.", None),
    ],
)
def test_an_error_of_an_upstream(headers: Any, body: bytes, message: str, kind: str | None) -> None:
    error = decode_error(429, [*headers, (b"retry-after", b"7"), (b"x-amzn-requestid", b"r")], body)
    assert isinstance(error, UpstreamError)
    assert (error.message, error.upstream_type, error.status, error.retry_after) == (message, kind, 429, 7.0)
    assert error.retryable


def test_a_prompt_that_is_too_long() -> None:
    for message in ("Input is too long for requested model.", "prompt is too long: 9 tokens > 8 maximum"):
        error = decode_error(400, [], json.dumps({"message": message}).encode())
        assert isinstance(error, ContextLengthExceeded)
        assert error.message == message


# Reading along.


def watch(wire: bytes, *cuts: int, content_type: str = FRAMES, stream: bool = True) -> Observer:
    seen = observer(stream, content_type)
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        seen.feed(wire[start:end])
    seen.end()
    return seen


def notes(seen: Observer) -> tuple[Any, ...]:
    return seen.usage, seen.finish_reason, seen.terminal, seen.failed


WHOLE = (Usage(11, 9, 5, 2), "tool_use", True, False)
TEMPTING = '"}}\n\ndata: {"messageStop":{"stopReason":"fake"},"usage":{"inputTokens":99}}'


@pytest.mark.parametrize(
    ("content_type", "wire"),
    [(FRAMES, frames(*RICH)), (SSE, lines(*RICH)), (SSE, python_lines(*RICH))],
)
def test_the_observer_at_every_split(content_type: str, wire: bytes) -> None:
    for cut in range(0, len(wire), 3):
        assert notes(watch(wire, cut, content_type=content_type)) == WHOLE
    assert notes(watch(wire, *range(len(wire)), content_type=content_type)) == WHOLE


@pytest.mark.parametrize(("content_type", "write"), [(FRAMES, frames), (SSE, lines), (SSE, python_lines)])
def test_no_content_fools_the_observer(content_type: str, write: Any) -> None:
    seen = observer(True, content_type)
    for event in (BEGIN, delta(0, text="a"), delta(0, text=TEMPTING), delta(1, toolUse={"input": TEMPTING})):
        seen.feed(write(event))
    assert notes(seen) == (None, None, False, False)
    seen.feed(write(("messageStop", {"stopReason": "end_turn"})))
    seen.feed(write(METADATA))
    assert notes(seen) == (Usage(11, 9, 5, 2), "end_turn", True, False)


def test_the_observer_sees_exceptions_and_cuts() -> None:
    wire = frames(BEGIN, delta(0, text="a"))
    assert notes(watch(wire + frame("throttlingException", {"message": "x"}, "exception"))) == (
        None,
        None,
        False,
        True,
    )
    assert notes(watch(lines(BEGIN, ("throttlingException", {})), content_type=SSE))[3]
    assert not watch(wire).terminal
    assert not watch(wire + b"garbled!" * 4).terminal
    assert not watch(b"data: <html>\n\n", content_type=SSE).terminal
    stopped = frames(*RICH[:-1])
    assert notes(watch(stopped)) == (None, "tool_use", True, False)


def test_the_observer_of_a_plain_answer() -> None:
    body = json.dumps(ANSWER).encode()
    for cut in range(0, len(body), 7):
        assert notes(watch(body, cut, stream=False)) == WHOLE
    assert notes(watch(body, content_type="application/json")) == WHOLE
    assert not watch(body[:-1], stream=False).terminal
    assert not watch(b"", stream=False).terminal
    assert watch(b'{"usage": 1}', stream=False).usage is None


def test_the_observer_of_a_long_answer_reads_its_end() -> None:
    answer = {
        "metrics": {"latencyMs": 1},
        "output": {"message": {"role": "assistant", "content": [{"text": TEMPTING + "x" * 2_000_000}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
    }
    body = json.dumps(answer).encode()
    cuts = list(range(50_000, len(body), 50_000))
    assert notes(watch(body, *cuts, stream=False)) == (Usage(1, 2), "end_turn", True, False)
    assert notes(watch(body[:-1], *cuts, stream=False))[2] is False


@GIVEN
@given(st.binary(max_size=60), st.sampled_from([FRAMES, SSE, "application/json", ""]), st.booleans())
def test_the_observer_never_raises(data: bytes, content_type: str, stream: bool) -> None:
    seen = watch(data, content_type=content_type, stream=stream)
    assert seen.usage is None
