"""What a caller is not told of an answer: in the header of a whole one, of either kind in the log."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.e2e.conftest import Play, Serve
from tests.support.answers import anthropic
from tests.support.client import request
from tests.support.upstream import LAST_CHUNK, SSE_HEAD, Seen, Step, chunk, plain

ANSWER = anthropic.top(stop_reason="pause_turn", container={"id": "c1"})
ASK: dict[str, Any] = {"model": "claude", "messages": [{"role": "user", "content": "hi"}]}
TOLD = "container: only anthropic has this field; choices[0].stop: 'stop' is the nearest word"


async def answers(seen: Seen) -> AsyncIterator[Step]:
    if seen.json.get("stream"):
        yield SSE_HEAD + chunk(anthropic.streamed(ANSWER)) + LAST_CHUNK
    else:
        yield plain(200, ANSWER)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_what_is_lost_of_an_answer(
    play: Play, serve: Serve, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    upstream = play(answers)
    row = {"backend": "anthropic", "base_url": upstream.url, "model": "m", "api_key": "k"}
    server = serve(models={"claude": row})
    caplog.set_level(logging.INFO, "headgate")
    answer = request(server.port, "POST", "/v1/chat/completions", {**ASK, "stream": stream})
    assert answer.status == 200, answer.body
    assert request(server.port, "GET", "/v1/models").status == 200  # the call before it has ended by now
    lost = [record.getMessage() for record in caplog.records if "lost in translation" in record.getMessage()]
    assert len(lost) == 1
    assert lost[0].endswith(f"{TOLD} for the upstream's 'pause_turn'")
    header = answer.headers.get("x-headgate-loss")
    assert header == (None if stream else "container, choices[0].stop")


def test_names_of_fields_are_cut_and_printable_wherever_they_are_told(
    play: Play, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def odd(seen: Seen) -> AsyncIterator[Step]:
        yield plain(200, anthropic.top(**{"forged\nrequest r: \x1b[31m\u2028é": 1}))

    upstream = play(odd)
    row = {"backend": "anthropic", "base_url": upstream.url, "model": "m", "api_key": "k"}
    server = serve(models={"claude": row})
    caplog.set_level(logging.INFO, "headgate")
    answer = request(server.port, "POST", "/v1/chat/completions", {**ASK, "x" * 5000: 1, "new\r\nline": 1})
    assert answer.status == 200, answer.body
    lost = [record.getMessage() for record in caplog.records if "lost in translation" in record.getMessage()]
    cut = "x" * 197 + "..."
    assert answer.headers["x-headgate-loss"] == f"{cut}, new??line, forged?request r: ?[31m??"
    assert len(lost) == 1
    assert lost[0].isprintable()
    assert f"{cut}: only " in lost[0]
    assert "forged?request r: ?[31m?é: only " in lost[0]
