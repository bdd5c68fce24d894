"""What is tried next: rounds, pauses, and errors after which trying again is pointless."""

from __future__ import annotations

import random

import pytest

from headgate.backends.scripted import ScriptedBackend, ScriptedSettings
from headgate.core.call import Call, Operation
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
from headgate.routing.execute import Execution, Step
from headgate.routing.plan import Plan
from headgate.routing.route import Retry, Route
from headgate.routing.target import Target


def targets(*names: str) -> tuple[Target, ...]:
    backend = ScriptedBackend(ScriptedSettings(backend="scripted"))
    return tuple(Target(name, backend, "scripted") for name in names)


class Tries:
    """An execution after its first try, with the time that is left said in seconds."""

    def __init__(self, names: str, retry: Retry, seed: int = 1) -> None:
        self.route = Route("m", targets(*names), retry)
        self.call = Call("r", "m", Operation.CHAT, "openai_chat", 0.0)
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


BROKEN = StreamBroken("x")


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
