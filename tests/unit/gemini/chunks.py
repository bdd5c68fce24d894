"""Builders of Gemini answers and streams, and the events that they are read into."""

from __future__ import annotations

import json
from typing import Any

from headgate.core.events import ChatEvent
from headgate.dialects import sse
from headgate.dialects.dialect import AnswerOptions, Framing
from headgate.dialects.gemini import StreamDecoder, StreamEncoder

HEAD = {"modelVersion": "gemini-2.5-flash", "responseId": "r1"}


def candidate(
    *parts: dict[str, Any], finish: str | None = None, index: int = 0, **fields: Any
) -> dict[str, Any]:
    wire: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": index}
    return wire | ({} if finish is None else {"finishReason": finish}) | fields


def answer(*candidates: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"candidates": list(candidates)} | HEAD | fields


def usage(prompt: int, received: int, thoughts: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "promptTokenCount": prompt,
        "candidatesTokenCount": received,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + received + thoughts,
    } | fields


def as_sse(*chunks: dict[str, Any], line_end: bytes = b"\r\n") -> bytes:
    wire = b"".join(sse.encode(json.dumps(chunk, ensure_ascii=False).encode()) for chunk in chunks)
    return wire.replace(b"\n", line_end)


def as_array(*chunks: dict[str, Any]) -> bytes:
    return json.dumps(list(chunks), ensure_ascii=False, indent=1).encode()


def decode(wire: bytes, *cuts: int) -> list[ChatEvent]:
    decoder = StreamDecoder()
    events: list[ChatEvent] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        events += decoder.feed(wire[start:end])
    return events + decoder.end()


def encode(events: list[ChatEvent], framing: Framing = "sse") -> bytes:
    encoder = StreamEncoder(AnswerOptions(framing=framing))
    return b"".join(encoder.encode(event) for event in events)


def elements(wire: bytes) -> list[dict[str, Any]]:
    """The objects of an encoded stream of either framing."""
    if wire.startswith(b"["):
        loaded: list[dict[str, Any]] = json.loads(wire)
        return loaded
    decoder = sse.Decoder()
    return [json.loads(event.data) for event in decoder.feed(wire) + decoder.end()]


def text_of(wire: bytes) -> str:
    return "".join(
        part.get("text", "")
        for element in elements(wire)
        for item in element.get("candidates", ())
        for part in item["content"].get("parts", ())
        if not part.get("thought")
    )
