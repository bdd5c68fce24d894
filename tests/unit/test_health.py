"""A target's circuit, its slow start, its drain, its pace: by an injected clock."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.errors import (
    Cancelled,
    ConnectFailed,
    ContextLengthExceeded,
    DeadlineExceeded,
    HeadgateError,
    Internal,
    InvalidRequest,
    Overloaded,
    StreamBroken,
    Unavailable,
    UpstreamError,
)
from headgate.routing.health import Breaker, Circuit, Health, blames_target
from headgate.routing.quota import Quota
from tests.unit.targets import BROKEN, limited

RNG = random.Random(1)


class Run:
    """A target's health with a clock."""

    def __init__(self, breaker: Breaker | None = None, quota: Quota | None = None) -> None:
        self.health = Health(breaker or Breaker(), quota or Quota("q"))
        self.now = 1000.0

    def send(self) -> float:
        return self.health.begun(self.now)

    def succeed(self, sent: float | None = None) -> None:
        self.health.succeeded(self.send() if sent is None else sent, self.now)

    def fail(self, sent: float | None = None, error: HeadgateError = BROKEN) -> None:
        self.health.failed(self.send() if sent is None else sent, self.now, error, RNG)

    def open(self) -> Run:
        for _ in range(self.health.breaker.failures):
            self.fail()
        assert self.health.circuit is Circuit.OPEN
        return self

    @property
    def available(self) -> bool:
        available = self.health.available(self.now)
        assert (self.health.obstacle(self.now) is None) == available
        return available


# What opens a circuit.


def test_failures_in_a_row_open_it() -> None:
    run = Run(Breaker(failures=3, cooldown=5))
    run.fail()
    run.fail()
    run.succeed()
    run.fail()
    run.fail()
    assert run.available
    run.fail()
    assert not run.available
    assert run.health.opened_until == run.now + 5
    assert run.health.obstacle(run.now) == "its circuit is open for another 5.0 s; last failure: it broke"


def test_a_rate_of_failures_opens_it_once_there_are_enough_attempts() -> None:
    run = Run(Breaker(failures=5, rate=0.5))
    for _ in range(9):
        run.fail()
        run.succeed()
    run.fail()
    assert run.available, "19 attempts are too few for a rate"
    run.succeed()
    assert run.available, "what answers does not open it"
    run.fail()
    assert not run.available


def test_a_rate_looks_at_the_latest_attempts_only() -> None:
    run = Run(Breaker(failures=5, rate=0.5))
    for _ in range(3):
        run.fail()
    for _ in range(1000):
        run.succeed()
    for _ in range(4):
        run.fail()
    assert run.available


def test_a_breaker_of_no_failures_never_opens() -> None:
    run = Run(Breaker(failures=0))
    for _ in range(100):
        run.fail(error=UpstreamError("x", status=503, retry_after=60))
    assert run.available


def test_the_targets_own_word_opens_it_at_once() -> None:
    run = Run()
    run.fail(error=UpstreamError("back in a minute", status=503, retry_after=61))
    assert run.health.opened_until == run.now + 61
    far = Run()
    far.fail(error=UpstreamError("x", status=503, retry_after=1e9))
    assert far.health.opened_until == far.now + 600
    none = Run()
    none.fail(error=UpstreamError("x", status=503, retry_after=0))
    assert none.available, "`Retry-After: 0` asks for no pause"


TARGETS_FAULT = [
    *(UpstreamError("x", status=status) for status in (401, 408, 500, 502, 503, 529)),
    *(ConnectFailed("x"), StreamBroken("x"), Unavailable("x"), Internal("x")),
    StreamBroken("x", code="upstream_event_too_large"),
    *(
        DeadlineExceeded("x", code=code)
        for code in ("connect_timeout", "first_event_timeout", "idle_timeout")
    ),
]
NOT_THE_TARGETS_FAULT = [
    *(UpstreamError("x", status=status) for status in (400, 403, 404, 409, 413, 422)),
    *(InvalidRequest("x"), ContextLengthExceeded("x"), Overloaded("x"), Cancelled("x")),
    *(Internal("x", code="model_error"), DeadlineExceeded("x", code="total_timeout")),
]


@pytest.mark.parametrize("error", TARGETS_FAULT)
def test_what_is_the_targets_fault(error: HeadgateError) -> None:
    assert blames_target(error)
    run = Run(Breaker(failures=1))
    run.fail(error=error)
    assert not run.available


@pytest.mark.parametrize("error", NOT_THE_TARGETS_FAULT)
def test_what_is_not(error: HeadgateError) -> None:
    assert not blames_target(error)
    run = Run(Breaker(failures=1))
    for _ in range(30):
        run.fail(error=error)
    assert run.available
    assert run.health.in_flight == 0


def test_a_spent_quota_is_no_fault() -> None:
    run = Run(Breaker(failures=1))
    run.fail(error=limited(9.0))
    assert run.health.circuit is Circuit.CLOSED
    assert not run.available
    assert run.health.obstacle(run.now) == "its quota is spent for another 9.0 s"
    run.now += 9
    assert run.available


