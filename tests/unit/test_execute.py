"""What is tried next: rounds, pauses, and errors after which trying again is pointless."""

from __future__ import annotations

import random

import pytest

from headgate.backends.scripted import ScriptedBackend, ScriptedSettings
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
    Unavailable,
    UpstreamError,
)
from headgate.routing.execute import Attempts
from headgate.routing.plan import Retry, Target


def plan(*names: str) -> list[Target]:
    backend = ScriptedBackend(ScriptedSettings(backend="scripted"))
    return [Target(name, backend, "scripted") for name in names]


def attempts(targets: list[Target], retry: Retry) -> Attempts:
    made = Attempts(targets, retry, random.Random(1))
    assert made.first() is targets[0]
    return made


BROKEN = StreamBroken("x")


def test_the_plan_is_gone_through_then_again_from_its_start() -> None:
    tries = attempts(plan("a", "b"), Retry(attempts=5))
    following = [tries.after(BROKEN, 100) for _ in range(5)]
    assert [f.target.name if f else None for f in following] == ["b", "a", "b", "a", None]


def test_another_target_is_tried_at_once_the_same_one_after_a_pause() -> None:
    tries = attempts(plan("a", "b"), Retry(attempts=10, base=0.5, cap=2.0))
    delays = [found.delay for _ in range(9) if (found := tries.after(BROKEN, 100))]
    assert delays[0] == 0
    assert all(0 <= delay <= 2.0 for delay in delays)
    assert any(delay > 0 for delay in delays[1:])


def test_pauses_grow_and_are_capped() -> None:
    longest = []
    for seed in range(300):
        tries = Attempts(plan("a"), Retry(attempts=8, base=0.25, cap=2.0), random.Random(seed))
        tries.first()
        longest.append([found.delay for _ in range(7) if (found := tries.after(BROKEN, 1e9))])
    by_round = [max(column) for column in zip(*longest, strict=True)]
    assert by_round == pytest.approx([0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0], rel=0.05)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_attempts_count_the_first(number: int) -> None:
    tries = attempts(plan("a", "b", "c", "d"), Retry(attempts=number))
    made = 1
    while tries.after(BROKEN, 100):
        made += 1
    assert made == number


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("x"),
        ContextLengthExceeded("x"),
        Internal("x"),
        UpstreamError("x", status=400),
        UpstreamError("x", status=401),
        UpstreamError("x", status=404),
        UpstreamError("x", status=422),
    ],
)
def test_what_another_try_can_not_change_is_the_answer(error: HeadgateError) -> None:
    assert attempts(plan("a", "b"), Retry(attempts=5)).after(error, 100) is None


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
    assert attempts(plan("a"), Retry(attempts=5)).after(error, 100) is None
    tries = attempts(plan("a", "b"), Retry(attempts=5))
    following = tries.after(error, 100)
    assert following is not None
    assert (following.target.name, following.delay) == ("b", 0)
    assert tries.after(error, 100) is None


@pytest.mark.parametrize("error", [ConnectFailed("x"), StreamBroken("x"), UpstreamError("x", status=500)])
def test_a_fault_may_be_tried_at_the_same_target(error: HeadgateError) -> None:
    following = attempts(plan("a"), Retry(attempts=2)).after(error, 100)
    assert following is not None
    assert following.target.name == "a"


def test_no_pause_longer_than_the_call_has_left() -> None:
    tries = Attempts(plan("a"), Retry(attempts=5, base=1000.0, cap=1000.0), random.Random(1))
    tries.first()
    assert tries.after(BROKEN, 0.01) is None
    assert attempts(plan("a", "b"), Retry(attempts=5)).after(BROKEN, 0.0) is None
