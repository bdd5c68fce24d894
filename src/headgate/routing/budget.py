"""Bounds on extra work: so many further attempts for each hundred calls, and a reserve to start with."""

from __future__ import annotations


class Budget:
    """Each call pays `share` in; each extra attempt takes one out; at most `reserve` is kept.

    Without it, an upstream that is down gets several times its usual load just then.

    Args:
        share: extra attempts for each call, on average; 0: none at all.
        reserve: extra attempts that may be made at once, when calls have paid for them.
        start: what is there before the first call; all of the reserve when left out.
    """

    __slots__ = ("_left", "_most", "reserve", "share")

    def __init__(self, share: float, reserve: float = 10.0, start: float | None = None) -> None:
        self._most = reserve
        self.share = share
        self.reserve = reserve if share > 0 else 0.0
        self._left = self.reserve if start is None else min(start, self.reserve)

    def adjust(self, share: float) -> None:
        """Go on by another share; what was saved up stays."""
        self.share = share
        self.reserve = self._most if share > 0 else 0.0
        self._left = min(self._left, self.reserve)

    @property
    def left(self) -> float:
        return self._left

    def deposit(self) -> None:
        self._left = min(self.reserve, self._left + self.share)

    def take(self) -> bool:
        """Spend one; False when there is none."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
