"""What is tried next: rounds, pauses, and errors after which trying again is pointless."""

from __future__ import annotations

import random

import pytest

from headgate.core.errors import (
    ConnectFailed,
    ContextLengthExceeded,
    DeadlineExceeded,
    HeadgateError,
    Internal,
    InvalidRequest,
    Overloaded,
    RateLimited,
    StreamBroken,
    Unauthenticated,
    Unavailable,
    UnsupportedParameter,
    UpstreamError,
)
from headgate.policy.limits import Admission
from headgate.routing.execute import Execution, Step
from headgate.routing.health import Breaker, Circuit
from headgate.routing.plan import Plan
from headgate.routing.route import Retry
from headgate.routing.target import Abilities, Target
from tests.unit.targets import BROKEN, Calling, call, in_order, limited, open_circuit, route, target


class Tries:
    """An execution after its first try, with the time that is left said in seconds."""

    def __init__(self, names: str, retry: Retry, seed: int = 1) -> None:
        self.route = route(*names, retry=retry)
        self.call = call()
        self.execution = Execution(self.route, self.call, Plan(self.route.targets), random.Random(seed))
        self.latest = self.execution.first(0.0).target
        assert self.latest is self.route.targets[0]

    def after(self, error: HeadgateError, remaining: float = 100.0) -> Step | None:
        """What follows when the latest try failed with `error`, a pause included."""
        self.call.deadline = remaining
        step = self.execution.after(self.latest, error, 0.0)
        if step is not None:
            self.latest = step.target
            if step.delay:
                assert self.execution.due(step, 0.0) == Step(step.target)
        return step


def test_the_plan_is_gone_through_then_again_from_its_start() -> None:
    tries = Tries("ab", Retry(attempts=5))
    following = [tries.after(BROKEN, 100) for _ in range(5)]
    assert [f.target.name if f else None for f in following] == ["b", "a", "b", "a", None]


def test_another_target_is_tried_at_once_the_same_one_after_a_pause() -> None:
    tries = Tries("ab", Retry(attempts=10, base=0.5, cap=2.0))
    delays = [found.delay for _ in range(9) if (found := tries.after(BROKEN, 100))]
    assert delays[0] == 0
    assert all(0 <= delay <= 2.0 for delay in delays)
    assert any(delay > 0 for delay in delays[1:])


def test_pauses_grow_and_are_capped() -> None:
    longest = []
    for seed in range(300):
        tries = Tries("a", Retry(attempts=8, base=0.25, cap=2.0), seed)
        longest.append([found.delay for _ in range(7) if (found := tries.after(BROKEN, 1e9))])
    by_round = [max(column) for column in zip(*longest, strict=True)]
    assert by_round == pytest.approx([0.25, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0], rel=0.05)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_attempts_count_the_first(number: int) -> None:
    tries = Tries("abcd", Retry(attempts=number))
    made = 1
    while tries.after(BROKEN, 100):
        made += 1
    assert made == number


@pytest.mark.parametrize("error", [InvalidRequest("x"), Unauthenticated("x")])
def test_what_another_try_can_not_change_is_the_answer(error: HeadgateError) -> None:
    assert Tries("ab", Retry(attempts=5)).after(error) is None


REFUSALS = [
    ContextLengthExceeded("x"),
    UnsupportedParameter("x"),
    Internal("x"),
    *(UpstreamError("x", status=status) for status in (400, 401, 403, 404, 413, 422)),
]


@pytest.mark.parametrize("error", REFUSALS)
def test_what_one_upstream_refuses_each_other_one_is_asked_once(error: HeadgateError) -> None:
    assert Tries("a", Retry(attempts=5)).after(error) is None
    tries = Tries("ab", Retry(attempts=5))
    following = tries.after(error)
    assert following is not None
    assert (following.target.name, following.delay) == ("b", 0)
    assert tries.after(error) is None


def test_the_caller_is_told_what_is_wrong_with_the_request_if_anybody_said_it() -> None:
    tries = Tries("abc", Retry(attempts=5))
    refusal, broken = UpstreamError("no tools here", status=400), UpstreamError("x", status=502)
    assert tries.after(refusal) is not None
    assert tries.after(broken) is not None
    assert tries.execution.verdict(broken) is refusal


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("x"),
        Overloaded("x"),
        Unavailable("x"),
        DeadlineExceeded("x"),
        UpstreamError("x", status=429),
        UpstreamError("x", status=503, retry_after=9),
    ],
)
def test_quota_and_silence_move_to_another_target_but_not_to_the_same_again(error: HeadgateError) -> None:
    assert Tries("a", Retry(attempts=5)).after(error, 100) is None
    tries = Tries("ab", Retry(attempts=5))
    following = tries.after(error, 100)
    assert following is not None
    assert (following.target.name, following.delay) == ("b", 0)
    assert tries.after(error, 100) is None


