"""What to try next, and when: the tries of one call. Pure: no I/O, and the clock's time comes in."""

from __future__ import annotations

import random
from dataclasses import dataclass

from headgate.core.call import Call
from headgate.core.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    HeadgateError,
    Overloaded,
    RateLimited,
    Unavailable,
    UpstreamError,
)
from headgate.routing.health import is_limited
from headgate.routing.plan import Plan, nobody
from headgate.routing.route import Route
from headgate.routing.target import Target

_SHORTEST_WAIT = 0.05
"""Seconds over which calls that waited for the same moment are spread, at least."""
_OF_THE_REQUEST = frozenset({400, 413, 415, 422})
"""Statuses that say what is wrong with the request itself."""


@dataclass(frozen=True, slots=True)
class Step:
    """Try `target` after `delay` seconds; `queued`: the wait is for a quota, and takes a place."""

    target: Target
    delay: float = 0.0
    queued: bool = False


class Execution:
    """The tries of one call, over its plan's targets.

    A failure moves on to the next target that has not been tried: that costs nothing but the try. Second
    tries at the same target wait, with full jitter, and are paid from the route's budget. A spent quota is
    waited for when its end lies near enough.
    """

    __slots__ = ("_call", "_first_refusal", "_made", "_most", "_plan", "_rng", "_route", "_tried")

    def __init__(self, route: Route, call: Call, plan: Plan, rng: random.Random) -> None:
        self._route = route
        self._call = call
        self._plan = plan
        self._rng = rng
        self._made = 0
        self._most = route.retry.limit(len(plan.order) + len(plan.cooling))
        self._tried: list[Target] = []
        self._first_refusal: HeadgateError | None = None

    def first(self, now: float) -> Step:
        """Raises the error to answer with, when there is nothing to try within the call's patience."""
        self._route.pace.retries.deposit()
        if self._plan.order:
            return self._step(self._plan.order[0])
        step = self._when_quota_is_back(now)
        if step is None:
            raise nobody(self._route, self._call, now)
        return step

    def after(self, error: HeadgateError, now: float) -> Step | None:
        """The next try after one that failed with `error`; None when `verdict` is the answer."""
        if self._first_refusal is None and error.status in _OF_THE_REQUEST:
            self._first_refusal = error
        if not self._may_try or self._remaining(now) <= 0 or not another_may_do(error):
            return None
        following = self._next_fresh(now, error)
        if following is not None:
            return self._step(following)
        return self._again(error, now) or self._when_quota_is_back(now)

    def verdict(self, error: HeadgateError) -> HeadgateError:
        """What the caller is told when the last try failed with `error`.

        The first refusal of the request itself, if there was one: it says what can be mended.
        """
        return self._first_refusal or error

    # Hedging.

    def hedge_delay(self) -> float | None:
        """Seconds after which a second attempt should start beside the first; None: never."""
        hedge = self._route.hedge
        if hedge is None or len(self._plan.order) < 2 or not self._may_try:
            return None
        self._route.pace.hedges.deposit()
        return hedge.after if hedge.after is not None else self._route.pace.tail(self._call.stream).p95

    def hedge(self, now: float) -> Target | None:
        """The target of a second attempt that starts now; None when there is none, or no budget for it."""
        target = self._next_fresh(now, None)
        if target is None or (target.admission is not None and target.admission.full):
            return None
        return self._step(target).target if self._route.pace.hedges.take() else None

    def move(self, now: float) -> Target | None:
        """The fresh target that an answer too slow moves to."""
        target = self._next_fresh(now, None) if self._may_try else None
        return None if target is None else self._step(target).target

    # Inside.

    @property
    def _may_try(self) -> bool:
        return self._made < self._most

    def _step(self, target: Target, delay: float = 0.0, *, queued: bool = False) -> Step:
        self._made += 1
        if target not in self._tried:
            self._tried.append(target)
        return Step(target, delay, queued)

    def _remaining(self, now: float) -> float:
        return float("inf") if self._call.deadline is None else self._call.deadline - now

    def _next_fresh(self, now: float, error: HeadgateError | None) -> Target | None:
        """The best target that has not been tried and still may be."""
        for target in self._plan.order:
            if target in self._tried or not target.health.available(now):
                continue
            if isinstance(error, ContextLengthExceeded) and not self._holds_more(target):
                continue
            return target
        return None

    def _holds_more(self, target: Target) -> bool:
        """Its context is longer than that of the last one tried, or not known."""
        last, length = self._tried[-1].abilities.context_length, target.abilities.context_length
        return last is None or length is None or length > last

    def _again(self, error: HeadgateError, now: float) -> Step | None:
        """Another round over the targets that were tried, after a pause."""
        if not error.retryable or _same_target_is_pointless(error):
            return None
        able = [target for target in self._tried if target.health.available(now)] or self._tried[-1:]
        target = able[self._made % len(able)]
        rounds = max(1, self._made // max(1, len(self._plan.order)))
        retry = self._route.retry
        delay = self._rng.uniform(0, min(retry.cap, retry.base * 2**rounds))
        if delay >= self._remaining(now) or not self._route.pace.retries.take():
            return None
        return self._step(target, delay)

    def _when_quota_is_back(self, now: float) -> Step | None:
        """Wait for the target whose quota is back first, when that is soon enough."""
        cooling = [
            target
            for target in dict.fromkeys((*self._plan.cooling, *self._plan.order))
            if now < target.health.quota.until and not target.health.drained
        ]
        if not cooling:
            return None
        target = min(cooling, key=lambda each: each.health.quota.until)
        wait = target.health.quota.until - now
        wait += self._rng.uniform(0, max(_SHORTEST_WAIT, wait / 10))
        if wait > self._route.retry.max_wait or wait >= self._remaining(now):
            return None
        return self._step(target, wait, queued=True)


def another_may_do(error: HeadgateError) -> bool:
    """Another target may succeed: also where this upstream refused the request, others may take it."""
    return error.retryable or isinstance(error, UpstreamError | ContextLengthExceeded)


def _same_target_is_pointless(error: HeadgateError) -> bool:
    """Quota and overload last longer than a caller's patience here, a silence of minutes will come again."""
    limited = isinstance(error, RateLimited | Overloaded | Unavailable | DeadlineExceeded)
    return limited or is_limited(error) or error.retry_after is not None
