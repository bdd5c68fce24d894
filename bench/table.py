"""Figures to a table: one column for each server, goals beside the figures that have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from typing_extensions import override

from bench.servers import REFERENCE

SUBJECT = "headgate"
UNSTEADY = 1.3
"""Ratio of the dearest to the cheapest round above which a CPU figure is reported as unsteady."""
Samples = Mapping[str, Mapping[str, Sequence[float]]]
"""Server, then metric, then one value for each round."""


@dataclass(frozen=True, slots=True)
class Goal:
    """The most that the subject may take: an absolute figure, or a multiple of the reference's."""

    limit: float
    relative: bool = False

    def bound(self, reference: float | None) -> float | None:
        if not self.relative:
            return self.limit
        return None if reference is None else self.limit * reference

    @override
    def __str__(self) -> str:
        return f"≤ {self.limit:g}" + (f" × {REFERENCE}" if self.relative else "")


@dataclass(frozen=True, slots=True)
class Row:
    """One metric as a line of the table. `compared`: shown as a multiple of the reference's too."""

    metric: str
    title: str
    digits: int = 1
    compared: bool = False
    goal: Goal | None = None


ROWS = (
    Row("requests.cpu_us", "CPU per request, µs", compared=True, goal=Goal(100)),
    Row("big.cpu_us", "CPU per request of 100 KB, µs", compared=True),
    Row("chunk50.cpu_us", "CPU per chunk, 50 streams, µs", compared=True, goal=Goal(2, relative=True)),
    Row("chunk500.cpu_us", "CPU per chunk, 500 streams, µs", compared=True, goal=Goal(2, relative=True)),
    Row("chunk9500.cpu_us", "CPU per chunk, 9,500 streams, µs", compared=True, goal=Goal(2, relative=True)),
    Row("abort.cpu_us", "CPU per abandoned stream, µs", compared=True),
    Row("requests.per_second", "requests/s, 16 connections", digits=0),
    Row("latency1.added_p50_us", "added latency p50, µs", digits=0),
    Row("latency1.added_p99_us", "added latency p99, µs", digits=0),
    Row("chunk500.first_p99_ms", "first event p99, 500 streams at once, ms", digits=0),
    Row("chunk9500.first_p99_ms", "first event p99, 9,500 streams at once, ms", digits=0),
    Row("idle.rss_mb", "RSS idle, MB", digits=0, goal=Goal(80)),
    Row("chunk500.rss_mb", "RSS with 500 streams, MB", digits=0),
    Row("chunk9500.rss_mb", "RSS with 9,500 streams, MB", digits=0),
    Row("start.first_answer_s", "start to first answer, s", digits=2, goal=Goal(1)),
    Row("start.cpu_s", "CPU until the first answer, s", digits=2),
    Row("import.ms", f"import {SUBJECT}, ms", digits=0, goal=Goal(150)),
)


def added_latency(through: Mapping[str, float], direct: Mapping[str, float]) -> dict[str, float]:
    """Each latency percentile less the same percentile without a server between, as `….added_p50_us`."""
    return {
        f"{scenario}.added_{name}": value - direct[metric]
        for metric, value in through.items()
        for scenario, name in [metric.split(".", 1)]
        if name in ("p50_us", "p99_us") and metric in direct
    }


def medians(samples: Samples) -> dict[str, dict[str, float]]:
    return {
        server: {metric: median(values) for metric, values in metrics.items() if values}
        for server, metrics in samples.items()
    }


def unsteady(samples: Samples, servers: Sequence[str], rows: Sequence[Row] = ROWS) -> list[str]:
    """CPU figures whose rounds lie so far apart that something else was at work on the machine."""
    found = []
    for row in rows:
        for server in servers:
            values = samples.get(server, {}).get(row.metric, ())
            if row.compared and values and max(values) > UNSTEADY * min(values):
                low, high = _number(min(values), row.digits), _number(max(values), row.digits)
                found.append(f"{server}, {row.title}: {low} to {high}")
    return found


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def _cell(row: Row, value: float | None, reference: float | None, server: str) -> str:
    if value is None:
        return "–"
    text = _number(value, row.digits)
    if row.compared and reference and server != REFERENCE:
        text += f" ({value / reference:.2f}×)"
    return text


def _verdict(row: Row, value: float | None, reference: float | None) -> str:
    if row.goal is None:
        return ""
    bound = row.goal.bound(reference)
    if value is None or bound is None:
        return f"{row.goal}"
    return f"{row.goal} {'✓ ok' if value <= bound else '✗ over'}"


def render(samples: Samples, servers: Sequence[str], rows: Sequence[Row] = ROWS) -> str:
    """A Markdown table, padded to read well on a terminal too. Rows without a figure are left out."""
    middle = medians(samples)
    lines = [["pass-through chat", *servers, f"goal for {SUBJECT}"]]
    for row in rows:
        values = {server: middle.get(server, {}).get(row.metric) for server in servers}
        if all(value is None for value in values.values()):
            continue
        reference = middle.get(REFERENCE, {}).get(row.metric)
        cells = [_cell(row, values[server], reference, server) for server in servers]
        lines.append([row.title, *cells, _verdict(row, middle.get(SUBJECT, {}).get(row.metric), reference)])
    return "\n".join(_aligned(lines))


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    last = len(widths) - 1

    def row(cells: Sequence[str]) -> str:
        # Words to the left, figures to the right.
        padded = [
            cell.ljust(width) if column in (0, last) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if column in (0, last) else "-" * (width - 1) + ":" for column, width in enumerate(widths)
    ]
    return [row(lines[0]), f"| {' | '.join(rule)} |", *map(row, lines[1:])]
