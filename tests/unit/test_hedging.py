"""A second attempt beside a slow one: when, where, and how many of them there may be."""

from __future__ import annotations

import random

import pytest

from headgate.routing.execute import Execution
from headgate.routing.plan import plan
from headgate.routing.route import Hedge, Retry, Route
from headgate.routing.target import Target
from tests.unit.targets import BROKEN, Calling, call, open_circuit, target

NOW = 100.0


def hedged(*targets: Target, hedge: Hedge | None = None, retry: Retry | None = None) -> Route:
    return Route("m", targets, retry or Retry(), hedge=hedge or Hedge(after=0.5, budget=1.0))


def three() -> tuple[Target, Target, Target]:
    return target("a", priority=1), target("b", priority=2), target("c", priority=3)


def under_way(own: Route) -> Calling:
    calling = Calling(own)
    calling.first()
    return calling


def test_the_delay_is_what_the_operator_says_or_the_tail_of_what_answers_took() -> None:
    assert under_way(hedged(*three())).execution.hedge_delay() == 0.5
    own = hedged(*three(), hedge=Hedge())
    assert under_way(own).execution.hedge_delay() is None, "nothing is known yet"
    for number in range(100):
        own.pace.tail(False).note(number / 100)
        own.pace.tail(True).note(number / 10)
    assert under_way(own).execution.hedge_delay() == 0.94
    stream = Calling(own, call(stream=True))
    stream.first()
    assert stream.execution.hedge_delay() == 9.4


def test_no_hedge_without_a_wish_for_it_a_second_target_or_a_second_attempt() -> None:
    a, b, _ = three()
    assert under_way(Route("m", (a, b))).execution.hedge_delay() is None
    assert under_way(hedged(a)).execution.hedge_delay() is None
    assert under_way(hedged(a, b, retry=Retry(attempts=1))).execution.hedge_delay() is None


def test_the_next_target_is_asked_and_it_is_an_attempt() -> None:
    a, b, c = three()
    calling = under_way(hedged(a, b, c, retry=Retry(attempts=2)))
    assert calling.execution.hedge(NOW) is b
    assert calling.execution.hedge(NOW) is None
    calling = under_way(hedged(a, b, c))
    assert calling.execution.hedge(NOW) is b
    calling.execution.note(b, BROKEN)
    assert calling.fail(a) is c


def test_a_target_that_is_not_at_ease_is_not_burdened_further() -> None:
    a, b, c = target("a", priority=1), target("b", priority=2, limit=1), target("c", priority=3)
    calling = under_way(hedged(a, b, c))
    assert b.admission is not None
    b.admission.enter(lambda: None)
    assert calling.execution.hedge(NOW) is c

    a, b, c = three()
    calling = under_way(hedged(a, b, c))
    b.health.quota.spent(NOW + 5)
    open_circuit(c, NOW - 1)
    left = calling.route.pace.hedges.left
    assert calling.execution.hedge(NOW) is None, "one is nearly out of quota, the other just coming back"
    assert calling.route.pace.hedges.left == left


def test_being_slow_is_no_reason_to_have_another_model_answer() -> None:
    a, b, _ = three()
    own = Route("m", (a,), hedge=Hedge(after=0.5, budget=1.0), reserves=((b,),))
    calling = under_way(own)
    assert calling.execution.hedge(NOW) is None
    assert calling.execution.move(NOW) is b, "a stream that drips is as good as broken"


def test_hedges_are_bounded_by_the_share_of_calls() -> None:
    own = hedged(*three(), hedge=Hedge(after=0.5, budget=0.05))
    rng, made = random.Random(1), 0
    for number in range(1, 2001):
        execution = Execution(own, call(), plan(own, call(), NOW, rng), rng)
        execution.first(NOW)
        assert execution.hedge_delay() == 0.5
        made += execution.hedge(NOW) is not None
        assert made <= 1 + number * 0.05 + 1e-6
    assert made >= 99


def test_none_at_all_when_the_share_is_nothing() -> None:
    calling = under_way(hedged(*three(), hedge=Hedge(after=0.5, budget=0.0)))
    assert calling.execution.hedge_delay() == 0.5
    assert calling.execution.hedge(NOW) is None


def test_calls_that_can_not_be_hedged_pay_nothing_in() -> None:
    a, *_ = three()
    own = hedged(a, hedge=Hedge(after=0.5, budget=0.5))
    own.pace.hedges.take()
    for _ in range(100):
        assert under_way(own).execution.hedge_delay() is None
    assert own.pace.hedges.left == 0


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_stream_too_slow_moves_on_within_its_attempts(attempts: int) -> None:
    a, b, _ = three()
    calling = under_way(hedged(a, b, retry=Retry(attempts=attempts)))
    assert calling.execution.move(NOW) is (b if attempts == 2 else None)
