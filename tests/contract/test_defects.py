"""Backends, outsiders' too, that raise what they must not: the caller is told, nothing stays under way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from headgate.backends.scripted import ScriptedBackend, ScriptedSettings
from headgate.core.backend import Exchange, Timeouts
from headgate.core.call import Call, Operation
from headgate.core.events import ChatEvent, Started
from headgate.core.messages import ChatRequest
from headgate.server.gateway import Gateway
from tests.support.client import Answer, request
from tests.support.server import Running, settings_from

SECRET = "a detail that is for the log alone"


class BrokenWire:
    """A wire whose parts raise, one at a time."""

    dialect = "openai_chat"
    model = "m"
    timeouts = Timeouts()
    reports_usage_when_asked = False

    def __init__(self, where: str) -> None:
        self._where = where

    @property
    def ready(self) -> bool:
        return self._where != "prepare"

    async def prepare(self) -> None:
        raise RuntimeError(SECRET)

    def send(self, *arguments: Any, **options: Any) -> Exchange:
        raise RuntimeError(SECRET)


class Broken(ScriptedBackend):
    def __init__(self, where: str) -> None:
        super().__init__(ScriptedSettings(backend="scripted"))
        self._where = where

    @override
    async def chat(self, request: ChatRequest, call: Call) -> AsyncGenerator[ChatEvent, None]:
        if self._where == "middle":
            yield Started("id", "m", 1)
        raise RuntimeError(SECRET)
        yield


class BrokenWithWire(Broken):
    def wire(self, operation: Operation, dialect: str) -> BrokenWire:
        if self._where == "wire":
            raise RuntimeError(SECRET)
        return BrokenWire(self._where)


def answers(folder: Path, backend: Broken, *, stream: bool) -> tuple[Answer, Answer, Running]:
    """What such a backend makes of a request; the next request's answer; the server, stopped."""

    def edit(gateway: Gateway) -> None:
        object.__setattr__(gateway.router.routes["m"].targets[0], "backend", backend)

    models: dict[str, Any] = {"m": {"backend": "scripted"}, "fine": {"backend": "scripted"}}
    with Running(settings_from(folder, {"models": models}), edit=edit) as server:
        ask = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": stream}
        broken = request(server.port, "POST", "/v1/chat/completions", ask)
        fine = request(server.port, "POST", "/v1/chat/completions", {**ask, "model": "fine"})
        assert server.gateway.in_flight == 0
        text = request(server.port, "GET", "/metrics").body.decode()
        assert 'headgate_requests_in_flight{model="m"} 0.0' in text
        assert 'model="m",operation="chat",outcome="internal_error"' in text
        return broken, fine, server


MAKES: dict[str, Callable[[], Broken]] = {
    "wire": lambda: BrokenWithWire("wire"),
    "prepare": lambda: BrokenWithWire("prepare"),
    "send": lambda: BrokenWithWire("send"),
    "chat": lambda: Broken("start"),
}


@pytest.mark.parametrize("where", MAKES)
@pytest.mark.parametrize("stream", [False, True])
def test_before_the_first_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, where: str, stream: bool
) -> None:
    broken, fine, _ = answers(tmp_path, MAKES[where](), stream=stream)
    assert (broken.status, broken.error["code"]) == (500, "internal_error")
    assert SECRET not in broken.body.decode()
    assert SECRET in caplog.text
    assert fine.status == 200


def test_in_mid_stream(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken, fine, _ = answers(tmp_path, Broken("middle"), stream=True)
    assert b'"code":"internal_error"' in broken.body
    assert b"[DONE]" not in broken.body
    assert SECRET not in broken.body.decode()
    assert SECRET in caplog.text
    assert fine.status == 200
