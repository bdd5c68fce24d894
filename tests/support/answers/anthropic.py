"""Messages, as the anthropic SDK types them."""

from __future__ import annotations

import json
from typing import Any

from anthropic.types import ContentBlock, Message, TextBlock, TextCitation, ToolUseBlock, Usage

from tests.support.answers.row import HERS, Body, Sample, Vendor, fields_of, pieces, tags

TEXT: Body = {"type": "text", "text": "Hello"}
USAGE: Body = {"input_tokens": 10, "output_tokens": 5}
BASE: Body = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-4-8",
    "content": [TEXT],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}
THOUGHT: Body = {"type": "thinking", "thinking": "pondering", "signature": ""}
CALL: Body = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": "b"}}
SEARCH: Body = {
    "type": "server_tool_use",
    "id": "srvtoolu_1",
    "name": "web_search",
    "input": {"query": "rivers"},
}
PAGE: Body = {
    "type": "web_search_result",
    "url": "https://example.com/a",
    "title": "A",
    "encrypted_content": "ZW5j",
}
FOUND: Body = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [PAGE]}
WEB: Body = {
    "type": "web_search_result_location",
    "cited_text": "a river",
    "url": "https://example.com/a",
    "title": "A",
    "encrypted_index": "ZW5j",
}
_DOCUMENT: Body = {"cited_text": "a river", "document_index": 0, "document_title": "Rivers", "file_id": None}
PLACES: dict[str, Body] = {
    "char_location": _DOCUMENT | {"start_char_index": 3, "end_char_index": 9},
    "page_location": _DOCUMENT | {"start_page_number": 3, "end_page_number": 4},
    "content_block_location": _DOCUMENT | {"start_block_index": 3, "end_block_index": 4},
    "search_result_location": {
        "cited_text": "a river",
        "search_result_index": 1,
        "source": "https://example.com/a",
        "title": "A",
        "start_block_index": 3,
        "end_block_index": 4,
    },
}
RESULTS: dict[str, Any] = {
    "web_fetch_tool_result": {"type": "web_fetch_result", "url": "https://example.com/a"},
    "code_execution_tool_result": {"type": "code_execution_result", "stdout": "1", "return_code": 0},
    "bash_code_execution_tool_result": {"type": "bash_code_execution_result", "stdout": "1"},
    "text_editor_code_execution_tool_result": {"type": "text_editor_code_execution_view_result"},
    "tool_search_tool_result": {"type": "tool_search_tool_search_result", "tool_references": []},
}


def top(**fields: Any) -> Body:
    return {**BASE, **fields}


def content(*blocks: Body) -> Body:
    return top(content=list(blocks))


def called(*blocks: Body) -> Body:
    return top(content=[TEXT, *blocks], stop_reason="tool_use")


def counted(**fields: Any) -> Body:
    return top(usage={**USAGE, **fields})


def cited(place: Body) -> Body:
    return content({**TEXT, "citations": [place]})


def located(kind: str) -> Body:
    return cited({"type": kind, **PLACES[kind]})