def test_targets_with_one_quota_cool_together_but_break_apart() -> None:
    quota = Quota("q")
    one, other = Run(quota=quota), Run(quota=quota)
    one.open()
    assert other.available
    other.fail(error=limited(9.0))
    one.now = other.now = one.now + 6
    assert not one.available
    assert one.health.back_at() == 1009.0


def test_a_call_that_is_served_makes_the_next_pause_short_again() -> None:
    run = Run()
    for _ in range(5):
        run.fail(error=limited())
        run.now = run.health.quota.until
    run.succeed()
    run.fail(error=limited())
    assert run.health.quota.until <= run.now + 1


# Half open.


def test_when_the_cooldown_is_over_one_call_finds_out() -> None:
    run = Run(Breaker(cooldown=5)).open()
    run.now += 4.9
    assert not run.available
    run.now += 0.1
    assert run.available
    probe = run.send()
    assert run.health.circuit is Circuit.HALF_OPEN
    assert not run.available
    assert "a probe is under way; last failure: it broke" in (run.health.obstacle(run.now) or "")
    run.succeed(probe)
    assert run.health.circuit is Circuit.CLOSED
    assert run.available
    assert run.health.reason is None


def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_a_limit() -> None:
    run = Run(Breaker(cooldown=5, longest=60)).open()
    lengths = []
    for _ in range(6):
        lengths.append(run.health.opened_until - run.now)
        run.now = run.health.opened_until
        run.fail()
    assert lengths == [5, 10, 20, 40, 60, 60]


def test_the_first_event_of_a_stream_is_proof_enough() -> None:
    """A stream of ten minutes must not keep everybody else away for ten minutes."""
    run = Run().open()
    run.now += 5
    probe = run.send()
    run.now += 0.2
    run.health.answered(probe, run.now, stream=True)
    assert run.available
    assert run.health.circuit is Circuit.CLOSED
    run.fail(probe)
    assert run.available, "that it broke later is one failure, as of any other call"
    for _ in range(run.health.breaker.failures - 1):
        assert run.available
        run.fail()
    assert not run.available


def test_a_probe_that_says_nothing_makes_room_for_the_next() -> None:
    run = Run().open()
    run.now += 5
    run.health.dropped(run.send())
    assert run.available
    run.fail(error=limited(1.0))
    assert not run.available
    run.now += 1
    assert run.available
    run.fail(error=InvalidRequest("ours"))
    assert run.available
    assert run.health.circuit is Circuit.HALF_OPEN


def test_a_refusal_of_the_request_shows_that_the_target_is_alive() -> None:
    for error in (UpstreamError("x", status=400), ContextLengthExceeded("x")):
        run = Run().open()
        run.now += 5
        run.fail(error=error)
        assert run.health.circuit is Circuit.CLOSED


# Old news: what was sent before the circuit opened or closed.


def old_calls(run: Run, count: int = 3) -> list[float]:
    return [run.send() for _ in range(count)]


def test_older_calls_that_end_do_not_end_the_probe() -> None:
    run = Run()
    broken, refused, left = old_calls(run)
    spent = run.send()
    run.open()
    run.now += 5
    probe = run.send()
    run.fail(broken)
    run.fail(refused, UpstreamError("x", status=400))
    run.health.dropped(left)
    run.fail(spent, limited(1.0))
    run.now += 1
    assert not run.available, "the probe is under way still"
    assert run.health.circuit is Circuit.HALF_OPEN
    run.fail(probe)
    assert run.health.opened_until == run.now + 10


def test_an_older_answer_does_not_close_the_circuit() -> None:
    run = Run()
    stream, plain = old_calls(run, 2)
    run.open()
    run.now += 1
    run.succeed(stream)
    run.health.answered(plain, run.now, stream=False)
    run.succeed(plain)
    assert run.health.circuit is Circuit.OPEN
    assert run.health.in_flight == 0


def test_older_failures_do_not_open_a_circuit_that_has_closed() -> None:
    run = Run(Breaker(failures=3))
    old = old_calls(run, 10)
    run.open()
    run.now += 5
    run.succeed()
    for each in old:
        run.fail(each)
    assert run.available
    assert run.health.in_flight == 0


def test_a_dead_target_is_not_left_alone_longer_because_many_calls_were_under_way() -> None:
    run = Run(Breaker(failures=5, cooldown=5))
    for each in old_calls(run, 100):
        run.fail(each)
        run.now += 0.1
    assert run.health.opened_until == pytest.approx(1000.0 + 0.4 + 5)


def test_a_call_sent_all_the_same_can_close_it_but_not_open_it_for_longer() -> None:
    """With every circuit open, calls are sent to them after all."""
    run = Run().open()
    until = run.health.opened_until
    run.now += 1
    run.fail()
    assert run.health.opened_until == until
    early = run.send()
    run.now = until
    probe = run.send()
    run.succeed(early)
    assert run.available
    run.fail(probe)
    assert run.available


