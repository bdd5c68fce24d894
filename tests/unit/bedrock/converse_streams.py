"""ConverseStream as Bedrock sends it, and the ways to read and write it."""

from __future__ import annotations

import base64
from typing import Any

from headgate.core.events import (
    ChatEvent,
    Failed,
    Finished,
)
from headgate.dialects.bedrock import (
    StreamDecoder,
    StreamEncoder,
)
from headgate.dialects.dialect import AnswerOptions, Framing
from tests.unit.bedrock.aws import FRAMES, feed

RED = base64.b64encode(b"redacted").decode()
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


def delta(index: int, **fields: Any) -> tuple[str, Any]:
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": fields, "p": "abcdefgh"}


def start(index: int, **fields: Any) -> tuple[str, Any]:
    return "contentBlockStart", {"contentBlockIndex": index, "start": fields}


def stop(index: int) -> tuple[str, Any]:
    return "contentBlockStop", {"contentBlockIndex": index}


BEGIN: tuple[str, Any] = ("messageStart", {"role": "assistant"})
CITATION = {
    "title": "t",
    "sourceContent": [{"text": "q"}],
    "location": {"documentPage": {"documentIndex": 1}},
}
METADATA: tuple[str, Any] = (
    "metadata",
    {
        "usage": {
            "inputTokens": 4,
            "outputTokens": 9,
            "totalTokens": 20,
            "cacheReadInputTokens": 5,
            "cacheWriteInputTokens": 2,
            "cacheDetails": [{"ttl": "5m", "inputTokens": 2}],
        },
        "metrics": {"latencyMs": 7},
        "trace": {"promptRouter": {"invokedModelId": "m"}},
        "serviceTier": {"type": "default"},
    },
)
RICH: list[tuple[str, Any]] = [
    BEGIN,
    delta(0, reasoningContent={"text": "Hm"}),
    delta(0, reasoningContent={"text": "m."}),
    delta(0, reasoningContent={"signature": "SIG"}),
    stop(0),
    delta(1, reasoningContent={"redactedContent": RED}),
    stop(1),
    delta(2, text="Grüße, "),
    delta(2, text='Wörld 🌍 it\'s "quoted"'),
    delta(2, citation=CITATION),
    stop(2),
    start(3, toolUse={"toolUseId": "a", "name": "f"}),
    delta(3, toolUse={"input": '{"x":'}),
    delta(3, toolUse={"input": "1}"}),
    stop(3),
    start(4, toolUse={"toolUseId": "s", "name": "web", "type": "server_tool_use"}),
    delta(4, toolUse={"input": '{"q":'}),
    delta(4, toolUse={"input": '"x"}'}),
    stop(4),
    start(5, toolResult={"toolUseId": "s", "type": "nova_result", "status": "success"}),
    delta(5, toolResult=[{"text": "on"}]),
    delta(5, toolResult=[{"text": "e"}, {"json": {"a": 1}}]),
    stop(5),
    start(6, image={"format": "png"}),
    delta(6, image={"source": {"bytes": PNG}}),
    stop(6),
    ("messageStop", {"stopReason": "tool_use", "additionalModelResponseFields": {"stop_sequence": None}}),
    METADATA,
]
ANSWER: dict[str, Any] = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hmm.", "signature": "SIG"}}},
                {"reasoningContent": {"redactedContent": RED}},
                {
                    "citationsContent": {
                        "content": [{"text": 'Grüße, Wörld 🌍 it\'s "quoted"'}],
                        "citations": [CITATION],
                    }
                },
                {"toolUse": {"toolUseId": "a", "name": "f", "input": {"x": 1}}},
                {
                    "toolUse": {
                        "toolUseId": "s",
                        "name": "web",
                        "type": "server_tool_use",
                        "input": {"q": "x"},
                    }
                },
                {
                    "toolResult": {
                        "toolUseId": "s",
                        "type": "nova_result",
                        "status": "success",
                        "content": [{"text": "one"}, {"json": {"a": 1}}],
                    }
                },
                {"image": {"format": "png", "source": {"bytes": PNG}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "additionalModelResponseFields": {"stop_sequence": None},
    **METADATA[1],
}


def decode(wire: bytes, *cuts: int, content_type: str = FRAMES) -> list[ChatEvent]:
    return feed(StreamDecoder(content_type), wire, *cuts)


def error_of(events: list[ChatEvent]) -> Any:
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Finished | Failed) for event in events[:-1])
    return events[-1].error


def encode(events: list[ChatEvent], framing: Framing = "eventstream") -> tuple[bytes, list[str]]:
    encoder = StreamEncoder(AnswerOptions(framing=framing))
    wire = b"".join(encoder.encode(event) for event in events)
    return wire, [loss.path for loss in encoder.losses]
