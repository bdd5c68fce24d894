"""What is measured: each scenario a row of data. Add a load by adding a row, and a row in bench.table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.servers import CLAUDE_MODEL, COMPATIBLE_MODEL, MODEL

Mode = Literal["requests", "latency", "streams", "turns", "abort"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a client speaks.

    Args:
        request: the body as an SDK writes it, without the model and the user's message.
        streaming: what is added to it to get a stream.
        end_mark: text near the end of every stream that is whole.
    """

    path: str
    request: Mapping[str, Any]
    streaming: Mapping[str, Any]
    end_mark: str


_SYSTEM = "You answer briefly and to the point."
OPENAI = Dialect(
    path="/v1/chat/completions",
    request={
        "messages": [{"role": "system", "content": _SYSTEM}],
        "temperature": 0.7,
        "max_tokens": 256,
    },
    streaming={"stream": True, "stream_options": {"include_usage": True}},
    end_mark="data: [DONE]",
)
ANTHROPIC = Dialect(
    path="/v1/messages",
    request={"system": _SYSTEM, "messages": [], "temperature": 0.7, "max_tokens": 256},
    streaming={"stream": True},
    end_mark="event: message_stop",
)

TRANSLATORS = ("headgate", "litellm")
"""The servers that know more than one dialect; the others relay bytes. 500 streams are too many for LiteLLM
without any translation; it would only take the time of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One load.

    Args:
        mode: of bench/load.c.
        seconds: length of the measured window; half a second or less of warm-up comes before it.
        pace_us: microseconds between the events of a stream.
        body_bytes: size of the request's body.
        model: what the client asks for; it decides which dialect the upstream speaks.
        servers: names of those that can do it; None: all.
        direct: also measured without a server between, as the baseline for added latency.
        default: part of a run that does not name its scenarios.
    """

    name: str
    title: str
    mode: Mode
    connections: int
    seconds: float
    pace_us: int = 20_000
    body_bytes: int = 1_000
    dialect: Dialect = OPENAI
    model: str = MODEL
    servers: tuple[str, ...] | None = None
    direct: bool = False
    default: bool = True

    @property
    def streaming(self) -> bool:
        return self.mode in ("streams", "turns", "abort")


_PAIRS = (
    ("to-anthropic", "OpenAI client, Anthropic upstream", OPENAI, CLAUDE_MODEL),
    ("to-openai", "Anthropic client, OpenAI upstream", ANTHROPIC, COMPATIBLE_MODEL),
)
_TRANSLATED = tuple(
    Scenario(
        name=name,
        title=f"{title}, 16 connections",
        mode="requests",
        connections=16,
        seconds=2.0,
        dialect=dialect,
        model=model,
        servers=TRANSLATORS,
    )
    for name, title, dialect, model in _PAIRS
)
_TRANSLATED_STREAMS = tuple(
    Scenario(
        name=f"{name}{streams}",
        title=f"{title}, {streams} streams at 20 ms",
        mode="streams",
        connections=streams,
        seconds=2.5,
        dialect=dialect,
        model=model,
        servers=servers,
    )
    for streams, servers in ((50, TRANSLATORS), (500, ("headgate",)))
    for name, title, dialect, model in _PAIRS
)
"""The loads of `requests`, `chunk50` and `chunk500` for each pair of dialects."""

SCENARIOS = (
    Scenario(
        name="latency1", title="one connection", mode="latency", connections=1, seconds=1.5, direct=True
    ),
    Scenario(
        name="requests", title="1 KB requests, 16 connections", mode="requests", connections=16, seconds=2.0
    ),
    Scenario(
        name="big",
        title="100 KB requests, 16 connections",
        mode="requests",
        connections=16,
        seconds=1.5,
        body_bytes=100_000,
    ),
    Scenario(name="chunk50", title="50 streams at 20 ms", mode="streams", connections=50, seconds=2.5),
    Scenario(name="chunk500", title="500 streams at 20 ms", mode="streams", connections=500, seconds=2.5),
    Scenario(
        name="abort", title="clients that leave after 3 events", mode="abort", connections=20, seconds=1.5
    ),
    *_TRANSLATED,
    *_TRANSLATED_STREAMS,
    Scenario(
        name="chunk9500",
        title="9,500 streams at 200 ms",
        mode="streams",
        connections=9_500,
        seconds=4.0,
        pace_us=200_000,
        default=False,
    ),
)


def request_body(scenario: Scenario) -> bytes:
    """A chat request as an SDK writes it, padded to the scenario's size in its user message."""
    dialect, user = scenario.dialect, {"role": "user", "content": ""}
    request: dict[str, Any] = {"model": scenario.model, **dialect.request}
    request["messages"] = [*request["messages"], user]
    if scenario.streaming:
        request |= dialect.streaming
    missing = scenario.body_bytes - len(json.dumps(request))
    user["content"] = ("lorem ipsum " * (missing // 12 + 1))[: max(missing, 0)]
    return json.dumps(request).encode()
