"""Google Gemini: after "generateContent", "Function calling", "Thinking", "Troubleshooting" of its docs."""

from __future__ import annotations

import json
from typing import Any

from google.genai import types
from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from typing_extensions import override

from tests.e2e.sdk.said import INPUT_TOKENS, OUTPUT_TOKENS, SIGNATURE, Said
from tests.e2e.sdk.vendors.vendor import Vendor
from tests.support.upstream import Seen

WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    529: "UNAVAILABLE",
}
SCHEMAS = ("parametersJsonSchema", "parameters_json_schema", "parameters")
FIELDS = {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings"}


class Gemini(Vendor):
    name = "gemini"
    backend = "gemini"
    model = "gemini-2.5-flash"
    keeps_call_ids = False

    @override
    def whole(self, said: Said) -> dict[str, Any]:
        return self._answer(self._parts(said), "STOP")

    @override
    def events(self, said: Said) -> list[bytes]:
        answers = []
        for part in self._parts(Said(calls=said.calls, thought=said.thought)):
            answers.append(self._answer([part]))
        at = 1 if said.thought else 0
        answers[at:at] = [self._answer([{"text": piece}]) for piece in said.pieces]
        answers[-1]["candidates"][0]["finishReason"] = "STOP"
        return [b"data: " + json.dumps(answer).encode() + b"\r\n\r\n" for answer in answers]

    def _parts(self, said: Said) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        if said.thought:
            parts.append({"text": said.thought, "thought": True})
        if said.pieces:
            parts.append({"text": said.text})
        for number, call in enumerate(said.calls):
            part: dict[str, Any] = {"functionCall": {"name": call.name, "args": call.arguments}}
            if said.thought and number == 0:
                part["thoughtSignature"] = SIGNATURE
            parts.append(part)
        return parts

    def _answer(self, parts: list[dict[str, Any]], finish: str | None = None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        usage = {
            "promptTokenCount": INPUT_TOKENS,
            "candidatesTokenCount": OUTPUT_TOKENS,
            "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": INPUT_TOKENS}],
        }
        return {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": self.model,
            "responseId": "Y2FuIHlvdSBkZWNvZGU",
        }

    @override
    def failure(self) -> bytes:
        error = {"code": 503, "message": "Overloaded now", "status": "UNAVAILABLE"}
        return b"data: " + json.dumps({"error": error}).encode() + b"\r\n\r\n"

    @override
    def refusal(self, status: int, message: str) -> tuple[dict[str, Any], list[str]]:
        return {"error": {"code": status, "message": message, "status": WORDS[status]}}, []

    @override
    def check(self, seen: Seen) -> None:
        path, _, query = seen.path.partition("?")
        assert path.removeprefix(f"/v1beta/models/{self.model}:") in (
            "generateContent",
            "streamGenerateContent",
        )
        assert query == ("alt=sse" if self.streams(seen) else "")
        assert seen.headers["x-goog-api-key"] == "vendor-key"
        body = seen.json
        assert body.keys() <= FIELDS, body.keys()
        for name, kind in (("contents", types.Content), ("tools", types.Tool)):
            for item in body.get(name, []):
                known(kind, item, name)
        known(types.GenerationConfig, body.get("generationConfig", {}), "generationConfig")
        known(types.ToolConfig, body.get("toolConfig", {}), "toolConfig")
        roles = [content["role"] for content in body["contents"]]
        assert set(roles) <= {"user", "model"}

    @override
    def streams(self, seen: Seen) -> bool:
        return ":streamGenerateContent" in seen.path

    @override
    def lacks(self, body: dict[str, Any]) -> str | None:
        return None if body.get("contents") else "contents"

    def _all(self, body: dict[str, Any], kind: str) -> list[Any]:
        return [part[kind] for content in body["contents"] for part in content["parts"] if kind in part]

    @override
    def results(self, body: dict[str, Any]) -> list[str]:
        responses = [result["response"] for result in self._all(body, "functionResponse")]
        return [str(response.get("output", response.get("error"))) for response in responses]

    @override
    def called(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        return [call["args"] for call in self._all(body, "functionCall")]

    @override
    def images(self, body: dict[str, Any]) -> list[str]:
        blobs = [blob["data"] for blob in self._all(body, "inlineData")]
        return [data.translate(str.maketrans("-_", "+/")) for data in blobs]  # the SDK writes base64url

    @override
    def tools(self, body: dict[str, Any]) -> dict[str, dict[str, Any]]:
        return {
            function["name"]: next((function[key] for key in SCHEMAS if key in function), {})
            for tool in body.get("tools", [])
            for function in tool["functionDeclarations"]
        }

    @override
    def schema(self, body: dict[str, Any]) -> dict[str, Any] | None:
        config = body.get("generationConfig", {})
        found: dict[str, Any] | None = config.get("responseJsonSchema") or config.get("responseSchema")
        return found

    @override
    def thinks(self, body: dict[str, Any]) -> bool:
        return "thinkingConfig" in body.get("generationConfig", {})

    @override
    def signatures(self, body: dict[str, Any]) -> list[str]:
        return self._all(body, "thoughtSignature")

    @override
    def system(self, body: dict[str, Any]) -> str:
        return "".join(part["text"] for part in body.get("systemInstruction", {}).get("parts", []))


def known(kind: type[BaseModel], value: dict[str, Any], where: str) -> None:
    """Every field is one of the SDK's type, which ignores case styles but nothing else."""
    for name in value:
        assert name in {to_camel(field) for field in kind.model_fields}, f"{where}: {name}"
    kind.model_validate(value)
