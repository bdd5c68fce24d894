"""Gemini requests, read: what becomes of each field, and what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from headgate.core.errors import InvalidRequest
from headgate.core.messages import (
    ChatRequest,
    Media,
    Message,
    Opaque,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from headgate.dialects.gemini import decode_request
from headgate.dialects.gemini.vocabulary import is_made
from headgate.dialects.sealed import seal

HI: list[dict[str, Any]] = [{"role": "user", "parts": [{"text": "Hi"}]}]
PNG = b"\x89PNG\r\n\x1a\n\xfb\xff"
PIXEL = base64.b64encode(PNG).decode()


def read(stream: bool = False, **fields: Any) -> ChatRequest:
    return decode_request(json.dumps({"contents": HI} | fields).encode(), model="m", stream=stream)


def parts(*wire: dict[str, Any], role: str = "user") -> tuple[Any, ...]:
    request = read(contents=[{"role": role, "parts": list(wire)}])
    return tuple(part for message in request.messages for part in message.parts)


def test_the_route_names_the_model_and_the_stream() -> None:
    assert read(stream=True) == ChatRequest(
        model="m", messages=(Message("user", (Text("Hi"),)),), stream=True
    )


def test_without_a_route_the_body_names_the_model() -> None:
    body = json.dumps({"model": "models/x", "contents": HI}).encode()
    assert decode_request(body).model == "x"
    with pytest.raises(InvalidRequest) as caught:
        decode_request(json.dumps({"contents": HI}).encode())
    assert caught.value.param == "model"


def test_snake_case_and_lone_objects_are_taken() -> None:
    request = read(
        system_instruction={"parts": {"text": "Be brief"}},
        contents={"parts": {"inline_data": {"mime_type": "image/png", "data": PIXEL}}},
        generation_config={"max_output_tokens": 5, "thinking_config": {"include_thoughts": True}},
    )
    assert request.messages == (
        Message("system", (Text("Be brief"),)),
        Message("user", (Media("image", "image/png", PIXEL),)),
    )
    assert request.sampling.max_tokens == 5
    assert request.reasoning == ReasoningOptions(summary="auto")


def test_media() -> None:
    urlsafe = base64.urlsafe_b64encode(PNG).decode().rstrip("=")
    assert parts(
        {"inlineData": {"mimeType": "image/png", "data": urlsafe, "displayName": "p"}},
        {"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}},
        {"fileData": {"fileUri": "gs://b/v.mp4", "mimeType": "video/mp4"}, "videoMetadata": {"fps": 1}},
        {"fileData": {"fileUri": "https://x/y.pdf"}},
    ) == (
        Media("image", "image/png", PIXEL, name="p"),
        Media("audio", "audio/mp3", "AAAA"),
        Media("video", "video/mp4", url="gs://b/v.mp4", extensions={"gemini": {"videoMetadata": {"fps": 1}}}),
        Media("file", url="https://x/y.pdf"),
    )


def test_parts_that_only_gemini_knows_are_kept_whole() -> None:
    code: Any = {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "AAAA"}
    new: Any = {"hologram": {"x": 1}}
    assert parts(code, new, role="model") == (Opaque("gemini", code), Opaque("gemini", new))


def test_signatures_stand_before_what_they_sign() -> None:
    signed = parts(
        {"text": "Hm", "thought": True, "thoughtSignature": "AAAA"},
        {"text": "a"},
        {"text": "b", "thoughtSignature": "BBBB"},
        {"functionCall": {"id": "1", "name": "f", "args": {"x": 1}}, "thoughtSignature": "CCCC"},
        {"functionCall": {"id": "2", "name": "g"}},
        {"text": "", "thoughtSignature": "DDDD"},
        role="model",
    )
    assert signed == (
        Reasoning("Hm", "AAAA", origin="gemini"),
        Text("a"),
        Reasoning(signature="BBBB", origin="gemini"),
        Text("b"),
        Reasoning(signature="CCCC", origin="gemini"),
        ToolCall("1", "f", '{"x":1}'),
        ToolCall("2", "g", "{}"),
        Reasoning(signature="DDDD", origin="gemini", extensions={"gemini": {"text": ""}}),
    )


def sealed(letter: str, opaque: str) -> str:
    return base64.b64encode(seal("anthropic", f"{letter}:{opaque}").encode()).decode()


def test_another_vendors_reasoning_comes_back_whole() -> None:
    """As a client keeps a streamed answer: a content for each chunk."""
    empty = {"text": "", "thought": True}
    request = read(
        contents=[
            *HI,
            {"role": "model", "parts": [{"text": "Let ", "thought": True}]},
            {"role": "model", "parts": [{"text": "me", "thought": True}]},
            {
                "role": "model",
                "parts": [empty | {"thoughtSignature": sealed("s", "sig")}],
            },
            {
                "role": "model",
                "parts": [empty | {"thoughtSignature": sealed("r", "x:y")}],
            },
            {"role": "model", "parts": [{"text": "Hel"}]},
            {"role": "model", "parts": [{"text": "lo"}]},
            {"role": "model", "parts": [{"text": ""}]},
        ]
    )
    assert request.messages[1].parts == (
        Reasoning("Let me", "sig", origin="anthropic"),
        Reasoning(data="x:y", redacted=True, origin="anthropic"),
        Text("Hello"),
    )


def test_nothing_is_joined_to_what_gemini_signed() -> None:
    joined = parts(
        {"text": "a", "thoughtSignature": "AAAA"}, {"text": "b"}, {"text": "c"}, {"text": ""}, role="model"
    )
    assert joined == (Reasoning(signature="AAAA", origin="gemini"), Text("a"), Text("bc"))


def test_results_find_their_calls_by_id_name_and_order() -> None:
    call = {"functionCall": {"name": "f", "args": {}}}
    request = read(
        contents=[
            *HI,
            {"role": "model", "parts": [call, call, {"functionCall": {"name": "g", "id": "own"}}]},
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "own", "name": "g", "response": {"output": "G"}}},
                    {"functionResponse": {"name": "f", "response": {"n": 1}}},
                    {"text": "and"},
                    {"functionResponse": {"name": "f", "response": {"error": "no"}}},
                ],
            },
        ]
    )
    calls = [part.id for part in request.messages[1].parts if isinstance(part, ToolCall)]
    assert is_made(calls[0]) and is_made(calls[1]) and calls[0] != calls[1] and calls[2] == "own"
    assert request.messages[2] == Message(
        "tool",
        (
            ToolResult("own", (Text("G"),)),
            ToolResult(calls[0], (Text('{"n":1}'),)),
            ToolResult(calls[1], (Text("no"),), is_error=True),
        ),
    )
    assert request.messages[3] == Message("user", (Text("and"),))


def test_ids_stay_the_same_as_the_conversation_grows() -> None:
    turn = [*HI, {"role": "model", "parts": [{"functionCall": {"name": "f"}}]}]
    longer = [*turn, {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}]
    assert read(contents=turn).messages == read(contents=longer).messages[:2]


def test_a_result_without_its_call_keeps_its_name() -> None:
    (result,) = parts({"functionResponse": {"name": "f", "response": {"output": "x"}}})
    assert is_made(result.call_id)
    assert result.extensions == {"gemini": {"functionResponse": {"name": "f"}}}


def test_media_in_results() -> None:
    (result,) = parts(
        {
            "functionResponse": {
                "id": "c",
                "name": "f",
                "response": {},
                "parts": [{"inlineData": {"mimeType": "image/png", "data": PIXEL}}],
            }
        }
    )
    assert result.parts == (Media("image", "image/png", PIXEL),)


def test_tools() -> None:
    request = read(
        tools=[
            {
                "functionDeclarations": [
                    {
                        "name": "f",
                        "description": "d",
                        "parameters": {
                            "type": "OBJECT",
                            "properties": {
                                "a": {"type": "STRING", "nullable": True, "enum": ["x"]},
                                "b": {"type": "array", "items": {"type": "INTEGER"}, "minItems": "2"},
                            },
                            "required": ["a"],
                        },
                        "behavior": "BLOCKING",
                    },
                    {"name": "g", "parametersJsonSchema": {"type": "object", "additionalProperties": False}},
                ],
                "googleSearch": {},
            },
            {"codeExecution": {}},
        ]
    )
    assert request.tools == (
        Tool(
            "f",
            "d",
            {
                "type": "object",
                "properties": {
                    "a": {"type": ["string", "null"], "enum": ["x"]},
                    "b": {"type": "array", "items": {"type": "integer"}, "minItems": 2},
                },
                "required": ["a"],
            },
            extensions={"gemini": {"behavior": "BLOCKING"}},
        ),
        Tool("g", None, {"type": "object", "additionalProperties": False}),
        Tool("googleSearch", kind="googleSearch", extensions={"gemini": {"googleSearch": {}}}),
        Tool("codeExecution", kind="codeExecution", extensions={"gemini": {"codeExecution": {}}}),
    )


@pytest.mark.parametrize(
    ("wire", "choice"),
    [
        ({"mode": "AUTO"}, ToolChoice("auto")),
        ({"mode": "none"}, ToolChoice("none")),
        ({"mode": "ANY"}, ToolChoice("required")),
        ({"mode": "ANY", "allowedFunctionNames": ["f"]}, ToolChoice("tool", "f")),
        (
            {"mode": "ANY", "allowed_function_names": ["f", "g"]},
            ToolChoice("required", extensions={"gemini": {"allowedFunctionNames": ["f", "g"]}}),
        ),
        ({"mode": "VALIDATED"}, ToolChoice("auto", extensions={"gemini": {"mode": "VALIDATED"}})),
        ({"mode": "MODE_UNSPECIFIED"}, None),
    ],
)
def test_tool_choice(wire: dict[str, Any], choice: ToolChoice | None) -> None:
    assert read(tool_config={"function_calling_config": wire}).tool_choice == choice


@pytest.mark.parametrize(
    ("thinking", "options"),
    [
        ({"thinkingBudget": 0}, ReasoningOptions(enabled=False)),
        (
            {"thinkingBudget": 512, "includeThoughts": True},
            ReasoningOptions(budget_tokens=512, summary="auto"),
        ),
        ({"thinkingBudget": -1, "includeThoughts": True}, ReasoningOptions(enabled=True, summary="auto")),
        ({"thinkingLevel": "HIGH"}, ReasoningOptions(effort="high")),
        ({}, ReasoningOptions()),
    ],
)
def test_thinking(thinking: dict[str, Any], options: ReasoningOptions) -> None:
    assert read(generationConfig={"thinkingConfig": thinking}).reasoning == options


@pytest.mark.parametrize(
    ("wire", "wanted"),
    [
        ({"responseMimeType": "text/plain"}, ResponseFormat("text")),
        ({"responseMimeType": "application/json"}, ResponseFormat("json_object")),
        (
            {"responseMimeType": "application/json", "responseSchema": {"type": "STRING"}},
            ResponseFormat("json_schema", schema={"type": "string"}),
        ),
        (
            {"responseMimeType": "application/json", "responseJsonSchema": {"const": 1}},
            ResponseFormat("json_schema", schema={"const": 1}),
        ),
        ({"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING"}}, None),
    ],
)
def test_response_format(wire: dict[str, Any], wanted: ResponseFormat | None) -> None:
    request = read(generationConfig=wire)
    assert request.response_format == wanted
    assert bool(request.extensions) == (wanted is None)


def test_sampling() -> None:
    wire = {
        "maxOutputTokens": 9,
        "temperature": 0.5,
        "topP": 1,
        "topK": 40.0,
        "seed": 7,
        "stopSequences": ["a", "b"],
        "presencePenalty": 0.1,
        "frequencyPenalty": -0.1,
        "candidateCount": 2,
        "responseLogprobs": True,
        "logprobs": 3,
    }
    assert read(generationConfig=wire).sampling == Sampling(
        max_tokens=9,
        temperature=0.5,
        top_p=1,
        top_k=40,
        seed=7,
        stop=("a", "b"),
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        n=2,
        logprobs=True,
        top_logprobs=3,
    )


def test_what_has_no_neutral_place_is_kept() -> None:
    extra: dict[str, Any] = {"safetySettings": [], "cachedContent": "c", "labels": {"a": "b"}, "novel": 1}
    kept = {"speechConfig": {"voice": "x"}, "thinkingConfig": {"novel": 2}}
    request = read(
        **extra, generationConfig=kept, serviceTier="standard", toolConfig={"retrievalConfig": {"a": 1}}
    )
    assert request.extensions == {
        "gemini": {**extra, "generationConfig": kept, "toolConfig": {"retrievalConfig": {"a": 1}}}
    }
    assert request.service_tier == "default"
