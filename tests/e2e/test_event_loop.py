"""Nothing holds up the event loop: a watch on the server's own loop while large requests are served."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from headgate.dialects.json_bodies import MAX_ITEMS
from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import request
from tests.support.server import Running
from tests.support.upstream import DONE, SSE_HEAD, Seen, Step, completion, delta, event, plain

LIMIT = 0.25
"""Seconds for which the loop may be away at a stretch."""

CHAT = "/v1/chat/completions"
EMBED = "/v1/embeddings"
JSON = {"content-type": "application/json"}
EXAMPLES = Path(__file__).parents[2] / "examples"


class Watch:
    """Ticks on a loop and notes the longest time between two ticks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._last = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self.longest = 0.0

    def start(self) -> None:
        self._last = time.perf_counter()
        self._tick()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        self._handle = self._loop.call_later(0.002, self._tick)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self.longest = max(self.longest, time.perf_counter() - self._last)


@contextmanager
def loop_stays_free(server: Running, what: str) -> Iterator[None]:
    loop = server.gateway.loop
    watch = Watch(loop)
    loop.call_soon_threadsafe(watch.start)
    yield
    stopped = asyncio.run_coroutine_threadsafe(_call(watch.stop), loop)
    stopped.result(30)
    print(f"{what}: longest gap {watch.longest * 1000:.0f} ms")
    assert watch.longest < LIMIT, f"{what}: the event loop was away for {watch.longest * 1000:.0f} ms"


async def _call(function: Any) -> None:
    function()


def test_the_watch_sees_a_blocked_loop(serve: Serve) -> None:
    server = serve(models={"double": {"backend": "scripted"}})
    blocked = pytest.raises(AssertionError, match="was away for")
    with blocked, loop_stays_free(server, "a blocked loop"):
        loop = server.gateway.loop
        asyncio.run_coroutine_threadsafe(_call(lambda: time.sleep(0.3)), loop).result(5)  # noqa: TID251


def test_large_bodies_pass_through(play: Play, serve: Serve, lane: str) -> None:
    async def answers(seen: Seen) -> AsyncIterator[Step]:
        yield plain(200, completion("y" * 10_000_000))

    server = serve(models={"gpt": remote(play(answers))}, fast=lane == "fast")
    body = b'{"model": "gpt", "messages": [{"role": "user", "content": "%b"}]}' % (b"x" * 60_000_000)
    with loop_stays_free(server, "60 MB passed through"):
        assert request(server.port, "POST", CHAT, body, JSON).status == 200
    body = body.replace(b"xxxx", b"\xc3\xa9x\\n")
    with loop_stays_free(server, "60 MB of UTF-8 passed through"):
        assert request(server.port, "POST", CHAT, body, JSON).status == 200


def test_large_bodies_of_translated_models(serve: Serve) -> None:
    server = serve(models={"double": {"backend": "scripted", "dimensions": 1536}})
    text = b'{"model": "double", "messages": [{"role": "user", "content": "%b"}]}' % (b"x" * 40_000_000)
    with loop_stays_free(server, "a message of 40 MB"):
        assert request(server.port, "POST", CHAT, text, JSON).status == 200
    many = {
        "model": "double",
        "messages": [{"role": "user", "content": f"{n} " + "x" * 500} for n in range(MAX_ITEMS)],
    }
    with loop_stays_free(server, f"{MAX_ITEMS} messages"):
        assert request(server.port, "POST", CHAT, many).status == 200
    lots = b'{"model": "double", "messages": [%b]}' % b",".join([b'{"role":"user","content":"a"}'] * 400_000)
    with loop_stays_free(server, "400,000 messages"):
        assert request(server.port, "POST", CHAT, lots, JSON).status == 400


@pytest.mark.parametrize("form", ["float", "base64"])
def test_large_embedding_requests(serve: Serve, form: str) -> None:
    server = serve(models={"double": {"backend": "scripted"}})
    ask = {"model": "double", "input": ["some text " * 20] * MAX_ITEMS, "encoding_format": form}
    with loop_stays_free(server, f"{MAX_ITEMS} embeddings as {form}"):
        answer = request(server.port, "POST", EMBED, ask)
        assert answer.status == 200, answer.body[:300]
        assert len(answer.json["data"]) == MAX_ITEMS
    tokens = {"model": "double", "input": [list(range(1000))] * 2000, "encoding_format": form}
    with loop_stays_free(server, "two million tokens"):
        assert request(server.port, "POST", EMBED, tokens).status == 200


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_large_predictions(serve: Serve, kind: str) -> None:
    server = serve(models={"typed": {"folder": str(EXAMPLES / "typed")}})
    rows = 100_000
    if kind == "json":
        body = json.dumps([{"alcohol": 12.5 + n % 3, "glass": "small"} for n in range(rows)]).encode()
        fields = JSON
    else:
        body = b"alcohol,glass\n" + b"".join(b"%d.5,small\n" % (10 + n % 5) for n in range(rows))
        fields = {"content-type": "text/csv"}
    with loop_stays_free(server, f"{rows} predictions from {kind}"):
        answer = request(server.port, "POST", "/predict", body, fields)
        assert answer.status == 200
        assert len(answer.json["predictions"]) == rows


def test_large_stream_events(play: Play, serve: Serve) -> None:
    async def answers(seen: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD
        yield event(delta("x" * 15_000_000))
        yield b"".join(event(delta(f"piece {n}")) for n in range(20_000))
        yield event(delta(finish="stop")) + DONE

    server = serve(models={"gpt": remote(play(answers))})
    with loop_stays_free(server, "a stream with an event of 15 MB and 20,000 small ones"):
        ask = {"model": "gpt", "stream": True, "messages": [{"role": "user", "content": "x"}]}
        assert request(server.port, "POST", CHAT, ask).body.endswith(b"data: [DONE]\n\n")
