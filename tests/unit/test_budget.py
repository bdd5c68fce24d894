"""How many extra attempts there may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.routing.budget import Budget
from headgate.routing.route import Hedge, Pace, Retry


def spend(budget: Budget) -> int:
    """How many there are now."""
    taken = 0
    while budget.take():
        taken += 1
    return taken


def test_a_burst_is_bounded_by_the_reserve_and_later_ones_by_the_calls() -> None:
    budget = Budget(0.2, reserve=10)
    assert spend(budget) == 10
    for _ in range(24):
        budget.deposit()
    assert spend(budget) == 4
    for _ in range(10_000):
        budget.deposit()
    assert budget.left == 10
    assert spend(budget) == 10


@pytest.mark.parametrize("start", [None, 5.0])
def test_a_share_of_nothing_is_nothing_from_the_first_call_on(start: float | None) -> None:
    budget = Budget(0.0, start=start)
    budget.deposit()
    assert not budget.take()


def test_what_is_there_at_the_start_can_be_less_than_the_reserve() -> None:
    budget = Budget(0.05, reserve=10, start=1)
    assert spend(budget) == 1
    assert Budget(0.05, reserve=10, start=20).left == 10


def test_hedges_stay_within_their_share_from_the_start_on_but_for_one() -> None:
    pace = Pace(Retry(), Hedge(budget=0.05))
    taken = 0
    for calls in range(1, 2000):
        pace.hedges.deposit()
        taken += pace.hedges.take()
        assert taken <= 1 + calls * 0.05 + 1e-6
    assert taken >= 99
    assert not Pace(Retry(), None).hedges.take()


@given(
    share=st.floats(0, 1),
    steps=st.lists(st.booleans(), max_size=300),
)
def test_never_more_than_the_calls_have_paid_for(share: float, steps: list[bool]) -> None:
    budget = Budget(share, reserve=3)
    deposits = taken = 0
    for takes in steps:
        if takes:
            taken += budget.take()
        else:
            budget.deposit()
            deposits += 1
        assert 0 <= budget.left <= 3
        assert taken <= 3 + deposits * share + 1e-6
