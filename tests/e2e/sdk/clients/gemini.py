"""The `google-genai` SDK."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, ClassVar

from google import genai
from google.genai import errors, types
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


class GeminiClient(Client):
    name = "google-genai"
    dialect = "gemini"
    classes: ClassVar[dict[int, str]] = {
        400: "ClientError",
        401: "ClientError",
        404: "ClientError",
        429: "ClientError",
        500: "ServerError",
        529: "ServerError",
    }

    @override
    def __init__(self, url: str, key: str = KEY) -> None:
        options = types.HttpOptions(base_url=url, timeout=20_000)
        self.sdk = genai.Client(api_key=key, http_options=options)

    def _request(self, model: str, ask: Ask, turn: Turn | None) -> dict[str, Any]:
        parts = [types.Part(text=PROMPT)]
        if ask.image:
            parts.append(types.Part.from_bytes(data=base64.b64decode(IMAGE), mime_type="image/png"))
        contents: list[Any] = [types.Content(role="user", parts=parts)]
        if turn is not None:
            contents.append(turn.told.native)
            results = []
            for call_id, name, _ in turn.told.calls:
                response = {"output": turn.results[call_id]}
                found = types.FunctionResponse(
                    name=name, response=response, id=None if call_id.startswith("#") else call_id
                )
                results.append(types.Part(function_response=found))
            contents.append(types.Content(role="user", parts=results))
        config: dict[str, Any] = {"system_instruction": SYSTEM}
        if ask.tools:
            function = types.FunctionDeclaration(
                name="get_weather", description="Weather", parameters_json_schema=WEATHER_SCHEMA
            )
            config["tools"] = [types.Tool(function_declarations=[function])]
        if ask.schema:
            config |= {"response_mime_type": "application/json", "response_json_schema": PERSON_SCHEMA}
        if ask.thinks:
            config["thinking_config"] = types.ThinkingConfig(include_thoughts=True, thinking_budget=2048)
        return {"model": model, "contents": contents, "config": types.GenerateContentConfig(**config)}

    @override
    def ask(self, model: str, ask: Ask, *, stream: bool, turn: Turn | None = None) -> Told:
        request = self._request(model, ask, turn)
        told = Told()
        whole: list[types.Part] = []
        answers = []
        found = self.sdk.models.generate_content_stream(**request) if stream else self._once(request)
        for answer in found:
            answers.append(answer)
            self._add(told, whole, answer)
        if not stream:
            told.pieces = []
        told.native = types.Content(role="model", parts=whole)
        head = answers[0].sdk_http_response
        assert head is not None
        assert head.headers is not None
        fields = {name.lower(): value for name, value in head.headers.items()}
        told.losses = losses_in(fields.get("x-headgate-loss"))
        return told

    def _once(self, request: dict[str, Any]) -> Iterator[types.GenerateContentResponse]:
        yield self.sdk.models.generate_content(**request)

    def _add(self, told: Told, whole: list[types.Part], answer: types.GenerateContentResponse) -> None:
        for candidate in answer.candidates or []:
            for part in (candidate.content.parts if candidate.content else None) or []:
                whole.append(part)
                if part.thought:
                    told.thought += part.text or ""
                elif part.text:
                    told.text += part.text
                    self.hear(told.pieces, part.text)
                if part.function_call is not None:
                    call = part.function_call
                    assert call.name is not None
                    told.calls.append((call.id or f"#{len(told.calls)}", call.name, call.args or {}))
            if candidate.finish_reason is not None:
                told.finish = candidate.finish_reason.value
        usage = answer.usage_metadata
        if usage is not None:
            told.usage = (usage.prompt_token_count or 0, usage.candidates_token_count or 0)

    @override
    def raised(self, error: BaseException) -> Raised:
        if isinstance(error, errors.APIError):
            return Raised(type(error).__name__, error.code, error.message or "")
        raise error

    @override
    def close(self) -> None:
        self.sdk.close()
