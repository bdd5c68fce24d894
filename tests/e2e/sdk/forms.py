"""Requests of every dialect with all that they can hold, and the shape in which each is refused."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from typing_extensions import override

from tests.e2e.sdk.said import IMAGE, PERSON_SCHEMA, WEATHER_SCHEMA
from tests.support.client import Answer

SYSTEMS = ("One.", "Two.")


class Form(ABC):
    """One dialect, as callers write it without any SDK."""

    name: ClassVar[str]

    @abstractmethod
    def path(self, model: str) -> str: ...

    @abstractmethod
    def rich(self, model: str) -> dict[str, Any]:
        """A request with every kind of field."""

    @abstractmethod
    def with_parts(self, model: str, *parts: Any) -> dict[str, Any]:
        """A user's turn of these parts, in this dialect's form."""

    @abstractmethod
    def with_tools(self, model: str, schemas: list[Any]) -> dict[str, Any]: ...

    @abstractmethod
    def with_schema(self, model: str, schema: Any) -> dict[str, Any]: ...

    @abstractmethod
    def with_messages(self, model: str, messages: Any) -> dict[str, Any]: ...

    @abstractmethod
    def image(self, data: str, mime: str = "image/png") -> Any: ...

    @abstractmethod
    def orphan(self, model: str) -> dict[str, Any]:
        """The result of a tool that nobody called."""

    def shape(self, answer: Answer) -> tuple[str, str]:
        """Message and place of a refusal, its shape checked."""
        error = answer.json["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["type"] in ("invalid_request_error", "INVALID_ARGUMENT")  # ours, or an upstream's own
        return error["message"], error["param"] or ""

    @abstractmethod
    def two_systems(self, model: str) -> tuple[dict[str, Any], tuple[str, str]]:
        """A request with two system prompts, and what they say."""


class OpenAIChat(Form):
    name = "openai_chat"

    @override
    def path(self, model: str) -> str:
        return "/v1/chat/completions"

    @override
    def rich(self, model: str) -> dict[str, Any]:
        call = {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
        parts = [{"type": "text", "text": "Hi"}, self.image(IMAGE)]
        return {
            "model": model,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": parts, "name": "ann"},
                {"role": "assistant", "content": "Hm", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "a", "content": "mild"},
            ],
            "tools": self.with_tools(model, [WEATHER_SCHEMA])["tools"],
            "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
            "parallel_tool_calls": True,
            "response_format": self.with_schema(model, PERSON_SCHEMA)["response_format"],
            "reasoning_effort": "low",
            "max_completion_tokens": 50,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": ["x"],
            "seed": 7,
            "logit_bias": {"5": 1},
            "user": "u",
            "metadata": {"a": "b"},
            "stream": False,
        }

    @override
    def with_messages(self, model: str, messages: Any) -> dict[str, Any]:
        return {"model": model, "messages": messages}

    @override
    def with_parts(self, model: str, *parts: Any) -> dict[str, Any]:
        return self.with_messages(model, [{"role": "user", "content": list(parts)}])

    @override
    def with_tools(self, model: str, schemas: list[Any]) -> dict[str, Any]:
        names = ["get_weather", *(f"tool_{number}" for number in range(1, len(schemas)))]
        functions = [{"name": n, "parameters": s} for n, s in zip(names, schemas, strict=True)]
        tools = [{"type": "function", "function": function} for function in functions]
        return {"model": model, "messages": [{"role": "user", "content": "Hi"}], "tools": tools}

    @override
    def with_schema(self, model: str, schema: Any) -> dict[str, Any]:
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        return {**self.with_messages(model, [{"role": "user", "content": "Hi"}]), "response_format": form}

    @override
    def image(self, data: str, mime: str = "image/png") -> Any:
        return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{data}"}}

    @override
    def orphan(self, model: str) -> dict[str, Any]:
        orphan = {"role": "tool", "tool_call_id": "nobody", "content": "x"}
        return self.with_messages(model, [{"role": "user", "content": "Hi"}, orphan])

    @override
    def two_systems(self, model: str) -> tuple[dict[str, Any], tuple[str, str]]:
        told = (("system", "One."), ("system", "Two."), ("user", "Hi"))
        messages = [{"role": role, "content": text} for role, text in told]
        return self.with_messages(model, messages), SYSTEMS


class OpenAIResponses(OpenAIChat):
    name = "openai_responses"

    @override
    def path(self, model: str) -> str:
        return "/v1/responses"

    @override
    def rich(self, model: str) -> dict[str, Any]:
        call = {"type": "function_call", "call_id": "a", "name": "get_weather", "arguments": "{}"}
        parts = [{"type": "input_text", "text": "Hi"}, self.image(IMAGE)]
        return {
            "model": model,
            "instructions": "Be brief.",
            "input": [
                {"type": "message", "role": "user", "content": parts},
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "eA=="},
                call,
                {"type": "function_call_output", "call_id": "a", "output": "mild"},
            ],
            "tools": self.with_tools(model, [WEATHER_SCHEMA])["tools"],
            "tool_choice": {"type": "function", "name": "get_weather"},
            "parallel_tool_calls": True,
            "text": self.with_schema(model, PERSON_SCHEMA)["text"],
            "reasoning": {"effort": "low"},
            "max_output_tokens": 50,
            "temperature": 0.5,
            "top_p": 0.9,
            "metadata": {"a": "b"},
            "store": False,
            "stream": False,
        }

    @override
    def with_messages(self, model: str, messages: Any) -> dict[str, Any]:
        return {"model": model, "input": messages}

    @override
    def with_tools(self, model: str, schemas: list[Any]) -> dict[str, Any]:
        names = ["get_weather", *(f"tool_{number}" for number in range(1, len(schemas)))]
        tools = [
            {"type": "function", "name": name, "parameters": schema}
            for name, schema in zip(names, schemas, strict=True)
        ]
        return {"model": model, "input": "Hi", "tools": tools}

    @override
    def with_schema(self, model: str, schema: Any) -> dict[str, Any]:
        form = {"type": "json_schema", "name": "n", "schema": schema}
        return {"model": model, "input": "Hi", "text": {"format": form}}

    @override
    def image(self, data: str, mime: str = "image/png") -> Any:
        return {"type": "input_image", "image_url": f"data:{mime};base64,{data}"}

    @override
    def orphan(self, model: str) -> dict[str, Any]:
        orphan = {"type": "function_call_output", "call_id": "nobody", "output": "x"}
        return self.with_messages(model, [{"role": "user", "content": "Hi"}, orphan])


class Anthropic(Form):
    name = "anthropic"

    @override
    def path(self, model: str) -> str:
        return "/v1/messages"

    @override
    def rich(self, model: str) -> dict[str, Any]:
        use = {"type": "tool_use", "id": "a", "name": "get_weather", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "mild"}]}
        hint = {"type": "ephemeral", "ttl": "1h"}
        parts = [{"type": "text", "text": "Hi", "cache_control": hint}, self.image(IMAGE)]
        thought = {"type": "thinking", "thinking": "t", "signature": "eA=="}
        return {
            "model": model,
            "max_tokens": 4096,
            "system": [{"type": "text", "text": "Be brief."}],
            "messages": [
                {"role": "user", "content": parts},
                {"role": "assistant", "content": [thought, {"type": "text", "text": "Hm"}, use]},
                {"role": "user", "content": [result]},
            ],
            "tools": self.with_tools(model, [WEATHER_SCHEMA])["tools"],
            "tool_choice": {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
            "thinking": {"type": "enabled", "budget_tokens": 2048},
            "output_config": {"format": {"type": "json_schema", "schema": PERSON_SCHEMA}},
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 5,
            "stop_sequences": ["x"],
            "metadata": {"user_id": "u"},
            "stream": False,
        }

    @override
    def with_messages(self, model: str, messages: Any) -> dict[str, Any]:
        return {"model": model, "max_tokens": 50, "messages": messages}

    @override
    def with_parts(self, model: str, *parts: Any) -> dict[str, Any]:
        return self.with_messages(model, [{"role": "user", "content": list(parts)}])

    @override
    def with_tools(self, model: str, schemas: list[Any]) -> dict[str, Any]:
        names = ["get_weather", *(f"tool_{number}" for number in range(1, len(schemas)))]
        tools = [{"name": n, "input_schema": s} for n, s in zip(names, schemas, strict=True)]
        return {**self.with_messages(model, [{"role": "user", "content": "Hi"}]), "tools": tools}

    @override
    def with_schema(self, model: str, schema: Any) -> dict[str, Any]:
        form = {"format": {"type": "json_schema", "schema": schema}}
        return {**self.with_messages(model, [{"role": "user", "content": "Hi"}]), "output_config": form}

    @override
    def image(self, data: str, mime: str = "image/png") -> Any:
        return {"type": "image", "source": {"type": "base64", "media_type": mime, "data": data}}

    @override
    def orphan(self, model: str) -> dict[str, Any]:
        return self.with_parts(model, {"type": "tool_result", "tool_use_id": "nobody", "content": "x"})

    @override
    def two_systems(self, model: str) -> tuple[dict[str, Any], tuple[str, str]]:
        blocks = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
        request = self.with_messages(model, [{"role": "user", "content": "Hi"}])
        return {**request, "system": blocks}, SYSTEMS

    @override
    def shape(self, answer: Answer) -> tuple[str, str]:
        assert answer.json["type"] == "error"
        error = answer.json["error"]
        assert error["type"] == "invalid_request_error"
        return error["message"], ""


class Gemini(Form):
    name = "gemini"

    @override
    def path(self, model: str) -> str:
        return f"/v1beta/models/{model}:generateContent"

    @override
    def rich(self, model: str) -> dict[str, Any]:
        call = {"functionCall": {"name": "get_weather", "args": {}}, "thoughtSignature": "eA=="}
        result = {"functionResponse": {"name": "get_weather", "response": {"output": "mild"}}}
        config = {"mode": "ANY", "allowedFunctionNames": ["get_weather"]}
        return {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Hi"}, self.image(IMAGE)]},
                {"role": "model", "parts": [{"text": "t", "thought": True}, {"text": "Hm"}, call]},
                {"role": "user", "parts": [result]},
            ],
            "tools": self.with_tools(model, [WEATHER_SCHEMA])["tools"],
            "toolConfig": {"functionCallingConfig": config},
            "generationConfig": {
                **self.with_schema(model, PERSON_SCHEMA)["generationConfig"],
                "maxOutputTokens": 50,
                "temperature": 0.5,
                "topP": 0.9,
                "topK": 5,
                "seed": 7,
                "stopSequences": ["x"],
                "candidateCount": 1,
                "thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": True},
            },
            "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        }

    @override
    def with_messages(self, model: str, messages: Any) -> dict[str, Any]:
        return {"contents": messages}

    @override
    def with_parts(self, model: str, *parts: Any) -> dict[str, Any]:
        return self.with_messages(model, [{"role": "user", "parts": list(parts)}])

    @override
    def with_tools(self, model: str, schemas: list[Any]) -> dict[str, Any]:
        names = ["get_weather", *(f"tool_{number}" for number in range(1, len(schemas)))]
        functions = [{"name": n, "parametersJsonSchema": s} for n, s in zip(names, schemas, strict=True)]
        return {**self.with_parts(model, {"text": "Hi"}), "tools": [{"functionDeclarations": functions}]}

    @override
    def with_schema(self, model: str, schema: Any) -> dict[str, Any]:
        config = {"responseMimeType": "application/json", "responseJsonSchema": schema}
        return {**self.with_parts(model, {"text": "Hi"}), "generationConfig": config}

    @override
    def image(self, data: str, mime: str = "image/png") -> Any:
        return {"inlineData": {"mimeType": mime, "data": data}}

    @override
    def orphan(self, model: str) -> dict[str, Any]:
        return self.with_parts(model, {"functionResponse": {"name": "nobody", "response": {"output": "x"}}})

    @override
    def two_systems(self, model: str) -> tuple[dict[str, Any], tuple[str, str]]:
        system = {"parts": [{"text": "One."}, {"text": "Two."}]}
        return {**self.with_parts(model, {"text": "Hi"}), "systemInstruction": system}, SYSTEMS

    @override
    def shape(self, answer: Answer) -> tuple[str, str]:
        error = answer.json["error"]
        assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
        return error["message"], str(error.get("details"))


class Converse(Form):
    name = "converse"

    @override
    def path(self, model: str) -> str:
        return f"/model/{model}/converse"

    @override
    def rich(self, model: str) -> dict[str, Any]:
        thought = {"reasoningContent": {"reasoningText": {"text": "t", "signature": "eA=="}}}
        use = {"toolUse": {"toolUseId": "a", "name": "get_weather", "input": {}}}
        result = {"toolResult": {"toolUseId": "a", "content": [{"text": "mild"}], "status": "success"}}
        tools = self.with_tools(model, [WEATHER_SCHEMA])["toolConfig"]
        return {
            "system": [{"text": "Be brief."}],
            "messages": [
                {"role": "user", "content": [{"text": "Hi"}, self.image(IMAGE)]},
                {"role": "assistant", "content": [thought, {"text": "Hm"}, use]},
                {"role": "user", "content": [result]},
            ],
            "toolConfig": {**tools, "toolChoice": {"tool": {"name": "get_weather"}}},
            "inferenceConfig": {"maxTokens": 50, "temperature": 0.5, "topP": 0.9, "stopSequences": ["x"]},
            "additionalModelRequestFields": {"top_k": 5},
            "requestMetadata": {"a": "b"},
            "outputConfig": self.with_schema(model, PERSON_SCHEMA)["outputConfig"],
        }

    @override
    def with_messages(self, model: str, messages: Any) -> dict[str, Any]:
        return {"messages": messages}

    @override
    def with_parts(self, model: str, *parts: Any) -> dict[str, Any]:
        return self.with_messages(model, [{"role": "user", "content": list(parts)}])

    @override
    def with_tools(self, model: str, schemas: list[Any]) -> dict[str, Any]:
        names = ["get_weather", *(f"tool_{number}" for number in range(1, len(schemas)))]
        specs = [{"name": n, "inputSchema": {"json": s}} for n, s in zip(names, schemas, strict=True)]
        tools = [{"toolSpec": spec} for spec in specs]
        return {**self.with_parts(model, {"text": "Hi"}), "toolConfig": {"tools": tools}}

    @override
    def with_schema(self, model: str, schema: Any) -> dict[str, Any]:
        text = schema if isinstance(schema, str) else json.dumps(schema)
        structure = {"jsonSchema": {"name": "n", "schema": text}}
        form = {"textFormat": {"type": "json_schema", "structure": structure}}
        return {**self.with_parts(model, {"text": "Hi"}), "outputConfig": form}

    @override
    def image(self, data: str, mime: str = "image/png") -> Any:
        return {"image": {"format": mime.rpartition("/")[2], "source": {"bytes": data}}}

    @override
    def orphan(self, model: str) -> dict[str, Any]:
        return self.with_parts(model, {"toolResult": {"toolUseId": "nobody", "content": [{"text": "x"}]}})

    @override
    def two_systems(self, model: str) -> tuple[dict[str, Any], tuple[str, str]]:
        system = [{"text": "One."}, {"text": "Two."}]
        return {**self.with_parts(model, {"text": "Hi"}), "system": system}, SYSTEMS

    @override
    def shape(self, answer: Answer) -> tuple[str, str]:
        assert answer.headers["x-amzn-errortype"] == "ValidationException"
        assert answer.json.keys() == {"message"}
        return answer.json["message"], ""


FORMS: dict[str, Form] = {
    form.name: form for form in (OpenAIChat(), OpenAIResponses(), Anthropic(), Gemini(), Converse())
}
