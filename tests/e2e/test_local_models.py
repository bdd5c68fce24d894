"""Local engines behind the server, on real weights: answers, streams, death and return."""

from __future__ import annotations

import base64
import json
import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from headgate.local import catalog
from tests.support.client import Connection, request
from tests.support.server import Running, settings_from

pytestmark = pytest.mark.weights

CHAT = "/v1/chat/completions"
ASK = {
    "model": "smollm2",
    "max_tokens": 8,
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a river."}],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    for name in ("smollm2", "minilm"):
        catalog.pull(f"catalog:{name}")
    models = {
        "smollm2": {"backend": "gguf", "weights": "catalog:smollm2", "n_ctx": 512, "n_threads": 1},
        "minilm": {"backend": "embedding", "weights": "catalog:minilm"},
        "minilm-thread": {"backend": "embedding", "weights": "catalog:minilm", "isolate": "thread"},
    }
    with Running(settings_from(tmp_path_factory.mktemp("local"), {"models": models})) as running:
        yield running


def until(condition: Callable[[], Any], timeout: float = 30.0) -> Any:
    """Ask again until the answer is true; each try is a request, so that nothing is slept through."""
    deadline = monotonic() + timeout
    while not (answer := condition()):
        assert monotonic() < deadline, "it did not come about in time"
    return answer


def state(server: Running, model: str) -> dict[str, Any]:
    found: dict[str, Any] = request(server.port, "GET", "/readyz").json["models"][model]
    return found


def test_models_load_at_their_first_request(server: Running) -> None:
    assert state(server, "smollm2")["state"] == "idle"
    assert request(server.port, "GET", "/readyz").status == 200
    answer = request(server.port, "POST", CHAT, ASK)
    assert answer.status == 200, answer.body
    assert answer.json["choices"][0]["message"]["content"]
    assert answer.json["choices"][0]["finish_reason"] in ("stop", "length")
    assert answer.json["usage"]["completion_tokens"] <= 8
    assert state(server, "smollm2")["state"] == "ready"


def test_a_stream_comes_token_by_token(server: Running) -> None:
    with Connection(server.port, timeout=30) as connection:
        connection.send("POST", CHAT, {**ASK, "stream": True, "stream_options": {"include_usage": True}})
        status, headers = connection.head()
        assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
        pieces = []
        while (piece := connection.chunk()) is not None:
            pieces.append(piece)
    assert len(pieces) > 3  # separate writes: it was not collected first
    events = [e.removeprefix("data: ") for e in b"".join(pieces).decode().split("\n\n") if e]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["usage"]["completion_tokens"] > 0


def test_embeddings_in_a_process_and_on_a_thread_are_the_same(server: Running) -> None:
    vectors = []
    for model in ("minilm", "minilm-thread"):
        for form in ("float", "base64"):
            body = {"model": model, "input": ["a red wine"], "encoding_format": form}
            answer = request(server.port, "POST", "/v1/embeddings", body)
            assert answer.status == 200, answer.body
            found = answer.json["data"][0]["embedding"]
            assert answer.json["usage"]["prompt_tokens"] == 5
            vectors.append(struct.unpack("<384f", base64.b64decode(found)) if form == "base64" else found)
    for other in vectors[1:]:
        assert other == pytest.approx(vectors[0], abs=1e-6)


@pytest.mark.parametrize("model", ["minilm", "minilm-thread"])
def test_a_context_that_is_too_long_is_refused(server: Running, model: str) -> None:
    answer = request(server.port, "POST", "/v1/embeddings", {"model": model, "input": "word " * 2000})
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    long = {**ASK, "messages": [{"role": "user", "content": "word " * 2000}]}
    answer = request(server.port, "POST", CHAT, long)
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")


def test_a_client_that_leaves_stops_the_engine(server: Running) -> None:
    with Connection(server.port, timeout=30) as connection:
        connection.send("POST", CHAT, {**ASK, "stream": True, "max_tokens": 450})
        connection.head()
        connection.chunk()
    # The slots are free again at once: two more answers don't have to wait for 450 tokens.
    started = monotonic()
    for _ in range(2):
        assert request(server.port, "POST", CHAT, {**ASK, "max_tokens": 1}).status == 200
    assert server.gateway.in_flight == 0
    assert monotonic() - started < 30


def test_kill_9_is_told_as_503_and_heals(server: Running) -> None:
    assert request(server.port, "POST", CHAT, ASK).status == 200
    pid = state(server, "smollm2")["info"]["pid"]
    os.kill(pid, signal.SIGKILL)

    def refused() -> Any:
        answer = request(server.port, "POST", CHAT, ASK)
        return answer if answer.status != 200 else None

    answer = until(refused)
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    ready = request(server.port, "GET", "/readyz")
    if ready.status == 503:  # unless it is back already
        assert ready.json["models"]["smollm2"]["state"] in ("restarting", "loading")
    until(lambda: request(server.port, "POST", CHAT, ASK).status == 200)
    assert state(server, "smollm2")["info"]["pid"] != pid
    assert request(server.port, "GET", "/readyz").status == 200
    # The other engine never noticed.
    assert request(server.port, "POST", "/v1/embeddings", {"model": "minilm", "input": "x"}).status == 200


def test_weights_that_are_no_gguf_fail_the_start(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"not a model")
    settings = settings_from(tmp_path, {"models": {"m": {"backend": "gguf", "weights": "./model.gguf"}}})
    with pytest.raises(Exception, match=r"model\.gguf: not a GGUF file"), Running(settings):
        pass
