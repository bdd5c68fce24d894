"""The list of models and the counter's answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import MessageTokensCount, ModelInfo
from pydantic import TypeAdapter

from headgate.core.errors import StreamBroken
from headgate.dialects.anthropic import ANTHROPIC_COUNT, ModelEntry, encode_models

MODELS = [ModelEntry(f"m{number}", 1_700_000_000 * (number % 2), f"Model {number}") for number in range(5)]


def page(**cursor: Any) -> tuple[list[str], bool]:
    body = json.loads(encode_models(MODELS, **cursor))
    names = [TypeAdapter(ModelInfo).validate_python(entry).id for entry in body["data"]]
    assert (body["first_id"], body["last_id"]) == ((names[0], names[-1]) if names else (None, None))
    return names, body["has_more"]


def test_the_list_of_models() -> None:
    assert page() == (["m0", "m1", "m2", "m3", "m4"], False)
    assert json.loads(encode_models(MODELS[1:2]))["data"] == [
        {
            "type": "model",
            "id": "m1",
            "display_name": "Model 1",
            "created_at": "2023-11-14T22:13:20Z",
            "lifecycle": "active",
        }
    ]


@pytest.mark.parametrize(
    ("cursor", "names", "more"),
    [
        ({"limit": 2}, ["m0", "m1"], True),
        ({"limit": 2, "after_id": "m1"}, ["m2", "m3"], True),
        ({"limit": 2, "after_id": "m3"}, ["m4"], False),
        ({"after_id": "m4"}, [], False),
        ({"after_id": "?"}, [], False),
        ({"limit": 2, "before_id": "m4"}, ["m2", "m3"], True),
        ({"limit": 2, "before_id": "m1"}, ["m0"], False),
        ({"before_id": "m0"}, [], False),
    ],
)
def test_pages(cursor: dict[str, Any], names: list[str], more: bool) -> None:
    assert page(**cursor) == (names, more)


def test_counts() -> None:
    body = ANTHROPIC_COUNT.encode_result(2095)
    assert TypeAdapter(MessageTokensCount).validate_json(body).input_tokens == 2095
    assert ANTHROPIC_COUNT.decode_result(body) == 2095
    for wrong in (b"", b"{}", b'{"input_tokens": "9"}', b"[" * 9000):
        with pytest.raises(StreamBroken):
            ANTHROPIC_COUNT.decode_result(wrong)
