"""Caller dialect × kind of backend × fault: the right status or framed error, exactly once, and counted."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headgate.core.call import Operation
from headgate.server.endpoints import HOT_ENDPOINTS, Endpoint
from tests.support.client import Answer, request
from tests.support.residue import settled
from tests.support.server import Running, settings_from
from tests.support.upstream import (
    DONE,
    SSE_HEAD,
    Drop,
    Hang,
    Script,
    Seen,
    Step,
    Upstream,
    delta,
    event,
    plain,
)

TIMEOUTS = {"connect": "2s", "first_event": "200ms", "idle": "200ms", "total": "10s"}
ERROR = {"error": {"message": "no, because", "type": "server_error", "param": None, "code": "why"}}
LONG = event(delta("one")) + event(delta("x" * 1_000_000))
"""More than one read, so that the first event is on its way before what follows can be seen."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and what the caller and the operator must see of it.

    Args:
        script: the remote upstream's part; None: nobody listens.
        scripted: the scripted backend's options; None where it can't have this fault.
        status: of the answer; 200 for a stream that breaks after its first byte.
        code: of the error, in the body or in the stream's last event.
        frees: the upstream's connection is closed, as it can't be trusted with another request.
    """

    script: Script | None
    scripted: dict[str, Any] | None
    status: int
    code: str | None
    outcome: str
    retry_after: str | None = None
    streams_only: bool = False
    frees: bool = True


async def _error_before(_: Seen) -> AsyncIterator[Step]:
    yield plain(500, ERROR)


async def _limited(_: Seen) -> AsyncIterator[Step]:
    yield plain(429, ERROR, "retry-after: 9")


async def _refused_input(_: Seen) -> AsyncIterator[Step]:
    yield plain(400, ERROR)


async def _error_in_stream(_: Seen) -> AsyncIterator[Step]:
    yield SSE_HEAD + LONG + event(ERROR)
    yield Drop()


async def _error_in_stream_then_end(_: Seen) -> AsyncIterator[Step]:
    yield SSE_HEAD + LONG + event(ERROR) + DONE


async def _error_as_first_event(_: Seen) -> AsyncIterator[Step]:
    yield SSE_HEAD + event(ERROR) + DONE


async def _drop_after_the_end(_: Seen) -> AsyncIterator[Step]:
    yield SSE_HEAD + event(delta("one")) + event(delta(finish="stop")) + event("[DONE]")
    yield Drop()


async def _cut(_: Seen) -> AsyncIterator[Step]:
    yield SSE_HEAD + event(delta("one"))
    yield Drop()


async def _cut_at_once(_: Seen) -> AsyncIterator[Step]:
    yield Drop()


async def _stall(_: Seen) -> AsyncIterator[Step]:
    yield SSE_HEAD + event(delta("one"))
    yield Hang()


async def _slow_first(_: Seen) -> AsyncIterator[Step]:
    yield Hang()


async def _slow_after_head(_: Seen) -> AsyncIterator[Step]:
    yield SSE_HEAD
    yield Hang()


async def _garbled_http(_: Seen) -> AsyncIterator[Step]:
    yield SSE_HEAD + event(delta("one"))
    yield b"this is no chunk size\r\n"


async def _garbled_at_once(_: Seen) -> AsyncIterator[Step]:
    yield b"220 mail.example ESMTP\r\n"


async def _nothing_wrong(_: Seen) -> AsyncIterator[Step]:
    yield SSE_HEAD + event(delta("one")) + event(delta(finish="stop")) + DONE


def _scripted(kind: str, after: int, **more: Any) -> dict[str, Any]:
    return {"fault": {"kind": kind, "after": after, **more}}


FAULTS = {
    "refused connection": Fault(None, None, 502, "upstream_unreachable", "upstream_error"),
    "error before the first byte": Fault(
        _error_before, _scripted("error", 0, status=500), 500, None, "upstream_error", frees=False
    ),
    "rate limit": Fault(
        _limited,
        _scripted("error", 0, status=429, retry_after="9s"),
        429,
        None,
        "client_error",
        "9",
        frees=False,
    ),
    "refused input": Fault(
        _refused_input, _scripted("error", 0, status=400), 400, None, "client_error", frees=False
    ),
    "error in mid-stream": Fault(
        _error_in_stream,
        _scripted("error", 1, status=500),
        200,
        None,
        "upstream_error",
        streams_only=True,
    ),
    "error as the first event": Fault(
        _error_as_first_event, None, 500, "why", "upstream_error", streams_only=True
    ),
    "dropped after the end": Fault(_drop_after_the_end, None, 200, None, "ok", streams_only=True),
    "nothing": Fault(_nothing_wrong, {}, 200, None, "ok", streams_only=True, frees=False),
    "cut before the first byte": Fault(
        _cut_at_once, _scripted("cut", 0), 502, "upstream_broken", "upstream_error"
    ),
    "cut in mid-stream": Fault(
        _cut, _scripted("cut", 1), 200, "upstream_broken", "upstream_error", streams_only=True
    ),
    "stall": Fault(_stall, _scripted("stall", 1), 200, "idle_timeout", "timeout", streams_only=True),
    "slow first byte": Fault(_slow_first, _scripted("stall", 0), 504, "first_event_timeout", "timeout"),
    "slow after the head": Fault(_slow_after_head, None, 504, "first_event_timeout", "timeout"),
    "garbled in mid-stream": Fault(
        _garbled_http, None, 200, "upstream_broken", "upstream_error", streams_only=True
    ),
    "garbled at once": Fault(_garbled_at_once, None, 502, "upstream_broken", "upstream_error"),
}

CALLERS = [each for each in HOT_ENDPOINTS if each.path in ("/v1/chat/completions", "/v1/embeddings")]
CASES = [
    pytest.param(endpoint, backend, name, stream, id=f"{endpoint.dialect.name}-{backend}-{name}-{stream}")
    for endpoint in CALLERS
    for backend in ("remote", "scripted")
    for name, fault in FAULTS.items()
    for stream in (False, True)
    if (backend == "remote" or fault.scripted is not None)
    and (stream or not fault.streams_only)
    and (not stream or endpoint.operation is Operation.CHAT)
]


@dataclass
class Served:
    """One gateway with a model for each backend and fault, so that counts don't mix."""

    server: Running
    upstreams: dict[str, Upstream]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with ExitStack() as stack:
        unused = stack.enter_context(socket.socket())
        unused.bind(("127.0.0.1", 0))
        upstreams: dict[str, Upstream] = {}
        models: dict[str, Any] = {}
        for name, fault in FAULTS.items():
            port = unused.getsockname()[1]
            if fault.script is not None:
                upstreams[name] = stack.enter_context(Upstream(fault.script))
                port = upstreams[name].port
            backends = {
                "remote": {"backend": "openai-compatible", "base_url": f"http://127.0.0.1:{port}/v1"},
                "scripted": {"backend": "scripted", **(fault.scripted or {})},
            }
            for endpoint in CALLERS:
                for backend, model in backends.items():
                    for stream in (False, True):
                        models[_model(endpoint, backend, name, stream)] = {
                            **model,
                            "timeouts": TIMEOUTS,
                            "retry": {"attempts": 1},
                        }
        settings = settings_from(tmp_path_factory.mktemp("faults"), {"models": models})
        yield Served(stack.enter_context(Running(settings)), upstreams)


