"""What served a call is freed as it ends, by no garbage collection: nothing holds itself in a circle."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from headgate.server.relay import Relay
from headgate.upstream.http import HttpExchange
from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import Connection
from tests.support.upstream import DONE, SSE_HEAD, Seen, Step, completion, delta, event, plain

CALLS = 5
CHAT = {"model": "gpt", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


def living() -> list[Relay | HttpExchange]:
    return [each for each in gc.get_objects() if isinstance(each, Relay | HttpExchange)]


@pytest.fixture
def before() -> Iterator[list[Relay | HttpExchange]]:
    """What other tests still hold; from here on nothing is collected."""
    gc.collect()
    gc.disable()
    yield living()
    gc.enable()


async def answers(seen: Seen) -> AsyncIterator[Step]:
    if seen.json.get("stream"):
        yield SSE_HEAD
        yield event(delta("Hello"))
        yield event(delta(finish="stop"))
        yield DONE
    else:
        yield plain(200, completion())


@pytest.mark.parametrize("resumes", [False, True], ids=["", "resumable"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/messages"], ids=["passed through", "translated"]
)
def test_calls_leave_no_garbage(
    play: Play, serve: Serve, before: list[Relay | HttpExchange], path: str, stream: bool, resumes: bool
) -> None:
    server = serve(models={"gpt": remote(play(answers), resumable=resumes)})
    ask: dict[str, Any] = CHAT | ({"stream": True} if stream else {})
    with Connection(server.port) as client:
        for _ in range(CALLS):
            answer = client.request("POST", path, ask)
            assert (answer.status, b"Hello" in answer.body, b"error" in answer.body) == (200, True, False)
        alive = [type(each).__name__ for each in living() if each not in before]
    # The last answer may arrive before the server has put the last call away.
    assert len(alive) <= 2, alive
