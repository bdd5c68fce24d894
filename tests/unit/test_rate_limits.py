"""What header fields of an answer say of a quota that is used up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.routing.rate_limits import spent_for

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def spent(*fields: tuple[str, str]) -> float | None:
    return spent_for([(name.encode(), value.encode()) for name, value in fields], NOW.timestamp)


def openai(remaining: str, reset: str, kind: str = "requests") -> list[tuple[str, str]]:
    return [(f"x-ratelimit-remaining-{kind}", remaining), (f"x-ratelimit-reset-{kind}", reset)]


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("20ms", 0.02),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1m30.5s", 90.5),
        ("1h", 600.0),
        ("2d", 600.0),
        ("12", 12.0),
        ("0.5", 0.5),
        (" 12 ", 12.0),
        (str(int(NOW.timestamp()) + 30), 30.0),
        ("1e400", 600.0),
    ],
)
def test_waits_in_all_the_forms_that_vendors_use(reset: str, seconds: float) -> None:
    assert spent(*openai("0", reset)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "reset", ["", "soon", "6x", "6m0", "-5", "0", "nan", "T", "20260301T", "2026-03-01T12:00:00é", "0s"]
)
def test_what_is_no_time_to_come_says_nothing(reset: str) -> None:
    assert spent(*openai("0", reset)) is None


def test_moments_in_rfc_3339() -> None:
    later = NOW + timedelta(seconds=45)
    for text in (
        later.strftime("%Y-%m-%dT%H:%M:%SZ"),
        later.astimezone(timezone(timedelta(hours=9))).isoformat(),
        later.replace(tzinfo=None).isoformat(),
    ):
        found = spent(
            ("anthropic-ratelimit-requests-remaining", "0"), ("anthropic-ratelimit-requests-reset", text)
        )
        assert found == pytest.approx(45.0), text


def test_only_a_quota_at_zero_counts_and_of_several_the_longest() -> None:
    assert spent(*openai("1", "30s")) is None
    assert spent(*openai("", "30s")) is None
    assert spent(*openai("0", "30s"), *openai("5", "60s", "tokens")) == 30.0
    assert spent(*openai("0", "30s"), *openai("0", "60s", "tokens")) == 60.0
    assert spent(("ratelimit-remaining", "0"), ("ratelimit-reset", "7")) == 7.0
    assert spent(("ratelimit-remaining", "0")) is None
    assert spent(("x-cache-remaining", "0"), ("x-cache-reset", "7")) is None
    assert spent() is None


@given(value=st.binary(max_size=40))
def test_no_header_field_breaks_it(value: bytes) -> None:
    fields = [(b"x-ratelimit-remaining-requests", b"0"), (b"x-ratelimit-reset-requests", value)]
    seconds = spent_for(fields, NOW.timestamp)
    assert seconds is None or 0 < seconds <= 600


@given(st.datetimes())
def test_no_date_breaks_it(moment: datetime) -> None:
    seconds = spent(*openai("0", moment.isoformat()))
    assert seconds is None or 0 < seconds <= 600
