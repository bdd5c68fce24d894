"""The body forms of InvokeModel, and what an upstream of each says for one and the same answer."""

from __future__ import annotations

import base64
import json
from typing import Any, cast

from headgate.core.call import Usage
from headgate.core.events import (
    ChatEvent,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.messages import Text
from headgate.dialects import eventstream
from headgate.dialects.dialect import AnswerOptions, ChatDialect, Framing
from headgate.dialects.invoke_forms import CHAT_FORMS
from headgate.dialects.registry import dialect
from tests.unit.bedrock.aws import FRAMES, SSE, feed

FORMS = list(CHAT_FORMS)
METRICS = {
    "amazon-bedrock-invocationMetrics": {
        "inputTokenCount": 5,
        "outputTokenCount": 2,
        "invocationLatency": 300,
        "firstByteLatency": 90,
    }
}
PIECES = ("Grüße, ", '"Welt" \n\n🌍')
TEXT = "".join(PIECES)
GOOD: tuple[ChatEvent, ...] = (
    Started("a1", "m", 1),
    PartStarted(0, Text("")),
    *(PartDelta(0, piece) for piece in PIECES),
    PartEnded(0),
    UsageReported(Usage(5, 2)),
    Finished((Stop("stop"),)),
)

UPSTREAM: dict[str, list[Any]] = {
    "invoke_anthropic": [
        {
            "type": "message_start",
            "message": {
                "id": "a1",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": [],
                "stop_reason": None,
                "usage": {"input_tokens": 5, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in PIECES
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop", **METRICS},
    ],
    "invoke_nova": [
        {"messageStart": {"role": "assistant"}},
        *({"contentBlockDelta": {"delta": {"text": piece}, "contentBlockIndex": 0}} for piece in PIECES),
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
        {
            "metadata": {
                "usage": {
                    "inputTokens": 5,
                    "outputTokens": 2,
                    "cacheReadInputTokenCount": 0,
                    "cacheWriteInputTokenCount": 0,
                },
                "metrics": {},
                "trace": {},
            },
            **METRICS,
        },
    ],
    "invoke_chat": [
        *(
            {
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": piece},
                        "stop_reason": None,
                    }
                ]
            }
            for piece in PIECES
        ),
        {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "stop_reason": "stop"}],
            **METRICS,
        },
    ],
    "invoke_titan": [
        {
            "outputText": PIECES[0],
            "index": 0,
            "totalOutputTextTokenCount": None,
            "completionReason": None,
            "inputTextTokenCount": 5,
        },
        {
            "outputText": PIECES[1],
            "index": 0,
            "totalOutputTextTokenCount": 2,
            "completionReason": "FINISH",
            "inputTextTokenCount": None,
            **METRICS,
        },
    ],
    "invoke_llama": [
        {
            "generation": PIECES[0],
            "prompt_token_count": 5,
            "generation_token_count": 1,
            "stop_reason": None,
        },
        {
            "generation": PIECES[1],
            "prompt_token_count": None,
            "generation_token_count": 2,
            "stop_reason": None,
        },
        {
            "generation": "",
            "prompt_token_count": None,
            "generation_token_count": 2,
            "stop_reason": "stop",
            **METRICS,
        },
    ],
    "invoke_mistral": [
        *({"outputs": [{"text": piece, "stop_reason": None}]} for piece in PIECES),
        {"outputs": [{"text": "", "stop_reason": "stop"}], **METRICS},
    ],
    "invoke_cohere": [
        {"is_finished": False, "event_type": "stream-start", "generation_id": "a1"},
        *({"is_finished": False, "event_type": "text-generation", "text": piece} for piece in PIECES),
        {
            "is_finished": True,
            "event_type": "stream-end",
            "finish_reason": "COMPLETE",
            "response": {
                "response_id": "r1",
                "text": TEXT,
                "generation_id": "a1",
                "chat_history": [{"role": "USER", "message": "hi"}, {"role": "CHATBOT", "message": TEXT}],
                "finish_reason": "COMPLETE",
            },
            **METRICS,
        },
    ],
}
"""The events of a stream, as the vendors document them."""
WHOLE: dict[str, Any] = {
    "invoke_anthropic": {
        "id": "a1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 2},
    },
    "invoke_nova": {
        "output": {"message": {"content": [{"text": TEXT}], "role": "assistant"}},
        "stopReason": "end_turn",
        "usage": {
            "inputTokens": 5,
            "outputTokens": 2,
            "totalTokens": 7,
            "cacheReadInputTokenCount": 0,
            "cacheWriteInputTokenCount": 0,
        },
    },
    "invoke_chat": {
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": TEXT}, "stop_reason": "stop"},
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    },
    "invoke_titan": {
        "inputTextTokenCount": 5,
        "results": [{"tokenCount": 2, "outputText": TEXT, "completionReason": "FINISH"}],
    },
    "invoke_llama": {
        "generation": TEXT,
        "prompt_token_count": 5,
        "generation_token_count": 2,
        "stop_reason": "stop",
    },
    "invoke_mistral": {"outputs": [{"text": TEXT, "stop_reason": "stop"}]},
    "invoke_cohere": {
        "response_id": "r1",
        "text": TEXT,
        "generation_id": "a1",
        "chat_history": [{"role": "USER", "message": "hi"}, {"role": "CHATBOT", "message": TEXT}],
        "finish_reason": "COMPLETE",
        "meta": {"billed_units": {"input_tokens": 5.0, "output_tokens": 2}},
    },
}
TELLS_NO_USAGE = {"invoke_mistral"}
"""In a plain answer, where the counts are header fields."""


def record(form: str) -> ChatDialect:
    return cast("ChatDialect", dialect(form))


def chunk(event: Any, padding: str = "abcd") -> bytes:
    """An event in a frame, as Bedrock sends it."""
    data = base64.b64encode(json.dumps(event, separators=(",", ":")).encode())
    headers: dict[str, eventstream.HeaderValue] = {
        ":event-type": "chunk",
        ":content-type": "application/json",
        ":message-type": "event",
    }
    return eventstream.encode(headers, b'{"bytes":"%b","p":"%b"}' % (data, padding.encode()))


def line(form: str, event: Any) -> bytes:
    """The same, as a server-sent event."""
    name = b"event: %b\n" % event["type"].encode() if form == "invoke_anthropic" else b""
    return name + b"data: " + json.dumps(event).encode() + b"\n\n"


def stream_of(form: str, framing: Framing) -> list[bytes]:
    return [chunk(event) if framing == "eventstream" else line(form, event) for event in UPSTREAM[form]]


def content_type(framing: Framing) -> str:
    return FRAMES if framing == "eventstream" else SSE


def decode(form: str, wire: bytes, *cuts: int, framing: Framing = "eventstream") -> list[ChatEvent]:
    return feed(record(form).stream_decoder(content_type(framing)), wire, *cuts)


def encode(form: str, events: Any, framing: Framing = "eventstream") -> tuple[bytes, list[str]]:
    encoder = record(form).stream_encoder(AnswerOptions(framing=framing))
    wire = b"".join(encoder.encode(event) for event in events)
    return wire, [loss.path for loss in encoder.losses]


def error_of(events: list[ChatEvent]) -> Any:
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, Finished | Failed) for event in events[:-1])
    return events[-1].error
