"""Waiting for a quota: for how long, together with others, and what may have changed in the meantime."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import HeadgateError, Overloaded, RateLimited, Unavailable, UpstreamError
from headgate.routing.execute import Execution, Step
from headgate.routing.plan import plan
from headgate.routing.route import Retry, Route
from headgate.routing.target import Target
from tests.unit.targets import Calling, call, in_order, limited, open_circuit, route, target

NOW = 100.0


def spend(target: Target, seconds: float, message: str = "slow down") -> None:
    target.health.quota.cool(NOW, limited(seconds, message), random.Random(1))


def spent(*seconds: float) -> Route:
    own = in_order(*"abcdef"[: len(seconds)])
    for each, wait in zip(own.targets, seconds, strict=True):
        spend(each, wait)
    return own


def test_a_call_waits_for_the_quota_that_is_back_first() -> None:
    calling = Calling(spent(4.0, 2.0, 3.0))
    step = calling.execution.first(NOW)
    assert step.target.name == "b"
    assert step.queued
    assert 2.0 <= step.delay <= 2.2


def test_a_try_that_is_refused_waits_too_and_the_quota_it_waits_for_is_its_own() -> None:
    calling = Calling(in_order("a"))
    a = calling.first()
    assert calling.fail(a, limited(1.0)) is a
    assert 1.0 <= calling.waited <= 1.1
    assert calling.tried == ["a", "a"]


@pytest.mark.parametrize(
    ("wait", "deadline"), [(5.0, None), (60.0, None), (2.0, NOW + 2.0), (2.0, NOW + 1.0)]
)
def test_too_long_a_wait_is_not_begun(wait: float, deadline: float | None) -> None:
    calling = Calling(spent(wait), call(deadline=deadline))
    with pytest.raises(UpstreamError, match="slow down") as caught:
        calling.execution.first(NOW)
    assert (caught.value.status, caught.value.retry_after) == (429, wait)


def test_a_wait_that_fits_fits_with_its_jitter() -> None:
    """Else luck would decide whether a call is refused."""
    for seed in range(200):
        step = Calling(spent(4.999), seed=seed).execution.first(NOW)
        assert 4.999 <= step.delay <= 5.0
        step = Calling(spent(2.0), call(deadline=NOW + 2.01), seed=seed).execution.first(NOW)
        assert 2.0 <= step.delay <= 2.01


def test_all_of_a_calls_waits_together_have_a_bound() -> None:
    own = in_order("a", retry=Retry(attempts=10, max_wait=5.0))
    calling = Calling(own)
    assert calling.run({"a": limited(1.5)}) == ["a"] * 4
    assert 4.5 <= calling.waited <= 5.0


def test_a_wait_takes_no_attempt_until_it_is_over() -> None:
    own = in_order("a", retry=Retry(attempts=2))
    spend(own.targets[0], 1.0)
    calling = Calling(own)
    a = calling.first()
    assert calling.fail(a, limited(1.0)) is a
    assert calling.tried == ["a", "a"]
    assert calling.fail(a, limited(1.0)) is None


def test_those_who_wait_together_do_not_come_together() -> None:
    """All at once would spend the quota in the moment in which it is back."""
    own = spent(1.0)
    alone = [Calling(own, seed=seed).execution.first(NOW).delay for seed in range(200)]
    assert max(alone) <= 1.1
    for _ in range(100):
        own.wait()
    crowd = [Calling(own, seed=seed).execution.first(NOW).delay for seed in range(200)]
    assert min(crowd) >= 1.0
    assert max(crowd) == pytest.approx(3.0, abs=0.1)
    assert sum(delay > 2.0 for delay in crowd) == pytest.approx(100, abs=25)


# When the wait is over.


def after_waiting(own: Route) -> tuple[Calling, Step]:
    calling = Calling(own)
    step = calling.execution.first(NOW)
    assert step.queued
    calling.now = NOW + step.delay
    return calling, step


def test_a_quota_that_was_spent_again_is_waited_for_again_within_the_same_patience() -> None:
    own = spent(1.0)
    calling, step = after_waiting(own)
    own.targets[0].health.quota.cool(calling.now, limited(2.0), calling.rng)
    again = calling.execution.due(step, calling.now)
    assert again.queued
    calling.now += again.delay
    own.targets[0].health.quota.cool(calling.now, limited(3.0, "still too fast"), calling.rng)
    with pytest.raises(UpstreamError, match="still too fast") as caught:
        calling.execution.due(again, calling.now)
    assert caught.value.retry_after == pytest.approx(3.0)


def test_another_target_that_is_free_by_then_is_taken() -> None:
    own = spent(1.0, 1.5)
    a, b = own.targets
    calling, step = after_waiting(own)
    a.health.quota.cool(calling.now, limited(60.0), calling.rng)
    calling.now = NOW + 2
    assert calling.execution.due(step, calling.now) == Step(b)
    assert a.health.in_flight == 0
    assert calling.fail(b, limited(60.0)) is None


def test_a_target_drained_meanwhile_is_not_asked() -> None:
    own = spent(1.0)
    calling, step = after_waiting(own)
    own.targets[0].health.drain()
    with pytest.raises(Unavailable, match="out of service"):
        calling.execution.due(step, calling.now)


def test_a_circuit_that_opened_meanwhile_is_no_reason_to_give_up() -> None:
    own = spent(1.0)
    calling, step = after_waiting(own)
    open_circuit(own.targets[0], calling.now + 60)
    assert calling.execution.due(step, calling.now) == Step(own.targets[0])


def test_the_refusal_of_the_request_is_told_after_a_wait_too() -> None:
    own = in_order("a", "b", retry=Retry(attempts=3))
    calling = Calling(own)
    refusal = UpstreamError("no such field", status=400)
    b = calling.fail(calling.first(), refusal)
    assert b is own.targets[1]
    assert calling.execution.after(b, limited(), calling.now) is None, "it has quota, as far as is known"
    spend(b, 1.0)
    step = calling.execution.after(b, limited(1.0), calling.now)
    assert step is not None
    b.health.drain()
    with pytest.raises(UpstreamError) as caught:
        calling.execution.due(step, NOW + step.delay)
    assert caught.value is refusal


def test_a_pause_before_a_second_try_ends_at_what_is_best_by_then() -> None:
    own = in_order("a", "b")
    a, b = own.targets
    spend(b, 60.0)
    calling = Calling(own)
    assert calling.first() is a
    step = calling.execution.after(a, Overloaded("x"), calling.now)
    assert step is None
    step = calling.execution.after(a, UpstreamError("x", status=500), calling.now)
    assert step is not None
    assert step.target is a
    a.health.drain()
    b.health.reset()
    assert calling.execution.due(step, calling.now) == Step(b)


def test_who_has_refused_the_call_for_good_is_not_waited_for() -> None:
    own = in_order("a", "b", retry=Retry(attempts=9))
    a, b = own.targets
    calling = Calling(own)
    assert calling.fail(calling.first(), UpstreamError("not yours", status=403)) is b
    spend(a, 1.0)
    assert calling.execution.after(b, Overloaded("full"), NOW) is None


def test_of_quota_and_circuit_the_later_end_counts() -> None:
    own = spent(1.0, 2.0)
    a, b = own.targets
    open_circuit(a, NOW + 4)
    assert plan(own, call(), NOW, random.Random(1)).cooling == [a, b]
    step = Calling(own).execution.first(NOW)
    assert step.target is b


# Places in the queue for a quota.


def test_places_to_wait_are_limited_and_given_back() -> None:
    own = Route("m", (target("a"),), max_waiting=2)
    own.wait()
    own.wait()
    with pytest.raises(Overloaded, match="2 calls wait for a quota of the model 'm', its limit") as caught:
        own.wait()
    assert caught.value.retry_after == 1.0
    own.resume()
    own.wait()
    assert own.pace.waiting == 2


# Whatever happens.

FAILURES: list[HeadgateError] = [
    UpstreamError("x", status=500),
    UpstreamError("x", status=503, retry_after=2.0),
    UpstreamError("x", status=400),
    UpstreamError("x", status=401),
    limited(),
    limited(0.5),
    limited(30.0),
    RateLimited("x"),
    Overloaded("x"),
    Unavailable("x"),
]


@settings(max_examples=150)
@given(st.data(), st.integers(1, 5), st.integers(1, 10), st.integers(0, 2**32))
def test_a_call_ends_within_its_attempts_and_its_patience_and_never_asks_who_may_not_be_asked(
    data: st.DataObject, count: int, attempts: int, seed: int
) -> None:
    own = route(*"abcde"[:count], retry=Retry(attempts=attempts, base=0.1, cap=1.0, max_wait=5.0))
    asked = call(deadline=data.draw(st.none() | st.floats(NOW, NOW + 20)))
    rng = random.Random(seed)
    for each in own.targets:
        if data.draw(st.integers(0, 3)) == 0:
            spend(each, data.draw(st.floats(0.1, 10)))
        if data.draw(st.integers(0, 3)) == 0:
            open_circuit(each, NOW + data.draw(st.floats(0, 10)))
    planned = plan(own, asked, NOW, rng)
    execution, now, tries, waited = Execution(own, asked, planned, rng), NOW, 0, 0.0
    try:
        step: Step | None = execution.first(now)
        while step is not None:
            while step.delay:
                assert step.delay > 0
                now += step.delay
                waited += step.delay if step.queued else 0
                assert asked.deadline is None or now <= asked.deadline + 1e-6
                for each in own.targets:
                    if data.draw(st.integers(0, 9)) == 0:
                        each.health.drained = not each.health.drained
                step = execution.due(step, now)
            tries += 1
            assert not step.target.health.drained
            assert now >= step.target.health.quota.until
            error = data.draw(st.sampled_from(FAILURES))
            step.target.health.failed(step.target.health.begun(now), now, error, rng)
            step = execution.after(step.target, error, now)
    except HeadgateError as error:
        assert error.status in (400, 429, 503)
    assert tries <= attempts
    assert waited <= 5.0 + 1e-6
    assert all(each.health.in_flight == 0 for each in own.targets)
