"""Figures to a table: one column for each server, goals beside the figures that have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.servers import REFERENCE

SUBJECT = "headgate"
UNSTEADY = 1.3
"""Ratio of the dearest to the cheapest round above which a CPU figure is reported as unsteady."""
Samples = Mapping[str, Mapping[str, Sequence[float]]]
"""Server, then metric, then one value for each round."""
Figures = Mapping[str, Mapping[str, float]]
"""Server, then metric, then its median."""


@dataclass(frozen=True, slots=True)
class Base:
    """What a figure is shown as a multiple of: a figure of `server`, or of `metric`; None: of its own.

    A goal that is relative to it names it `name`.
    """

    name: str
    server: str | None = None
    metric: str | None = None

    def value(self, figures: Figures, server: str, metric: str) -> float | None:
        """For one cell: the figure beside it, or above it. None where there is none, or it is the cell's."""
        place = (self.server or server, self.metric or metric)
        return None if place == (server, metric) else figures.get(place[0], {}).get(place[1])


@dataclass(frozen=True, slots=True)
class Goal:
    """The most that the subject may take: an absolute figure, or a multiple of the row's base."""

    limit: float
    relative: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One metric as a line of the table."""

    metric: str
    title: str
    digits: int = 1
    base: Base | None = None
    goal: Goal | None = None


BESIDE = Base(REFERENCE, server=REFERENCE)
"""The same work, done by the reference."""


def _translated(scenario: str, pair: str) -> tuple[Row, ...]:
    """A pair of dialects, beside the same server's pass-through under the same load."""

    def row(load: str, unit: str, passed: str) -> Row:
        base = Base("pass-through", metric=f"{passed}.cpu_us")
        return Row(f"{scenario}{load}.cpu_us", f"{pair}, {unit}, µs", base=base, goal=Goal(3, relative=True))

    return (
        row("", "CPU per request", "requests"),
        row("50", "CPU per event, 50 streams", "chunk50"),
        row("500", "CPU per event, 500 streams", "chunk500"),
    )


ROWS = (
    Row("requests.cpu_us", "CPU per request, µs", base=BESIDE, goal=Goal(100)),
    Row("big.cpu_us", "CPU per request of 100 KB, µs", base=BESIDE),
    Row("chunk50.cpu_us", "CPU per chunk, 50 streams, µs", base=BESIDE, goal=Goal(2, relative=True)),
    Row("chunk500.cpu_us", "CPU per chunk, 500 streams, µs", base=BESIDE, goal=Goal(2, relative=True)),
    Row("chunk9500.cpu_us", "CPU per chunk, 9,500 streams, µs", base=BESIDE, goal=Goal(2, relative=True)),
    Row("abort.cpu_us", "CPU per abandoned stream, µs", base=BESIDE),
    *_translated("to-anthropic", "OpenAI to Anthropic"),
    *_translated("to-openai", "Anthropic to OpenAI"),
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


def medians(samples: Samples) -> Figures:
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
            if row.base is not None and values and max(values) > UNSTEADY * min(values):
                low, high = _number(min(values), row.digits), _number(max(values), row.digits)
                found.append(f"{server}, {row.title}: {low} to {high}")
    return found


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def _cell(row: Row, figures: Figures, server: str) -> str:
    value = figures.get(server, {}).get(row.metric)
    if value is None:
        return "–"
    text = _number(value, row.digits)
    base = row.base.value(figures, server, row.metric) if row.base is not None else None
    return f"{text} ({value / base:.2f}×)" if base else text


def _verdict(row: Row, figures: Figures) -> str:
    """The goal in words and, where the figures tell, whether the subject meets it."""
    goal = row.goal
    if goal is None:
        return ""
    words, bound = f"≤ {goal.limit:g}", None if goal.relative else goal.limit
    if goal.relative and row.base is not None:
        words += f" × {row.base.name}"
        base = row.base.value(figures, SUBJECT, row.metric)
        bound = None if base is None else goal.limit * base
    value = figures.get(SUBJECT, {}).get(row.metric)
    if value is None or bound is None:
        return words
    return f"{words} {'✓ ok' if value <= bound else '✗ over'}"


def render(samples: Samples, servers: Sequence[str], rows: Sequence[Row] = ROWS) -> str:
    """A Markdown table, padded to read well on a terminal too. Rows without a figure are left out."""
    figures = medians(samples)
    lines = [["chat", *servers, f"goal for {SUBJECT}"]]
    for row in rows:
        if any(row.metric in figures.get(server, {}) for server in servers):
            cells = [_cell(row, figures, server) for server in servers]
            lines.append([row.title, *cells, _verdict(row, figures)])
    return "\n".join(aligned(lines))


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; the first of `lines` is its head."""
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
