"""An account's share of a model at its vendor, by the vendor's own words. No clock: times come in."""

from __future__ import annotations

import random
from dataclasses import dataclass

from headgate.core.errors import HeadgateError, RateLimited, UpstreamError

_FIRST_COOLDOWN = 1.0
_LONGEST_COOLDOWN = 60.0
_LONGEST_WAIT = 3600.0
"""Seconds for which a vendor's word is taken. Who says a day, perhaps by mistake, is asked each hour."""
_MOST_DOUBLINGS = 16


@dataclass(slots=True, eq=False)
class Quota:
    """Who is over it waits, whichever of its targets asks. Times are seconds of `time.monotonic`."""

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
        self.refusal = error.with_traceback(None)  # whose frames hold the call, its bytes and all
        error.__context__ = error.__cause__ = None
        wait = error.retry_after
        if not wait:
            if now < self.until:
                return  # sent before the one that was refused first, and no news after it
            longest = min(_LONGEST_COOLDOWN, _FIRST_COOLDOWN * 2**self._refused)
            wait = rng.uniform(longest / 2, longest)
            self._refused = min(self._refused + 1, _MOST_DOUBLINGS)
        self.until = max(self.until, now + min(wait, _LONGEST_WAIT))

    def spent(self, until: float) -> None:
        """The vendor says that this was the last call before `until`.

        It means the time until all of it is back. Some may be there earlier: nobody is refused for it.
        """
        self.low_until = max(self.low_until, until)

    def granted(self, sent: float) -> None:
        """A call that was sent at `sent` was served: the next pause is a short one again."""
        if self._refused and sent >= self.until:
            self._refused = 0

    def reset(self) -> None:
        self.until = self.low_until = 0.0
        self.refusal = None
        self._refused = 0


def is_limited(error: HeadgateError) -> bool:
    """The target's quota is used up: it is well, and will answer when the wait is over."""
    return isinstance(error, UpstreamError | RateLimited) and error.status == 429
