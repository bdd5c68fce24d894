"""`boto3`: Converse and ConverseStream of bedrock-runtime, over plain HTTP.

Its own way of sending a key (`AWS_BEARER_TOKEN_BEDROCK`) wants HTTPS: see docs/clients.md.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
from typing import Any, ClassVar

from typing_extensions import override

from tests.e2e.sdk.clients.client import KEY, Client, Raised
from tests.e2e.sdk.said import (
    IMAGE,
    PERSON_SCHEMA,
    PROMPT,
    SYSTEM,
    WEATHER_SCHEMA,
    Ask,
    Told,
    Turn,
    losses_in,
)


class ConverseClient(Client):
    name = "boto3"
    dialect = "converse"
    classes: ClassVar[dict[int, str]] = {
        400: "ValidationException",
        401: "UnrecognizedClientException",
        404: "ResourceNotFoundException",
        429: "ThrottlingException",
        500: "InternalServerException",
        529: "ServiceUnavailableException",
    }

    @override
    def __init__(self, url: str, key: str = KEY) -> None:
        botocore = importlib.import_module("botocore")
        config = importlib.import_module("botocore.config").Config(
            retries={"total_max_attempts": 1}, read_timeout=20, signature_version=botocore.UNSIGNED
        )
        self.sdk = importlib.import_module("boto3").client(
            "bedrock-runtime", endpoint_url=url, region_name="eu-central-1", config=config
        )

        def authorize(request: Any, **_: object) -> None:
            request.headers["Authorization"] = f"Bearer {key}"

        self.sdk.meta.events.register("request-created.bedrock-runtime", authorize)
        self._errors = importlib.import_module("botocore.exceptions")

    def _request(self, model: str, ask: Ask, turn: Turn | None) -> dict[str, Any]:
        content: list[Any] = [{"text": PROMPT}]
        if ask.image:
            content.append({"image": {"format": "png", "source": {"bytes": base64.b64decode(IMAGE)}}})
        messages: list[Any] = [{"role": "user", "content": content}]
        if turn is not None:
            messages.append(turn.told.native)
            results = [
                {"toolResult": {"toolUseId": call_id, "content": [{"text": text}]}}
                for call_id, text in turn.results.items()
            ]
            messages.append({"role": "user", "content": results})
        request: dict[str, Any] = {"modelId": model, "system": [{"text": SYSTEM}], "messages": messages}
        if ask.tools:
            schema = {"json": WEATHER_SCHEMA}
            spec = {"name": "get_weather", "description": "Weather", "inputSchema": schema}
            request["toolConfig"] = {"tools": [{"toolSpec": spec}]}
        if ask.schema:
            form = {"name": "person", "schema": json.dumps(PERSON_SCHEMA)}
            text_format = {"type": "json_schema", "structure": {"jsonSchema": form}}
            request["outputConfig"] = {"textFormat": text_format}
        if ask.thinks:
            thinking = {"type": "enabled", "budget_tokens": 2048}
            request["additionalModelRequestFields"] = {"thinking": thinking}
        return request

    @override
    def ask(self, model: str, ask: Ask, *, stream: bool, turn: Turn | None = None) -> Told:
        request = self._request(model, ask, turn)
        if stream:
            answer = self.sdk.converse_stream(**request)
            with contextlib.closing(answer["stream"]) as events:
                told = self._streamed(events)
        else:
            answer = self.sdk.converse(**request)
            told = self._told(answer["output"]["message"]["content"], answer["stopReason"], answer["usage"])
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        told.losses = losses_in(headers.get("x-headgate-loss"))
        return told

    def _told(self, content: list[dict[str, Any]], finish: str, usage: dict[str, int]) -> Told:
        told = Told(finish=finish, usage=(usage["inputTokens"], usage["outputTokens"]))
        for block in content:
            told.text += block.get("text", "")
            if "toolUse" in block:
                use = block["toolUse"]
                told.calls.append((use["toolUseId"], use["name"], use["input"]))
            if "reasoningContent" in block:
                told.thought += block["reasoningContent"].get("reasoningText", {}).get("text", "")
        told.native = {"role": "assistant", "content": content}
        return told

    def _streamed(self, events: Any) -> Told:
        blocks: dict[int, dict[str, Any]] = {}
        arguments: dict[int, str] = {}
        pieces: list[str] = []
        finish, usage = "", {}
        for event in events:
            if "contentBlockStart" in event:
                start = event["contentBlockStart"]
                blocks[start["contentBlockIndex"]] = start["start"]
            elif "contentBlockDelta" in event:
                index, delta = (event["contentBlockDelta"][k] for k in ("contentBlockIndex", "delta"))
                if "toolUse" in delta:
                    arguments[index] = arguments.get(index, "") + delta["toolUse"]["input"]
                elif "text" in delta:
                    self.hear(pieces, delta["text"])
                    block = blocks.setdefault(index, {"text": ""})
                    block["text"] += delta["text"]
                else:
                    _think(blocks, index, delta["reasoningContent"])
            elif "messageStop" in event:
                finish = event["messageStop"]["stopReason"]
            elif "metadata" in event:
                usage = event["metadata"]["usage"]
        for index, text in arguments.items():
            blocks[index]["toolUse"]["input"] = json.loads(text or "{}")
        assert finish, "the stream ended without its end"
        told = self._told([blocks[index] for index in sorted(blocks)], finish, usage)
        told.pieces = pieces
        return told

    @override
    def raised(self, error: BaseException) -> Raised:
        if isinstance(error, self._errors.ClientError):
            answer: Any = error
            found = answer.response
            status = found.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return Raised(found["Error"]["Code"], status, found["Error"]["Message"])
        raise error

    @override
    def close(self) -> None:
        self.sdk.close()


def _think(blocks: dict[int, dict[str, Any]], index: int, delta: dict[str, Any]) -> None:
    if "redactedContent" in delta:
        blocks[index] = {"reasoningContent": {"redactedContent": delta["redactedContent"]}}
        return
    block = blocks.setdefault(index, {"reasoningContent": {"reasoningText": {"text": ""}}})
    text = block["reasoningContent"]["reasoningText"]
    for name in ("text", "signature"):
        if name in delta:
            text[name] = text.get(name, "") + delta[name]
