"""Builders of Responses streams and answers, and the events that they are read into."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from openai.types.responses import Response, ResponseStreamEvent

from headgate.core.events import ChatEvent
from headgate.dialects import sse
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_responses import StreamDecoder, StreamEncoder

EVENTS = {
    get_args(model.model_fields["type"].annotation)[0]: model
    for model in get_args(get_args(ResponseStreamEvent)[0])
}
"""The vendor's own type of each event."""

OPTIONS = AnswerOptions(id="resp_1", created=7, model="m", now=lambda: 9.5)


class Script:
    """A stream in the vendor's order; numbers its events."""

    def __init__(self, named: bool = True) -> None:
        self.sent: list[bytes] = []
        self._named = named

    def event(self, kind: str, **fields: Any) -> Script:
        value = {"type": kind, "sequence_number": len(self.sent), **fields}
        data = json.dumps(value, ensure_ascii=False).encode()
        self.sent.append(sse.encode(data, kind if self._named else None))
        return self

    @property
    def wire(self) -> bytes:
        return b"".join(self.sent)

    def begin(self) -> Script:
        response = {"id": "resp_1", "object": "response", "created_at": 7, "model": "m", "output": []}
        self.event("response.created", response=response | {"status": "in_progress"})
        return self.event("response.in_progress", response=response | {"status": "in_progress"})

    def add(self, index: int, item: Mapping[str, Any]) -> Script:
        return self.event("response.output_item.added", output_index=index, item=item)

    def done(self, index: int, item: Mapping[str, Any]) -> Script:
        return self.event("response.output_item.done", output_index=index, item=item)

    def delta(self, kind: str, index: int, delta: str, **fields: Any) -> Script:
        return self.event(f"response.{kind}.delta", output_index=index, item_id="x", delta=delta, **fields)

    def message(self, index: int, *deltas: str, **fields: Any) -> Script:
        part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        item = message("".join(deltas), f"msg_{index}")
        place = {"output_index": index, "content_index": 0, "item_id": item["id"]}
        self.add(index, item | {"content": [], "status": "in_progress"})
        self.event("response.content_part.added", **place, part=part)
        for delta in deltas:
            self.event("response.output_text.delta", **place, delta=delta, logprobs=[], **fields)
        self.event("response.output_text.done", **place, text="".join(deltas), logprobs=[])
        self.event("response.content_part.done", **place, part=item["content"][0])
        return self.done(index, item)

    def end(self, *output: Mapping[str, Any], kind: str = "completed", **fields: Any) -> Script:
        return self.event(f"response.{kind}", response=answer(*output, status=kind, **fields))


def message(text: str, identity: str = "msg_0", **fields: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": identity,
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    } | fields


USAGE: dict[str, Any] = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 14,
}


def answer(*output: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 7,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": "m",
        "output": list(output),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": USAGE,
    } | fields


def decode(wire: bytes, *cuts: int) -> list[ChatEvent]:
    decoder = StreamDecoder()
    events: list[ChatEvent] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        events += decoder.feed(wire[start:end])
    return events + decoder.end()


def encode(events: list[ChatEvent], options: AnswerOptions = OPTIONS) -> bytes:
    encoder = StreamEncoder(options)
    return b"".join(encoder.encode(event) for event in events)


def read(wire: bytes) -> list[dict[str, Any]]:
    """The events of a stream that we wrote: each checked against the vendor's own types."""
    decoder = sse.Decoder()
    values = []
    for number, event in enumerate(decoder.feed(wire)):
        value = msgspec.json.decode(event.data)
        assert value["type"] == event.event
        assert value["sequence_number"] == number
        EVENTS[value["type"]].model_validate(value)
        values.append(value)
    assert decoder.idle
    return values


def kinds(wire: bytes) -> list[str]:
    return [value["type"].removeprefix("response.") for value in read(wire)]


def valid(body: bytes) -> dict[str, Any]:
    """A response object that we wrote, checked against the vendor's own type."""
    value: dict[str, Any] = msgspec.json.decode(body)
    Response.model_validate(value)
    return value
