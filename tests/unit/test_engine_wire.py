"""What a local engine is sent for callers of other dialects."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from headgate.core.backend import Timeouts
from headgate.core.messages import ChatRequest, Message, ReasoningOptions, Text
from headgate.dialects.openai_responses import decode_request
from headgate.local.engine import EngineWire
from headgate.local.engines.chat_request import Abilities, read_chat_request

ABILITIES = Abilities(tools=False, names=False, reasoning_effort=False, n_vocab=100)


def sent(request: ChatRequest) -> tuple[dict[str, Any], list[str]]:
    nowhere = cast(Any, None)
    wire = EngineWire("openai_chat", "m", Timeouts(), nowhere, nowhere, b"")
    body, losses = wire.encode(request)
    return json.loads(body), [loss.path for loss in losses]


@pytest.mark.parametrize(
    ("fields", "kept", "lost"),
    [
        ({"prompt_cache_key": "k", "safety_identifier": "s"}, {"prompt_cache_key", "safety_identifier"}, []),
        ({"text": {"verbosity": "low"}}, set(), ["verbosity"]),
        ({"text": {"verbosity": "medium"}}, set(), []),
        ({"store": True}, set(), ["store"]),
        (
            {"prompt_cache_retention": "24h", "prompt_cache_options": {"mode": "implicit"}},
            set(),
            ["prompt_cache_options", "prompt_cache_retention"],
        ),
        ({"moderation": {"model": "m"}}, set(), ["moderation"]),
    ],
)
def test_what_the_engine_refuses_is_lost_not_sent(
    fields: dict[str, Any], kept: set[str], lost: list[str]
) -> None:
    request = decode_request(json.dumps({"model": "m", "input": "Hi", **fields}).encode())
    body, losses = sent(request)
    read_chat_request(body, ABILITIES)
    assert body.keys() == {"model", "messages"} | kept
    assert sorted(losses) == lost


def test_a_thinking_budget_asks_for_no_effort() -> None:
    """Many a template has none, and the engine would refuse it."""
    options = ReasoningOptions(enabled=True, budget_tokens=2048)
    body, losses = sent(ChatRequest(model="m", messages=(Message("user", (Text("Hi"),)),), reasoning=options))
    read_chat_request(body, ABILITIES)
    assert losses == ["reasoning.budget_tokens", "reasoning.enabled"]
