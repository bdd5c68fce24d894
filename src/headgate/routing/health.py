"""How a target has fared lately: its circuit breaker, its quota, its pace. No clock, no I/O: times come in.

A target has a circuit of its own; a quota (an account's share of a model) may be shared by several targets.
Times are seconds of `time.monotonic`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf, nextafter

from headgate.core.errors import (
    ConnectFailed,
    ContextLengthExceeded,
    DeadlineExceeded,
    HeadgateError,
    StreamBroken,
    Unavailable,
    UpstreamError,
)
from headgate.routing.latency import MovingAverage
from headgate.routing.quota import Quota, is_limited

_WINDOW = 20
"""Latest attempts over which the rate of failures is taken."""
_WINDOW_MASK = (1 << _WINDOW) - 1
_SMALLEST_SHARE = 0.1
"""Of its weight, for a target that has just come back."""
_LONGEST_WAIT = 600.0
"""Seconds for which a target's own word (`Retry-After`) can keep its circuit open."""


class Circuit(StrEnum):
    """closed: tried as usual. open: not tried. half_open: one call at a time finds out."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a target's circuit opens, and for how long.

    Args:
        failures: this many in a row open it; 0: it never opens.
        rate: so does this share of the latest 20 attempts.
        cooldown: seconds until the first probe; doubles, up to `longest`, with each probe that fails and
            when the circuit opens again during `slow_start`.
        slow_start: seconds over which a target that is back gets its whole share of the traffic again.
    """

    failures: int = 5
    rate: float = 0.5
    cooldown: float = 5.0
    longest: float = 60.0
    slow_start: float = 10.0


