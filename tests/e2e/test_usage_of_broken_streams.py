"""Tokens of answers that nobody got whole: what the upstream told of them until then is in the metrics."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.e2e.conftest import Play, Serve
from tests.support.client import Connection, request
from tests.support.server import Running
from tests.support.upstream import SSE_HEAD, Drop, Seen, Step, event

ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai_chat": (
        "/v1/chat/completions",
        {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
    ),
    "anthropic": (
        "/v1/messages",
        {"model": "m", "stream": True, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
    ),
    "gemini": (
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
    ),
}


def _gemini(number: int) -> bytes:
    usage = {"promptTokenCount": 5, "candidatesTokenCount": number, "totalTokenCount": 5 + number}
    content = {"role": "model", "parts": [{"text": f"{number} "}]}
    return event({"candidates": [{"index": 0, "content": content}], "usageMetadata": usage})


def _anthropic() -> bytes:
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 1},
    }
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "1 "}}
    return b"".join(map(event, ({"type": "message_start", "message": message}, block, delta)))


UPSTREAMS: dict[str, tuple[bytes, dict[str, int]]] = {
    "gemini": (b"".join(map(_gemini, range(1, 5))), {"input": 5, "output": 4}),
    "anthropic": (_anthropic(), {"input": 5}),  # its first count of output tokens is a guess
}
"""What each says before it stops, and the tokens that it has told of by then."""


def tokens(server: Running) -> dict[str, int]:
    text = request(server.port, "GET", "/metrics").body.decode()
    found = re.findall(r'^headgate_upstream_tokens_total\{target="m",type="(\w+)"\} (\d+)', text, re.M)
    return {kind: int(count) for kind, count in found if int(count)}


@pytest.mark.parametrize("caller", ASKS)
@pytest.mark.parametrize("vendor", UPSTREAMS)
@pytest.mark.parametrize("end", ["cut", "left"])
def test_what_was_told_until_then_counts(
    play: Play, serve: Serve, vendor: str, caller: str, end: str
) -> None:
    said, expected = UPSTREAMS[vendor]
    go_on = threading.Event()

    async def script(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD + said
        yield go_on
        yield Drop()

    upstream = play(script)
    target = {"backend": vendor, "base_url": upstream.url, "model": "upstream-model", "api_key": "k"}
    server = serve(models={"m": target})
    path, body = ASKS[caller]
    with Connection(server.port) as connection:
        connection.send("POST", path, body)
        assert connection.head()[0] == 200
        while b"1 " not in (connection.chunk() or b"1 "):
            pass
        if end == "cut":
            go_on.set()
            while connection.chunk() is not None:
                pass
    assert upstream.wait_until(lambda u: u.open_connections == 0)
    assert tokens(server) == expected
