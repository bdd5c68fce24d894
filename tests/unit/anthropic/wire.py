"""Builders of Messages requests and streams, and the events that the latter are read into."""

from __future__ import annotations

import json
from typing import Any

from headgate.core.events import ChatEvent
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest, Message
from headgate.dialects import sse
from headgate.dialects.anthropic import StreamDecoder, StreamEncoder, decode_request, encode_request
from headgate.dialects.dialect import AnswerOptions


def body(**fields: Any) -> bytes:
    request = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    return json.dumps(request | fields, ensure_ascii=False).encode()


def asked(**fields: Any) -> ChatRequest:
    return decode_request(body(**fields))


def said(*content: Any, role: str = "user") -> ChatRequest:
    return asked(messages=[{"role": role, "content": list(content)}])


def sent(*messages: Message, model: str = "m", **fields: Any) -> tuple[dict[str, Any], list[Loss]]:
    """The wire form of a neutral request."""
    wire, losses = encode_request(ChatRequest(model=model, messages=messages, **fields))
    return json.loads(wire), losses


def event(kind: str, **fields: Any) -> bytes:
    return sse.encode(json.dumps({"type": kind, **fields}, ensure_ascii=False).encode(), kind)


def start(**fields: Any) -> bytes:
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 1},
    }
    return event("message_start", message=message | fields)


def block(index: int, opening: dict[str, Any], *deltas: dict[str, Any]) -> bytes:
    return b"".join(
        [
            event("content_block_start", index=index, content_block=opening),
            *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
            event("content_block_stop", index=index),
        ]
    )


def text_block(index: int, *texts: str) -> bytes:
    deltas = [{"type": "text_delta", "text": text} for text in texts]
    return block(index, {"type": "text", "text": ""}, *deltas)


def finish(reason: str | None = "end_turn", output_tokens: int = 7, **delta: Any) -> bytes:
    told = {"stop_reason": reason, "stop_sequence": None, **delta}
    return event("message_delta", delta=told, usage={"output_tokens": output_tokens}) + event("message_stop")


def decode(wire: bytes, *cuts: int) -> list[ChatEvent]:
    decoder = StreamDecoder()
    events: list[ChatEvent] = []
    for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        events += decoder.feed(wire[begin:end])
    return events + decoder.end()


def encode(events: list[ChatEvent], **options: Any) -> tuple[list[dict[str, Any]], list[Loss]]:
    """What a caller reads of a stream: the data of each event, whose name is checked against it."""
    encoder = StreamEncoder(AnswerOptions(**options))
    wire = b"".join([encoder.encode(each) for each in events])
    decoder = sse.Decoder()
    read = decoder.feed(wire)
    assert decoder.idle, "an event without its blank line"
    told = [(each.event, json.loads(each.data)) for each in read]
    assert all(name == data["type"] for name, data in told)
    return [data for _, data in told], encoder.losses


def bare(value: Any) -> Any:
    """An answer without the fields that every whole answer has and that say nothing here."""
    if isinstance(value, list):
        return [bare(item) for item in value]
    if not isinstance(value, dict):
        return value
    says_nothing = (
        ("citations", None),
        ("caller", {"type": "direct"}),
        ("stop_details", None),
        ("container", None),
    )
    spare = ("cache_creation", "inference_geo", "output_tokens_details", "server_tool_use", "service_tier")
    return {
        key: bare(item)
        for key, item in value.items()
        if (key, item) not in says_nothing and not (key in spare and item is None)
    }
