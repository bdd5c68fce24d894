"""Nothing holds up the event loop: it is watched while large requests are served."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.dialects.json_bodies import MAX_ITEMS
from tests.e2e.conftest import remote
from tests.support.client import request
from tests.support.upstream import DONE, SSE_HEAD, Seen, Step, Upstream, completion, delta, event, plain
from tests.support.watched import Watched

CHAT = "/v1/chat/completions"
EMBED = "/v1/embeddings"
JSON = {"content-type": "application/json"}
EXAMPLES = Path(__file__).parents[2] / "examples"


async def answers(seen: Seen) -> AsyncIterator[Step]:
    if seen.json.get("stream"):
        yield SSE_HEAD
        yield event(delta("x" * 15_000_000))
        yield b"".join(event(delta(f"piece {n}")) for n in range(20_000))
        yield event(delta(finish="stop")) + DONE
    else:
        yield plain(200, completion("y" * 10_000_000))


@pytest.fixture(scope="module", params=["fast", "asgi"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with Upstream(answers) as upstream:
        models: dict[str, Any] = {
            "gpt": remote(upstream),
            "double": {"backend": "scripted"},
            "typed": {"folder": str(EXAMPLES / "typed")},
        }
        folder = tmp_path_factory.mktemp("watched")
        with Watched(folder, {"models": models}, fast=request.param == "fast") as watched:
            yield watched


one_lane = pytest.mark.parametrize("server", ["fast"], indirect=True)


@one_lane
def test_the_watch_sees_a_blocked_loop(server: Watched) -> None:
    with pytest.raises(AssertionError, match="was away for"), server.stays_free("a blocked loop"):
        server.ask("block")


def test_large_bodies_pass_through(server: Watched) -> None:
    body = b'{"model": "gpt", "messages": [{"role": "user", "content": "%b"}]}' % (b"x" * 30_000_000)
    with server.stays_free("30 MB passed through"):
        assert request(server.port, "POST", CHAT, body, JSON).status == 200
    body = body.replace(b"xxxx", b"\xc3\xa9x\\n")
    with server.stays_free("30 MB of UTF-8 passed through"):
        assert request(server.port, "POST", CHAT, body, JSON).status == 200


def test_large_stream_events(server: Watched) -> None:
    with server.stays_free("a stream with an event of 15 MB and 20,000 small ones"):
        ask = {"model": "gpt", "messages": [{"role": "user", "content": "x"}], "stream": True}
        assert request(server.port, "POST", CHAT, ask).body.endswith(b"data: [DONE]\n\n")


@one_lane
def test_large_bodies_of_translated_models(server: Watched) -> None:
    text = b'{"model": "double", "messages": [{"role": "user", "content": "%b"}]}' % (b"x" * 40_000_000)
    with server.stays_free("a message of 40 MB"):
        assert request(server.port, "POST", CHAT, text, JSON).status == 200
    messages = [{"role": "user", "content": f"{n} " + "x" * 500} for n in range(MAX_ITEMS)]
    with server.stays_free(f"{MAX_ITEMS} messages"):
        assert request(server.port, "POST", CHAT, {"model": "double", "messages": messages}).status == 200


@pytest.mark.parametrize("item", [b'{"role":"user","content":"a"}', b"[]", b"0", b'"\\n"'])
@one_lane
def test_millions_of_items_are_refused(server: Watched, item: bytes) -> None:
    items = b",".join([item] * (30_000_000 // (len(item) + 1)))
    for path, field in ((CHAT, b"messages"), (EMBED, b"input")):
        body = b'{"model": "double", "%b": [%b]}' % (field, items)
        with server.stays_free(f"30 MB of {item.decode()}"):
            assert request(server.port, "POST", path, body, JSON).status == 400


@one_lane
@pytest.mark.parametrize("form", ["float", "base64"])
def test_large_embedding_requests(server: Watched, form: str) -> None:
    ask = {"model": "double", "input": ["some text " * 20] * 4000, "encoding_format": form}
    with server.stays_free(f"4000 embeddings as {form}"):
        answer = request(server.port, "POST", EMBED, ask)
        assert answer.status == 200, answer.body[:300]
        assert len(answer.json["data"]) == 4000


@one_lane
@pytest.mark.parametrize("kind", ["json", "csv"])
def test_large_predictions(server: Watched, kind: str) -> None:
    rows = 100_000
    if kind == "json":
        body = json.dumps([{"alcohol": 12.5 + n % 3, "glass": "small"} for n in range(rows)]).encode()
        fields = JSON
    else:
        body = b"alcohol,glass\n" + b"".join(b"%d.5,small\n" % (10 + n % 5) for n in range(rows))
        fields = {"content-type": "text/csv"}
    with server.stays_free(f"{rows} predictions from {kind}"):
        answer = request(server.port, "POST", "/models/typed/predict", body, fields)
        assert answer.status == 200
        assert len(answer.json["predictions"]) == rows
