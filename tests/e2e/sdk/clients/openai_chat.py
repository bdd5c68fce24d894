"""The `openai` SDK: Chat Completions."""

from __future__ import annotations

import json
from typing import Any

import openai
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion
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

CLASSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    429: "RateLimitError",
    500: "InternalServerError",
    529: "InternalServerError",
}


def raised_by_openai(error: BaseException) -> Raised:
    if isinstance(error, openai.APIStatusError):
        return Raised(type(error).__name__, error.status_code, error.message)
    if isinstance(error, openai.APIError):
        return Raised(type(error).__name__, None, error.message)
    raise error


class OpenAIChatClient(Client):
    name = "openai"
    dialect = "openai_chat"
    classes = CLASSES

    @override
    def __init__(self, url: str, key: str = KEY) -> None:
        self.sdk = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20)

    def _request(self, model: str, ask: Ask, turn: Turn | None) -> dict[str, Any]:
        content: Any = PROMPT
        if ask.image:
            url = f"data:image/png;base64,{IMAGE}"
            content = [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": url}}]
        messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
        if turn is not None:
            messages.append(turn.told.native)
            for call_id, text in turn.results.items():
                messages.append({"role": "tool", "tool_call_id": call_id, "content": text})
        request: dict[str, Any] = {"model": model, "messages": messages}
        if ask.tools:
            function = {"name": "get_weather", "description": "Weather", "parameters": WEATHER_SCHEMA}
            request["tools"] = [{"type": "function", "function": function}]
        if ask.schema:
            form = {"name": "person", "schema": PERSON_SCHEMA, "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": form}
        if ask.thinks:
            request["reasoning_effort"] = "low"
        return request

    @override
    def ask(self, model: str, ask: Ask, *, stream: bool, turn: Turn | None = None) -> Told:
        request = self._request(model, ask, turn)
        if not stream:
            raw = self.sdk.chat.completions.with_raw_response.create(**request)
            answer: Any = raw.parse()
            told = self._told(answer)
            told.losses = losses_in(raw.headers.get("x-headgate-loss"))
            return told
        request["stream_options"] = {"include_usage": True}
        state = ChatCompletionStreamState()
        pieces: list[str] = []
        with self.sdk.chat.completions.create(**request, stream=True) as chunks:
            for chunk in chunks:
                state.handle_chunk(chunk)
                if chunk.choices:
                    self.hear(pieces, chunk.choices[0].delta.content)
            headers = chunks.response.headers
        told = self._told(state.get_final_completion())
        told.pieces = pieces
        told.losses = losses_in(headers.get("x-headgate-loss"))
        return told

    def _told(self, answer: ChatCompletion) -> Told:
        choice = answer.choices[0]
        message = choice.message
        told = Told(message.content or "", finish=choice.finish_reason)
        for call in message.tool_calls or []:
            assert call.type == "function"
            told.calls.append((call.id, call.function.name, json.loads(call.function.arguments)))
        told.thought = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", "") or ""
        if answer.usage is not None:
            told.usage = (answer.usage.prompt_tokens, answer.usage.completion_tokens)
        told.native = message.model_dump(exclude_none=True, exclude={"parsed"})
        return told

    @override
    def raised(self, error: BaseException) -> Raised:
        return raised_by_openai(error)

    @override
    def close(self) -> None:
        self.sdk.close()
