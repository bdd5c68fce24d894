"""What callers notice when upstreams die: `python -m bench.failover`.

One model with three targets, each a mock. Under load one after the other is killed (SIGKILL: its streams are
cut, its port refuses connections) and revived when the next one dies, so that one of them is always gone. The
same load without kills, just before, is what it is compared with.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.build import BenchError
from bench.mock import Mock, call, lasting_port
from bench.processes import Process
from bench.rig import Rig, Running, result
from bench.run import processor, say
from bench.scenarios import Scenario
from bench.servers import MODEL, UPSTREAM_MODEL, Server
from bench.table import aligned

TARGETS = 3
STREAMS = 200
EVERY = 2.0
SETTINGS = {"chunks": 20, "pace_us": 50_000, "first_us": 50_000}
"""Of each mock: streams of a second, which begin 25 to 75 ms after they were asked for."""
ATTEMPTS = "headgate_upstream_attempts_total{"


@dataclass(frozen=True, slots=True)
class Window:
    """What clients and server went through for a while.

    Args:
        lost: errors before the first token.
        told, untold: streams that broke off after it, with and without an error event.
        first_p50_ms, first_p99_ms: time to the first token.
        cpu_us: CPU of the server for each stream, broken ones included.
        attempts: of the server at its targets, for each stream.
    """

    kills: int
    streams: int
    lost: int
    told: int
    untold: int
    first_p50_ms: float
    first_p99_ms: float
    cpu_us: float
    attempts: float
    error: str


@dataclass(frozen=True, slots=True)
class Comparison:
    calm: Window
    disturbed: Window

    @property
    def added_p99_ms(self) -> float:
        return self.disturbed.first_p99_ms - self.calm.first_p99_ms

    @property
    def met(self) -> bool:
        """No error before a first token, and none after it that was not told."""
        return not any(window.lost or window.untold for window in (self.calm, self.disturbed))


def server(models: Mapping[str, Any]) -> Server:
    """Headgate with these models; everything else as a user gets it."""
    content = {"server": {"host": "127.0.0.1", "port": "@port@"}, "models": models}
    return Server(
        name="headgate",
        program="headgate",
        files={"headgate.yaml": json.dumps(content).replace('"@port@"', "@port@")},
        command=("@program@", "serve", "@dir@/headgate.yaml"),
        remedy="pip install -e . in the environment that runs the benchmark",
    )


def targets(mocks: Sequence[Mock]) -> list[dict[str, Any]]:
    return [
        {
            "backend": "openai",
            "base_url": f"http://127.0.0.1:{mock.port}/v1",
            "model": UPSTREAM_MODEL,
            "api_key": "sk-bench",
        }
        for mock in mocks
    ]


def attempts(running: Running) -> int:
    """At all targets, since the server's start."""
    page = call(running.port, "GET", "/metrics")[1].decode()
    return round(sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if ATTEMPTS in line))


def disturb(mocks: Sequence[Mock], load: Process, seconds: float, every: float) -> int:
    """Kill and revive in turn while the load runs; how many were killed. All of them live after it."""
    begun, kills = time.perf_counter(), 0
    away: Mock | None = None
    while (due := begun + kills * every) < begun + seconds:
        if not load.runs_for(max(0.0, due - time.perf_counter())):
            break
        if away is not None:
            away.revive()
        away = mocks[kills % len(mocks)]
        away.kill()
        kills += 1
    load.runs_for(max(0.0, begun + seconds - time.perf_counter()))
    if away is not None:
        away.revive()
    return kills


