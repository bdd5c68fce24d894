"""Admission: how many calls may run at once, and how many may wait for their turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from headgate.core.errors import Overloaded


class Ticket:
    """A place in the queue, then a permit. Give it back exactly once with `release`."""

    __slots__ = ("_admission", "_on_turn", "running")

    def __init__(self, admission: Admission, on_turn: Callable[[], None]) -> None:
        self._admission = admission
        self._on_turn = on_turn
        self.running = False

    def turn(self) -> None:
        self.running = True
        self._on_turn()

    def release(self) -> None:
        """Give the permit back, or leave the queue if the turn never came."""
        self._admission.leave(self)


class Admission:
    """At most `limit` calls at once and `max_queue` waiting, first come, first served.

    Callbacks in place of futures, because the data path has no task to suspend.
    """

    def __init__(self, name: str, limit: int, max_queue: int) -> None:
        self._name = name
        self._limit = limit
        self._max_queue = max_queue
        self._running = 0
        self._waiting: deque[Ticket] = deque()

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def enter(self, on_turn: Callable[[], None]) -> Ticket:
        """Call `on_turn` when it is this call's turn: at once, or later.

        Raises:
            Overloaded: the queue is full.
        """
        ticket = Ticket(self, on_turn)
        if self._running < self._limit:
            self._running += 1
            ticket.turn()
        elif len(self._waiting) < self._max_queue:
            self._waiting.append(ticket)
        else:
            raise Overloaded(
                f"{self._name} has {self._running} calls running and {len(self._waiting)} waiting, its limit;"
                " try again later",
                retry_after=1.0,
            )
        return ticket

    def leave(self, ticket: Ticket) -> None:
        if not ticket.running:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            return
        ticket.running = False
        self._running -= 1
        while self._waiting and self._running < self._limit:
            self._running += 1
            self._waiting.popleft().turn()
