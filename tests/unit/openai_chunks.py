"""Builders of Chat Completions streams, and the events that they are read into."""

from __future__ import annotations

import json
from typing import Any

from headgate.core.events import ChatEvent
from headgate.dialects import sse
from headgate.dialects.openai_chat import StreamDecoder

DONE = b"data: [DONE]\n\n"


def chunk(*choices: dict[str, Any], **fields: Any) -> bytes:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    return sse.encode(json.dumps(head | {"choices": list(choices)} | fields, ensure_ascii=False).encode())


def choice(delta: dict[str, Any], finish: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None} | fields


def text(content: str, finish: str | None = None, index: int = 0) -> bytes:
    return chunk(choice({"content": content}, finish, index))


def call(**fields: Any) -> bytes:
    return chunk(choice({"tool_calls": [fields]}))


def decode(wire: bytes, *cuts: int) -> list[ChatEvent]:
    decoder = StreamDecoder()
    events: list[ChatEvent] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        events += decoder.feed(wire[start:end])
    return events + decoder.end()


ANSWER: dict[str, Any] = {
    "id": "c1",
    "object": "chat.completion",
    "created": 7,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
