"""The API application can't be composed: a broken installation, told at once and by everything."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from headgate.server import run
from headgate.server.gateway import Gateway
from tests.e2e.conftest import Serve
from tests.support.client import request
from tests.support.process import started, write_config

REASON = "a part of the installation is gone"
MODELS = {"double": {"backend": "scripted", "reply": "Hello"}}
ASK = {"model": "double", "messages": [{"role": "user", "content": "hi"}]}


def test_the_server_stops_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "fastapi_offline.py").write_text(f"raise ImportError({REASON!r})\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    with started(
        tmp_path, "serve", write_config(tmp_path, {"models": MODELS}), env={"PYTHONPATH": path}
    ) as process:
        assert process.wait() == 1
        (told,) = [line for line in process.log if line["level"].lower() == "critical"]
    assert "can't be composed" in told["message"]
    assert process.stderr.count(f"ImportError: {REASON}") == 1
    assert "Task" not in process.stderr


def test_meanwhile_its_routes_answer_503(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(gateway: Gateway) -> None:
        raise RuntimeError(REASON)

    monkeypatch.setattr(run, "_create_app", fails)
    server = serve(models=MODELS)
    for method, path in (("GET", "/readyz"), ("GET", "/livez"), ("GET", "/v1/models"), ("GET", "/docs")):
        answer = request(server.port, method, path, None, {"x-request-id": "mine-1"})
        assert (answer.status, answer.error["code"]) == (503, "unavailable"), path
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"] == "mine-1"
        assert REASON not in answer.body.decode()
    answer = request(server.port, "POST", "/models/double/predict", {"x": 1})
    assert answer.status == 503
    assert answer.json["message"].startswith("ERROR: ")
    answer = request(server.port, "POST", "/v1/chat/completions", ASK)
    assert answer.json["choices"][0]["message"]["content"] == "Hello"
    (told,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert told.levelno == logging.CRITICAL
    assert told.exc_info is not None