def _window(
    rig: Rig, scenario: Scenario, running: Running, mocks: Sequence[Mock], seconds: float, every: float | None
) -> Window:
    cpu, tried, kills = running.cpu_ns(), attempts(running), 0
    with rig.load_process(scenario, running, deadline=seconds + 30, seconds=seconds) as load:
        if every is not None:
            kills = disturb(mocks, load, seconds, every)
        report = result(load)
    cpu, tried = running.cpu_ns() - cpu, attempts(running) - tried
    streams = report["finished"] + report["errors"] + report["told"] + report["untold"]
    if not report["finished"]:
        raise BenchError(f"no stream came to its end: {report['error']}")
    return Window(
        kills=kills,
        streams=streams,
        lost=report["errors"],
        told=report["told"],
        untold=report["untold"],
        first_p50_ms=report["latency_us"]["p50"] / 1e3,
        first_p99_ms=report["latency_us"]["p99"] / 1e3,
        cpu_us=cpu / 1e3 / streams,
        attempts=tried / streams,
        error=report["error"],
    )


def measure(folder: Path, *, streams: int, calm: float, disturbed: float, every: float) -> Comparison:
    """Both windows, one after the other, on one server.

    Args:
        streams: at once.
        calm, disturbed: seconds without and with kills.
        every: seconds between two kills.
    """
    scenario = Scenario(
        name="failover", title=f"{streams} streams", mode="turns", connections=streams, seconds=disturbed
    )
    with Rig(folder) as rig:
        mocks = [rig.mock(lasting_port(), **SETTINGS) for _ in range(TARGETS)]
        running = rig.start(server({MODEL: {"targets": targets(mocks)}}))
        rig.run_load(scenario, running, min(2.0, calm / 2))
        before = _window(rig, scenario, running, mocks, calm, None)
        say(f"without kills: {before.streams:,} streams")
        after = _window(rig, scenario, running, mocks, disturbed, every)
        say(f"with {after.kills} kills: {after.streams:,} streams")
    return Comparison(before, after)


def render(found: Comparison) -> str:
    """A Markdown table."""
    windows = (found.calm, found.disturbed)

    def row(title: str, figures: Sequence[str], goal: str = "") -> list[str]:
        return [title, *figures, goal]

    def none(count: int) -> str:
        return f"0 {'✗ missed' if count else '✓ ok'}"

    lines = [
        ["failover", "no kills", f"{found.disturbed.kills} kills", "goal"],
        row("streams", [f"{window.streams:,}" for window in windows]),
        row(
            "errors before the first token",
            [f"{window.lost:,}" for window in windows],
            none(sum(window.lost for window in windows)),
        ),
        row(
            "streams that broke after it, told by an error event", [f"{window.told:,}" for window in windows]
        ),
        row(
            "streams that broke after it, untold",
            [f"{window.untold:,}" for window in windows],
            none(sum(window.untold for window in windows)),
        ),
        row("time to first token p50, ms", [f"{window.first_p50_ms:.1f}" for window in windows]),
        row("time to first token p99, ms", [f"{window.first_p99_ms:.1f}" for window in windows]),
        row("added p99, ms", ["", f"{found.added_p99_ms:+.1f}"]),
        row("CPU per stream, µs", [f"{window.cpu_us:,.0f}" for window in windows]),
        row("attempts per stream", [f"{window.attempts:.3f}" for window in windows]),
    ]
    return "\n".join(aligned(lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured; 1: a goal was missed; 2: could not run; 130: interrupted."""
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="with kills; a third of it without")
    parser.add_argument("--every", type=float, default=EVERY, help="seconds between two kills")
    parser.add_argument("--streams", type=int, default=STREAMS, help="at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
            found = measure(
                Path(folder),
                streams=options.streams,
                calm=options.seconds / 3,
                disturbed=options.seconds,
                every=options.every,
            )
    except BenchError as error:
        say(f"bench: {error}")
        return 2
    except KeyboardInterrupt:
        say("bench: interrupted; every process has been stopped")
        return 130
    print(f"{processor()}, {options.streams} streams at once, a kill every {options.every:g} s\n")
    print(render(found))
    for window in (found.calm, found.disturbed):
        if window.error:
            print(f"\n**Error** {window.error}")
    if options.json:
        options.json.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    return 0 if found.met else 1


if __name__ == "__main__":
    sys.exit(main())
