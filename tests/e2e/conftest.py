"""Servers for end-to-end tests: a gateway in front of a scripted upstream, all on real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Running, settings_from
from tests.support.upstream import Script, Upstream

Serve = Callable[..., Running]
Play = Callable[[Script], Upstream]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def play(stack: ExitStack) -> Play:
    """`play(script)` starts an upstream."""

    def start(script: Script) -> Upstream:
        return stack.enter_context(Upstream(script))

    return start


@pytest.fixture(params=["fast", "asgi"])
def lane(request: pytest.FixtureRequest) -> str:
    """Both ways into the relay: uvicorn's protocol with the hot routes taken out, and plain ASGI."""
    found: str = request.param
    return found


@pytest.fixture
def serve(stack: ExitStack, tmp_path: Path) -> Serve:
    """`serve(models={...}, server={...})` starts a gateway with that configuration."""

    def start(*, fast: bool = True, keep_going: bool = False, **content: Any) -> Running:
        running = Running(settings_from(tmp_path, content), fast=fast, keep_going=keep_going)
        entered: AbstractContextManager[Running] = running
        return stack.enter_context(entered)

    return start


def remote(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """A model at `upstream`, whose name there is `upstream-model`."""
    return {
        "backend": "openai",
        "base_url": f"{upstream.url}/v1",
        "model": "upstream-model",
        "api_key": "upstream-key",
        **more,
    }
