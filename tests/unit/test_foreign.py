"""Fields of one dialect before upstreams of another: reported, unless what they wish is done anyway."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest, Extensions
from headgate.dialects.dialect import ChatDialect
from headgate.dialects.foreign import foreign_losses
from headgate.dialects.registry import dialect

UPSTREAMS = ("openai_chat", "openai_responses", "openai_completions", "anthropic", "gemini", "converse")
CALLERS: dict[str, dict[str, Any]] = {
    "openai_chat": {"messages": [{"role": "user", "content": "x"}]},
    "openai_responses": {"input": "x"},
    "openai_completions": {"prompt": "x"},
}
PADDED = "stream_options.include_obfuscation"


def codec(name: str) -> ChatDialect:
    found = dialect(name)
    assert isinstance(found, ChatDialect)
    return found


def asked(caller: str, **options: Any) -> ChatRequest:
    body = {"model": "m", "stream": True, "stream_options": options, **CALLERS[caller]}
    return codec(caller).decode_request(json.dumps(body).encode())


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_a_stream_without_padding_is_what_every_caller_gets(caller: str, upstream: str) -> None:
    body, losses = codec(upstream).encode_request(asked(caller, include_obfuscation=False))
    assert losses == []
    kept = {"include_obfuscation": False} if caller == upstream else {}
    told = json.loads(body).get("stream_options", {})
    assert {key: value for key, value in told.items() if key != "include_usage"} == kept


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_padding_is_reported_for_none_gets_it(caller: str, upstream: str) -> None:
    body, losses = codec(upstream).encode_request(asked(caller, include_obfuscation=True))
    assert [loss.path for loss in losses] == [PADDED]
    assert json.loads(body).get("stream_options", {}).get("include_obfuscation") is (
        True if caller == upstream else None
    )


def test_other_options_of_a_stream_are_named_one_by_one() -> None:
    _, losses = codec("gemini").encode_request(asked("openai_chat", include_obfuscation=True, more=1))
    assert [loss.path for loss in losses] == [PADDED, "stream_options.more"]


def test_each_field_of_another_dialect_is_named() -> None:
    extensions: Extensions = {
        "gemini": {"a": 1, "b": None},
        "anthropic": {"c": 2},
        "converse": {"stream_options": {}},
    }
    assert foreign_losses(extensions, "tools[0]", "anthropic") == [
        Loss("tools[0].a", "only gemini has this field"),
        Loss("tools[0].b", "only gemini has this field"),
        Loss("tools[0].stream_options", "only converse has this field"),
    ]
