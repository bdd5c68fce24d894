"""Ids of an answer's pieces that only its upstream's dialect has: no loss, for nobody could send them back.
What the upstream needs to see again goes to every caller, and comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.fold import unfold
from headgate.core.messages import Reasoning, ToolCall
from headgate.dialects import openai_chat, openai_responses
from headgate.dialects.dialect import AnswerOptions, ChatDialect
from headgate.dialects.registry import dialect

RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "status": "completed",
    "output": [
        {
            "type": "reasoning",
            "id": "rs_1",
            "status": "completed",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "gAAA",
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "So.", "annotations": []}],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "status": "completed",
            "call_id": "call_1",
            "name": "f",
            "arguments": "{}",
        },
    ],
}
COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": "So.",
                "reasoning": "Hm.",
                "reasoning_details": [
                    {
                        "type": "reasoning.text",
                        "text": "Hm.",
                        "signature": "gAAA",
                        "id": "rs_1",
                        "format": "anthropic-claude-v1",
                        "index": 0,
                    }
                ],
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
        }
    ],
}
ANSWERS = {
    "openai_responses": openai_responses.decode_result(json.dumps(RESPONSE).encode()),
    "openai_chat": openai_chat.decode_result(json.dumps(COMPLETION).encode()),
}


def codec(name: str) -> ChatDialect:
    found = dialect(name)
    assert isinstance(found, ChatDialect)
    return found


@pytest.mark.parametrize("caller", ["openai_chat", "openai_responses", "anthropic", "gemini", "converse"])
@pytest.mark.parametrize("upstream", ANSWERS)
def test_names_of_pieces_are_no_loss_and_what_is_needed_comes_back(caller: str, upstream: str) -> None:
    answer = ANSWERS[upstream]
    body, losses = codec(caller).encode_result(answer, AnswerOptions())
    stream = codec(caller).stream_encoder(AnswerOptions())
    for event in unfold(answer):
        stream.encode(event)
    assert (losses, stream.losses) == ([], [])
    parts = returned(caller, json.loads(body))
    [thought] = [part for part in parts if isinstance(part, Reasoning) and (part.signature or part.data)]
    assert (thought.origin, thought.signature or thought.data) == (upstream, "gAAA")
    [call] = [part for part in parts if isinstance(part, ToolCall)]
    assert call.name == "f"


def returned(caller: str, body: Any) -> list[Any]:
    """The parts of the answer, as the caller sends them back in the next turn."""
    asked: dict[str, Any] = {"model": "m"}
    match caller:
        case "openai_chat":
            asked["messages"] = [body["choices"][0]["message"]]
        case "openai_responses":
            asked["input"] = body["output"]
        case "anthropic":
            asked |= {"max_tokens": 9, "messages": [{"role": "assistant", "content": body["content"]}]}
        case "gemini":
            asked = {"contents": [body["candidates"][0]["content"]]}
        case _:
            asked = {"messages": [body["output"]["message"]]}
    model = None if codec(caller).model_in_body else "m"
    request = codec(caller).decode_request(json.dumps(asked).encode(), model=model)
    return [part for message in request.messages for part in message.parts]
