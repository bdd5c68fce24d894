"""What to try next when an attempt fails before the first byte. Pure: no clock, no I/O."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from headgate.core.errors import DeadlineExceeded, HeadgateError, Overloaded, RateLimited, Unavailable
from headgate.routing.plan import Retry, Target


@dataclass(frozen=True, slots=True)
class Next:
    """Try `target` after `delay` seconds."""

    target: Target
    delay: float


class Attempts:
    """The tries of one call, over its plan's targets in order, round and round within the policy."""

    def __init__(self, plan: Sequence[Target], retry: Retry, rng: random.Random) -> None:
        self._plan = plan
        self._retry = retry
        self._rng = rng
        self._made = 0

    def first(self) -> Target:
        self._made = 1
        return self._plan[0]

    def after(self, error: HeadgateError, remaining: float) -> Next | None:
        """The next try, or None when `error` is the answer.

        Args:
            remaining: seconds left until the call's deadline.
        """
        if not error.retryable or self._made >= max(self._retry.attempts, 1):
            return None
        target = self._plan[self._made % len(self._plan)]
        round_ = self._made // len(self._plan)
        if round_ and _same_target_is_pointless(error):
            return None
        self._made += 1
        delay = self._rng.uniform(0, min(self._retry.cap, self._retry.base * 2**round_)) if round_ else 0.0
        return Next(target, delay) if delay < remaining else None


def _same_target_is_pointless(error: HeadgateError) -> bool:
    """Quota and overload last longer than a caller's patience here, a silence of minutes will come again."""
    limited = isinstance(error, RateLimited | Overloaded | Unavailable | DeadlineExceeded)
    return limited or error.status == 429 or error.retry_after is not None
