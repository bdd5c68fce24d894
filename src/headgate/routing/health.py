"""How a target has fared lately: its circuit breaker, its quota, its pace. No clock, no I/O: times come in.

A target has a circuit of its own; a quota (an account's share of a model) may be shared by several targets.
Times are seconds of `time.monotonic`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum

from headgate.core.errors import DeadlineExceeded, HeadgateError, RateLimited, UpstreamError

_WINDOW = 20
"""Latest attempts over which the rate of failures is taken."""
_WINDOW_MASK = (1 << _WINDOW) - 1
_SMALLEST_SHARE = 0.1
"""Of its weight, for a target that has just come back."""
_FIRST_COOLDOWN = 1.0
_LONGEST_COOLDOWN = 60.0
_PACE_WEIGHT = 0.2
"""Weight of the newest first-event time in the moving average."""


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
        cooldown: seconds until the first probe; doubles with each probe that fails, up to `longest`.
        slow_start: seconds over which a target that is back gets its whole share of the traffic again.
    """

    failures: int = 5
    rate: float = 0.5
    cooldown: float = 5.0
    longest: float = 60.0
    slow_start: float = 10.0


@dataclass(slots=True, eq=False)
class Quota:
    """An account's share of a model at its vendor: who is over it waits, whichever target asks."""

    name: str
    until: float = 0.0
    """Until then its calls would be refused."""
    low_until: float = 0.0
    """Until then nothing may be left, by the header fields of an answer: others are tried first."""
    refusal: HeadgateError | None = None
    """The vendor's latest words on it."""
    _refused: int = 0

    def cool(self, now: float, error: HeadgateError, rng: random.Random) -> None:
        """The vendor refused a call (429). Unless it says how long to wait: longer each time, with jitter."""
        self.refusal = error
        retry_after = error.retry_after
        if retry_after is None:
            longest = min(_LONGEST_COOLDOWN, _FIRST_COOLDOWN * 2**self._refused)
            retry_after = rng.uniform(longest / 2, longest)
        self._refused = min(self._refused + 1, 16)
        self.until = max(self.until, now + retry_after)

    def spent(self, until: float) -> None:
        """The vendor says that this was the last call before `until`.

        It means the time until all of it is back. Some may be there earlier: nobody is refused for it.
        """
        self.low_until = max(self.low_until, until)

    def granted(self) -> None:
        self._refused = 0

    def reset(self) -> None:
        self.until = self.low_until = 0.0
        self.refusal = None
        self._refused = 0


