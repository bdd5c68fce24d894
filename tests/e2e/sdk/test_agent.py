"""A coding agent's payload before every vendor: what arrives, what is lost and said so, and the next turn."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.sdk.clients import KEY, Client
from tests.e2e.sdk.clients.anthropic import AnthropicClient
from tests.e2e.sdk.conftest import Far
from tests.e2e.sdk.said import SIGNATURE, THINKS, THOUGHT, WEATHER, losses_in
from tests.support.agent_payload import PDF, agent_payload, next_turn
from tests.support.client import request
from tests.support.server import Running

ANTHROPICS_SIGNATURES = ["EqQBCkYIBxgCKkA=", "ErUBCkYIBxgCIkD="]

NOWHERE_ELSE = {
    "context_management",
    "messages[0].content[3].context",
    "messages[0].content[3].citations",
    "messages[4].content[0]",  # redacted thinking, and thinking without text
    "messages[4].content[1]",
    "messages[5].content[0].content[1]",  # a search result
    "tools[0].input_examples",
    "tools[1].defer_loading",
    "tools[60]",  # the vendor's own web search
}
CACHE_HINTS = {
    "system[1].cache_control",
    "messages[0].content[3].cache_control",
    "messages[3].content[0].content[2].cache_control",
    "tools[59].cache_control",
}
LOST: dict[str, set[str]] = {
    "anthropic": set(),
    "openai_chat": NOWHERE_ELSE
    | CACHE_HINTS
    | {
        "messages[2].content[0]",
        "messages[3].content[0].content[1]",  # an image in a tool's result
        "messages[3].content[1].is_error",
        "messages[3].content[1].cache_control",
        "messages[5].content[0].content[0]",  # a document in a tool's result
        "thinking.budget_tokens",
    },
    "openai_responses": NOWHERE_ELSE
    | CACHE_HINTS
    | {
        "messages[2].content[0]",
        "messages[3].content[1].is_error",
        "messages[3].content[1].cache_control",
        "thinking.budget_tokens",
    },
    "gemini": NOWHERE_ELSE
    | CACHE_HINTS
    | {
        "messages[1].role",  # a system message among the turns is the user's there
        "messages[2].content[0].signature",
        "messages[3].content[1].cache_control",
        "output_config.effort",
        "metadata.user_id",
        "tools[0].strict",
    },
    "converse": NOWHERE_ELSE
    | {
        "messages[1]",  # a system message among the turns is the user's before this model
        "messages[2].content[0]",
        "messages[3].content[0].content[2].cache_control",  # no cache point within a tool's result
        "output_config.effort",
        "thinking.budget_tokens",  # no thinking in the middle of a turn that began without
        "metadata.user_id",
    },
}


def test_it_reaches_every_vendor_with_its_losses_listed(gateway: Running, far: Far) -> None:
    payload = agent_payload(model=f"{far.vendor.name}-agent")
    body = json.dumps(payload, separators=(",", ":")).encode()
    headers = {"x-api-key": KEY, "content-type": "application/json"}
    answer = request(gateway.port, "POST", "/v1/messages", body, headers)
    assert answer.status == 200, answer.body
    assert losses_in(answer.headers.get("x-headgate-loss")) == LOST[far.vendor.name]
    seen = far.last()
    if far.vendor.name == "anthropic":
        assert seen.body == body.replace(payload["model"].encode(), far.vendor.model.encode())
    got = seen.json
    assert list(far.vendor.tools(got)) == [f"tool_{number}" for number in range(60)]
    assert far.vendor.called(got) == [{"path": "/a.css"}, {"path": "/b.html"}, {}]
    assert "ENOENT: no such file" in far.vendor.results(got)[1]
    for words in ("You are a coding agent.", "The user has switched to plan mode.", "Fix the layout", PDF):
        assert words in seen.body.decode()


def test_the_answer_streams_and_the_next_turn_works(clients: dict[str, Client], far: Far) -> None:
    client = clients["anthropic"]
    assert isinstance(client, AnthropicClient)
    first = agent_payload(model=f"{far.vendor.name}-agent")
    message, pieces = streamed(client, first)
    assert pieces == [THOUGHT, *THINKS.pieces]
    types = [block.type for block in message.content]
    signed = ["thinking"] if far.vendor.name == "gemini" else []  # Gemini signs the call, not the thought
    assert types == ["thinking", "text", *signed, "tool_use"]
    assert message.stop_reason == "tool_use"

    second = next_turn(first, [block.to_dict() for block in message.content])
    message, _ = streamed(client, second)
    assert [block.text for block in message.content] == [WEATHER.text]
    got = far.last().json
    assert far.vendor.results(got)[-1] == "result of get_weather"
    assert far.vendor.called(got)[-1] == {"city": "Paris"}
    own = ANTHROPICS_SIGNATURES if far.vendor.name == "anthropic" else []
    assert far.vendor.signatures(got) == [*own, SIGNATURE]


def streamed(client: AnthropicClient, payload: dict[str, Any]) -> tuple[Any, list[str]]:
    """The message, and the deltas of its thoughts and texts as they came."""
    extra = {key: payload[key] for key in ("context_management", "temperature")}  # not among its arguments
    fields = {key: value for key, value in payload.items() if key not in ("stream", *extra)}
    pieces: list[str] = []
    with client.sdk.messages.stream(**fields, extra_body=extra) as events:
        for event in events:
            if event.type == "content_block_delta":
                delta: Any = event.delta
                pieces += [delta.text] if delta.type == "text_delta" else []
                pieces += [delta.thinking] if delta.type == "thinking_delta" else []
        return events.get_final_message(), pieces
