"""Active probes over sockets: what is asked of a target, and what its answers change."""

from __future__ import annotations

import select
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import request
from tests.support.server import Running
from tests.support.upstream import Drop, Hang, Seen, Step, Upstream, completion, head, plain

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
HOST = {"host": "127.0.0.1"}
OFTEN = {"every": "20ms", "timeout": "300ms"}


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        select.select([], [], [], 0.01)
    return found


def state(server: Running, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = request(server.port, "GET", "/admin/targets", None, HOST).json["targets"][number]
    return found


class Well:
    """An upstream's answers: to probes, as it stands now; to calls, always."""

    def __init__(self, *steps: Step) -> None:
        self.steps: tuple[Step, ...] = steps

    async def __call__(self, seen: Seen) -> AsyncIterator[Step]:
        if seen.method == "POST":
            yield plain(200, completion())
            return
        for step in self.steps:
            yield step


def probes(upstream: Upstream) -> list[Seen]:
    return [seen for seen in upstream.seen if seen.method == "GET"]


@pytest.mark.parametrize(
    ("settings", "path"),
    [({}, "/v1/models"), ({"probe": {**OFTEN, "path": "/health?deep=1"}}, "/health?deep=1")],
)
def test_it_asks_with_the_targets_own_credentials_over_its_own_connection(
    serve: Serve, play: Play, settings: dict[str, Any], path: str
) -> None:
    upstream = play(Well(plain(200, {"data": []})))
    serve(models={"m": remote(upstream, **{"probe": OFTEN, **settings})})
    assert upstream.wait_until(lambda each: len(each.seen) >= 3)
    seen = upstream.seen[0]
    assert (seen.method, seen.path, seen.body) == ("GET", path, b"")
    assert seen.headers["authorization"] == "Bearer upstream-key"
    assert "content-type" not in seen.headers
    assert upstream.connections == 1


SICK: dict[str, tuple[Step, ...]] = {
    "500": (plain(500, {"error": "ill"}),),
    "503 with a wait": (plain(503, {}, "retry-after: 60"),),
    "closes": (Drop(),),
    "silent": (Hang(),),
    "cut": (head(200, length=100), b"{", Drop()),
    "no HTTP": (b"nonsense\r\n\r\n", Drop()),
}


@pytest.mark.parametrize("steps", SICK.values(), ids=SICK.keys())
def test_a_target_that_nobody_calls_is_found_dead_and_back(
    serve: Serve, play: Play, steps: tuple[Step, ...]
) -> None:
    well = Well(*steps)
    upstream = play(well)
    breaker = {"failures": 2, "cooldown": "1m"}
    server = serve(models={"m": remote(upstream, probe=OFTEN, breaker=breaker)})
    shown = until(lambda: (found := state(server))["circuit"] == "open" and found)
    assert shown["reason"]
    assert shown["cooldown"] > 0
    assert shown["in_flight"] == 0
    well.steps = (plain(404, {}),)  # any status below 500 will do
    until(lambda: state(server)["cooldown"] == 0)
    assert request(server.port, "POST", CHAT, ASK).status == 200
    assert state(server)["circuit"] == "closed"


def test_an_answer_that_is_too_long_is_not_read_to_its_end(serve: Serve, play: Play) -> None:
    endless = head(200, length=10**9)
    upstream = play(Well(endless, *[b" " * 65536] * 64, Hang()))
    server = serve(models={"m": remote(upstream, probe=OFTEN, breaker={"failures": 1})})
    assert upstream.wait_until(lambda each: len(probes(each)) >= 4)
    assert state(server)["circuit"] == "closed"
    assert upstream.wait_until(lambda each: each.open_connections <= 1)


def test_they_end_with_the_server(serve: Serve, play: Play) -> None:
    """The fixture asserts that no task is left; here one is under way at the stop."""
    upstream = play(Well(Hang()))
    serve(models={"m": remote(upstream, probe={"every": "20ms", "timeout": "1m"})})
    assert upstream.wait_until(lambda each: bool(each.seen))


def test_nobody_is_asked_who_was_not_to_be(serve: Serve, play: Play) -> None:
    upstream, probed = play(Well(plain(200, {}))), play(Well(plain(200, {})))
    serve(models={"m": remote(upstream), "n": remote(probed, probe=OFTEN)})
    assert probed.wait_until(lambda each: len(each.seen) >= 5)
    assert upstream.seen == []
