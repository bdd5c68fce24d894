"""Amazon Bedrock: after "Converse", "ConverseStream" and "Common errors" of its API reference."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, ClassVar
from urllib.parse import quote

from typing_extensions import override

from headgate.dialects import eventstream
from tests.e2e.sdk.said import INPUT_TOKENS, OUTPUT_TOKENS, SIGNATURE, Said
from tests.e2e.sdk.vendors.vendor import Vendor
from tests.support.upstream import Seen
from tests.unit.bedrock.aws import complaints, frame

WORDS = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    500: "InternalServerException",
    529: "ServiceUnavailableException",
}
USAGE = {
    "inputTokens": INPUT_TOKENS,
    "outputTokens": OUTPUT_TOKENS,
    "totalTokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


class Converse(Vendor):
    name = "converse"
    backend = "bedrock"
    settings: ClassVar[dict[str, Any]] = {"region": "eu-central-1"}
    model = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
    stream_type = eventstream.CONTENT_TYPE

    @override
    def whole(self, said: Said) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        if said.thought:
            text = {"text": said.thought, "signature": SIGNATURE}
            content.append({"reasoningContent": {"reasoningText": text}})
        if said.pieces:
            content.append({"text": said.text})
        for call in said.calls:
            use = {"toolUseId": call.id, "name": call.name, "input": call.arguments}
            content.append({"toolUse": use})
        return {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": "tool_use" if said.calls else "end_turn",
            "usage": USAGE,
            "metrics": {"latencyMs": 1175},
        }

    @override
    def events(self, said: Said) -> list[bytes]:
        out = [frame("messageStart", {"role": "assistant"})]
        index = 0
        if said.thought:
            for delta in ({"text": said.thought}, {"signature": SIGNATURE}):
                out.append(self._delta(index, {"reasoningContent": delta}))
            out.append(frame("contentBlockStop", {"contentBlockIndex": index}))
            index += 1
        if said.pieces:
            out += [self._delta(index, {"text": piece}) for piece in said.pieces]
            out.append(frame("contentBlockStop", {"contentBlockIndex": index}))
            index += 1
        for call in said.calls:
            start = {"toolUse": {"toolUseId": call.id, "name": call.name}}
            out.append(frame("contentBlockStart", {"start": start, "contentBlockIndex": index}))
            text = json.dumps(call.arguments)
            out += [self._delta(index, {"toolUse": {"input": half}}) for half in (text[:5], text[5:])]
            out.append(frame("contentBlockStop", {"contentBlockIndex": index}))
            index += 1
        out.append(frame("messageStop", {"stopReason": "tool_use" if said.calls else "end_turn"}))
        return [*out, frame("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1175}})]

    def _delta(self, index: int, delta: dict[str, Any]) -> bytes:
        return frame("contentBlockDelta", {"delta": delta, "contentBlockIndex": index})

    @override
    def failure(self) -> bytes:
        return frame("serviceUnavailableException", {"message": "Overloaded now"}, "exception")

    @override
    def refusal(self, status: int, message: str) -> tuple[dict[str, Any], list[str]]:
        return {"message": message}, [f"x-amzn-errortype: {WORDS[status]}"]

    @override
    def check(self, seen: Seen) -> None:
        action = seen.path.removeprefix(f"/model/{quote(self.model, safe='')}/")
        assert action in ("converse", "converse-stream")
        assert seen.headers["authorization"] == "Bearer vendor-key"
        assert complaints(seen.json) == ""
        roles = [message["role"] for message in seen.json["messages"]]
        assert roles[0] == "user"
        assert all(one != two for one, two in pairwise(roles)), roles

    @override
    def streams(self, seen: Seen) -> bool:
        return seen.path.endswith("-stream")

    def _all(self, body: dict[str, Any], kind: str) -> list[Any]:
        return [block[kind] for message in body["messages"] for block in message["content"] if kind in block]

    @override
    def results(self, body: dict[str, Any]) -> list[str]:
        contents = [result["content"] for result in self._all(body, "toolResult")]
        return ["".join(part.get("text", "") for part in content) for content in contents]

    @override
    def called(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        return [use["input"] for use in self._all(body, "toolUse")]

    @override
    def images(self, body: dict[str, Any]) -> list[str]:
        return [image["source"]["bytes"] for image in self._all(body, "image")]

    @override
    def tools(self, body: dict[str, Any]) -> dict[str, dict[str, Any]]:
        tools = body.get("toolConfig", {}).get("tools", [])
        specs = [tool["toolSpec"] for tool in tools if "toolSpec" in tool]
        return {spec["name"]: spec["inputSchema"]["json"] for spec in specs}

    @override
    def schema(self, body: dict[str, Any]) -> dict[str, Any] | None:
        form = body.get("outputConfig", {}).get("textFormat")
        return json.loads(form["structure"]["jsonSchema"]["schema"]) if form else None

    @override
    def thinks(self, body: dict[str, Any]) -> bool:
        return "thinking" in body.get("additionalModelRequestFields", {})

    @override
    def signatures(self, body: dict[str, Any]) -> list[str]:
        thoughts = [thought["reasoningText"] for thought in self._all(body, "reasoningContent")]
        return [thought["signature"] for thought in thoughts if "signature" in thought]

    @override
    def system(self, body: dict[str, Any]) -> str:
        return "".join(block.get("text", "") for block in body.get("system", []))
