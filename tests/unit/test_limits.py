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

    def __init__(self, admission: Admission, key: str = "") -> None:
        self.turns = 0
        self.key = key
        self.ticket: Ticket = admission.enter(self._turn, key)

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


def served(admission: Admission, running: Caller, waiting: list[Caller]) -> str:
    """The keys in the order in which their calls get their turns, one at a time."""
    turns = ""
    while True:
        running.leave()
        following = [caller for caller in waiting if caller.turns]
        if not following:
            return turns
        (running,) = following
        waiting.remove(running)
        turns += running.key
    return turns


def test_keys_take_turns_however_many_calls_each_has() -> None:
    admission = Admission("t", 1, 100)
    running = Caller(admission, "a")
    waiting = [Caller(admission, key) for key in "aaaaaabbbc"]
    assert served(admission, running, waiting) == "abcababaaa"


def test_within_a_key_the_first_come_is_the_first_served() -> None:
    admission = Admission("t", 1, 100)
    running = Caller(admission, "a")
    first, second, other = Caller(admission, "a"), Caller(admission, "a"), Caller(admission, "b")
    running.leave()
    assert (first.turns, second.turns, other.turns) == (1, 0, 0)
    first.leave()
    assert (second.turns, other.turns) == (0, 1)
    other.leave()
    assert second.turns == 1


def fill(admission: Admission, key: str) -> int:
    """How many calls of `key` can wait."""
    count = 0
    while True:
        try:
            Caller(admission, key)
        except Overloaded:
            return count
        count += 1


def test_a_key_that_is_alone_may_use_the_whole_queue() -> None:
    admission = Admission("t", 1, 8)
    Caller(admission, "a")
    assert fill(admission, "a") == 8


def test_once_there_are_others_no_key_can_shut_them_out() -> None:
    admission = Admission("t", 1, 100)
    Caller(admission, "quiet").leave()
    Caller(admission, "a")
    assert fill(admission, "a") == 75
    assert fill(admission, "b") == 18
    Caller(admission, "quiet")
    assert fill(admission, "c") > 0


def test_a_key_over_its_share_is_told_so() -> None:
    admission = Admission("target", 1, 4)
    Caller(admission, "b").leave()
    Caller(admission, "a")
    assert fill(admission, "a") == 3
    with pytest.raises(
        Overloaded, match=r"target has 1 calls running and 3 waiting, too many of them of one key; try again"
    ):
        Caller(admission, "a")
    Caller(admission, "b")


@pytest.mark.parametrize("places", [1, 2, 3])
def test_a_short_queue_takes_calls_too(places: int) -> None:
    admission = Admission("t", 1, places)
    Caller(admission, "b").leave()
    Caller(admission, "a")
    assert fill(admission, "a") == max(1, places * 3 // 4)
    assert fill(admission, "b") == places - max(1, places * 3 // 4)


def test_a_key_that_has_left_the_queue_holds_no_place_in_it() -> None:
    admission = Admission("t", 1, 4)
    running = Caller(admission, "a")
    gone, last = Caller(admission, "b"), Caller(admission, "c")
    gone.leave()
    running.leave()
    assert last.turns == 1
    assert (admission.running, admission.waiting) == (1, 0)


def test_full_says_whether_the_next_call_would_have_to_wait() -> None:
    admission = Admission("t", 2, 4)
    assert admission.limit == 2
    first = Caller(admission)
    assert not admission.full
    Caller(admission)
    assert admission.full
    first.leave()
    assert not admission.full


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
