"""Admission under callers of several keys who come, leave and give up in any order."""

from __future__ import annotations

from collections import defaultdict

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from typing_extensions import override

from headgate.core.errors import Overloaded
from headgate.policy.limits import Admission, Ticket

KEYS = ["a", "b", "c", "d"]


class Visitor:
    """A call that asks for a permit.

    Args:
        brief: it leaves in the moment in which its turn comes, as one whose caller is gone by then.
    """

    def __init__(self, machine: AdmissionMachine, key: str, *, brief: bool) -> None:
        self.machine = machine
        self.key = key
        self.brief = brief
        self.turns = 0
        self.over = False
        self.ticket: Ticket | None = None

    def on_turn(self) -> None:
        self.turns += 1
        assert not self.over, "a turn for somebody who has left"
        self.machine.granted(self)
        if self.brief and self.ticket is not None:
            self.over = True
            self.ticket.release()


class AdmissionMachine(RuleBasedStateMachine):
    """Beside the admission, its queue as a plain list for each key."""

    visitors: Bundle[Visitor] = Bundle("visitors")

    @initialize(limit=st.integers(1, 3), places=st.integers(0, 8))
    def build(self, limit: int, places: int) -> None:
        self.limit, self.places = limit, places
        self.admission = Admission("t", limit, places)
        self.running: set[Visitor] = set()
        self.queues: dict[str, list[Visitor]] = defaultdict(list)
        self.turns_since: dict[str, dict[str, int]] = {}
        """For each key that waits: how many turns each other key has had since its own last one."""
        self.seen: set[str] = set()

    @property
    def waiting(self) -> int:
        return sum(map(len, self.queues.values()))

    def granted(self, visitor: Visitor) -> None:
        queue = self.queues[visitor.key]
        if visitor in queue:
            assert queue[0] is visitor, "somebody else of this key came first"
            queue.pop(0)
            for key, turns in self.turns_since.items():
                if key != visitor.key:
                    turns[visitor.key] = turns.get(visitor.key, 0) + 1
                    assert turns[visitor.key] == 1, f"{visitor.key} had two turns while {key} waited"
            self._start_waiting(visitor.key)
        if not visitor.brief or visitor.ticket is None:
            self.running.add(visitor)

    def _start_waiting(self, key: str) -> None:
        self.turns_since.pop(key, None)
        if self.queues[key]:
            self.turns_since[key] = {}

    @rule(target=visitors, key=st.sampled_from(KEYS), brief=st.booleans())
    def enter(self, key: str, brief: bool) -> MultipleResults[Visitor] | Visitor:
        visitor = Visitor(self, key, brief=brief)
        at_once = len(self.running) < self.limit
        mine, free = len(self.queues[key]), self.places - self.waiting
        self.seen.add(key)
        try:
            visitor.ticket = self.admission.enter(visitor.on_turn, key)
        except Overloaded:
            assert not at_once
            assert free == 0 or (len(self.seen) > 1 and 0 < mine > 3 * (free - 1) - 1)
            return multiple()
        assert visitor.turns == at_once
        if not at_once:
            assert free > 0
            self.queues[key].append(visitor)
            if mine == 0:
                self._start_waiting(key)
        return visitor

    @rule(visitor=consumes(visitors))
    def leave(self, visitor: Visitor) -> None:
        assert visitor.ticket is not None
        if not visitor.over:
            visitor.over = True
            self.running.discard(visitor)
            if visitor in self.queues[visitor.key]:
                self.queues[visitor.key].remove(visitor)
                if not self.queues[visitor.key]:
                    self.turns_since.pop(visitor.key, None)
        visitor.ticket.release()

    @rule(visitor=visitors)
    def leave_twice(self, visitor: Visitor) -> None:
        if visitor.over:
            assert visitor.ticket is not None
            visitor.ticket.release()

    @invariant()
    def counts_agree(self) -> None:
        assert self.admission.running == len(self.running) <= self.limit
        assert self.admission.waiting == self.waiting <= self.places
        assert self.admission.full == (len(self.running) == self.limit)

    @invariant()
    def nobody_waits_while_there_is_room(self) -> None:
        assert not self.waiting or len(self.running) == self.limit

    @invariant()
    def a_turn_comes_once(self) -> None:
        assert all(visitor.turns == 1 for visitor in self.running)
        assert all(visitor.turns == 0 for queue in self.queues.values() for visitor in queue)

    @override
    def teardown(self) -> None:
        """Everybody gets their turn in the end, and nothing is left behind."""
        if not hasattr(self, "admission"):
            return
        while self.running:
            visitor = self.running.pop()
            visitor.over = True
            assert visitor.ticket is not None
            visitor.ticket.release()
        assert (self.admission.running, self.admission.waiting, self.waiting) == (0, 0, 0)


TestAdmission = AdmissionMachine.TestCase
TestAdmission.settings = settings(max_examples=80, stateful_step_count=40)
