"""Opaque data keeps its origin through a caller of another dialect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.dialects.sealed import seal, unseal


@given(st.sampled_from(["anthropic", "gemini", "openai_responses"]), st.text())
def test_what_was_sealed_comes_out_as_it_was(origin: str, data: str) -> None:
    assert unseal(seal(origin, data)) == (origin, data)


@pytest.mark.parametrize("text", ["", "EqQBCkYIBxgC", "hgs1.", "hgs1.x", "hgs1..data", "hgs2.gemini.x"])
def test_what_is_not_sealed_is_left_alone(text: str) -> None:
    assert unseal(text) is None
