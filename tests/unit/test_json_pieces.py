"""Large tables decoded in pieces are what they are decoded at once."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.errors import InvalidData
from headgate.dialects import json_pieces

cells = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
rows = st.lists(st.dictionaries(st.text(), cells) | st.lists(cells))


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_pieces, "LARGE", 1)


@given(rows | st.dictionaries(st.text(), rows | cells), st.sampled_from([None, 2]))
def test_the_same_as_at_once(value: Any, indent: int | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_pieces, "LARGE", 1)
        body = json.dumps(value, indent=indent, ensure_ascii=False).encode()
        assert json_pieces.decode(body) == msgspec.json.decode(body)


@pytest.mark.parametrize(
    "body", [b"[", b'[{"a":1},]', b'{"a":[{"b":}]}', b"nope", b'[{"a":"\\x"}]', b"[1] 2"]
)
def test_what_is_no_json_is_refused_alike(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        json_pieces.decode(body)


def test_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        json_pieces.decode(b'[{"a":"\xff"}]')


def test_too_many_rows_are_refused_before_they_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_pieces, "MAX_ROWS", 3)
    assert json_pieces.decode(b"[{},{}]") == [{}, {}]
    with pytest.raises(InvalidData, match="more than 3 rows"):
        json_pieces.decode(b"[{},{},{}]")
