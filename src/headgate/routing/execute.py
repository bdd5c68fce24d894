"""What to try next, and when: the tries of one call. Pure: no I/O, and the clock's time comes in."""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import inf

from headgate.core.call import Call
from headgate.core.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    HeadgateError,
    Internal,
    Overloaded,
    RateLimited,
    Unavailable,
    UnsupportedParameter,
    UpstreamError,
)
from headgate.core.record import record
from headgate.routing.health import Circuit
from headgate.routing.plan import Plan, nobody
from headgate.routing.quota import is_limited
from headgate.routing.route import Route
from headgate.routing.target import Target

_SHORTEST_SPREAD = 0.05
_SPACING = 0.02
"""Seconds over which calls that wait for the same quota are spread: at least, and for each of them. All of
them at once would spend it in the moment in which it is back."""
_OF_THE_REQUEST = frozenset({400, 413, 415, 422})
"""Statuses that say what is wrong with the request itself."""


@record(frozen=True, slots=True)
class Step:
    """Try `target` now; or, with a `delay`, ask `due` after so many seconds.

    `queued`: the wait is for a quota, and takes a place.
    """

    target: Target
    delay: float = 0.0
    queued: bool = False


class Execution:
    """The tries of one call, over its plan's targets.

    A failure moves on to the next target that has not been tried: that costs nothing but the try. Second
    tries at the same target wait, with full jitter, and are paid from the route's budget. A spent quota is
    waited for when its end lies near enough. Targets behind an open circuit are the last resort.
    """

    __slots__ = (
        "_call",
        "_failures",
        "_made",
        "_most",
        "_outgrown",
        "_patience",
        "_plan",
        "_refusal",
        "_rng",
        "_route",
        "_second_tries",
    )

    def __init__(self, route: Route, call: Call, plan: Plan, rng: random.Random) -> None:
        self._route = route
        self._call = call
        self._plan = plan
        self._rng = rng
        self._most = route.retry.limit(len(plan.order) + len(plan.cooling) + len(plan.kept_back))
        self._made = 0
        self._second_tries = 0
        self._failures: dict[Target, HeadgateError | None] = {}
        """Those tried, the latest one last, with what became of it; None while it is under way."""
        self._refusal: HeadgateError | None = None
        self._outgrown = 0
        """Longest context for which the request was too long."""
        self._patience: float | None = None
        """Until when quotas are waited for."""

    def first(self, now: float) -> Step:
        """Raises the error to answer with, when there is nothing to try within the call's patience."""
        self._route.pace.retries.deposit()
        if self._plan.order:
            return self._step(self._plan.order[0])
        step = self._when_quota_is_back(now)
        if step is None:
            raise nobody(self._route, self._call, now)
        return step

    def after(self, target: Target, error: HeadgateError, now: float) -> Step | None:
        """The next try after that of `target` failed with `error`; None when `verdict` is the answer."""
        self.note(target, error)
        if not self._may_try or self._remaining(now) <= 0 or not another_may_do(error):
            return None
        fresh = next(self._fresh(now), None)
        if fresh is not None:
            return self._step(fresh)
        return (
            self._again(now)
            or self._last_resort(now)
            or self._when_quota_is_back(now)
            or self._again(now, anyway=True)
        )

    def note(self, target: Target, error: HeadgateError) -> None:
        """`target`'s try failed; nothing needs to follow, as another one is under way."""
        self._failures[target] = error
        if self._refusal is None and error.status in _OF_THE_REQUEST:
            self._refusal = error
        if isinstance(error, ContextLengthExceeded):
            self._outgrown = max(self._outgrown, target.abilities.context_length or 0)

    def due(self, step: Step, now: float) -> Step:
        """What to do when the pause of `step` is over: things may have changed in it.

        Raises the error to answer with, when the target can't be asked any more and no other one can.
        """
        target = step.target
        if target.health.available(now):
            return self._step(target)
        other = next(self._fresh(now), None)
        if other is not None:
            return self._step(other)
        waiting = self._when_quota_is_back(now)
        if waiting is not None:
            return waiting
        if _is_barred(target, now):
            raise self.verdict(nobody(self._route, self._call, now))
        return self._step(target)

    def verdict(self, error: HeadgateError) -> HeadgateError:
        """What the caller is told when the last try failed with `error`.

        The first refusal of the request itself, if there was one: it says what can be mended.
        """
        return self._refusal or error

    # Beside the first.

    def hedge_delay(self) -> float | None:
        """Seconds after which a second attempt should start beside the first; None: never."""
        hedge = self._route.hedge
        if hedge is None or len(self._plan.order) < 2 or not self._may_try:
            return None
        self._route.pace.hedges.deposit()
        return hedge.after if hedge.after is not None else self._route.pace.tail(self._call.stream).p95

    def hedge(self, now: float) -> Target | None:
        """The target of a second attempt that starts now; None when there is none, or no budget for it.

        One of the model's own: being slow is no reason to have another model answer.
        """
        target = self._at_ease(now, own=True)
        if target is None or not self._route.pace.hedges.take():
            return None
        return self._step(target).target

    def move(self, now: float) -> Target | None:
        """The fresh target that an answer too slow moves to."""
        target = self._at_ease(now)
        return None if target is None else self._step(target).target

    def _at_ease(self, now: float, *, own: bool = False) -> Target | None:
        """The best fresh target to which one call more than there need be can be sent."""
        if not self._may_try:
            return None
        for target in self._fresh(now):
            health, admission = target.health, target.admission
            if health.circuit is not Circuit.CLOSED or now < health.quota.low_until:
                continue
            if (admission is None or not admission.full) and (not own or target in self._route.targets):
                return target
        return None

    # Inside.

    @property
    def _may_try(self) -> bool:
        return self._made < self._most

    def _step(self, target: Target) -> Step:
        self._made += 1
        self._failures.pop(target, None)
        self._failures[target] = None
        return Step(target)

    def _remaining(self, now: float) -> float:
        return inf if self._call.deadline is None else self._call.deadline - now

    def _untried(self, among: Iterator[Target]) -> Iterator[Target]:
        """Those of a context that may be long enough, as far as is known by now."""
        for target in among:
            length = target.abilities.context_length
            if target not in self._failures and (length is None or length > self._outgrown):
                yield target

    def _fresh(self, now: float) -> Iterator[Target]:
        """Those that have not been tried and may be, best first."""
        plan = self._plan
        among = (*plan.order, *plan.cooling) if plan.cooling else plan.order
        return self._untried(target for target in among if target.health.available(now))

    def _last_resort(self, now: float) -> Step | None:
        """The best target that only its circuit keeps back."""
        among = (*self._plan.order, *self._plan.kept_back)
        target = next(self._untried(target for target in among if not _is_barred(target, now)), None)
        return None if target is None else self._step(target)

    def _again(self, now: float, *, anyway: bool = False) -> Step | None:
        """A second try, after a pause, at what failed in a way that may pass.

        Args:
            anyway: at a target whose circuit is open, too.
        """
        if self._refusal is not None:
            return None  # somebody knows what is wrong, and it is not the target
        able = [
            target
            for target, error in self._failures.items()
            if error is not None
            and error.retryable
            and not _lasts(error)
            and (target.health.available(now) or (anyway and not _is_barred(target, now)))
        ]
        if not able:
            return None
        retry = self._route.retry
        rounds = self._second_tries // len(able)
        delay = self._rng.uniform(0, min(retry.cap, retry.base * 2**rounds))
        if delay >= self._remaining(now) or not self._route.pace.retries.take():
            return None
        self._second_tries += 1
        return Step(able[0], delay)

    def _when_quota_is_back(self, now: float) -> Step | None:
        """Wait for the target whose quota is back first, when that is soon enough."""
        cooling = [
            target
            for target in (*self._plan.order, *self._plan.cooling)
            if now < target.health.quota.until and not target.health.drained and self._may_pass(target)
        ]
        if not cooling:
            return None
        target = min(cooling, key=_back_at)
        if self._patience is None:
            self._patience = now + self._route.retry.max_wait
        wait = _back_at(target) - now
        longest = min(self._patience - now, self._remaining(now))
        if wait >= longest:
            return None
        spread = max(_SHORTEST_SPREAD, wait / 10, _SPACING * self._route.pace.waiting)
        return Step(target, self._rng.uniform(wait, min(wait + spread, longest)), queued=True)

    def _may_pass(self, target: Target) -> bool:
        """It has not refused the call for good."""
        error = self._failures.get(target)
        return error is None or error.retryable


def another_may_do(error: HeadgateError) -> bool:
    """Another target may succeed: also where this upstream refused the request, others may take it."""
    return error.retryable or isinstance(
        error, UpstreamError | ContextLengthExceeded | UnsupportedParameter | Internal
    )


def _lasts(error: HeadgateError) -> bool:
    """Quota and overload last longer than a caller's patience here, a silence of minutes will come again."""
    limited = isinstance(error, RateLimited | Overloaded | Unavailable | DeadlineExceeded)
    return limited or is_limited(error) or error.retry_after is not None


def _is_barred(target: Target, now: float) -> bool:
    """Not even as a last resort: its operator, or its vendor, says no."""
    return target.health.drained or now < target.health.quota.until


def _back_at(target: Target) -> float:
    return target.health.back_at()
