"""What is measured: each scenario a row of data. Add a load by adding a row, and a row in bench.table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from bench.servers import MODEL

Mode = Literal["requests", "latency", "streams", "abort"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One load.

    Args:
        mode: of bench/load.c.
        seconds: length of the measured window; half a second or less of warm-up comes before it.
        pace_us: microseconds between the events of a stream.
        body_bytes: size of the request's body.
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
    path: str = "/v1/chat/completions"
    direct: bool = False
    default: bool = True

    @property
    def streaming(self) -> bool:
        return self.mode in ("streams", "abort")


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
    request: dict[str, Any] = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You answer briefly and to the point."},
            {"role": "user", "content": ""},
        ],
        "temperature": 0.7,
        "max_tokens": 256,
    }
    if scenario.streaming:
        request |= {"stream": True, "stream_options": {"include_usage": True}}
    missing = scenario.body_bytes - len(json.dumps(request))
    request["messages"][1]["content"] = ("lorem ipsum " * (missing // 12 + 1))[: max(missing, 0)]
    return json.dumps(request).encode()