def _model(endpoint: Endpoint, backend: str, fault: str, stream: bool) -> str:
    return f"{endpoint.dialect.name} {backend} {fault} {stream}"


def _ask(operation: Operation, model: str, stream: bool) -> dict[str, Any]:
    if operation is Operation.EMBED:
        return {"model": model, "input": "x"}
    return {"model": model, "messages": [{"role": "user", "content": "x"}], "stream": stream}


def _events(answer: Answer) -> list[Any]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body.endswith(b"\n\n")  # or a client's parser would drop the last event
    data = [block.removeprefix("data: ") for block in answer.body.decode().split("\n\n") if block]
    return [text if text == "[DONE]" else json.loads(text) for text in data]


@pytest.mark.parametrize(("endpoint", "backend", "name", "stream"), CASES)
def test_fault(served: Served, endpoint: Endpoint, backend: str, name: str, stream: bool) -> None:
    server, upstream, fault = served.server, served.upstreams.get(name), FAULTS[name]
    model = _model(endpoint, backend, name, stream)
    answer = request(server.port, "POST", endpoint.path, _ask(endpoint.operation, model, stream))

    assert answer.status == fault.status
    assert answer.headers["x-request-id"]
    assert answer.headers.get("retry-after") == fault.retry_after
    if fault.outcome == "ok":
        if stream:
            assert [e for e in _events(answer) if e == "[DONE]" or "error" in e] == ["[DONE]"]
    else:
        error = _last_error(answer) if fault.status == 200 else answer.error
        assert error["message"]
        if fault.code is not None:
            assert error["code"] == fault.code

    assert not settled(lambda: server.gateway.in_flight)
    if upstream is not None and fault.frees:
        assert upstream.wait_until(lambda u: u.open_connections == 0)
    assert _outcomes(server, model) == {(fault.outcome, str(fault.status)): 1.0}


def _last_error(answer: Answer) -> dict[str, Any]:
    """The stream's only terminal, which must be its last event and an error."""
    events = _events(answer)
    terminals = [e for e in events if e == "[DONE]" or "error" in e]
    assert len(terminals) == 1
    assert terminals == events[-1:]
    assert "choices" in events[0]
    found: dict[str, Any] = terminals[0]["error"]
    return found


def _outcomes(server: Running, model: str) -> dict[tuple[str, str], float]:
    """The model's calls so far, by outcome and status. None may be in flight."""
    text = request(server.port, "GET", "/metrics").body.decode()
    assert f'headgate_requests_in_flight{{model="{model}"}} 0.0' in text
    found = re.findall(
        rf'^headgate_requests_total{{.*model="{model}".*outcome="(\w+)",status="(\w+)"}} (\S+)$',
        text,
        re.MULTILINE,
    )
    return {(outcome, status): float(count) for outcome, status, count in found if float(count)}


def test_an_upstreams_own_error_passes_as_it_is_and_is_no_success(tmp_path: Path) -> None:
    with Upstream(_error_in_stream_then_end) as upstream:
        model = {"backend": "openai-compatible", "base_url": f"{upstream.url}/v1"}
        with Running(settings_from(tmp_path, {"models": {"m": model}})) as server:
            answer = request(server.port, "POST", "/v1/chat/completions", _ask(Operation.CHAT, "m", True))
            assert _events(answer)[2:] == [ERROR, "[DONE]"]
            assert _outcomes(server, "m") == {("upstream_error", "200"): 1.0}