@pytest.mark.parametrize("error", [ConnectFailed("x"), StreamBroken("x"), UpstreamError("x", status=500)])
def test_a_fault_may_be_tried_at_the_same_target(error: HeadgateError) -> None:
    following = Tries("a", Retry(attempts=2)).after(error, 100)
    assert following is not None
    assert following.target.name == "a"


def test_no_pause_longer_than_the_call_has_left() -> None:
    tries = Tries("a", Retry(attempts=5, base=1000.0, cap=1000.0))
    assert tries.after(BROKEN, 0.01) is None
    assert Tries("ab", Retry(attempts=5)).after(BROKEN, 0.0) is None


# Which target, with the health of each of them.


def test_each_target_is_tried_once_before_any_is_tried_again() -> None:
    calling = Calling(in_order("a", "b", "c", retry=Retry(attempts=7, budget=1.0)))
    assert calling.run() == ["a", "b", "c", "a", "b", "c", "a"]


def test_who_is_tried_again_is_the_one_whose_last_try_is_longest_ago() -> None:
    calling = Calling(in_order("a", "b", "c", retry=Retry(attempts=9)))
    refused = {"a": UpstreamError("no", status=403)}
    assert calling.run(refused)[:7] == ["a", "b", "c", "b", "c", "b", "c"]


def test_pauses_double_once_all_have_been_tried_again() -> None:
    longest = [0.0] * 4
    for seed in range(300):
        calling = Calling(in_order("a", "b", retry=Retry(attempts=6, base=1.0, cap=60.0)), seed=seed)
        last = calling.first()
        for number in range(-1, 4):
            before = calling.now
            following = calling.fail(last)
            assert following is not None
            last = following
            if number >= 0:
                longest[number] = max(longest[number], calling.now - before)
    assert longest == pytest.approx([1.0, 1.0, 2.0, 2.0], rel=0.03)


def test_a_target_that_has_become_unavailable_is_passed_over() -> None:
    own = in_order("a", "b", "c", "d")
    calling = Calling(own)
    a, b, c, d = own.targets
    assert calling.first() is a
    b.health.drain()
    c.health.quota.cool(calling.now, limited(60.0), calling.rng)
    assert calling.fail(a) is d


def test_a_target_whose_quota_has_come_back_meanwhile_is_a_fresh_one() -> None:
    own = in_order("a", "b")
    a, b = own.targets
    b.health.quota.until = 101.0
    calling = Calling(own)
    assert calling.first() is a
    calling.now = 102.0
    assert calling.fail(a) is b
    assert calling.waited == 0


def test_a_target_drained_meanwhile_is_not_tried_again() -> None:
    own = in_order("a", retry=Retry(attempts=5))
    calling = Calling(own)
    a = calling.first()
    a.health.drain()
    assert calling.fail(a) is None


def test_a_single_target_whose_circuit_opens_is_tried_again_all_the_same() -> None:
    own = route(target("a", breaker=Breaker(failures=1)), retry=Retry(attempts=3))
    calling = Calling(own)
    assert calling.run() == ["a", "a", "a"]
    assert own.targets[0].health.circuit is Circuit.OPEN


def test_with_every_circuit_open_each_is_tried_after_all() -> None:
    own = in_order("a", "b", "c")
    for each, until in zip(own.targets, (3, 1, 2), strict=True):
        open_circuit(each, 100.0 + until)
    assert Calling(own).run() == ["b", "c", "a"]


def test_an_open_circuit_is_the_last_resort_of_a_call_that_failed_elsewhere() -> None:
    """One target has no quota left, the other was down a second ago: perhaps it is not any more."""
    own = in_order("down", "spent")
    down, spent = own.targets
    open_circuit(down, 104.0)
    calling = Calling(own)
    assert calling.first() is spent
    assert calling.fail(spent, limited(60.0)) is down
    assert calling.waited == 0


def test_a_second_try_where_it_may_work_comes_before_an_open_circuit() -> None:
    own = in_order("down", "well", retry=Retry(attempts=3))
    open_circuit(own.targets[0], 160.0)
    assert Calling(own).run()[:2] == ["well", "well"]


def test_neither_drained_nor_refused_targets_are_a_last_resort() -> None:
    own = in_order("a", "b", "c", retry=Retry(attempts=1))
    a, b, c = own.targets
    for each in (b, c):
        open_circuit(each, 200.0)
    calling = Calling(own)
    calling.first()
    b.health.drain()
    c.health.quota.until = 200.0
    assert calling.fail(a) is None