@dataclass(slots=True, eq=False)
class Health:
    """One target's state. Mutable; used from the event loop's thread only.

    A call is known by the moment at which it was sent, which `begun` gives. What was sent before the circuit
    last opened or closed says nothing about the target as it is now, and does not count.
    """

    breaker: Breaker = field(default_factory=Breaker)
    quota: Quota = field(default_factory=lambda: Quota(""))
    drained: bool = False
    in_flight: int = 0
    circuit: Circuit = Circuit.CLOSED
    reason: str | None = None
    """The latest failure, for people."""
    streams: MovingAverage = field(default_factory=MovingAverage)
    """Seconds to a stream's first event."""
    plain: MovingAverage = field(default_factory=MovingAverage)
    """Seconds to a plain answer."""
    opened_until: float = 0.0
    _cooldown: float = 0.0
    _in_a_row: int = 0
    _recent: int = 0
    _seen: int = 0
    _latest: float = -inf
    """When the latest call was sent."""
    _changed: float = -inf
    """Calls sent before do not count."""
    _probe: float | None = None
    """When the call was sent that finds out whether the target is well again."""
    _recovered: float | None = None

    # What planning asks.

    def available(self, now: float) -> bool:
        """A call may be sent now."""
        if self.drained or now < self.quota.until:
            return False
        if self.circuit is Circuit.CLOSED:
            return True
        return self._probe is None and now >= self.opened_until

    def obstacle(self, now: float) -> str | None:
        """Why no call should be sent now; None when one may be."""
        if self.drained:
            return "drained by the operator"
        if now < self.quota.until:
            return f"its quota is spent for another {self.quota.until - now:.1f} s"
        if self.circuit is Circuit.CLOSED:
            return None
        if self._probe is not None:
            return f"its circuit is half open and a probe is under way; last failure: {self.reason}"
        if now < self.opened_until:
            wait = self.opened_until - now
            return f"its circuit is open for another {wait:.1f} s; last failure: {self.reason}"
        return None

    def back_at(self) -> float:
        """When quota and circuit will let a call through again, as far as is known."""
        closed = self.circuit is Circuit.CLOSED
        return self.quota.until if closed else max(self.quota.until, self.opened_until)

    def share(self, now: float) -> float:
        """Of its weight: below 1 for a while after it came back."""
        since = self._recovered
        if since is None or now >= since + self.breaker.slow_start:
            return 1.0
        return max(_SMALLEST_SHARE, (now - since) / self.breaker.slow_start)

    def pace(self, stream: bool) -> MovingAverage:
        return self.streams if stream else self.plain

    # What happened.

    def begun(self, now: float) -> float:
        """A call is sent. Gives the moment that the call is known by, later than that of any before.

        Each call ends in exactly one of `succeeded`, `failed`, `dropped`.
        """
        if now <= self._latest:
            now = nextafter(self._latest, inf)
        self._latest = now
        self.in_flight += 1
        if self.circuit is not Circuit.CLOSED and self._probe is None and now >= self.opened_until:
            self.circuit = Circuit.HALF_OPEN
            self._probe = now
        return now

    def answered(self, sent: float, now: float, *, stream: bool) -> None:
        """The first event came. Even of a stream that goes on for minutes it shows: the target is back."""
        self.pace(stream).note(now - sent)
        if self.circuit is not Circuit.CLOSED and sent >= self._changed:
            self._close(sent, now)

    def unanswered(self, sent: float, now: float, *, stream: bool) -> None:
        """Nobody waits for its first event any more. Lest silence look fast: it took that long at least."""
        self.pace(stream).at_least(now - sent)

    def succeeded(self, sent: float, now: float) -> None:
        """It answered, to the end."""
        self.in_flight -= 1
        self.quota.granted(sent)
        if sent < self._changed:
            return
        if self.circuit is Circuit.CLOSED:
            self._note(0)
            self._in_a_row = 0
        else:
            self._close(sent, now)

    def failed(self, sent: float, now: float, error: HeadgateError, rng: random.Random) -> None:
        """It did not answer, or refused. Only what is the target's own doing counts against it."""
        probing = self._end(sent)
        if is_limited(error):
            self.quota.cool(now, error, rng)
        elif sent < self._changed:
            return
        elif blames_target(error):
            if self.circuit is Circuit.CLOSED:
                self._count(now, error.message, error.retry_after)
            elif probing:
                self.reason = error.message
                self._open(now, error.retry_after)
        elif probing and isinstance(error, UpstreamError | ContextLengthExceeded):
            self._close(sent, now)  # it refused the request, so it is alive

    def dropped(self, sent: float) -> None:
        """It was stopped by our side: the caller left, or another target was faster. Says nothing."""
        self._end(sent)

    def trip(self, now: float, reason: str, retry_after: float | None = None) -> None:
        """A probe of ours, beside the calls, failed. While the circuit is closed it counts as a call does."""
        if self.circuit is Circuit.CLOSED:
            self._count(now, reason, retry_after)
        elif self._probe is None and now >= self.opened_until:
            self.reason = reason
            self._open(now, retry_after)

    def revive(self, now: float, failures: int = 0) -> None:
        """A probe of ours was answered: the next call may find out for itself.

        Args:
            failures: probes before it that were not. They count no longer. Those of calls do, for what a
                probe asks may be well while calls fail.
        """
        self._in_a_row = max(0, self._in_a_row - failures)
        if self.circuit is Circuit.OPEN:
            self.opened_until = min(self.opened_until, now)

    # What the operator says.

    def adjust(self, breaker: Breaker, quota: Quota) -> None:
        """Go on by other settings; what happened stays known."""
        self.breaker = breaker
        self.quota = quota

    def drain(self) -> None:
        self.drained = True

    def enable(self) -> None:
        self.drained = False

    def reset(self) -> None:
        """Forget what happened: closed, whole share, nothing to wait for. Calls under way do not count."""
        self.circuit = Circuit.CLOSED
        self.reason = None
        self.streams = MovingAverage()
        self.plain = MovingAverage()
        self.opened_until = self._cooldown = 0.0
        self._in_a_row = self._recent = self._seen = 0
        self._changed = nextafter(self._latest, inf)
        self._probe = self._recovered = None
        self.quota.reset()

    # Inside.

    def _end(self, sent: float) -> bool:
        """A call is over; it was the one that finds out."""
        self.in_flight -= 1
        if sent != self._probe:
            return False
        self._probe = None
        return True

    def _note(self, failed: int) -> None:
        self._recent = (self._recent << 1 | failed) & _WINDOW_MASK
        if self._seen < _WINDOW:
            self._seen += 1

    def _count(self, now: float, reason: str, retry_after: float | None) -> None:
        """A failure while the circuit is closed; `retry_after` is the target's own word (503)."""
        self.reason = reason
        self._note(1)
        self._in_a_row += 1
        if self.breaker.failures and (retry_after or self._is_too_much()):
            self._open(now, retry_after)

    def _is_too_much(self) -> bool:
        if self._in_a_row >= self.breaker.failures:
            return True
        return self._seen >= _WINDOW and self._recent.bit_count() >= self.breaker.rate * _WINDOW

    def _open(self, now: float, retry_after: float | None) -> None:
        breaker = self.breaker
        wavers = self.circuit is not Circuit.CLOSED or self.share(now) < 1.0
        cooldown = self._cooldown * 2 if wavers and self._cooldown else breaker.cooldown
        self._cooldown = min(breaker.longest, cooldown)
        self.circuit = Circuit.OPEN
        self.opened_until = now + (min(retry_after, _LONGEST_WAIT) if retry_after else self._cooldown)
        self._changed = nextafter(self._latest, inf)
        self._probe = None

    def _close(self, sent: float, now: float) -> None:
        self.circuit = Circuit.CLOSED
        self.reason = None
        self._in_a_row = self._recent = self._seen = 0
        self._changed = sent
        self._probe = None
        self._recovered = now


def blames_target(error: HeadgateError) -> bool:
    """The target, or our way to it, is at fault: not the caller's request, and not our own limits.

    A 401 of an upstream means a wrong key: an operator's mistake that makes the target useless. A 403 or 404
    may be about what the request names (a file, say), so that any caller could bring it about.
    """
    if isinstance(error, UpstreamError):
        return error.status >= 500 or error.status in (401, 408)
    if isinstance(error, DeadlineExceeded):
        return error.code != "total_timeout"
    return isinstance(error, ConnectFailed | StreamBroken | Unavailable) or error.code == "internal_error"
