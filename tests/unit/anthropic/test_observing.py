"""Reading along as an answer passes by: usage, stop reason and end, at every split, fooled by no content."""

from __future__ import annotations

import json

import pytest

from headgate.core.call import Usage
from headgate.dialects import sse
from headgate.dialects.anthropic import ANTHROPIC, BodyObserver, StreamObserver
from headgate.dialects.held_body import MAX_BODY
from tests.unit.anthropic.test_answers import RICH
from tests.unit.anthropic.test_streams import RICH_STREAM
from tests.unit.anthropic.wire import event, finish, start, text_block

SEEN = (Usage(60, 40, 30, 20, 15), "tool_use", True, False)


def watch(observer: StreamObserver | BodyObserver, *chunks: bytes) -> tuple[object, ...]:
    for chunk in chunks:
        observer.feed(chunk)
    observer.end()
    return (observer.usage, observer.finish_reason, observer.terminal, observer.failed)


def test_a_stream_at_every_split() -> None:
    assert watch(StreamObserver(), RICH_STREAM) == SEEN
    for cut in range(len(RICH_STREAM)):
        assert watch(StreamObserver(), RICH_STREAM[:cut], RICH_STREAM[cut:]) == SEEN
    assert watch(StreamObserver(), *(bytes([byte]) for byte in RICH_STREAM)) == SEEN
    assert watch(StreamObserver(), *(part + b"\n\n" for part in RICH_STREAM[:-2].split(b"\n\n"))) == SEEN
    assert watch(StreamObserver(), RICH_STREAM.replace(b"\n", b"\r\n")) == SEEN


def test_a_cut_or_failed_stream_is_not_whole() -> None:
    cut = RICH_STREAM[: RICH_STREAM.rfind(b"event: message_stop")]
    assert watch(StreamObserver(), cut) == (*SEEN[:2], False, False)
    failed = start() + event("error", error={"type": "overloaded_error", "message": "x"})
    assert watch(StreamObserver(), failed) == (Usage(5), None, False, True)
    assert watch(StreamObserver(), start(), b'event: error\ndata: "x"\n\n')[2:] == (False, True)


def test_no_content_fools_it() -> None:
    lies = [
        'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        '"stop_reason":"refusal","usage":{"output_tokens":99}}',
        '{"type":"error"}',
    ]
    wire = start() + text_block(0, *lies) + finish()
    for cut in range(len(wire)):
        assert watch(StreamObserver(), wire[:cut], wire[cut:]) == (Usage(5, 7), "end_turn", True, False)
    body = json.dumps(RICH | {"content": [{"type": "text", "text": "".join(lies)}]}).encode()
    assert watch(BodyObserver(), body) == SEEN


@pytest.mark.parametrize("size", [100, MAX_BODY + 1])
def test_a_plain_answer_of_any_size(size: int) -> None:
    content = [{"type": "text", "text": 'x"usage":{"stop_reason":1}' + "x" * size}]
    wire = dict(RICH)
    body = json.dumps({key: content if key == "content" else value for key, value in wire.items()}).encode()
    assert watch(BodyObserver(), body[:50], body[50:]) == SEEN
    cut = watch(BodyObserver(), body[:-1] if size < MAX_BODY else body[:-400])
    assert cut[2] is False


def test_counts_errors_and_nonsense() -> None:
    assert watch(BodyObserver(), b'{"input_tokens": 5}') == (None, None, True, False)
    assert watch(BodyObserver(), b'{"type":"error","error":{}}')[3] is True
    assert watch(BodyObserver(), b'{"usage": 3}') == (None, None, True, False)
    assert watch(BodyObserver(), b"<html>") == (None, None, False, False)
    assert watch(BodyObserver(), b"x" * (MAX_BODY + 9) + b'"stop_reason"}') == (None, None, True, False)
    assert watch(StreamObserver(), b"data: nonsense\n\n", b"data: [1]\n\n") == (None, None, False, False)


def test_an_endless_event_is_given_up() -> None:
    observer = StreamObserver()
    observer.feed(b"data: " + b"x" * (sse.MAX_EVENT + 1))
    assert watch(observer, finish()) == (None, None, False, False)


def test_the_kind_follows_from_the_request_and_the_content_type() -> None:
    assert isinstance(ANTHROPIC.observer(True, "text/event-stream"), StreamObserver)
    assert isinstance(ANTHROPIC.observer(True, "application/json"), BodyObserver)
    assert isinstance(ANTHROPIC.observer(False, ""), BodyObserver)