@dataclass(slots=True, eq=False)
class Health:
    """One target's state. Mutable; used from the event loop's thread only."""

    breaker: Breaker = field(default_factory=Breaker)
    quota: Quota = field(default_factory=lambda: Quota(""))
    drained: bool = False
    in_flight: int = 0
    circuit: Circuit = Circuit.CLOSED
    reason: str | None = None
    """The latest failure, for people."""
    pace: float | None = None
    """Seconds to the first event: moving average over the latest answers."""
    opened_until: float = 0.0
    _cooldown: float = 0.0
    _in_a_row: int = 0
    _recent: int = 0
    _seen: int = 0
    _probing: bool = False
    _recovered: float | None = None

    # What planning asks.

    def available(self, now: float) -> bool:
        """A call may be sent now."""
        if self.drained or now < self.quota.until:
            return False
        if self.circuit is Circuit.CLOSED:
            return True
        return now >= self.opened_until and not self._probing

    def obstacle(self, now: float) -> str | None:
        """Why no call should be sent now; None when one may be."""
        if self.drained:
            return "drained by the operator"
        if now < self.quota.until:
            return f"its quota is spent for another {self.quota.until - now:.1f} s"
        if self.circuit is Circuit.CLOSED:
            return None
        if self._probing:
            return f"its circuit is half open and a probe is under way; last failure: {self.reason}"
        if now < self.opened_until:
            wait = self.opened_until - now
            return f"its circuit is open for another {wait:.1f} s; last failure: {self.reason}"
        return None

    def share(self, now: float) -> float:
        """Of its weight: below 1 for a while after it came back."""
        since = self._recovered
        if since is None:
            return 1.0
        if now >= since + self.breaker.slow_start:
            self._recovered = None
            return 1.0
        return max(_SMALLEST_SHARE, (now - since) / self.breaker.slow_start)

    # What happened.

    def begun(self, now: float) -> None:
        """A call is sent. Each one is followed by exactly one of `succeeded`, `failed`, `dropped`."""
        self.in_flight += 1
        if self.circuit is not Circuit.CLOSED and now >= self.opened_until:
            self.circuit = Circuit.HALF_OPEN
            self._probing = True

    def succeeded(self, now: float, waited: float | None) -> None:
        """It answered; `waited`: seconds to the first event, None where the answer is no measure of it."""
        self.in_flight -= 1
        self._note(0)
        self._in_a_row = 0
        self.quota.granted()
        if waited is not None:
            pace = self.pace
            self.pace = waited if pace is None else pace + _PACE_WEIGHT * (waited - pace)
        if self.circuit is not Circuit.CLOSED:
            self._close(now)

    def failed(self, now: float, error: HeadgateError, rng: random.Random) -> None:
        """It did not answer, or refused. Only what is the target's own doing counts against it."""
        self.in_flight -= 1
        if is_limited(error):
            self._probing = False
            self.quota.cool(now, error, rng)
            return
        if not blames_target(error):
            if isinstance(error, UpstreamError) and self.circuit is not Circuit.CLOSED:
                self._close(now)  # it refused the request, so it is alive
            self._probing = False
            return
        self.trip(now, error.message, error.retry_after)

    def trip(self, now: float, reason: str, retry_after: float | None = None) -> None:
        """Count a failure, of a call or of a probe; `retry_after` is the target's own word (503)."""
        self.reason = reason
        self._note(1)
        self._in_a_row += 1
        if self.circuit is not Circuit.CLOSED:
            if self._probing or now >= self.opened_until:
                self._open(now, retry_after)
        elif retry_after is not None and self.breaker.failures:
            self._open(now, retry_after)
        elif self._is_too_much():
            self._open(now, None)

    def dropped(self) -> None:
        """It was stopped by our side: the caller left, or another target was faster. Says nothing."""
        self.in_flight -= 1
        self._probing = False

    # What the operator says.

    def drain(self) -> None:
        self.drained = True

    def enable(self) -> None:
        self.drained = False

    def reset(self) -> None:
        """Forget what happened: closed, whole share, nothing to wait for."""
        self.drained = False
        self.circuit = Circuit.CLOSED
        self.reason = None
        self.pace = None
        self.opened_until = self._cooldown = 0.0
        self._in_a_row = self._recent = self._seen = 0
        self._probing = False
        self._recovered = None
        self.quota.reset()

    def revive(self, now: float) -> None:
        """A probe of ours was answered: the next call may find out for itself."""
        if self.circuit is Circuit.OPEN:
            self.opened_until = now

    def _note(self, failed: int) -> None:
        self._recent = (self._recent << 1 | failed) & _WINDOW_MASK
        if self._seen < _WINDOW:
            self._seen += 1

    def _is_too_much(self) -> bool:
        if not self.breaker.failures:
            return False
        if self._in_a_row >= self.breaker.failures:
            return True
        return self._seen >= _WINDOW and self._recent.bit_count() >= self.breaker.rate * _WINDOW

    def _open(self, now: float, retry_after: float | None) -> None:
        breaker = self.breaker
        self._cooldown = min(breaker.longest, self._cooldown * 2 if self._cooldown else breaker.cooldown)
        self.circuit = Circuit.OPEN
        self.opened_until = now + (self._cooldown if retry_after is None else min(retry_after, 600.0))
        self._probing = False

    def _close(self, now: float) -> None:
        self.circuit = Circuit.CLOSED
        self.reason = None
        self._cooldown = 0.0
        self._in_a_row = self._recent = self._seen = 0
        self._probing = False
        self._recovered = now


def is_limited(error: HeadgateError) -> bool:
    """The target's quota is used up: it is well, and will answer when the wait is over."""
    return isinstance(error, UpstreamError | RateLimited) and error.status == 429


def blames_target(error: HeadgateError) -> bool:
    """The target, or our way to it, is at fault: not the caller's request, and not our own limits.

    A 401 of an upstream means a wrong key: an operator's mistake that makes the target useless. A 403 or 404
    may be about what the request names (a file, say), so that any caller could bring it about.
    """
    if isinstance(error, UpstreamError):
        return error.status >= 500 or error.status in (401, 408)
    if isinstance(error, DeadlineExceeded):
        return error.code != "total_timeout"
    return error.code in ("upstream_unreachable", "upstream_broken", "unavailable", "internal_error")
