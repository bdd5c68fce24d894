"""Counters and histograms as plain lists, handed to prometheus_client only when somebody scrapes.

Measured on CPython 3.11: its own `Histogram.observe` takes 0.55-0.80 µs and `Counter.inc` 0.25 µs, each with
a lock, which makes 6-7 µs for a streamed call with usage and one attempt; a `bisect` into a list makes 1.6.
The price: they are written from one thread, the event loop's. `collect` may run in any.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TypeAlias

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

Labels: TypeAlias = tuple[str, ...]


class Counter:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Histogram:
    """Observations by bucket. `counts[i]` holds those that are <= `bounds[i]`; the last, those above all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Counters:
    """Children of one metric, by label values. They may be read in another thread than they are written."""

    def __init__(self, name: str, help: str, labels: Labels, gauge: bool = False) -> None:
        self.name = name
        self.help = help
        self.labels = labels
        self.gauge = gauge
        self.children: dict[Labels, Counter] = {}

    def child(self, *values: str) -> Counter:
        return self.children.setdefault(values, Counter())

    def collect(self) -> Metric:
        kind = GaugeMetricFamily if self.gauge else CounterMetricFamily
        family = kind(self.name, self.help, labels=self.labels)
        for values, child in list(self.children.items()):
            family.add_metric(values, child.value)
        return family


class Histograms:
    def __init__(self, name: str, help: str, labels: Labels, bounds: Sequence[float]) -> None:
        self.name = name
        self.help = help
        self.labels = labels
        self.bounds = bounds
        self.children: dict[Labels, Histogram] = {}
        self._edges = [*map(floatToGoString, bounds), "+Inf"]

    def child(self, *values: str) -> Histogram:
        return self.children.setdefault(values, Histogram(self.bounds))

    def collect(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for values, child in list(self.children.items()):
            total = child.sum
            seen = 0
            buckets: list[tuple[str, float]] = []
            for edge, count in zip(self._edges, list(child.counts), strict=True):
                seen += count
                buckets.append((edge, seen))
            family.add_metric(values, buckets, total)
        return family
