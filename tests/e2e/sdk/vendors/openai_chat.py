"""An OpenAI-compatible vendor whose model thinks: Chat Completions, with OpenRouter's `reasoning_details`.

After OpenAI's API reference ("The chat completion object", "The chat completion chunk object") and
OpenRouter's "Reasoning Tokens".
"""

from __future__ import annotations

import json
from typing import Any

from openai.types.chat import completion_create_params
from pydantic import TypeAdapter
from typing_extensions import override

from tests.e2e.sdk.said import INPUT_TOKENS, OUTPUT_TOKENS, SIGNATURE, Said
from tests.e2e.sdk.vendors.vendor import Vendor
from tests.support.upstream import Seen

REQUEST: TypeAdapter[Any] = TypeAdapter(completion_create_params.CompletionCreateParamsNonStreaming)
USAGE = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


def _event(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def detail(said: Said) -> dict[str, Any]:
    return {
        "type": "reasoning.text",
        "text": said.thought,
        "signature": SIGNATURE,
        "format": "anthropic-claude-v1",
        "index": 0,
    }


class OpenAIChat(Vendor):
    name = "openai_chat"
    backend = "openai-compatible"
    model = "gpt-oss-120b"

    @override
    def base_url(self, url: str) -> str:
        return f"{url}/v1"

    @override
    def whole(self, said: Said) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None}
        if said.thought:
            message |= {"reasoning": said.thought, "reasoning_details": [detail(said)]}
        if said.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
                }
                for call in said.calls
            ]
        finish = "tool_calls" if said.calls else "stop"
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "object": "chat.completion",
            "created": 1741569952,
            "model": self.model,
            "choices": [choice],
            "usage": USAGE,
            "service_tier": "default",
        }

    @override
    def events(self, said: Said) -> list[bytes]:
        chunks = [self._chunk({"role": "assistant", "content": ""})]
        if said.thought:
            head, signed = detail(said), detail(said)
            del head["signature"]
            signed["text"] = ""
            chunks.append(self._chunk({"reasoning": said.thought, "reasoning_details": [head]}))
            chunks.append(self._chunk({"reasoning_details": [signed]}))
        chunks += [self._chunk({"content": piece}) for piece in said.pieces]
        for index, call in enumerate(said.calls):
            start = {"index": index, "id": call.id, "type": "function"}
            function = {"name": call.name, "arguments": ""}
            chunks.append(self._chunk({"tool_calls": [{**start, "function": function}]}))
        # Interleaved, as vendors of parallel calls do it.
        texts = [json.dumps(call.arguments) for call in said.calls]
        for halves in ([text[:5] for text in texts], [text[5:] for text in texts]):
            for index, half in enumerate(halves):
                chunks.append(
                    self._chunk({"tool_calls": [{"index": index, "function": {"arguments": half}}]})
                )
        chunks.append(self._chunk({}, "tool_calls" if said.calls else "stop"))
        usage = {**self._chunk({}), "choices": [], "usage": USAGE}
        return [_event(chunk) for chunk in [*chunks, usage]] + [_event(b"[DONE]")]

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {
            "id": "chatcmpl-123",
            "object": "chat.completion.chunk",
            "created": 1694268190,
            "model": self.model,
            "system_fingerprint": "fp_44709d6fcb",
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        }

    @override
    def failure(self) -> bytes:
        return _event({"error": {"message": "Overloaded now", "type": "server_error", "code": None}})

    @override
    def refusal(self, status: int, message: str) -> tuple[dict[str, Any], list[str]]:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        return {"error": error}, ["x-request-id: req_1"]

    @override
    def check(self, seen: Seen) -> None:
        assert seen.path == "/v1/chat/completions"
        assert seen.headers["authorization"] == "Bearer vendor-key"
        assert seen.json["model"] == self.model
        REQUEST.validate_python({**seen.json, "stream": False})

    @override
    def streams(self, seen: Seen) -> bool:
        stream: bool = seen.json.get("stream", False)
        if stream:
            assert seen.json["stream_options"]["include_usage"] is True
        return stream

    @override
    def results(self, body: dict[str, Any]) -> list[str]:
        contents = [message["content"] for message in body["messages"] if message["role"] == "tool"]
        return [
            content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
            for content in contents
        ]

    @override
    def called(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            json.loads(call["function"]["arguments"])
            for message in body["messages"]
            for call in message.get("tool_calls") or []
        ]

    @override
    def images(self, body: dict[str, Any]) -> list[str]:
        return [
            part["image_url"]["url"].partition(";base64,")[2]
            for message in body["messages"]
            if isinstance(message["content"], list)
            for part in message["content"]
            if part["type"] == "image_url"
        ]

    @override
    def tools(self, body: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {t["function"]["name"]: t["function"].get("parameters") or {} for t in body.get("tools", [])}

    @override
    def schema(self, body: dict[str, Any]) -> dict[str, Any] | None:
        found: dict[str, Any] | None = body.get("response_format", {}).get("json_schema", {}).get("schema")
        return found

    @override
    def thinks(self, body: dict[str, Any]) -> bool:
        return "reasoning_effort" in body

    @override
    def signatures(self, body: dict[str, Any]) -> list[str]:
        return [
            entry["signature"]
            for message in body["messages"]
            for entry in message.get("reasoning_details") or []
            if entry.get("signature")
        ]

    @override
    def system(self, body: dict[str, Any]) -> str:
        return "".join(
            str(message["content"])
            for message in body["messages"]
            if message["role"] in ("system", "developer")
        )
