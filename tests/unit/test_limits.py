"""Admission: permits, the queue, its order and its bounds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.errors import Overloaded
from headgate.policy.limits import Admission, Ticket


class Caller:
    """Somebody who asks for a permit and notes when the turn comes."""

    def __init__(self, admission: Admission) -> None:
        self.turns = 0
        self.ticket: Ticket = admission.enter(self._turn)

    def _turn(self) -> None:
        self.turns += 1

    def leave(self) -> None:
        self.ticket.release()


def test_permits_are_given_at_once_up_to_the_limit() -> None:
    admission = Admission("t", 2, 10)
    first, second, third = Caller(admission), Caller(admission), Caller(admission)
    assert [caller.turns for caller in (first, second, third)] == [1, 1, 0]
    assert (admission.running, admission.waiting) == (2, 1)


def test_the_queue_is_first_come_first_served() -> None:
    admission = Admission("t", 1, 10)
    running, *waiting = [Caller(admission) for _ in range(4)]
    running.leave()
    assert [caller.turns for caller in waiting] == [1, 0, 0]
    waiting[0].leave()
    assert [caller.turns for caller in waiting] == [1, 1, 0]


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    admission = Admission("target", 1, 1)
    running, _waiting = Caller(admission), Caller(admission)
    with pytest.raises(Overloaded, match="target has 1 calls running and 1 waiting") as caught:
        Caller(admission)
    assert caught.value.retry_after == 1.0
    assert caught.value.status == 503
    running.leave()
    Caller(admission)  # there is room in the queue again


def test_no_queue_at_all() -> None:
    admission = Admission("t", 1, 0)
    Caller(admission)
    with pytest.raises(Overloaded):
        Caller(admission)


def test_leaving_the_queue_gives_no_permit_back() -> None:
    admission = Admission("t", 1, 10)
    running, impatient, patient = [Caller(admission) for _ in range(3)]
    impatient.leave()
    assert (admission.running, admission.waiting) == (1, 1)
    running.leave()
    assert (impatient.turns, patient.turns) == (0, 1)


def test_a_second_release_is_harmless() -> None:
    admission = Admission("t", 1, 10)
    first, second, third = [Caller(admission) for _ in range(3)]
    first.leave()
    first.leave()
    assert (second.turns, third.turns) == (1, 0)
    assert admission.running == 1


def test_a_turn_that_is_given_back_at_once_goes_on() -> None:
    """A caller who has left by the time its turn comes must not stop those behind it."""
    admission = Admission("t", 1, 10)
    running = Caller(admission)
    tickets: list[Ticket] = []
    tickets.append(admission.enter(lambda: tickets[0].release()))
    last = Caller(admission)
    running.leave()
    assert last.turns == 1
    assert (admission.running, admission.waiting) == (1, 0)


@given(seed=st.integers(0, 2**32), limit=st.integers(1, 4), queue=st.integers(0, 4))
def test_never_above_the_limit_and_nobody_is_forgotten(seed: int, limit: int, queue: int) -> None:
    rng = random.Random(seed)
    admission = Admission("t", limit, queue)
    callers: list[Caller] = []
    for _ in range(60):
        if callers and rng.random() < 0.5:
            callers.pop(rng.randrange(len(callers))).leave()
        else:
            try:
                callers.append(Caller(admission))
            except Overloaded:
                assert admission.waiting == queue
        running = [caller for caller in callers if caller.turns]
        assert len(running) == admission.running == min(limit, len(callers))
        assert admission.waiting == len(callers) - len(running) <= queue
        assert all(caller.turns <= 1 for caller in callers)
    for caller in callers:
        caller.leave()
    assert (admission.running, admission.waiting) == (0, 0)
