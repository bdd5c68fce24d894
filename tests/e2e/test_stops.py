"""A stop in the middle of things leaves no task behind: `Running` looks when it has stopped."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import Connection
from tests.support.upstream import SSE_HEAD, Hang, Seen, Step, delta, event

ASK = {"messages": [{"role": "user", "content": "hi"}]}


async def far(seen: Seen) -> AsyncIterator[Step]:
    if seen.json["model"] == "begins":
        yield SSE_HEAD + event(delta("one"))
    yield Hang()


def test_every_kind_of_call_in_its_middle(play: Play, serve: Serve, stack: ExitStack, lane: str) -> None:
    upstream = play(far)
    mute = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    models = {
        "begins": remote(upstream, model="begins"),
        "silent": remote(upstream, model="silent"),
        "connecting": remote(upstream, base_url=f"https://127.0.0.1:{mute.getsockname()[1]}/v1"),
        "here": {"backend": "scripted", "fault": {"kind": "stall", "after": 1}},
    }
    callers = stack.enter_context(ExitStack())  # closed after the server, which is entered later
    server = serve(models=models, server={"grace": "1s"}, fast=lane == "fast")

    def send(method: str, path: str, body: dict[str, Any] | None = None) -> Connection:
        connection = callers.enter_context(Connection(server.port, 20))
        connection.send(method, path, body)
        return connection

    for model in models:
        for stream in (False, True):
            send("POST", "/v1/chat/completions", {**ASK, "model": model, "stream": stream})
    for model in ("begins", "here"):  # translated, and from here
        ask = {**ASK, "model": model, "max_tokens": 5, "stream": True}
        assert send("POST", "/v1/messages", ask).head()[0] == 200
    kept = send("POST", "/v1/responses", {"model": "silent", "input": "hi", "background": True}).answer()
    assert kept.status == 200
    follower = send("GET", f"/v1/responses/{kept.json['id']}?stream=true")
    assert follower.head()[0] == 200
    for _ in range(2):  # nobody says a word of TLS there
        callers.enter_context(mute.accept()[0])
