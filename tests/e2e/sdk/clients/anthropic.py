"""The `anthropic` SDK: Messages."""

from __future__ import annotations

from typing import Any, ClassVar

import anthropic
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


class AnthropicClient(Client):
    name = "anthropic"
    dialect = "anthropic"
    classes: ClassVar[dict[int, str]] = {
        400: "BadRequestError",
        401: "AuthenticationError",
        404: "NotFoundError",
        429: "RateLimitError",
        500: "InternalServerError",
        529: "OverloadedError",
    }

    @override
    def __init__(self, url: str, key: str = KEY) -> None:
        self.sdk = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=20)

    def _request(self, model: str, ask: Ask, turn: Turn | None) -> dict[str, Any]:
        content: list[Any] = [{"type": "text", "text": PROMPT}]
        if ask.image:
            source = {"type": "base64", "media_type": "image/png", "data": IMAGE}
            content.append({"type": "image", "source": source})
        messages: list[Any] = [{"role": "user", "content": content}]
        if turn is not None:
            messages.append({"role": "assistant", "content": turn.told.native})
            results = [
                {"type": "tool_result", "tool_use_id": call_id, "content": text}
                for call_id, text in turn.results.items()
            ]
            messages.append({"role": "user", "content": results})
        request: dict[str, Any] = {"model": model, "max_tokens": 4096, "system": SYSTEM, "messages": messages}
        if ask.tools:
            tool = {"name": "get_weather", "description": "Weather", "input_schema": WEATHER_SCHEMA}
            request["tools"] = [tool]
        if ask.schema:
            request["output_config"] = {"format": {"type": "json_schema", "schema": PERSON_SCHEMA}}
        if ask.thinks:
            request["thinking"] = {"type": "enabled", "budget_tokens": 2048}
        return request

    @override
    def ask(self, model: str, ask: Ask, *, stream: bool, turn: Turn | None = None) -> Told:
        request = self._request(model, ask, turn)
        if not stream:
            raw = self.sdk.messages.with_raw_response.create(**request)
            told = self._told(raw.parse())
            told.losses = losses_in(raw.headers.get("x-headgate-loss"))
            return told
        with self.sdk.messages.stream(**request) as events:
            pieces: list[str] = []
            for text in events.text_stream:
                self.hear(pieces, text)
            told = self._told(events.get_final_message())
            told.losses = losses_in(events.response.headers.get("x-headgate-loss"))
        told.pieces = pieces
        return told

    def _told(self, answer: Any) -> Told:
        told = Told(finish=answer.stop_reason)
        for block in answer.content:
            if block.type == "text":
                told.text += block.text
            elif block.type == "tool_use":
                told.calls.append((block.id, block.name, block.input))
            elif block.type == "thinking":
                told.thought += block.thinking
        told.usage = (answer.usage.input_tokens, answer.usage.output_tokens)
        told.native = answer.content
        return told

    @override
    def raised(self, error: BaseException) -> Raised:
        if isinstance(error, anthropic.APIStatusError):
            return Raised(type(error).__name__, error.status_code, error.message)
        raise error

    @override
    def close(self) -> None:
        self.sdk.close()
