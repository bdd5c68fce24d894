"""Bodies of too many values are refused before they are decoded; texts are not taken for structure."""

from __future__ import annotations

import json

import pytest

from headgate.core.errors import InvalidRequest
from headgate.dialects.json_bodies import decode_object
from headgate.dialects.json_weight import MAX_SCANNED, MAX_VALUES, check_weight


def of(item: bytes, number: int) -> bytes:
    return b'{"input": [' + b",".join([item] * number) + b"]}"


@pytest.mark.parametrize("item", [b"[]", b"{}", b"0", b'""', b'"\\""', b'"\\\\"', b'{"a":1}', b"[[]]"])
def test_too_many_values(item: bytes) -> None:
    with pytest.raises(InvalidRequest, match="more than 1,000,000 JSON values"):
        check_weight(of(item, MAX_VALUES + 1))
    with pytest.raises(InvalidRequest):
        decode_object(of(item, 3 * MAX_VALUES))


@pytest.mark.parametrize("item", [b"0", b'""', b"123456", b'"[,{"'])
def test_as_many_as_are_taken(item: bytes) -> None:
    body = of(item, MAX_VALUES - 10)
    check_weight(body)
    assert len(decode_object(body)["input"]) == MAX_VALUES - 10


@pytest.mark.parametrize("text", ["a,b,c\n" * 1_000_000, '{"a":["b"]},' * 300_000, '\\",[' * 800_000])
def test_commas_and_brackets_in_texts_do_not_count(text: str) -> None:
    body = json.dumps({"input": [text, "x"]}).encode()
    assert len(body) <= MAX_SCANNED
    check_weight(body)
    assert decode_object(body)["input"] == [text, "x"]


def test_long_plain_text_passes() -> None:
    check_weight(b'{"input": "' + b"word " * 10_000_000 + b'"}')


def test_text_that_is_too_long_to_be_told_apart_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="16 MiB"):
        check_weight(b'{"input": "' + b"1,2," * 5_000_000 + b'"}')


def test_what_is_not_json_is_left_to_the_parser() -> None:
    for body in (b"", b'"' * 100, b'{"open": "', b"\xff" * 2_000_000):
        check_weight(body)
