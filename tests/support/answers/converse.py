"""Converse, as botocore's service model describes its answers."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from typing import Any

from headgate.dialects import eventstream
from tests.support.answers.row import Body, Sample, Vendor, pieces
from tests.support.fields.row import PNG, WAV

TEXT: Body = {"text": "Hello"}
USAGE: Body = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
BASE: Body = {
    "output": {"message": {"role": "assistant", "content": [TEXT]}},
    "stopReason": "end_turn",
    "usage": USAGE,
    "metrics": {"latencyMs": 0},
}
THOUGHT: Body = {"text": "pondering"}
CALL: Body = {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": "b"}}}
SECOND: Body = {"toolUse": {"toolUseId": "t2", "name": "f", "input": {"a": "c"}}}
SEARCH: Body = {
    "toolUse": {"toolUseId": "t1", "name": "nova_grounding", "type": "server_tool_use", "input": {"q": "x"}}
}
FOUND: Body = {"toolResult": {"toolUseId": "t1", "content": [{"text": "found"}], "status": "success"}}
SOURCE: list[Body] = [{"text": "a river"}]
WEB: Body = {
    "title": "A",
    "sourceContent": SOURCE,
    "location": {"web": {"url": "https://example.com/a", "domain": "example.com"}},
}
PLACES: dict[str, Body] = {
    "documentChar": {"documentIndex": 0, "start": 3, "end": 9},
    "documentPage": {"documentIndex": 0, "start": 3, "end": 4},
    "documentChunk": {"documentIndex": 0, "start": 3, "end": 4},
    "searchResultLocation": {"searchResultIndex": 1, "start": 3, "end": 4},
}


def top(**fields: Any) -> Body:
    return {**BASE, **fields}


def content(*blocks: Body, stop: str = "end_turn") -> Body:
    return top(output={"message": {"role": "assistant", "content": list(blocks)}}, stopReason=stop)


def thought(**fields: Any) -> Body:
    return content({"reasoningContent": {"reasoningText": THOUGHT | fields}}, TEXT)


def counted(**fields: Any) -> Body:
    return top(usage={**USAGE, **fields})


def cited(citation: Body) -> Body:
    return content({"citationsContent": {"content": [TEXT], "citations": [citation]}})


def located(kind: str) -> Body:
    found = {"title": "Rivers", "sourceContent": SOURCE, "location": {kind: PLACES[kind]}}
    return cited(found | ({"source": "https://example.com/a"} if kind == "searchResultLocation" else {}))


COMMON = {
    "text": Sample(content({"text": "Hello there"}), BASE),
    "reasoning": Sample(thought(), BASE),
    "signed reasoning": Sample(thought(signature="c2ln"), thought(), within="].parts["),
    "redacted reasoning": Sample(content({"reasoningContent": {"redactedContent": "ZW5j"}}, TEXT), BASE),
    "tool call": Sample(content(TEXT, CALL, stop="tool_use"), content(TEXT, stop="tool_use")),
    "parallel tool calls": Sample(content(CALL, SECOND, stop="tool_use"), content(CALL, stop="tool_use")),
    "image": Sample(content(TEXT, {"image": {"format": "png", "source": {"bytes": PNG}}}), BASE),
    "sound": Sample(content(TEXT, {"audio": {"format": "wav", "source": {"bytes": WAV}}}), BASE),
    "call that the vendor ran": Sample(content(SEARCH, FOUND, TEXT), content(FOUND, TEXT)),
    "result of what the vendor ran": Sample(content(SEARCH, FOUND, TEXT), content(SEARCH, TEXT)),
    "block of an unknown type": Sample(content(TEXT, {"novelty": {"a": 1}}), BASE),
    "cited web page": Sample(cited(WEB), BASE),
    "cited document": Sample(located("documentChar"), BASE),
    "tokens": Sample(BASE, counted(outputTokens=7, totalTokens=17)),
    "tokens from a cache": Sample(
        counted(cacheReadInputTokens=4, totalTokens=19), counted(inputTokens=14, totalTokens=19)
    ),
    "tokens to a cache": Sample(
        counted(cacheWriteInputTokens=4, totalTokens=19), counted(inputTokens=14, totalTokens=19)
    ),
    "service tier": Sample(top(serviceTier={"type": "flex"}), BASE),
}
OWN = {
    "metrics": Sample(top(metrics={"latencyMs": 300}), BASE, "the gateway measures the time itself"),
    "additionalModelResponseFields": Sample(
        top(additionalModelResponseFields={"stop_sequence": "END"}), BASE
    ),
    "trace": Sample(top(trace={"promptRouter": {"invokedModelId": "m"}}), BASE),
    "performanceConfig": Sample(top(performanceConfig={"latency": "optimized"}), BASE),
    "usage.cacheDetails": Sample(
        counted(cacheWriteInputTokens=4, cacheDetails=[{"ttl": "1h", "inputTokens": 4}]),
        counted(cacheWriteInputTokens=4),
    ),
    **{name: Sample(located(name), BASE) for name in PLACES if name != "documentChar"},
    "document": Sample(
        content(TEXT, {"document": {"format": "txt", "name": "n", "source": {"text": "x"}}}), BASE
    ),
    "video": Sample(content(TEXT, {"video": {"format": "mp4", "source": {"bytes": WAV}}}), BASE),
    "guardContent": Sample(content(TEXT, {"guardContent": {"text": {"text": "x"}}}), BASE),
    "searchResult": Sample(
        content(TEXT, {"searchResult": {"source": "s", "title": "t", "content": SOURCE}}), BASE
    ),
}
WORDS = {
    **{
        word: top(stopReason=word)
        for word in (
            *("end_turn", "max_tokens", "stop_sequence", "guardrail_intervened", "content_filtered"),
            *("malformed_model_output", "malformed_tool_use", "model_context_window_exceeded"),
            "a_word_of_tomorrow",
        )
    },
    "tool_use": content(TEXT, CALL, stop="tool_use"),
}
_STREAMED = ("text", "image", "toolUse", "toolResult", "reasoningContent", "citationsContent")
"""Blocks that streams have."""


def streamed(body: Body) -> bytes:
    out = [_event("messageStart", {"role": "assistant"})]
    blocks = [block for block in body["output"]["message"]["content"] if next(iter(block)) in _STREAMED]
    for index, block in enumerate(blocks):
        for name, fields in _block(block):
            out.append(_event(name, {"contentBlockIndex": index, **fields}))
        out.append(_event("contentBlockStop", {"contentBlockIndex": index}))
    late: Body = {key: body[key] for key in body if key in ("stopReason", "additionalModelResponseFields")}
    rest = {key: value for key, value in body.items() if key not in (*late, "output")}
    return b"".join([*out, _event("messageStop", late), _event("metadata", rest)])


def _event(name: str, fields: Body) -> bytes:
    headers = eventstream.encode_headers(
        {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    )
    return eventstream.encode_frame(headers, json.dumps(fields).encode())


def _block(block: Body) -> Iterator[tuple[str, Body]]:
    kind, value = next(iter(block.items()))
    match kind:
        case "text":
            yield from (("contentBlockDelta", {"delta": {"text": piece}}) for piece in pieces(value))
        case "reasoningContent" if "redactedContent" in value:
            yield "contentBlockDelta", {"delta": {kind: value}}
        case "reasoningContent":
            for key, text in value["reasoningText"].items():
                texts = pieces(text) if key == "text" else [text]
                yield from (("contentBlockDelta", {"delta": {kind: {key: piece}}}) for piece in texts)
        case "citationsContent":
            for each in value["content"]:
                yield from (
                    ("contentBlockDelta", {"delta": {"text": piece}}) for piece in pieces(each["text"])
                )
            for each in value["citations"]:
                yield "contentBlockDelta", {"delta": {"citation": each}}
        case "toolUse":
            yield "contentBlockStart", {"start": {kind: {k: v for k, v in value.items() if k != "input"}}}
            for piece in pieces(json.dumps(value["input"], separators=(",", ":"))):
                yield "contentBlockDelta", {"delta": {kind: {"input": piece}}}
        case "toolResult":
            yield "contentBlockStart", {"start": {kind: {k: v for k, v in value.items() if k != "content"}}}
            yield "contentBlockDelta", {"delta": {kind: value["content"]}}
        case _:
            yield "contentBlockStart", {"start": {kind: {"format": value["format"]}}}
            yield "contentBlockDelta", {"delta": {kind: {"source": value["source"]}}}


def _sdk() -> frozenset[str]:
    loader = importlib.import_module("botocore.loaders").Loader()
    description = loader.load_service_model("bedrock-runtime", "service-2")
    model = importlib.import_module("botocore.model").ServiceModel(description)
    shapes = (
        "ConverseResponse",
        "TokenUsage",
        "ContentBlock",
        "ToolUseBlock",
        "Citation",
        "CitationLocation",
    )
    return frozenset(name for shape in shapes for name in model.shape_for(shape).members)


VENDOR = Vendor(
    "converse",
    COMMON,
    OWN,
    WORDS,
    streamed,
    eventstream.CONTENT_TYPE,
    sdk=_sdk(),
    unsaid=frozenset({"cachePoint", "toolAddition", "toolRemoval"}),
)