def test_calls_of_the_same_moment_are_told_apart() -> None:
    run = Run().open()
    run.now += 5
    probe, other = run.send(), run.send()
    assert probe < other
    run.health.dropped(other)
    assert not run.available
    run.succeed(probe)
    assert run.available


def test_what_was_sent_before_the_target_recovered_is_old() -> None:
    run = Run(Breaker(failures=1)).open()
    early = run.send()
    run.now += 5
    run.succeed()
    run.fail(early)
    assert run.available


# Coming back.


def test_a_target_that_is_back_gets_its_share_little_by_little() -> None:
    run = Run(Breaker(slow_start=10)).open()
    assert run.health.share(run.now) == 1.0
    run.now += 5
    run.succeed()
    shares = [run.health.share(run.now + seconds) for seconds in (-1, 0, 0.5, 2, 5, 9.9, 10, 11, 1e6)]
    assert shares == pytest.approx([0.1, 0.1, 0.1, 0.2, 0.5, 0.99, 1, 1, 1])
    assert run.health.share(run.now + 5) == 0.5, "asking changes nothing"


def test_a_target_that_wavers_is_left_alone_longer_each_time() -> None:
    run = Run(Breaker(failures=2, cooldown=5, slow_start=10))
    lengths = []
    for _ in range(4):
        run.open()
        lengths.append(run.health.opened_until - run.now)
        run.now = run.health.opened_until
        run.succeed()
        run.now += 9
    assert lengths == [5, 10, 20, 40]
    run.now += 2
    run.open()
    assert run.health.opened_until == run.now + 5, "it was well for all of its slow start"


# The operator, and our own probes.


def test_drained_is_drained_whatever_happens() -> None:
    run = Run()
    sent = run.send()
    run.health.drain()
    run.succeed(sent)
    assert not run.available
    assert run.health.obstacle(run.now) == "drained by the operator"
    run.health.enable()
    assert run.available


def test_a_drained_target_keeps_its_circuit() -> None:
    run = Run().open()
    run.health.drain()
    run.now += 5
    assert not run.available
    run.health.enable()
    assert run.available
    run.fail()
    assert run.health.opened_until == run.now + 10


def test_reset_forgets_and_what_was_under_way_does_not_count() -> None:
    run = Run(Breaker(failures=2))
    old = old_calls(run, 5)
    run.open()
    run.now += 5
    probe = run.send()
    run.fail(error=limited(100.0))
    run.health.drain()
    run.health.reset()
    assert not run.available, "what the operator drained stays so until he enables it"
    run.health.enable()
    assert run.available
    assert run.health.share(run.now) == 1.0
    assert run.health.in_flight == 6
    for each in [*old, probe]:
        run.fail(each)
    assert run.available
    assert run.health.in_flight == 0
    run.fail()
    run.fail()
    assert not run.available


def test_probes_of_ours_count_as_calls_do_and_let_one_in_early() -> None:
    run = Run(Breaker(failures=2, cooldown=30))
    run.health.trip(run.now, "no connection")
    assert run.available
    run.health.trip(run.now, "no connection")
    assert not run.available
    assert run.health.in_flight == 0
    run.now += 1
    run.health.trip(run.now, "no connection")
    assert run.health.opened_until == 1030.0, "it is open already"
    run.health.revive(run.now)
    assert run.available
    run.health.trip(run.now, "gone again")
    assert run.health.opened_until == run.now + 60
    assert run.health.reason == "gone again"
    run.now += 61
    late = run.health.opened_until
    run.health.revive(run.now)
    assert run.health.opened_until == late, "the time that has passed does not come back"
    probe = run.send()
    run.health.trip(run.now, "gone again")
    run.succeed(probe)
    assert run.available, "a call is a better witness"


# Pace.


def test_streams_and_plain_answers_have_a_pace_each() -> None:
    run = Run()
    stream, plain = run.send(), run.send()
    run.now += 0.3
    run.health.answered(stream, run.now, stream=True)
    run.now += 9.7
    run.health.answered(plain, run.now, stream=False)
    assert run.health.pace(True).seconds == pytest.approx(0.3)
    assert run.health.pace(False).seconds == pytest.approx(10.0)
    run.health.reset()
    assert run.health.pace(True).seconds is None


def test_silence_does_not_look_fast() -> None:
    """A target that always loses to its hedge, or always times out, would keep the pace of its best days."""
    run = Run()
    sent = run.send()
    run.now += 0.2
    run.health.answered(sent, run.now, stream=True)
    for _ in range(20):
        sent = run.send()
        run.now += 3
        run.health.unanswered(sent, run.now, stream=True)
        run.health.dropped(sent)
    pace = run.health.pace(True).seconds
    assert pace is not None
    assert pace > 2.5
    sent = run.send()
    run.now += 0.01
    run.health.unanswered(sent, run.now, stream=True)
    assert run.health.pace(True).seconds == pace, "a caller who left early says nothing"


@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_moments_are_strictly_increasing_whatever_the_clock_says(times: list[float]) -> None:
    health = Health()
    moments = [health.begun(now) for now in times]
    assert all(earlier < later for earlier, later in pairwise(moments))
    assert health.in_flight == len(times)
