"""Sending what is wrong, and checking how it is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.conftest import remote
from tests.support.client import Answer, Connection, request
from tests.support.residue import settled
from tests.support.server import Running, settings_from
from tests.support.upstream import Seen, Step, Upstream, completion, plain

CHAT = "/v1/chat/completions"
EMBED = "/v1/embeddings"
HOT = (CHAT, EMBED)
JSON = {"content-type": "application/json"}
MAX_BODY = 20_000_000
ASK: dict[str, Any] = {"model": "double", "messages": [{"role": "user", "content": "hi"}]}


async def _answers(_: Seen) -> AsyncIterator[Step]:
    yield plain(200, completion())


@contextmanager
def serving(folder: Path, *, fast: bool) -> Iterator[Running]:
    """A remote model, the double, and a double whose streams never end."""
    with Upstream(_answers) as upstream:
        models = {
            "gpt-4o": remote(upstream),
            "double": {"backend": "scripted"},
            "endless": {"backend": "scripted", "fault": {"kind": "stall", "after": 1}},
        }
        content = {"server": {"max_body": MAX_BODY}, "models": models}
        with Running(settings_from(folder, content), fast=fast) as running:
            yield running


def still_serves(server: Running) -> None:
    """Whatever was sent before: the next caller is answered, and nothing is left under way."""
    assert request(server.port, "POST", CHAT, ASK).status == 200
    # The caller may have read the answer before the call has ended.
    assert not settled(lambda: server.gateway.in_flight)


def refused(answer: Answer, status: int, code: str | None = None, param: str | None = None) -> str:
    """Check the shape of a refusal; its message."""
    assert answer.status == status, answer.body[:300]
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-request-id"]
    error = answer.error
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    if code is not None:
        assert error["code"] == code
    if param is not None:
        assert error["param"] == param
    message: str = error["message"]
    assert message
    assert "Traceback" not in message
    return message


def raw(port: int, data: bytes) -> list[Answer]:
    """Send `data` as it is and read answers until the server closes."""
    answers = []
    with Connection(port) as connection:
        connection.socket.sendall(data)
        try:
            while True:
                answers.append(connection.answer())
                if answers[-1].headers.get("connection") == "close":
                    assert connection.closed()
                    return answers
        except ConnectionError:
            return answers


def post(path: str, body: bytes, *fields: str, version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "host: test", "content-type: application/json", *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
