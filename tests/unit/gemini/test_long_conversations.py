"""Conversations with thousands of parts: put together as short ones are, and in time that grows with them."""

from __future__ import annotations

import json
from typing import Any

from headgate.core.messages import Message, Reasoning, Text, ToolCall, ToolResult
from headgate.dialects.gemini import decode_request

MANY = 8000


def read(*contents: dict[str, Any]) -> tuple[Message, ...]:
    asked = {"role": "user", "parts": [{"text": "Hi"}]}
    return decode_request(json.dumps({"contents": [asked, *contents]}).encode(), model="m").messages[1:]


def test_a_streamed_answer_that_was_kept_chunk_by_chunk_is_one_message() -> None:
    piece = "word " * 200
    thoughts = [{"role": "model", "parts": [{"text": piece, "thought": True}]} for _ in range(MANY)]
    texts = [{"role": "model", "parts": [{"text": piece}]} for _ in range(MANY)]
    (message,) = read(*thoughts, *texts)
    assert message.parts == (Reasoning(piece * MANY), Text(piece * MANY))
    assert message.part_paths == ("contents[1].parts[0]", f"contents[{MANY + 1}].parts[0]")


def test_results_find_their_calls_in_any_order() -> None:
    calls = [{"functionCall": {"id": f"c{number}", "name": f"f{number}"}} for number in range(MANY)]
    results = [
        {"functionResponse": {"id": f"c{number}", "name": f"f{number}", "response": {"output": "x"}}}
        for number in reversed(range(MANY))
    ]
    called, answered = read({"role": "model", "parts": calls}, {"role": "user", "parts": results})
    assert [part.id for part in called.parts if isinstance(part, ToolCall)] == [f"c{n}" for n in range(MANY)]
    ids = [part.call_id for part in answered.parts if isinstance(part, ToolResult)]
    assert ids == [f"c{n}" for n in reversed(range(MANY))]


def test_results_without_ids_go_to_the_first_call_of_their_name_that_waits() -> None:
    calls = [
        {"functionCall": {"id": call_id, "name": name}}
        for call_id, name in [("a", "f"), ("b", "g"), ("c", "f")]
    ]
    names: list[dict[str, Any]] = [{"name": "f"}, {"id": "c"}, {"name": "f"}, {}]
    results = [{"functionResponse": {**name, "response": {"output": "x"}}} for name in names]
    _, answered = read({"role": "model", "parts": calls}, {"role": "user", "parts": results})
    ids = [part.call_id for part in answered.parts if isinstance(part, ToolResult)]
    assert ids[:2] == ["a", "c"]
    assert ids[2] not in ("a", "b", "c")
    assert ids[3] == "b"
