"""A vendor's 429: how long its account is left alone, and what counts as news."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.errors import RateLimited, UpstreamError
from headgate.routing.quota import Quota, is_limited
from tests.unit.targets import limited


def test_the_vendors_own_word_is_kept_exactly() -> None:
    quota = Quota("q")
    quota.cool(100.0, limited(7.0), random.Random(1))
    assert quota.until == 107.0
    quota.cool(101.0, limited(2.0), random.Random(1))
    assert quota.until == 107.0, "a shorter word does not end the longer one"
    quota.cool(102.0, limited(30.0), random.Random(1))
    assert quota.until == 132.0


def test_a_word_of_a_day_is_taken_for_an_hour() -> None:
    quota = Quota("q")
    quota.cool(0.0, limited(86_400.0), random.Random(1))
    assert quota.until == 3600.0


def test_without_a_word_pauses_double_with_jitter_up_to_a_minute() -> None:
    lengths: list[list[float]] = []
    for seed in range(200):
        quota, now, rng = Quota("q"), 0.0, random.Random(seed)
        lengths.append([])
        for _ in range(9):
            quota.cool(now, limited(), rng)
            lengths[-1].append(quota.until - now)
            now = quota.until
    columns = list(zip(*lengths, strict=True))
    longest = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert [max(column) for column in columns] == pytest.approx(longest, rel=0.02)
    assert [min(column) for column in columns] == pytest.approx([each / 2 for each in longest], rel=0.05)


@pytest.mark.parametrize("word", [0.0, None])
def test_a_wait_of_nothing_is_no_word(word: float | None) -> None:
    quota = Quota("q")
    quota.cool(0.0, limited(word), random.Random(1))
    assert 0.5 <= quota.until <= 1.0


def test_a_burst_that_is_refused_counts_once() -> None:
    """Fifty calls were under way when the quota ran out; that is one event, not fifty."""
    quota, rng = Quota("q"), random.Random(1)
    for number in range(50):
        quota.cool(number / 1000, limited(message=str(number)), rng)
    assert quota.until <= 1.0
    assert quota.refusal is not None
    assert quota.refusal.message == "49", "the latest words are told"
    now = quota.until
    quota.cool(now, limited(), rng)
    assert 1.0 <= quota.until - now <= 2.0


def test_what_was_sent_before_the_pause_does_not_make_the_next_one_short() -> None:
    quota, rng = Quota("q"), random.Random(1)
    for _ in range(4):
        quota.cool(quota.until, limited(), rng)
    assert quota.until - 0 > 4
    quota.granted(quota.until - 1)
    now = quota.until
    quota.cool(now, limited(), rng)
    assert quota.until - now >= 8
    quota.granted(quota.until)
    now = quota.until
    quota.cool(now, limited(), rng)
    assert quota.until - now <= 1


def test_what_is_said_to_be_low_is_kept_apart() -> None:
    quota = Quota("q")
    quota.spent(10.0)
    quota.spent(5.0)
    assert (quota.until, quota.low_until) == (0.0, 10.0)
    quota.cool(1.0, limited(30.0), random.Random(1))
    quota.reset()
    assert (quota.until, quota.low_until, quota.refusal) == (0.0, 0.0, None)
    quota.cool(0.0, limited(), random.Random(1))
    assert quota.until <= 1.0


def test_only_a_targets_429_is_about_a_quota() -> None:
    assert is_limited(limited())
    assert is_limited(RateLimited("x"))
    assert not is_limited(UpstreamError("x", status=503))


@given(
    words=st.lists(st.tuples(st.floats(0, 100), st.none() | st.floats(0, 1e7)), max_size=50),
    seed=st.integers(0, 2**32),
)
def test_a_pause_never_gets_shorter_and_never_longer_than_an_hour(
    words: list[tuple[float, float | None]], seed: int
) -> None:
    quota, now, rng = Quota("q"), 0.0, random.Random(seed)
    for passed, word in words:
        now += passed
        before = quota.until
        quota.cool(now, limited(word), rng)
        assert max(before, now) <= quota.until
        assert quota.until <= now + 3600


def test_the_vendors_words_are_kept_without_the_call_they_were_said_to() -> None:
    """An error that was raised holds the frames it went through, and what they hold: the call, its bytes."""
    quota = Quota("q")
    try:
        try:
            raise ValueError
        except ValueError:
            raise limited(7.0)  # noqa: B904
    except UpstreamError as error:
        quota.cool(0.0, error, random.Random(1))
    assert quota.refusal is not None
    assert quota.refusal.__traceback__ is None
    assert quota.refusal.__context__ is None
