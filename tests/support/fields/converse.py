"""Converse, as botocore's model of the service has it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from tests.support.fields.row import PDF, PNG, SCHEMA, WAV, Body, Caller, Row

HI = {"text": "hi"}
POINT = {"cachePoint": {"type": "default"}}
USER = {"role": "user", "content": [HI]}
BASE: Body = {"messages": [USER]}
TOOL: Body = {"name": "f", "inputSchema": {"json": SCHEMA}}
TOOLS = {"tools": [{"toolSpec": TOOL}]}
CALL = {"toolUse": {"toolUseId": "c1", "name": "f", "input": {"a": "b"}}}
RESULT: Body = {"toolUseId": "c1", "content": [{"text": "done"}]}
PICTURE = {"image": {"format": "png", "source": {"bytes": PNG}}}
PAPER = {"format": "pdf", "name": "a", "source": {"bytes": PDF}}
MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"


@cache
def members(shape: str) -> frozenset[str]:
    session: Any = import_module("botocore.session")  # it comes without types
    service = session.get_session().get_service_model("bedrock-runtime")
    return frozenset(service.shape_for(shape).members)


def setting(name: str, value: Any, implied: str | None = None, **beside: Any) -> Row:
    return Row("request", name, {**BASE, **beside, name: value}, {**BASE, **beside}, implied)


def nested(group: str, name: str, value: Any) -> Row:
    return Row(group, name, {**BASE, group: {name: value}}, BASE)


def asked(*blocks: Any) -> Body:
    return {"messages": [{"role": "user", "content": [HI, *blocks]}]}


def block(name: str, *blocks: Any, without: tuple[Any, ...] = ()) -> Row:
    return Row("content", name, asked(*blocks), asked(*without))


def said(*blocks: Any, after: tuple[Any, ...] = (HI,)) -> Body:
    messages = [USER, {"role": "assistant", "content": [HI, *blocks]}, {"role": "user", "content": [*after]}]
    return {"messages": messages, "toolConfig": TOOLS}


def answered(result: Body) -> Body:
    return said(CALL, after=({"toolResult": result}, HI))


def spec(name: str, value: Any, without: Body | None = None) -> Row:
    bare = TOOL if without is None else without
    return Row(
        "toolSpec",
        name,
        {**BASE, "toolConfig": {"tools": [{"toolSpec": TOOL | {name: value}}]}},
        {**BASE, "toolConfig": {"tools": [{"toolSpec": bare}]}},
    )


RESULT_PARTS: dict[str, Any] = {
    "json": {"a": 1},
    "text": "more",
    "image": PICTURE["image"],
    "document": PAPER,
    "video": {"format": "mp4", "source": {"bytes": WAV}},
    "searchResult": {"source": "s", "title": "t", "content": [HI]},
}

ROWS = (
    setting("messages", [USER, USER]),
    setting("system", [{"text": "be brief"}]),
    *(
        Row("system", name, {**BASE, "system": [HI, part]}, {**BASE, "system": [HI]})
        for name, part in {
            "text": {"text": "more"},
            "guardContent": {"guardContent": {"text": {"text": "more", "qualifiers": ["query"]}}},
            "cachePoint": POINT,
        }.items()
    ),
    setting("inferenceConfig", {"maxTokens": 9}),
    nested("inferenceConfig", "maxTokens", 9),
    nested("inferenceConfig", "temperature", 0.5),
    nested("inferenceConfig", "topP", 0.5),
    nested("inferenceConfig", "stopSequences", ["x"]),
    setting("toolConfig", TOOLS),
    Row("toolConfig", "tools", {**BASE, "toolConfig": TOOLS}, BASE),
    Row(
        "toolConfig",
        "toolChoice",
        {**BASE, "toolConfig": TOOLS | {"toolChoice": {"any": {}}}},
        {**BASE, "toolConfig": TOOLS},
    ),
    *(
        Row(
            "toolChoice",
            name,
            {**BASE, "toolConfig": TOOLS | {"toolChoice": {name: choice}}},
            {**BASE, "toolConfig": TOOLS},
            "a model chooses by itself" if name == "auto" else None,
        )
        for name, choice in {"auto": {}, "any": {}, "tool": {"name": "f"}}.items()
    ),
    Row("tools", "toolSpec", {**BASE, "toolConfig": TOOLS}, BASE),
    Row(
        "tools",
        "systemTool",
        {**BASE, "toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
        BASE,
    ),
    Row("tools", "cachePoint", {**BASE, "toolConfig": {"tools": [{"toolSpec": TOOL}, POINT]}}, BASE),
    spec("name", "f", TOOL | {"name": "g"}),
    spec("description", "d"),
    spec("inputSchema", {"json": SCHEMA}, TOOL | {"inputSchema": {"json": {"type": "object"}}}),
    spec("strict", True),
    setting("guardrailConfig", {"guardrailIdentifier": "g", "guardrailVersion": "1"}),
    setting("additionalModelRequestFields", {"anthropic_beta": ["b"]}),
    Row(
        "additionalModelRequestFields", "top_k", {**BASE, "additionalModelRequestFields": {"top_k": 40}}, BASE
    ),
    Row(
        "additionalModelRequestFields",
        "thinking",
        {**BASE, "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2048}}},
        BASE,
    ),
    setting("promptVariables", {"a": {"text": "b"}}),
    setting("additionalModelResponseFieldPaths", ["/stop_sequence"]),
    setting("requestMetadata", {"a": "b"}),
    setting("performanceConfig", {"latency": "optimized"}),
    setting("serviceTier", {"type": "flex"}),
    setting("outputConfig", {"effort": "high"}),
    nested("outputConfig", "effort", "high"),
    nested(
        "outputConfig",
        "textFormat",
        {"type": "json_schema", "structure": {"jsonSchema": {"schema": '{"type":"object"}', "name": "n"}}},
    ),
    Row("roles", "user", {"messages": [USER, USER]}, BASE),
    Row(
        "roles",
        "assistant",
        {"messages": [USER, {"role": "assistant", "content": [HI]}, USER]},
        {"messages": [USER, USER]},
    ),
    Row(
        "roles",
        "system",
        {"messages": [USER, {"role": "system", "content": [HI]}, USER]},
        {"messages": [USER, USER]},
    ),
    block("text", {"text": "more"}),
    block("image", PICTURE),
    block("image s3Location", {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://a/b"}}}}),
    block("document", {"document": PAPER}),
    block("document.context", {"document": PAPER | {"context": "c"}}, without=({"document": PAPER},)),
    block(
        "document.citations",
        {"document": PAPER | {"citations": {"enabled": True}}},
        without=({"document": PAPER},),
    ),
    block("video", {"video": {"format": "mp4", "source": {"bytes": WAV}}}),
    block("audio", {"audio": {"format": "wav", "source": {"bytes": WAV}}}),
    block("guardContent", {"guardContent": {"text": {"text": "more", "qualifiers": ["query"]}}}),
    block("cachePoint", POINT),
    block("cachePoint.ttl", {"cachePoint": {"type": "default", "ttl": "1h"}}),
    block("searchResult", {"searchResult": {"source": "s", "title": "t", "content": [HI]}}),
    block("toolAddition", {"toolAddition": {}}),
    block("toolRemoval", {"toolRemoval": {}}),
    Row("content", "toolUse", answered(RESULT), said()),
    Row("content", "toolResult", answered(RESULT), answered(RESULT | {"content": [{"text": "no"}]})),
    Row(
        "content",
        "reasoningContent",
        said({"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}}),
        said(),
    ),
    Row(
        "content",
        "reasoningContent redactedContent",
        said({"reasoningContent": {"redactedContent": "ZW5j"}}),
        said(),
    ),
    Row(
        "content",
        "citationsContent",
        said(
            {
                "citationsContent": {
                    "content": [HI],
                    "citations": [{"title": "t", "location": {"web": {"url": "https://example.com"}}}],
                }
            }
        ),
        said(),
    ),
    *(
        Row(
            "toolResult.content",
            name,
            answered(RESULT | {"content": [HI, {name: part}]}),
            answered(RESULT | {"content": [HI]}),
        )
        for name, part in RESULT_PARTS.items()
    ),
    Row("toolResult", "toolUseId", answered(RESULT), said()),
    Row("toolResult", "content", answered(RESULT), answered(RESULT | {"content": [{"text": "no"}]})),
    Row("toolResult", "status", answered(RESULT | {"status": "error"}), answered(RESULT)),
    Row("toolResult", "type", answered(RESULT | {"type": "new"}), answered(RESULT)),
)

CALLER = Caller(
    "converse",
    ROWS,
    model=MODEL,
    sdk={
        "request": members("ConverseRequest"),
        "system": members("SystemContentBlock"),
        "inferenceConfig": members("InferenceConfiguration"),
        "toolConfig": members("ToolConfiguration"),
        "toolChoice": members("ToolChoice"),
        "tools": members("Tool"),
        "toolSpec": members("ToolSpecification"),
        "outputConfig": members("OutputConfig"),
        "content": members("ContentBlock"),
        "toolResult": members("ToolResultBlock"),
        "toolResult.content": members("ToolResultContentBlock"),
    },
    unasked=frozenset({"modelId"}),
)
