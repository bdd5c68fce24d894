"""Admission: how many calls may run at once, how many may wait, and whose turn it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from headgate.core.errors import Overloaded

_SHARE_OF_FREE = 3
"""Places in the queue that one principal may hold for each one that is free."""


class Ticket:
    """A place in the queue, then a permit. Give it back exactly once with `release`."""

    __slots__ = ("_admission", "_on_turn", "principal", "running")

    def __init__(self, admission: Admission, on_turn: Callable[[], None], principal: str) -> None:
        self._admission = admission
        self._on_turn = on_turn
        self.principal = principal
        self.running = False

    def turn(self) -> None:
        self.running = True
        self._on_turn()

    def release(self) -> None:
        """Give the permit back, or leave the queue if the turn never came."""
        self._admission.leave(self)


class Admission:
    """At most `limit` calls at once and `max_queue` waiting.

    Those who wait take turns by principal, first come, first served within one: a key with a thousand calls
    in the queue does not hold up another one's single call. As soon as a second key has been seen, each of
    them may hold three times as many places as are left free (three quarters alone, three sevenths beside
    one as greedy, and so on): there is room for one that comes next.

    Callbacks in place of futures, because the data path has no task to suspend.
    """

    def __init__(self, name: str, limit: int, max_queue: int) -> None:
        self._name = name
        self._limit = limit
        self._max_queue = max_queue
        self._running = 0
        self._queued = 0
        self._waiting: dict[str, deque[Ticket]] = {}
        """By principal; the first in the dictionary has the next turn."""
        self._first_seen: str | None = None
        self._shared = False
        """Calls of more than one principal have come."""

    @property
    def limit(self) -> int:
        return self._limit

    def resize(self, name: str, limit: int, max_queue: int) -> None:
        """Take new bounds. Who runs or waits over them stays; a higher limit lets the next ones go."""
        self._name = name
        self._limit = limit
        self._max_queue = max_queue
        self._let_go()

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return self._queued

    @property
    def full(self) -> bool:
        """The next call would have to wait."""
        return self._running >= self._limit

    def enter(self, on_turn: Callable[[], None], principal: str = "") -> Ticket:
        """Call `on_turn` when it is this call's turn: at once, or later.

        Raises:
            Overloaded: the queue is full, or holds as many of this principal's calls as it may.
        """
        if self._first_seen is None:
            self._first_seen = principal
        elif principal != self._first_seen:
            self._shared = True
        ticket = Ticket(self, on_turn, principal)
        if self._running < self._limit:
            self._running += 1
            ticket.turn()
            return ticket
        if self._queued >= self._max_queue or self._over_share(principal):
            whose = "its limit" if self._queued >= self._max_queue else "too many of them of one key"
            raise Overloaded(
                f"{self._name} has {self._running} calls running and {self._queued} waiting, {whose};"
                " try again later",
                retry_after=1.0,
            )
        self._queued += 1
        self._waiting.setdefault(principal, deque()).append(ticket)
        return ticket

    def _over_share(self, principal: str) -> bool:
        """Its calls would take a place that is left for others (a dynamic threshold, as in switches)."""
        mine = len(self._waiting.get(principal, ()))
        if not self._shared or not mine:
            return False
        return mine + 1 > _SHARE_OF_FREE * (self._max_queue - self._queued - 1)

    def leave(self, ticket: Ticket) -> None:
        if not ticket.running:
            self._abandon(ticket)
            return
        ticket.running = False
        self._running -= 1
        self._let_go()

    def _let_go(self) -> None:
        while self._queued and self._running < self._limit:
            self._running += 1
            self._next().turn()

    def _abandon(self, ticket: Ticket) -> None:
        queue = self._waiting.get(ticket.principal)
        if queue is None or ticket not in queue:
            return
        queue.remove(ticket)
        self._queued -= 1
        if not queue:
            del self._waiting[ticket.principal]

    def _next(self) -> Ticket:
        principal = next(iter(self._waiting))
        queue = self._waiting.pop(principal)
        ticket = queue.popleft()
        self._queued -= 1
        if queue:
            self._waiting[principal] = queue  # behind the others now
        return ticket
