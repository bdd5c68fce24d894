"""Streams that go on where a connection broke off: within one process, on real sockets."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from time import monotonic
from typing import Any

import pytest

from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import Answer, Connection, request
from tests.support.server import Running
from tests.support.upstream import DONE, SSE_HEAD, Drop, Seen, Step, chunk, delta, event

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "gpt", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
WORDS = [f"word{n} " for n in range(8)]


async def speaks(_: Seen) -> AsyncIterator[Step]:
    yield SSE_HEAD
    for word in WORDS:
        yield event(delta(word))
    yield event(delta(finish="stop")) + DONE


def waits_for(go_on: threading.Event, before: int = 3) -> Callable[[Seen], AsyncIterator[Step]]:
    """Says `before` words, then waits."""

    async def script(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD
        for number, word in enumerate(WORDS):
            if number == before:
                yield go_on
            yield event(delta(word))
        yield event(delta(finish="stop")) + DONE

    return script


def resumable(upstream: Any, **more: Any) -> dict[str, Any]:
    return remote(upstream, resumable=more or True)


def blocks(data: bytes) -> list[bytes]:
    return data.split(b"\n\n")[:-1]


def read_events(connection: Connection, count: int) -> list[bytes]:
    """The next `count` events of a chunked answer; what came with them of others is lost."""
    data = b""
    while data.count(b"\n\n") < count:
        part = connection.chunk()
        assert part is not None, f"it ended: {data!r}"
        data += part
    return blocks(data)[:count]


def place_of(block: bytes) -> str:
    """The id of an event."""
    (line,) = [line for line in block.split(b"\n") if line.startswith(b"id: ")]
    return line.removeprefix(b"id: ").decode()


def begin(
    server: Running, count: int, path: str = CHAT, ask: dict[str, Any] | None = None
) -> tuple[str, list[bytes]]:
    """Ask, read `count` events, and break the connection. The stream's id, and what was read."""
    with Connection(server.port) as connection:
        connection.send("POST", path, ask or ASK)
        status, headers = connection.head()
        assert status == 200
        return headers["x-headgate-stream"], read_events(connection, count)


def resume(server: Running, way: str, stream: str, after: int, path: str = CHAT) -> Answer:
    if way == "post":
        return request(server.port, "POST", path, ASK, {"last-event-id": f"{stream}:{after}"})
    if way == "header":
        return request(
            server.port, "GET", f"/v1/streams/{stream}", None, {"last-event-id": f"{stream}:{after}"}
        )
    return request(server.port, "GET", f"/v1/streams/{stream}?starting_after={after}")


def numbers(events: list[bytes]) -> list[int]:
    return [int(place_of(each).rpartition(":")[2]) for each in events]


@pytest.mark.parametrize("way", ["post", "header", "query"])
def test_every_event_comes_once_and_in_order_wherever_it_was_cut(
    play: Play, serve: Serve, lane: str, way: str
) -> None:
    server = serve(models={"gpt": resumable(play(speaks))}, fast=lane == "fast")
    whole = blocks(request(server.port, "POST", CHAT, ASK).body)
    plain = [block.rpartition(b"\nid: ")[0] for block in whole]
    assert [b"word" in block for block in plain] == [True] * 8 + [False, False]
    assert plain[-1] == b"data: [DONE]"
    for cut in range(1, len(whole) + 1):
        stream, read = begin(server, cut)
        rest = resume(server, way, stream, len(read))
        assert rest.status == 200
        assert rest.headers["content-type"].startswith("text/event-stream")
        assert rest.headers["x-headgate-stream"] == stream
        events = read + blocks(rest.body)
        assert numbers(events) == list(range(1, len(whole) + 1))
        assert [block.rpartition(b"\nid: ")[0] for block in events] == plain
