"""Messages with thousands of reasoning details: read as short ones are, and in time that grows with them."""

from __future__ import annotations

import json

from headgate.core.messages import Reasoning, ToolCall
from headgate.dialects.openai_chat import decode_request

CALL = {"type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_thousands_of_details_are_put_together_and_find_their_calls() -> None:
    many, piece = 4000, "thought " * 100
    fragments = [{"type": "reasoning.text", "index": 0, "text": piece} for _ in range(many)]
    signing = [{"type": "reasoning.encrypted", "id": f"c{n}", "data": f"d{n}"} for n in reversed(range(many))]
    calls = [{**CALL, "id": f"c{n}"} for n in range(many)]
    message = {"role": "assistant", "reasoning_details": [*fragments, *signing], "tool_calls": calls}
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}, message]}
    thought, *signed = decode_request(json.dumps(body).encode()).messages[1].parts
    assert isinstance(thought, Reasoning)
    assert thought.text == piece * many
    told = [part.signature for part in signed if isinstance(part, Reasoning)]
    assert told == [f"d{n}" for n in range(many)]
    assert [part.id for part in signed[1::2] if isinstance(part, ToolCall)] == [f"c{n}" for n in range(many)]
