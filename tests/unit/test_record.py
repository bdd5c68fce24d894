"""Records behave as frozen dataclasses do, but for the guard."""

from __future__ import annotations

import dataclasses

import pytest

from headgate.core.events import PartDelta, Stop


def test_records_compare_hash_and_print_by_value() -> None:
    one, same, other = Stop("stop", 0), Stop("stop", 0), Stop("stop", 1)
    assert one == same != other
    assert {one: "found"}[same] == "found"
    assert repr(one) == "Stop(reason='stop', choice=0, sequence=None, native=None)"
    assert dataclasses.replace(one, choice=1) == other


def test_records_hold_their_fields_only() -> None:
    delta = PartDelta(0, "text")
    with pytest.raises(AttributeError):
        delta.note = "a field that it has not"  # type: ignore[attr-defined]
