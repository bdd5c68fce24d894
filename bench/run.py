"""The run: every scenario on every server, alternating, in rounds; the median of the rounds counts."""

from __future__ import annotations

import argparse
import json
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from bench.build import BenchError
from bench.rig import Figures, Rig, Running
from bench.scenarios import SCENARIOS, Scenario
from bench.servers import REFERENCE, SERVERS, Server, find_program, install
from bench.table import SUBJECT, added_latency, render, unsteady

BUDGET = 270.0
"""Seconds for the whole run; a round that would not fit is left out, and the heading says so."""
IMPORT_PROGRAM = "import time; t = time.perf_counter(); import headgate; print(time.perf_counter() - t)"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Run:
    """Collects figures. `samples[server][metric]` holds one value for each round."""

    def __init__(self, servers: Sequence[Server], scenarios: Sequence[Scenario], *, quick: bool) -> None:
        self.servers = list(servers)
        self.scenarios = list(scenarios)
        self.rounds = 1 if quick else 3
        self.scale = 0.4 if quick else 1.0
        self.samples: dict[str, dict[str, list[float]]] = {}
        self.errors: list[tuple[str, str]] = []
        self.rounds_done = 0

    def execute(self, folder: Path) -> None:
        begun = time.perf_counter()
        with Rig(folder, self.scale) as rig:
            for server in [server for server in self.servers if server.alone]:
                self._round(rig, [server], f"{server.name} alone", forward=True)
            together = [server for server in self.servers if not server.alone]
            longest = 0.0
            for number in range(self.rounds if together else 0):
                start = time.perf_counter()
                if start - begun + longest > BUDGET:
                    say(f"no time for round {number + 1}: {start - begun:.0f} s have passed")
                    break
                self._round(rig, together, f"round {number + 1}/{self.rounds}", forward=number % 2 == 0)
                together = [server for server in together if server in self.servers]
                longest = max(longest, time.perf_counter() - start)
                self.rounds_done += 1

    def _round(self, rig: Rig, servers: Sequence[Server], label: str, *, forward: bool) -> None:
        started: list[Running] = []
        try:
            for server in servers:
                say(f"[{label}] {server.name}: start")
                try:
                    running = rig.start(server)
                except BenchError as error:
                    self._give_up(server, str(error))
                    continue
                started.append(running)
                self._keep(running.name, rig.idle(running))
                if running.name == SUBJECT:
                    self._keep(SUBJECT, Figures({"import.ms": import_seconds() * 1e3}))
            for scenario in self.scenarios:
                # The baseline in the same round, because the machine's own pace differs between rounds.
                baseline = rig.measure(scenario, rig.direct).values if scenario.direct else {}
                for running in started if forward else reversed(started):
                    if scenario.servers is not None and running.name not in scenario.servers:
                        continue
                    say(f"[{label}] {running.name}: {scenario.title}")
                    figures = rig.measure(scenario, running)
                    self._keep(running.name, figures)
                    self._keep(running.name, Figures(added_latency(figures.values, baseline)))
        finally:
            for running in started:
                rig.stop(running)

    def _give_up(self, server: Server, reason: str) -> None:
        say(f"{server.name} is left out: {reason}")
        self.servers.remove(server)
        self.errors.append((server.name, reason))

    def _keep(self, server: str, figures: Figures) -> None:
        for metric, value in figures.values.items():
            self.samples.setdefault(server, {}).setdefault(metric, []).append(value)
        for error in figures.errors:
            say(f"error: {error}")
        self.errors += [(server, error) for error in figures.errors]

    def heading(self) -> str:
        """When, where and how often; a peer that is measured alone is measured once."""
        rounds = f"median of {self.rounds_done} rounds" if self.rounds_done > 1 else "one round"
        return f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, Linux {platform.release()}, {rounds}"

    def as_json(self) -> str:
        return json.dumps(
            {
                "heading": self.heading(),
                "python": platform.python_version(),
                "servers": [server.name for server in self.servers],
                "samples": self.samples,
                "errors": [error for _, error in self.errors],
            },
            indent=1,
        )


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def import_seconds() -> float:
    """Time of `import headgate` in a fresh interpreter; the median of five. Runs on the load's core."""
    times = [
        float(subprocess.run([sys.executable, "-c", IMPORT_PROGRAM], capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    return statistics.median(times)


def choose_servers(names: Sequence[str] | None) -> list[Server]:
    """The rows to run: those named, or all that are installed; the reference is installed where it can be.

    Raises:
        BenchError: a name that is no row, or a named server that is not installed.
    """
    known = {server.name: server for server in SERVERS}
    if unknown := [name for name in names or () if name not in known]:
        raise BenchError(f"unknown server {unknown[0]!r}: choose from {', '.join(known)}")
    chosen = []
    for server in [known[name] for name in names] if names else SERVERS:
        if find_program(server.program) is None:
            try:
                if server.debian is not None:
                    say(f"installing {server.debian} …")
                install(server)
            except BenchError as error:
                if names:
                    raise
                say(f"skipped: {error}")
                continue
        chosen.append(server)
    return chosen


def choose_scenarios(names: Sequence[str] | None) -> list[Scenario]:
    known = {scenario.name: scenario for scenario in SCENARIOS}
    if unknown := [name for name in names or () if name not in (*known, "idle")]:
        raise BenchError(f"unknown scenario {unknown[0]!r}: choose from idle, {', '.join(known)}")
    if names is None:
        return [scenario for scenario in SCENARIOS if scenario.default]
    return [known[name] for name in names if name != "idle"]


def parser() -> argparse.ArgumentParser:
    def listed(text: str) -> list[str]:
        return [part for part in text.split(",") if part]

    result = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    result.add_argument(
        "--quick", action="store_true", help="one round of short windows, about half a minute without LiteLLM"
    )
    result.add_argument("--json", type=Path, metavar="FILE", help="every figure of every round")
    result.add_argument(
        "--only",
        type=listed,
        metavar="A,B",
        help=f"scenarios: idle (always measured), {', '.join(scenario.name for scenario in SCENARIOS)}",
    )
    result.add_argument(
        "--servers", type=listed, metavar="A,B", help=f"of {', '.join(server.name for server in SERVERS)}"
    )
    return result


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured; 1: with errors of the subject or the reference; 2: could not run; 130: interrupted."""
    options = parser().parse_args(arguments)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        run = Run(choose_servers(options.servers), choose_scenarios(options.only), quick=options.quick)
        with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
            run.execute(Path(folder))
    except BenchError as error:
        say(f"bench: {error}")
        return 2
    except KeyboardInterrupt:
        say("bench: interrupted; every server has been stopped")
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    print(run.heading() + "\n")
    names = [server.name for server in run.servers]
    print(render(run.samples, names))
    if doubts := unsteady(run.samples, names):
        print("\nUnsteady between rounds; something else used the machine: " + "; ".join(doubts) + ".")
    if REFERENCE not in names:
        print(f"\nWithout {REFERENCE} nothing is compared.")
    for _, complaint in run.errors:
        print(f"\n**Error** {complaint}")
    if options.json:
        options.json.write_text(run.as_json() + "\n", encoding="utf-8")
    return 1 if {SUBJECT, REFERENCE} & {server for server, _ in run.errors} else 0
