"""What answers took lately: an average to compare targets by, a percentile to tell a late answer by."""

from __future__ import annotations

_NEWEST = 0.2
"""Weight of the newest time in a moving average."""
_KEPT = 256
_NEEDED = 20
"""Fewer answers than this say nothing about a tail."""
_REFRESH = 16
"""New answers after which the percentile is taken anew: a sort of 256 numbers is 10 µs."""


class MovingAverage:
    """Seconds of the latest answers, the newest with the most weight (EWMA); None before the first."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds: float | None = None

    def note(self, seconds: float) -> None:
        average = self.seconds
        self.seconds = seconds if average is None else average + _NEWEST * (seconds - average)

    def at_least(self, seconds: float) -> None:
        """Nobody waited for the end, but it took longer than this."""
        if self.seconds is not None and seconds > self.seconds:
            self.note(seconds)


class TailLatency:
    """Seconds of the latest answers, and their 95th percentile, cheap enough to keep for each call."""

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
        """By nearest rank; None until 20 answers are known."""
        count = len(self._values)
        if count < _NEEDED:
            return None
        if self._p95 is None or self._since >= _REFRESH:
            self._since = 0
            self._p95 = sorted(self._values)[(count * 95 + 99) // 100 - 1]
        return self._p95
