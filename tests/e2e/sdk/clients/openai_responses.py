"""The `openai` SDK: Responses, without the server's memory."""

from __future__ import annotations

import json
from typing import Any

import openai
from openai.types.responses import Response
from typing_extensions import override

from tests.e2e.sdk.clients.client import KEY, Client, Raised
from tests.e2e.sdk.clients.openai_chat import CLASSES, raised_by_openai
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


class OpenAIResponsesClient(Client):
    name = "openai-responses"
    dialect = "openai_responses"
    classes = CLASSES

    @override
    def __init__(self, url: str, key: str = KEY) -> None:
        self.sdk = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20)

    def _request(self, model: str, ask: Ask, turn: Turn | None) -> dict[str, Any]:
        content: list[Any] = [{"type": "input_text", "text": PROMPT}]
        if ask.image:
            url = f"data:image/png;base64,{IMAGE}"
            content.append({"type": "input_image", "image_url": url, "detail": "auto"})
        items: list[Any] = [{"role": "user", "content": content}]
        if turn is not None:
            items += turn.told.native
            for call_id, text in turn.results.items():
                items.append({"type": "function_call_output", "call_id": call_id, "output": text})
        request: dict[str, Any] = {"model": model, "instructions": SYSTEM, "input": items, "store": False}
        if ask.tools:
            tool = {"type": "function", "name": "get_weather", "parameters": WEATHER_SCHEMA, "strict": True}
            request["tools"] = [tool]
        if ask.schema:
            form = {"type": "json_schema", "name": "person", "schema": PERSON_SCHEMA, "strict": True}
            request["text"] = {"format": form}
        if ask.thinks:
            request["reasoning"] = {"effort": "low", "summary": "auto"}
            request["include"] = ["reasoning.encrypted_content"]
        return request

    @override
    def ask(self, model: str, ask: Ask, *, stream: bool, turn: Turn | None = None) -> Told:
        request = self._request(model, ask, turn)
        if not stream:
            raw = self.sdk.responses.with_raw_response.create(**request)
            answer: Any = raw.parse()
            told = self._told(answer)
            told.losses = losses_in(raw.headers.get("x-headgate-loss"))
            return told
        pieces: list[str] = []
        final = None
        with self.sdk.responses.create(**request, stream=True) as events:
            for number, event in enumerate(events):
                assert event.sequence_number == number
                if event.type == "response.output_text.delta":
                    self.hear(pieces, event.delta)
                elif event.type == "response.completed":
                    final = event.response
                elif event.type == "error":  # which the SDK hands to its user
                    raise openai.APIError(event.message, events.response.request, body=None)
            headers = events.response.headers
        assert final is not None
        told = self._told(final)
        told.pieces = pieces
        told.losses = losses_in(headers.get("x-headgate-loss"))
        return told

    def _told(self, answer: Response) -> Told:
        told = Told(answer.output_text, finish=answer.status)
        for item in answer.output:
            if item.type == "function_call":
                told.calls.append((item.call_id, item.name, json.loads(item.arguments)))
            elif item.type == "reasoning":
                told.thought += "".join(part.text for part in item.summary)
                told.thought += "".join(part.text for part in item.content or [])
        if answer.usage is not None:
            told.usage = (answer.usage.input_tokens, answer.usage.output_tokens)
        told.native = [item.model_dump(exclude_none=True) for item in answer.output]
        return told

    @override
    def raised(self, error: BaseException) -> Raised:
        return raised_by_openai(error)

    @override
    def close(self) -> None:
        self.sdk.close()
