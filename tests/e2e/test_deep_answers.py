"""Answers that can just be read, but not be written from deeper within the program: an error says so.

At which depth of nesting that is hangs on who calls, so that here the writer runs out of stack at a word.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import request
from tests.support.upstream import LAST_CHUNK, SSE_HEAD, Seen, Step, chunk, plain

ASK: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}
REFUSED = "The upstream's answer is nested too deeply to be translated."


def whole(*texts: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": "".join(texts)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "a", "object": "chat.completion", "created": 1, "model": "up", "choices": [choice]}


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The word "deep" is too deep for the caller's dialect."""

    def write(value: object) -> bytes:
        text = msgspec.json.encode(value)
        if b'"deep"' in text:
            raise RecursionError
        return text

    def note_all(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr("headgate.dialects.anthropic.stream_encoder._json", write)
    monkeypatch.setattr("headgate.dialects.anthropic.result_codec.note_all", note_all)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_before_it_has_begun(
    play: Play, serve: Serve, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    async def answers(seen: Seen) -> AsyncIterator[Step]:
        yield plain(200, whole("deep"))  # to who asked for a stream, too

    upstream = play(answers)
    server = serve(models={"m": remote(upstream)})
    answer = request(server.port, "POST", "/v1/messages", {**ASK, "stream": stream})
    assert answer.status == 502
    assert answer.error["message"] == REFUSED
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("at_once", [False, True])
def test_in_mid_stream(play: Play, serve: Serve, caplog: pytest.LogCaptureFixture, at_once: bool) -> None:
    async def answers(seen: Seen) -> AsyncIterator[Step]:
        events = [event({"content": "Well"}), event({"content": "deep"}), event({"content": "more"})]
        yield SSE_HEAD
        for data in [b"".join(events)] if at_once else events:
            yield chunk(data)
        yield chunk(event({}, "stop") + b"data: [DONE]\n\n") + LAST_CHUNK

    upstream = play(answers)
    server = serve(models={"m": remote(upstream)})
    answer = request(server.port, "POST", "/v1/messages", {**ASK, "stream": True})
    assert answer.status == 200
    told = [json.loads(line[6:]) for line in answer.body.splitlines() if line.startswith(b"data: ")]
    assert [each["delta"]["text"] for each in told if each["type"] == "content_block_delta"] == ["Well"]
    assert [each["type"] for each in told[-2:]] == ["content_block_stop", "error"]
    assert told[-1]["error"]["message"] == REFUSED
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
