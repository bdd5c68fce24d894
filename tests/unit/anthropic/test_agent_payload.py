"""A coding agent's payload keeps its meaning on the way through the neutral parts."""

from __future__ import annotations

import json

from anthropic.types import Message
from pydantic import TypeAdapter

from headgate.core.messages import Reasoning
from headgate.dialects.anthropic import decode_request, encode_request, encode_result
from headgate.dialects.anthropic.result_codec import decode_result
from headgate.dialects.dialect import AnswerOptions
from tests.support.agent_payload import agent_payload, meaning, next_turn
from tests.unit.anthropic.wire import bare

ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5",
    "content": [
        {"type": "thinking", "thinking": "Now write.", "signature": "EqQBnext"},
        {"type": "tool_use", "id": "toolu_03", "name": "tool_4", "input": {"path": "/a.css", "limit": 1}},
        {"type": "tool_use", "id": "toolu_04", "name": "tool_5", "input": {"path": "/b.css"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 5},
}


def test_it_reaches_an_upstream_of_the_same_dialect_unchanged_in_meaning() -> None:
    payload = agent_payload(model="coder")
    wire, losses = encode_request(decode_request(json.dumps(payload).encode()))
    assert losses == []
    assert meaning(json.loads(wire)) == meaning(payload)


def test_the_answer_comes_back_and_the_second_turn_with_results_and_signatures_works() -> None:
    answer, losses = encode_result(decode_result(json.dumps(ANSWER).encode()), AnswerOptions())
    assert losses == []
    content = json.loads(answer)["content"]
    assert bare(content) == ANSWER["content"]
    TypeAdapter(Message).validate_json(answer)
    payload = next_turn(agent_payload(model="coder"), content)
    request = decode_request(json.dumps(payload).encode())
    signatures = [
        part.signature
        for message in request.messages
        for part in message.parts
        if isinstance(part, Reasoning) and part.signature
    ]
    assert signatures == ["EqQBCkYIBxgCKkA=", "ErUBCkYIBxgCIkD=", "EqQBnext"]
    wire, losses = encode_request(request)
    assert losses == []
    assert meaning(json.loads(wire)) == meaning(bare(payload))


def test_an_older_model_gets_the_system_turn_as_a_user_turn_in_its_place() -> None:
    payload = agent_payload(model="claude-sonnet-4-5")
    wire, losses = encode_request(decode_request(json.dumps(payload).encode()))
    assert [(loss.path, loss.reason.split(":")[0]) for loss in losses] == [
        ("messages[1]", "moved to a user's turn"),
        ("reasoning.effort", "the budget says how much the model may think"),
    ]
    turns = json.loads(wire)["messages"]
    assert turns[1] == {"role": "user", "content": "The user has switched to plan mode."}
    assert "plan mode" not in json.dumps(json.loads(wire)["system"])


def test_a_newer_model_is_told_how_hard_to_think_in_its_own_way() -> None:
    wire, losses = encode_request(decode_request(json.dumps(agent_payload()).encode()))
    told = json.loads(wire)
    assert (told["thinking"], told["output_config"]) == ({"type": "adaptive"}, {"effort": "high"})
    assert "temperature" not in told  # 1, the default, goes without saying
    assert [loss.path for loss in losses] == ["reasoning.budget_tokens"]