COMMON = {
    "text": Sample(content({**TEXT, "text": "Hello there"}), BASE),
    "reasoning": Sample(content(THOUGHT, TEXT), BASE),
    "signed reasoning": Sample(
        content(THOUGHT | {"signature": "c2ln"}, TEXT), content(THOUGHT, TEXT), within="].parts["
    ),
    "redacted reasoning": Sample(content({"type": "redacted_thinking", "data": "ZW5j"}, TEXT), BASE),
    "tool call": Sample(called(CALL), called()),
    "parallel tool calls": Sample(called(CALL, CALL | {"id": "toolu_2"}), called(CALL)),
    "call that the vendor ran": Sample(content(SEARCH, FOUND, TEXT), content(FOUND, TEXT)),
    "result of what the vendor ran": Sample(content(SEARCH, FOUND, TEXT), content(SEARCH, TEXT)),
    "block of an unknown type": Sample(content({"type": "novelty", "a": 1}, TEXT), BASE),
    "cited web page": Sample(cited(WEB), BASE),
    "cited document": Sample(located("char_location"), BASE),
    "stop sequence": Sample(top(stop_reason="stop_sequence", stop_sequence="END"), BASE),
    "tokens": Sample(BASE, counted(output_tokens=7)),
    "tokens from a cache": Sample(counted(cache_read_input_tokens=4), counted(input_tokens=14)),
    "tokens to a cache": Sample(counted(cache_creation_input_tokens=4), counted(input_tokens=14)),
    "tokens of reasoning": Sample(counted(output_tokens_details={"thinking_tokens": 4}), BASE),
    "id": Sample(BASE, top(id="msg_2"), HERS["id"]),
    "model": Sample(BASE, top(model="claude-haiku-4-5"), HERS["model"]),
    "service tier": Sample(counted(service_tier="priority"), BASE),
}
OWN = {
    "container": Sample(top(container={"id": "c1", "expires_at": "2026-01-01T00:00:00Z"}), BASE),
    "diagnostics": Sample(top(diagnostics={"cache_miss_reason": {"type": "model_changed"}}), BASE),
    "context_management": Sample(top(context_management={"applied_edits": [{"type": "x"}]}), BASE),
    "stop_details": Sample(
        top(stop_reason="refusal", stop_details={"type": "refusal", "category": "cyber"}),
        top(stop_reason="refusal"),
    ),
    **{
        name: Sample(
            content(SEARCH, {"type": name, "tool_use_id": "srvtoolu_1", "content": found}), content(SEARCH)
        )
        for name, found in RESULTS.items()
    },
    "container_upload": Sample(content({"type": "container_upload", "file_id": "file_1"}, TEXT), BASE),
    "tool_use.caller": Sample(
        called(CALL | {"caller": {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}}), called(CALL)
    ),
    "tool_use.toolset_name": Sample(called(CALL | {"toolset_name": "t"}), called(CALL)),
    **{name: Sample(located(name), BASE) for name in PLACES if name != "char_location"},
    "usage.cache_creation": Sample(
        counted(
            cache_creation_input_tokens=4,
            cache_creation={"ephemeral_1h_input_tokens": 4, "ephemeral_5m_input_tokens": 0},
        ),
        counted(cache_creation_input_tokens=4),
    ),
    "usage.inference_geo": Sample(counted(inference_geo="us"), BASE),
    "usage.server_tool_use": Sample(counted(server_tool_use={"web_search_requests": 1}), BASE),
    "usage.speed": Sample(counted(speed="fast"), BASE),
}
WORDS = {
    "end_turn": BASE,
    "max_tokens": top(stop_reason="max_tokens"),
    "stop_sequence": top(stop_reason="stop_sequence", stop_sequence="END"),
    "tool_use": called(CALL),
    "pause_turn": top(stop_reason="pause_turn"),
    "refusal": top(stop_reason="refusal"),
    "model_context_window_exceeded": top(stop_reason="model_context_window_exceeded"),
    "a_word_of_tomorrow": top(stop_reason="a_word_of_tomorrow"),
}
_LATE = ("stop_reason", "stop_sequence", "stop_details", "container")


def streamed(body: Body) -> bytes:
    usage = body["usage"]
    late = {key: body[key] for key in _LATE if key in body}
    last: Body = {"delta": late, "usage": {"output_tokens": usage["output_tokens"]}}
    for key in ("output_tokens_details", "server_tool_use"):
        if key in usage:
            last["usage"][key] = usage[key]
    if "context_management" in body:
        last["context_management"] = body["context_management"]
    early = {key: value for key, value in body.items() if key not in (*_LATE, "context_management")}
    counts = {key: value for key, value in usage.items() if key != "output_tokens_details"}
    head = early | {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": counts | {"output_tokens": 1},
    }
    events: list[tuple[str, Body]] = [("message_start", {"message": head})]
    for index, block in enumerate(body["content"]):
        start, deltas = _block(block)
        events.append(("content_block_start", {"index": index, "content_block": start}))
        events += [("content_block_delta", {"index": index, "delta": delta}) for delta in deltas]
        events.append(("content_block_stop", {"index": index}))
    events += [("message_delta", last), ("message_stop", {})]
    return "".join(
        f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n" for name, fields in events
    ).encode()


def _block(block: Body) -> tuple[Body, list[Body]]:
    """A block as it starts, and its deltas."""
    match block["type"]:
        case "text":
            texts = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
            cites = [{"type": "citations_delta", "citation": each} for each in block.get("citations", ())]
            return {"type": "text", "text": ""}, [*cites, *texts]
        case "thinking":
            thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
            signature = {"type": "signature_delta", "signature": block["signature"]}
            return {"type": "thinking", "thinking": "", "signature": ""}, [*thoughts, signature]
        case "tool_use" | "server_tool_use":
            inputs = pieces(json.dumps(block["input"], separators=(",", ":")))
            return {**block, "input": {}}, [
                {"type": "input_json_delta", "partial_json": piece} for piece in inputs
            ]
        case _:
            return block, []


VENDOR = Vendor(
    "anthropic",
    COMMON,
    OWN,
    WORDS,
    streamed,
    sdk=fields_of(Message, TextBlock, ToolUseBlock, Usage) | tags(ContentBlock) | tags(TextCitation),
)
