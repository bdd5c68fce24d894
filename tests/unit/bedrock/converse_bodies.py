"""Converse requests as callers send them, and the ways to read and write them."""

from __future__ import annotations

import base64
import json
from typing import Any

from headgate.core.messages import ChatRequest, Message, Text
from headgate.dialects.bedrock import decode_request, encode_request
from tests.unit.bedrock.aws import complaints

CLAUDE = "eu.anthropic.claude-sonnet-4-20250514-v1:0"
USER = {"role": "user", "content": [{"text": "Hi"}]}
DATA = base64.b64encode(b"\x89PNG\r\n\x1a\n some bytes").decode()
S3 = {"s3Location": {"uri": "s3://bucket/key", "bucketOwner": "123456789012"}}


OPUS = "anthropic.claude-opus-4-6-v1"
ANY = "arn:aws:bedrock:eu-west-1:1:application-inference-profile/x"
"""A model of which nothing is known: nothing is put right for it."""


def decode(model: str = CLAUDE, **fields: Any) -> ChatRequest:
    return decode_request(json.dumps({"messages": [USER]} | fields).encode(), model=model, stream=True)


def encode(request: ChatRequest) -> dict[str, Any]:
    body, losses = encode_request(request)
    assert losses == []
    wire: dict[str, Any] = json.loads(body)
    assert complaints(wire) == ""
    return wire


def losses_of(request: ChatRequest) -> list[str]:
    body, losses = encode_request(request)
    assert complaints(json.loads(body)) == ""
    return [loss.path for loss in losses]


def ask(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(model=CLAUDE, messages=messages or (Message("user", (Text("Hi"),)),), **fields)


BLOCKS: list[dict[str, Any]] = [
    {"text": "What is this?"},
    {"image": {"format": "png", "source": {"bytes": DATA}}},
    {"image": {"format": "jpeg", "source": S3}},
    {"document": {"format": "pdf", "name": "My report", "source": {"bytes": DATA}, "context": "c"}},
    {"document": {"name": "notes", "source": {"text": "Grüße"}, "citations": {"enabled": True}}},
    {"document": {"format": "md", "name": "bits", "source": {"content": [{"text": "a"}, {"text": "b"}]}}},
    {"video": {"format": "three_gp", "source": {"bytes": DATA}}},
    {"video": {"format": "mpg", "source": S3}},
    {"audio": {"format": "x-aac", "source": {"bytes": DATA}}},
    {"audio": {"format": "mp3", "source": {"bytes": DATA}}},
    {"guardContent": {"text": {"text": "g", "qualifiers": ["query"]}}},
    {"guardContent": {"image": {"format": "png", "source": {"bytes": DATA}}}},
    {"searchResult": {"source": "https://x", "title": "t", "content": [{"text": "c"}]}},
    {"cachePoint": {"type": "default", "ttl": "1h"}},
]
RESULT: list[dict[str, Any]] = [
    {"json": {"rows": [1, 2.5, None]}},
    {"text": "two"},
    {"image": {"format": "png", "source": {"bytes": DATA}}},
    {"document": {"format": "csv", "name": "table", "source": {"bytes": DATA}}},
    {"video": {"format": "mp4", "source": {"bytes": DATA}}},
    {"searchResult": {"source": "https://x", "title": "t", "content": [{"text": "c"}]}},
]
RICH: dict[str, Any] = {
    "system": [
        {"text": "Be brief."},
        {"guardContent": {"text": {"text": "g"}}},
        {"cachePoint": {"type": "default"}},
    ],
    "messages": [
        {"role": "user", "content": BLOCKS},
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "SIG"}}},
                {"reasoningContent": {"redactedContent": DATA}},
                {"reasoningContent": {"reasoningText": {"text": "unsigned"}}},
                {"text": "Let me look."},
                {
                    "citationsContent": {
                        "content": [{"text": "It says so."}],
                        "citations": [{"title": "t", "location": {"documentPage": {"documentIndex": 0}}}],
                    }
                },
                {"citationsContent": {"content": [{"text": "a"}, {"text": "b"}], "citations": []}},
                {"toolUse": {"toolUseId": "a", "name": "f", "input": {"x": 1}}},
                {"toolUse": {"toolUseId": "b", "name": "g", "input": {}}},
                {"toolUse": {"toolUseId": "s", "name": "w", "input": {}, "type": "server_tool_use"}},
                {"toolResult": {"toolUseId": "s", "content": [{"text": "r"}], "type": "nova_result"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "a", "content": RESULT}},
                {"cachePoint": {"type": "default"}},
                {"toolResult": {"toolUseId": "b", "content": [], "status": "error"}},
                {"text": "Go on."},
            ],
        },
        {"role": "system", "content": [{"toolAddition": {"tool": {"name": "f"}}}, {"text": "More."}]},
        {"role": "user", "content": [{"text": "Well?"}]},
    ],
    "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.25, "stopSequences": ["x", "y"]},
    "toolConfig": {
        "tools": [
            {
                "toolSpec": {
                    "name": "f",
                    "description": "d",
                    "inputSchema": {"json": {"type": "object", "properties": {"x": {"type": "number"}}}},
                    "strict": True,
                }
            },
            {"cachePoint": {"type": "default", "ttl": "5m"}},
            {"systemTool": {"name": "nova_grounding"}},
        ],
        "toolChoice": {"tool": {"name": "f"}},
    },
    "guardrailConfig": {"guardrailIdentifier": "g1", "guardrailVersion": "DRAFT", "trace": "enabled"},
    "additionalModelRequestFields": {
        "top_k": 7,
        "thinking": {"type": "enabled", "budget_tokens": 2048, "display": "omitted"},
        "anthropic_beta": ["b"],
    },
    "additionalModelResponseFieldPaths": ["/stop_sequence"],
    "promptVariables": {"v": {"text": "w"}},
    "requestMetadata": {"team": "a b"},
    "performanceConfig": {"latency": "optimized"},
    "serviceTier": {"type": "priority"},
    "outputConfig": {
        "effort": "high",
        "textFormat": {
            "type": "json_schema",
            "structure": {"jsonSchema": {"schema": '{"type":"object"}', "name": "n", "description": "d"}},
        },
    },
}
