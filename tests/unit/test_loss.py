"""How a loss is shown in a header, a log line or a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.loss import MAX_SHOWN, Loss
from headgate.server.lanes.lane import LossRefused


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("messages[0].content[1].cache_control", "messages[0].content[1].cache_control"),
        ("größe", "größe"),
        ("a\r\nx-forged: 1", "a??x-forged: 1"),
        ("\x1b[2J\u202e\ud800", "?[2J??"),
        ("a" * MAX_SHOWN, "a" * MAX_SHOWN),
        ("a" * (MAX_SHOWN + 1), "a" * (MAX_SHOWN - 3) + "..."),
        ("\n" * 10**6, "?" * (MAX_SHOWN - 3) + "..."),
    ],
)
def test_a_place_is_one_printable_line(path: str, place: str) -> None:
    loss = Loss(path, "why\nnot")
    assert loss.place == place
    assert loss.line == f"{place}: why?not"
    assert loss.path == path


@given(st.text(), st.text())
def test_anything_can_be_shown(path: str, reason: str) -> None:
    shown = Loss(path, reason).line
    assert shown.isprintable()
    assert len(shown) <= 2 * MAX_SHOWN + 2


def test_a_refusal_shows_places_too() -> None:
    refused = LossRefused([Loss("a\nb" * 1000, "gone")] * 30)
    assert refused.message.isprintable()
    assert len(refused.message) < 20 * (MAX_SHOWN + 10) + 100
