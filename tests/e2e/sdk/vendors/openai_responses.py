"""OpenAI's Responses API: after "The response object", "Streaming events" and "Reasoning models"."""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import response_create_params
from pydantic import TypeAdapter
from typing_extensions import override

from tests.e2e.sdk.said import INPUT_TOKENS, OUTPUT_TOKENS, SIGNATURE, Said
from tests.e2e.sdk.vendors.vendor import Vendor
from tests.support.upstream import Seen
from tests.unit.responses.wire import Script, answer, message

REQUEST: TypeAdapter[Any] = TypeAdapter(response_create_params.ResponseCreateParamsNonStreaming)
USAGE = {
    "input_tokens": INPUT_TOKENS,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": OUTPUT_TOKENS,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


class OpenAIResponses(Vendor):
    name = "openai_responses"
    backend = "scripted-responses"
    model = "gpt-5-2025-08-07"

    @override
    def base_url(self, url: str) -> str:
        return f"{url}/v1"

    def _items(self, said: Said) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        if said.thought:
            summary = [{"type": "summary_text", "text": said.thought}]
            items.append(
                {"id": "rs_1", "type": "reasoning", "summary": summary, "encrypted_content": SIGNATURE}
            )
        if said.pieces:
            items.append(message(said.text, f"msg_{len(items)}"))
        for call in said.calls:
            items.append(
                {
                    "id": f"fc_{call.id}",
                    "type": "function_call",
                    "status": "completed",
                    "call_id": call.id,
                    "name": call.name,
                    "arguments": json.dumps(call.arguments),
                }
            )
        return items

    @override
    def whole(self, said: Said) -> dict[str, Any]:
        return answer(*self._items(said), model=self.model, usage=USAGE)

    @override
    def events(self, said: Said) -> list[bytes]:
        script = Script().begin()
        items = self._items(said)
        for index, item in enumerate(items):
            if item["type"] == "message":
                script.message(index, *said.pieces)
            elif item["type"] == "reasoning":
                self._reason(script, index, item)
            else:
                self._call(script, index, item)
        return script.end(*items, model=self.model, usage=USAGE).sent

    def _reason(self, script: Script, index: int, item: dict[str, Any]) -> None:
        script.add(index, {**item, "summary": [], "encrypted_content": None})
        place = {"item_id": item["id"], "output_index": index, "summary_index": 0}
        part = item["summary"][0]
        script.event("response.reasoning_summary_part.added", **place, part={**part, "text": ""})
        script.event("response.reasoning_summary_text.delta", **place, delta=part["text"])
        script.event("response.reasoning_summary_text.done", **place, text=part["text"])
        script.event("response.reasoning_summary_part.done", **place, part=part)
        script.done(index, item)

    def _call(self, script: Script, index: int, item: dict[str, Any]) -> None:
        script.add(index, {**item, "arguments": "", "status": "in_progress"})
        place = {"item_id": item["id"], "output_index": index}
        for half in (item["arguments"][:5], item["arguments"][5:]):
            script.event("response.function_call_arguments.delta", **place, delta=half)
        script.event("response.function_call_arguments.done", **place, arguments=item["arguments"])
        script.done(index, item)

    @override
    def failure(self) -> bytes:
        error = {"code": "server_error", "message": "Overloaded now", "param": None}
        script = Script()
        script.sent = [b""] * 5  # the answer began, its item, its part, and the first piece: five events
        return script.event("error", **error).wire

    @override
    def refusal(self, status: int, message: str) -> tuple[dict[str, Any], list[str]]:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        return {"error": error}, ["x-request-id: req_1"]

    @override
    def check(self, seen: Seen) -> None:
        assert seen.path == "/v1/responses"
        assert seen.headers["authorization"] == "Bearer vendor-key"
        assert seen.json["model"] == self.model
        body = {**seen.json, "stream": False}
        for item in self._all(body, "message"):
            for part in item["content"] if isinstance(item["content"], list) else ():
                if part["type"] == "input_image":
                    part.setdefault("detail", "auto")  # optional, but for the SDK's type
        for item in self._all(body, "reasoning"):
            item.setdefault("id", "rs_1")  # as well: an item that is no longer stored has no use for it
        REQUEST.validate_python(body)

    @override
    def streams(self, seen: Seen) -> bool:
        stream: bool = seen.json.get("stream", False)
        return stream

    def _all(self, body: dict[str, Any], kind: str) -> list[dict[str, Any]]:
        items = body["input"] if isinstance(body["input"], list) else []
        return [item for item in items if item.get("type", "message") == kind]

    @override
    def results(self, body: dict[str, Any]) -> list[str]:
        outputs = [item["output"] for item in self._all(body, "function_call_output")]
        return [o if isinstance(o, str) else "".join(part.get("text", "") for part in o) for o in outputs]

    @override
    def called(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        return [json.loads(item["arguments"]) for item in self._all(body, "function_call")]

    @override
    def images(self, body: dict[str, Any]) -> list[str]:
        return [
            part["image_url"].partition(";base64,")[2]
            for item in self._all(body, "message")
            if isinstance(item["content"], list)
            for part in item["content"]
            if part["type"] == "input_image"
        ]

    @override
    def tools(self, body: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {tool["name"]: tool["parameters"] or {} for tool in body.get("tools", [])}

    @override
    def schema(self, body: dict[str, Any]) -> dict[str, Any] | None:
        found: dict[str, Any] | None = body.get("text", {}).get("format", {}).get("schema")
        return found

    @override
    def thinks(self, body: dict[str, Any]) -> bool:
        return "reasoning" in body

    @override
    def signatures(self, body: dict[str, Any]) -> list[str]:
        items = self._all(body, "reasoning")
        return [item["encrypted_content"] for item in items if item.get("encrypted_content")]

    @override
    def system(self, body: dict[str, Any]) -> str:
        told = body.get("instructions") or ""
        for item in self._all(body, "message"):
            if item["role"] in ("system", "developer"):
                content = item["content"]
                told += content if isinstance(content, str) else "".join(p["text"] for p in content)
        return str(told)
