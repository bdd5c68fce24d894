"""Anthropic: after "Messages", "Streaming messages" and "Errors" of its API documentation."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

from anthropic.types import message_create_params
from pydantic import TypeAdapter
from typing_extensions import override

from tests.e2e.sdk.said import INPUT_TOKENS, OUTPUT_TOKENS, SIGNATURE, Said
from tests.e2e.sdk.vendors.vendor import Vendor
from tests.support.upstream import Seen

REQUEST: TypeAdapter[Any] = TypeAdapter(message_create_params.MessageCreateParamsNonStreaming)
USAGE = {
    "input_tokens": INPUT_TOKENS,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "output_tokens": OUTPUT_TOKENS,
    "output_tokens_details": None,
    "server_tool_use": None,
    "service_tier": "standard",
    "inference_geo": "global",
}
WORDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def blocks_of(said: Said) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if said.thought:
        blocks.append({"type": "thinking", "thinking": said.thought, "signature": SIGNATURE})
    if said.pieces:
        blocks.append({"type": "text", "text": said.text, "citations": None})
    for call in said.calls:
        use = {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
        blocks.append({**use, "caller": {"type": "direct"}})
    return blocks


class Anthropic(Vendor):
    name = "anthropic"
    backend = "anthropic"
    model = "claude-sonnet-4-5-20250929"

    @override
    def whole(self, said: Said) -> dict[str, Any]:
        return {
            "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": blocks_of(said),
            "stop_reason": "tool_use" if said.calls else "end_turn",
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
            "usage": USAGE,
        }

    @override
    def events(self, said: Said) -> list[bytes]:
        start = {**self.whole(Said()), "stop_reason": None}
        start["usage"] = {**USAGE, "output_tokens": 1}
        out = [_event("message_start", message=start)]
        for index, block in enumerate(blocks_of(said)):
            empty, deltas = self._deltas(block, said)
            out.append(_event("content_block_start", index=index, content_block=empty))
            if index == 0:
                out[-1] += _event("ping")
            out += [_event("content_block_delta", index=index, delta=delta) for delta in deltas]
            out.append(_event("content_block_stop", index=index))
        delta = {"stop_reason": "tool_use" if said.calls else "end_turn", "stop_sequence": None}
        out.append(_event("message_delta", delta=delta, usage={"output_tokens": OUTPUT_TOKENS}))
        return [*out, _event("message_stop")]

    def _deltas(self, block: dict[str, Any], said: Said) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        match block["type"]:
            case "thinking":
                return {"type": "thinking", "thinking": "", "signature": ""}, [
                    {"type": "thinking_delta", "thinking": said.thought},
                    {"type": "signature_delta", "signature": SIGNATURE},
                ]
            case "text":
                texts = [{"type": "text_delta", "text": piece} for piece in said.pieces]
                return {"type": "text", "text": ""}, texts
        text = json.dumps(block["input"])
        halves = ("", text[:5], text[5:])
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": h} for h in halves]

    @override
    def failure(self) -> bytes:
        return _event("error", error={"type": "overloaded_error", "message": "Overloaded now"})

    @override
    def refusal(self, status: int, message: str) -> tuple[dict[str, Any], list[str]]:
        error = {"type": WORDS[status], "message": message}
        return {"type": "error", "error": error, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}, []

    @override
    def check(self, seen: Seen) -> None:
        assert seen.path == "/v1/messages"
        assert seen.headers["x-api-key"] == "vendor-key"
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", seen.headers["anthropic-version"])
        assert seen.json["model"] == self.model
        assert seen.json["max_tokens"] > 0
        REQUEST.validate_python({**seen.json, "stream": False})
        roles = [message["role"] for message in seen.json["messages"]]
        assert roles[0] == "user"
        assert all(one != two for one, two in pairwise(roles)), roles

    @override
    def streams(self, seen: Seen) -> bool:
        stream: bool = seen.json.get("stream", False)
        return stream

    def _blocks(self, body: dict[str, Any], kind: str) -> list[dict[str, Any]]:
        return [
            block
            for message in body["messages"]
            if isinstance(message["content"], list)
            for block in message["content"]
            if block["type"] == kind
        ]

    @override
    def results(self, body: dict[str, Any]) -> list[str]:
        contents = [block["content"] for block in self._blocks(body, "tool_result")]
        return [c if isinstance(c, str) else "".join(block.get("text", "") for block in c) for c in contents]

    @override
    def called(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        return [block["input"] for block in self._blocks(body, "tool_use")]

    @override
    def images(self, body: dict[str, Any]) -> list[str]:
        return [block["source"]["data"] for block in self._blocks(body, "image")]

    @override
    def tools(self, body: dict[str, Any]) -> dict[str, dict[str, Any]]:
        tools = [tool for tool in body.get("tools", []) if "input_schema" in tool]
        return {tool["name"]: tool["input_schema"] for tool in tools}

    @override
    def schema(self, body: dict[str, Any]) -> dict[str, Any] | None:
        found: dict[str, Any] | None = body.get("output_config", {}).get("format", {}).get("schema")
        return found

    @override
    def thinks(self, body: dict[str, Any]) -> bool:
        asked = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
        return asked or "effort" in body.get("output_config", {})

    @override
    def signatures(self, body: dict[str, Any]) -> list[str]:
        return [block["signature"] for block in self._blocks(body, "thinking")]

    @override
    def system(self, body: dict[str, Any]) -> str:
        system = body.get("system", "")
        return system if isinstance(system, str) else "".join(block["text"] for block in system)
