"""The 95th percentile of what a model's answers took lately, cheap enough to keep for each call."""

from __future__ import annotations

_KEPT = 256
_NEEDED = 20
"""Fewer answers than this say nothing about a tail."""
_REFRESH = 16
"""New answers after which the percentile is taken anew: a sort of 256 numbers is 10 µs."""


class TailLatency:
    """Seconds of the latest answers, and their 95th percentile."""

    __slots__ = ("_at", "_p95", "_since", "_values")

    def __init__(self) -> None:
        self._values: list[float] = []
        self._at = 0
        self._since = 0
        self._p95: float | None = None

    def note(self, seconds: float) -> None:
        if len(self._values) < _KEPT:
            self._values.append(seconds)
        else:
            self._values[self._at] = seconds
            self._at = (self._at + 1) % _KEPT
        self._since += 1

    @property
    def p95(self) -> float | None:
        """None until 20 answers are known."""
        count = len(self._values)
        if count < _NEEDED:
            return None
        if self._p95 is None or self._since >= _REFRESH:
            self._since = 0
            self._p95 = sorted(self._values)[min(count - 1, int(count * 0.95))]
        return self._p95