def test_a_prompt_too_long_for_one_goes_only_to_those_that_hold_more() -> None:
    def holding(name: str, length: int | None, priority: int) -> Target:
        return target(name, priority=priority, abilities=Abilities(context_length=length))

    own = route(
        holding("a", 100, 1),
        holding("b", 50, 2),
        holding("c", 100, 3),
        holding("d", 200, 4),
        holding("e", None, 5),
    )
    too_long = ContextLengthExceeded("too long")
    assert Calling(own).run(dict.fromkeys("abcde", too_long)) == ["a", "d", "e"]
    unknown = route(holding("a", None, 1), holding("b", 50, 2))
    assert Calling(unknown).run(dict.fromkeys("ab", too_long)) == ["a", "b"]


def test_of_two_under_way_the_one_that_failed_counts_not_the_latest() -> None:
    small = target("small", priority=1, abilities=Abilities(context_length=100))
    tiny = target("tiny", priority=2, abilities=Abilities(context_length=10))
    large = target("large", priority=3, abilities=Abilities(context_length=200))
    calling = Calling(route(small, large, tiny))
    assert calling.first() is small
    assert calling.execution.move(calling.now) is tiny
    calling.execution.note(small, ContextLengthExceeded("too long"))
    assert calling.fail(tiny, BROKEN) is large


# What it costs.


def test_second_tries_are_paid_from_the_routes_budget() -> None:
    own = in_order("a", retry=Retry(attempts=2, budget=0.1))
    own.targets[0].health.breaker = Breaker(failures=0)
    tries = [len(Calling(own, seed=seed).run()) for seed in range(1000)]
    assert tries[:10] == [2] * 10, "there is a reserve"
    assert sum(tries) == pytest.approx(1000 + 10 + 100, abs=2)


def test_no_budget_no_second_try_but_other_targets_cost_nothing() -> None:
    own = in_order("a", "b", "c", retry=Retry(attempts=9, budget=0.0))
    for _ in range(30):
        for each in own.targets:
            each.health.reset()
        assert Calling(own).run() == ["a", "b", "c"]


def test_no_further_try_when_the_time_is_up() -> None:
    own = in_order("a", "b")
    calling = Calling(own, call(deadline=100.5))
    a = calling.first()
    calling.now = 100.5
    assert calling.fail(a) is None


def test_attempts_left_out_are_one_for_each_target_that_can_do_it() -> None:
    assert len(Calling(in_order("a")).run()) == 2
    assert len(Calling(in_order(*"abcd")).run()) == 4
    assert len(Calling(in_order(*"abcdefgh")).run()) == 5
    own = in_order(*"abcd")
    for each in own.targets[1:]:
        each.health.drain()
    assert len(Calling(own).run()) == 2


# What the caller is told.


def test_the_last_failure_is_told_where_nobody_refused_the_request() -> None:
    calling = Calling(in_order("a", "b"))
    b = calling.fail(calling.first(), UpstreamError("first", status=500))
    assert b is not None
    last = UpstreamError("last", status=503)
    assert calling.execution.verdict(last) is last


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_refusal_by_either_of_two_under_way_is_told(status: int) -> None:
    own = in_order("a", "b", "c", retry=Retry(attempts=9))
    calling = Calling(own)
    calling.first()
    assert calling.execution.move(calling.now) is own.targets[1]
    refusal = UpstreamError("no such field", status=status)
    calling.execution.note(own.targets[0], refusal)
    assert calling.fail(own.targets[1], BROKEN) is own.targets[2], "others may take it"
    assert calling.fail(own.targets[2], BROKEN) is None, "nobody is asked twice what one has refused"
    assert calling.execution.verdict(BROKEN) is refusal


def test_a_wrong_key_is_not_the_callers_mistake() -> None:
    own = in_order("a", "b")
    calling = Calling(own)
    b = calling.fail(calling.first(), UpstreamError("bad key", status=401))
    assert b is own.targets[1]
    assert calling.execution.verdict(BROKEN) is BROKEN


def test_a_full_queue_sends_the_call_elsewhere() -> None:
    a, b = target("a", priority=1), target("b", priority=2)
    calling = Calling(route(a, b))
    full = Admission("a", 1, 0)
    full.enter(lambda: None)
    assert calling.first() is a
    with pytest.raises(Overloaded) as caught:
        full.enter(lambda: None)
    step = calling.execution.after(a, caught.value, calling.now)
    assert step == Step(b)
