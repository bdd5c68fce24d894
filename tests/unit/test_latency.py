"""Averages and tails of what answers took."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.routing.latency import MovingAverage, TailLatency

SECONDS = st.floats(0, 1000)


def test_an_average_follows_the_latest_times() -> None:
    average = MovingAverage()
    assert average.seconds is None
    average.note(1.0)
    assert average.seconds == 1.0
    average.note(2.0)
    assert average.seconds == pytest.approx(1.2)
    for _ in range(40):
        average.note(5.0)
    assert average.seconds == pytest.approx(5.0, rel=0.01)


def test_an_answer_that_nobody_waited_for_only_ever_makes_it_slower() -> None:
    average = MovingAverage()
    average.at_least(9.0)
    assert average.seconds is None, "how long it would have taken is not known"
    average.note(1.0)
    average.at_least(0.5)
    assert average.seconds == 1.0
    average.at_least(2.0)
    assert average.seconds == pytest.approx(1.2)


@given(st.lists(SECONDS, min_size=1, max_size=100))
def test_an_average_stays_between_the_fastest_and_the_slowest(times: list[float]) -> None:
    average = MovingAverage()
    for seconds in times:
        average.note(seconds)
    assert average.seconds is not None
    assert min(times) - 1e-6 <= average.seconds <= max(times) + 1e-6


def test_a_few_answers_say_nothing_about_the_tail() -> None:
    tail = TailLatency()
    for number in range(19):
        tail.note(float(number))
        assert tail.p95 is None
    tail.note(19.0)
    assert tail.p95 == 18.0, "one in twenty is slower"


def test_the_tail_is_that_of_the_latest_answers() -> None:
    tail = TailLatency()
    rng = random.Random(3)
    for _ in range(5000):
        tail.note(rng.uniform(0, 1))
    assert tail.p95 == pytest.approx(0.95, abs=0.05)
    for _ in range(256 + 16):
        tail.note(rng.uniform(10, 20))
    assert tail.p95 == pytest.approx(19.5, abs=0.5)


@given(st.lists(SECONDS, min_size=20, max_size=600))
def test_about_one_in_twenty_is_slower_than_the_tail(times: list[float]) -> None:
    tail = TailLatency()
    for seconds in times:
        tail.note(seconds)
    kept = times[-256:]
    assert tail.p95 in kept
    assert sum(seconds > tail.p95 for seconds in kept) <= len(kept) / 20


def test_one_slow_answer_does_not_move_it_at_once() -> None:
    """Taken anew only now and then: a sort for each call would cost more than the plan."""
    tail = TailLatency()
    for _ in range(100):
        tail.note(1.0)
    assert tail.p95 == 1.0
    for _ in range(15):
        tail.note(50.0)
    assert tail.p95 == 1.0
    tail.note(50.0)
    assert tail.p95 == 50.0
