"""What a second attempt beside a slow one buys, and what it costs: `python -m bench.hedging`.

One model at three mocks of which each takes twenty times as long for 2 % of its answers; the same model again
with `hedge: {after: p95, budget: 5%}`. Both are asked in turn, in rounds, on one server.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.build import BenchError
from bench.failover import server, targets
from bench.mock import Mock
from bench.rig import Rig, Running
from bench.run import processor, say
from bench.scenarios import Mode, Scenario
from bench.servers import MODEL
from bench.table import aligned

TARGETS = 3
CONNECTIONS = 50
BUDGET = 0.05
SAVED = 10
"""Hedges that a budget holds at most."""
SETTINGS = {"chunks": 3, "pace_us": 10_000, "first_us": 50_000, "slow": 20}
"""Of each mock: an answer begins after 25 to 75 ms, 20 in 1,000 after 0.5 to 1.5 s."""
KINDS: Mapping[str, Mode] = {"plain answers": "requests", "streams, first token": "turns"}
HEDGED = "bench-hedged"
FEWER = 5.0
"""The goal: how many times lower the p99 is at least, for no more than BUDGET more upstream calls."""


@dataclass(frozen=True, slots=True)
class Window:
    """One model under load for a while.

    Args:
        calls: that clients made.
        upstream_calls: that the mocks were sent.
        cpu_us: CPU of the server for each call.
    """

    calls: int
    upstream_calls: int
    p50_ms: float
    p99_ms: float
    cpu_us: float
    errors: int
    error: str

    @property
    def extra(self) -> float:
        """Upstream calls above those of the clients, as a share of these."""
        return self.upstream_calls / self.calls - 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """The windows of each round, for one kind of answer."""

    plain: Sequence[Window]
    hedged: Sequence[Window]

    @property
    def times(self) -> float:
        """How many times lower the p99 is."""
        return median(self.plain, "p99_ms") / median(self.hedged, "p99_ms")

    @property
    def extra(self) -> float:
        return sum(each.upstream_calls for each in self.hedged) / sum(each.calls for each in self.hedged) - 1

    @property
    def within_budget(self) -> bool:
        """A window may spend what the calls before it have saved up."""
        return all(each.upstream_calls <= each.calls * (1 + BUDGET) + SAVED for each in self.hedged)

    @property
    def met(self) -> bool:
        failed = any(each.errors for each in (*self.plain, *self.hedged))
        return self.times >= FEWER and self.within_budget and not failed


def median(windows: Sequence[Window], figure: str) -> float:
    return statistics.median(float(getattr(window, figure)) for window in windows)


def models(mocks: Sequence[Mock]) -> dict[str, dict[str, object]]:
    hedge = {"after": "p95", "budget": f"{BUDGET:.0%}"}
    return {MODEL: {"targets": targets(mocks)}, HEDGED: {"targets": targets(mocks), "hedge": hedge}}


def _window(rig: Rig, scenario: Scenario, running: Running, mocks: Sequence[Mock], seconds: float) -> Window:
    def sent() -> int:
        return sum(mock.stats()["chats"] for mock in mocks)

    cpu, before = running.cpu_ns(), sent()
    report = rig.run_load(scenario, running, seconds)
    cpu, upstream_calls = running.cpu_ns() - cpu, sent() - before
    calls = report["finished"] + report["errors"] + report["told"] + report["untold"]
    if not report["finished"]:
        raise BenchError(f"no call came to its end: {report['error']}")
    return Window(
        calls=calls,
        upstream_calls=upstream_calls,
        p50_ms=report["latency_us"]["p50"] / 1e3,
        p99_ms=report["latency_us"]["p99"] / 1e3,
        cpu_us=cpu / 1e3 / calls,
        errors=calls - report["finished"],
        error=report["error"],
    )


def measure(
    folder: Path, *, rounds: int, seconds: float, connections: int = CONNECTIONS
) -> dict[str, Comparison]:
    """For each kind of answer, the model without hedges and the one with them.

    Args:
        seconds: of each window.
    """
    found: dict[str, Comparison] = {}
    with Rig(folder) as rig:
        mocks = [rig.mock(**SETTINGS) for _ in range(TARGETS)]
        running = rig.start(server(models(mocks)))
        for kind, mode in KINDS.items():
            loads = {
                model: Scenario(
                    name=model, title=kind, mode=mode, connections=connections, seconds=seconds, model=model
                )
                for model in (MODEL, HEDGED)
            }
            windows: dict[str, list[Window]] = {MODEL: [], HEDGED: []}
            rig.run_load(loads[HEDGED], running, min(2.0, seconds))  # the p95 is learnt
            for number in range(rounds):
                for model in (MODEL, HEDGED) if number % 2 == 0 else (HEDGED, MODEL):
                    say(f"[round {number + 1}/{rounds}] {kind}, {model}")
                    windows[model].append(_window(rig, loads[model], running, mocks, seconds))
            found[kind] = Comparison(windows[MODEL], windows[HEDGED])
    return found


def render(found: Mapping[str, Comparison]) -> str:
    """A Markdown table: medians of the rounds."""
    lines = [["hedging", "without", "with", "goal"]]
    for kind, each in found.items():
        both = (each.plain, each.hedged)
        lines.append([f"{kind}: calls", *(f"{sum(one.calls for one in side):,}" for side in both), ""])
        for title, figure, digits in (("p50, ms", "p50_ms", 1), ("p99, ms", "p99_ms", 1)):
            lines.append([f"… {title}", *(f"{median(side, figure):,.{digits}f}" for side in both), ""])
        lines.append(
            [
                "… p99 lower by",
                "",
                f"{each.times:.1f}×",
                f"≥ {FEWER:g} × {'✓ ok' if each.times >= FEWER else '✗ missed'}",
            ]
        )
        lines.append(
            [
                "… upstream calls above the clients'",
                *(
                    f"{sum(w.upstream_calls for w in side) / sum(w.calls for w in side) - 1:.2%}"
                    for side in both
                ),
                f"≤ {BUDGET:.0%} {'✓ ok' if each.within_budget else '✗ over'}",
            ]
        )
        lines.append(["… CPU per call, µs", *(f"{median(side, 'cpu_us'):,.0f}" for side in both), ""])
    return "\n".join(aligned(lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured; 1: a goal was missed; 2: could not run; 130: interrupted."""
    parser = argparse.ArgumentParser(prog="python -m bench.hedging", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each window")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure of every round")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
            found = measure(Path(folder), rounds=options.rounds, seconds=options.seconds)
    except BenchError as error:
        say(f"bench: {error}")
        return 2
    except KeyboardInterrupt:
        say("bench: interrupted; every process has been stopped")
        return 130
    print(f"{processor()}, {CONNECTIONS} connections, median of {options.rounds} rounds\n")
    print(render(found))
    for kind, each in found.items():
        for window in (*each.plain, *each.hedged):
            if window.errors:
                print(f"\n**Error** {kind}: {window.errors} of {window.calls} failed: {window.error}")
    if options.json:
        figures = {kind: asdict(each) for kind, each in found.items()}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if all(each.met for each in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
