"""Neutral requests, written for a Gemini upstream: the wire's form, and every loss."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from headgate.core.errors import InvalidRequest
from headgate.core.loss import Loss
from headgate.core.messages import (
    CacheHint,
    ChatRequest,
    Citation,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from headgate.dialects.gemini import GEMINI_COUNT, decode_request, encode_request
from headgate.dialects.gemini.vocabulary import made_id

HI = Message("user", (Text("Hi"),))
FOREIGN = {"openai_chat": {"prediction": 1}}


def write(
    *messages: Message, model: str = "gemini-2.5-flash", **fields: Any
) -> tuple[dict[str, Any], list[Loss]]:
    request = ChatRequest(model="public", messages=messages or (HI,), **fields)
    body, losses = encode_request(request, model=model)
    return json.loads(body), losses


def contents(*messages: Message, **fields: Any) -> list[dict[str, Any]]:
    wire, losses = write(*messages, **fields)
    assert losses == []
    written: list[dict[str, Any]] = wire["contents"]
    return written


def lost(*parts: Part, role: Any = "user") -> list[str]:
    return [loss.path for loss in write(Message(role, parts))[1]]


def test_the_body_names_neither_model_nor_stream() -> None:
    assert write(stream=True) == ({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}, [])


def test_leading_instructions_are_the_system_instruction() -> None:
    wire, losses = write(Message("system", (Text("a"),)), Message("developer", (Text("b"), Text("c"))), HI)
    assert wire["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "b"}, {"text": "c"}]}
    assert losses == []


def test_later_instructions_move_to_a_user_turn_but_not_between_calls_and_results() -> None:
    wire, losses = write(
        HI,
        Message("assistant", (ToolCall("c", "f", "{}"),)),
        Message("system", (Text("late"),)),
        Message("tool", (ToolResult("c", (Text("r"),)),)),
        Message("user", (Text("go on"),)),
        Message("system", (Text("later"),)),
    )
    shape = [(content["role"], list(content["parts"][0])) for content in wire["contents"]]
    assert shape == [
        ("user", ["text"]),
        ("model", ["functionCall"]),
        ("user", ["functionResponse"]),
        ("user", ["text"]),
        ("user", ["text"]),
        ("user", ["text"]),
    ]
    assert [content["parts"][0]["text"] for content in wire["contents"][3:]] == ["late", "go on", "later"]
    assert [loss.path for loss in losses] == ["messages[2].role", "messages[5].role"]
    assert losses[0].reason.startswith("moved to ")


def test_results_of_one_turn_go_in_one_content() -> None:
    made = made_id("x")
    assert contents(
        Message("assistant", (Text("a"), ToolCall("c1", "f", '{"x": 1}'), ToolCall(made, "g", ""))),
        Message("tool", (ToolResult("c1", (Text('{"t": 20}'),)),)),
        Message("tool", (ToolResult(made, (Text("sunny"), Text("dry"))),)),
        Message("user", (Text("thanks"),)),
    ) == [
        {
            "role": "model",
            "parts": [
                {"text": "a"},
                {"functionCall": {"id": "c1", "name": "f", "args": {"x": 1}}},
                {"functionCall": {"name": "g", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "f", "response": {"t": 20}}},
                {"functionResponse": {"name": "g", "response": {"output": "sunny\ndry"}}},
            ],
        },
        {"role": "user", "parts": [{"text": "thanks"}]},
    ]


def test_failed_results_and_their_images() -> None:
    image = Media("image", "image/png", "AAAA")
    (_, result) = contents(
        Message("assistant", (ToolCall("c", "f", "{}"),)),
        Message("tool", (ToolResult("c", (Text("no"), image), is_error=True),)),
    )
    assert result["parts"] == [
        {
            "functionResponse": {
                "id": "c",
                "name": "f",
                "response": {"error": "no"},
                "parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}],
            }
        }
    ]


def test_a_result_is_named_by_its_message_or_refused() -> None:
    result = ToolResult("c", (Text("r"),))
    assert (
        contents(HI, Message("tool", (result,), name="f"))[1]["parts"][0]["functionResponse"]["name"] == "f"
    )
    with pytest.raises(InvalidRequest) as caught:
        write(HI, Message("tool", (result,)))
    assert caught.value.param == "messages[1].content[0]"


def test_only_geminis_own_signatures_are_sent() -> None:
    wire, losses = write(
        HI,
        Message(
            "assistant",
            (
                Reasoning("mine", "AAAA", origin="gemini"),
                Reasoning("theirs", "sig", origin="anthropic"),
                Reasoning(data="secret", redacted=True, origin="anthropic"),
                Reasoning(signature="BBBB", origin="gemini"),
                ToolCall("c", "f", "{}"),
                ToolCall("d", "g", "{}"),
                Reasoning(signature="CCCC", origin="gemini"),
            ),
        ),
    )
    assert wire["contents"][1]["parts"] == [
        {"text": "mine", "thought": True, "thoughtSignature": "AAAA"},
        {"text": "theirs", "thought": True},
        {"functionCall": {"id": "c", "name": "f", "args": {}}, "thoughtSignature": "BBBB"},
        {"functionCall": {"id": "d", "name": "g", "args": {}}},
        {"text": "", "thoughtSignature": "CCCC"},
    ]
    assert [loss.path for loss in losses] == ["messages[1].content[1].signature", "messages[1].content[2]"]


@pytest.mark.parametrize(
    ("model", "signed"),
    [
        ("gemini-2.5-pro", False),
        ("gemini-3-pro-preview", True),
        ("publishers/google/models/gemini-3.1-flash", True),
        ("gemini-10-pro", True),
        ("my-gemini-3", False),
    ],
)
def test_models_that_want_signed_calls_get_the_documented_stand_in(model: str, signed: bool) -> None:
    calls = Message("assistant", (ToolCall("c", "f", "{}"), ToolCall("d", "g", "{}")))
    first, second = contents(HI, calls, model=model)[1]["parts"]
    assert first.get("thoughtSignature") == ("skip_thought_signature_validator" if signed else None)
    assert "thoughtSignature" not in second


def test_arguments_that_are_no_object_stay_readable() -> None:
    wire, losses = write(
        HI,
        Message("assistant", (ToolCall("c", "f", '{"x": '), ToolCall("d", "g", "ls -l", kind="custom"))),
    )
    calls = [part["functionCall"]["args"] for part in wire["contents"][1]["parts"]]
    assert calls == [{"arguments": '{"x": '}, {"input": "ls -l"}]
    assert [loss.path for loss in losses] == ["messages[1].content[0].arguments", "messages[1].content[1]"]


def test_media() -> None:
    (content,) = contents(
        Message(
            "user",
            (
                Media("image", url="https://x/y.png?size=1", detail="auto"),
                Media("file", data="AAAA", name="a.pdf"),
                Media("video", "video/mp4", url="https://youtu.be/x"),
            ),
        )
    )
    assert content["parts"] == [
        {"fileData": {"fileUri": "https://x/y.png?size=1", "mimeType": "image/png"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "AAAA", "displayName": "a.pdf"}},
        {"fileData": {"fileUri": "https://youtu.be/x", "mimeType": "video/mp4"}},
    ]


def test_every_part_that_has_no_place_is_reported() -> None:
    cache = CacheHint("5m")
    cited = Text("b", citations=(Citation("url", url="https://x"),), extensions=FOREIGN)
    assert lost(
        Text("a", cache=cache),
        cited,
        Media("image", "image/png", "AAAA", detail="high", cache=cache),
        Media("file", file_id="file-1"),
        Refusal("no"),
        Opaque("anthropic", {"type": "x"}),
    ) == [
        "messages[0].content[0].cache_control",
        "messages[0].content[1].prediction",
        "messages[0].content[1].citations",
        "messages[0].content[2].cache_control",
        "messages[0].content[2].detail",
        "messages[0].content[3]",
        "messages[0].content[4]",
        "messages[0].content[5]",
    ]
    _, losses = write(Message("user", (Text("a"),), name="Ann", extensions=FOREIGN))
    assert [loss.path for loss in losses] == ["messages[0].prediction", "messages[0].name"]
    result = ToolResult("c", (Text("r", cache=cache), Opaque("anthropic", {})), cache=cache)
    _, losses = write(
        Message("assistant", (ToolCall("c", "f", "{}", cache=cache),)), Message("tool", (result, Text("x")))
    )
    assert [loss.path for loss in losses] == [
        "messages[0].content[0].cache_control",
        "messages[1].content[1]",
        "messages[1].content[0].cache_control",
        "messages[1].content[0].content[0].cache_control",
        "messages[1].content[0].content[1]",
    ]


def test_every_setting_that_has_no_place_is_reported() -> None:
    _, losses = write(
        tools=(
            Tool("f", strict=True, cache=CacheHint(), extensions=FOREIGN),
            Tool("web_search", kind="web_search", extensions={"anthropic": {"type": "x"}}),
            Tool("grep", kind="custom"),
        ),
        tool_choice=ToolChoice("auto", extensions=FOREIGN),
        parallel_tool_calls=False,
        response_format=ResponseFormat("json_schema", "n", "d", {"type": "string"}, False, FOREIGN),
        sampling=Sampling(min_p=0.1, logit_bias={"1": 1.0}),
        user="u",
        metadata={"a": "b"},
        service_tier="scale",
        extensions=FOREIGN,
    )
    assert [loss.path for loss in losses] == [
        "prediction",
        "tools[0].cache_control",
        "tools[0].prediction",
        "tools[0].strict",
        "tools[1]",
        "tools[2]",
        "tool_choice.prediction",
        "parallel_tool_calls",
        "response_format.prediction",
        "response_format.description",
        "response_format.strict",
        "min_p",
        "logit_bias",
        "user",
        "metadata",
        "service_tier",
    ]
    assert all("payload" not in loss.reason and loss.reason for loss in losses)


FULL: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be brief"}, {"text": "and kind"}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "Look", "partMetadata": {"k": 1}},
                {
                    "inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="},
                    "mediaResolution": {"level": "MEDIA_RESOLUTION_HIGH"},
                },
                {"fileData": {"fileUri": "gs://b/v", "mimeType": "video/mp4"}, "videoMetadata": {"fps": 2}},
            ],
        },
        {
            "role": "model",
            "parts": [
                {"text": "Hm", "thought": True},
                {"text": "Hm!", "thought": True, "thoughtSignature": "AAAA"},
                {"text": "", "thoughtSignature": "BBBB"},
                {"text": "So", "thoughtSignature": "CCCC"},
                {"executableCode": {"language": "PYTHON", "code": "1"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
                {"functionCall": {"name": "f", "args": {"x": 1.5, "big": 2**70}}, "thoughtSignature": "DDDD"},
                {"functionCall": {"id": "own", "name": "g", "args": {}, "willContinue": False}},
                {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}, "thoughtSignature": "EEEE"},
                {"text": "", "thought": True, "thoughtSignature": "FFFF"},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "f", "response": {"output": "x"}, "scheduling": "SILENT"}},
                {"functionResponse": {"id": "own", "name": "g", "response": {"output": '{"a": 1}'}}},
            ],
        },
        {"role": "user", "parts": [{"text": "go"}]},
    ],
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "f",
                    "parameters": {
                        "type": "OBJECT",
                        "properties": {"x": {"type": "NUMBER", "format": "float", "example": 1}},
                        "propertyOrdering": ["x"],
                    },
                    "response": {"type": "STRING"},
                },
                {"name": "g", "parametersJsonSchema": {"type": "object", "additionalProperties": True}},
            ]
        },
        {"googleSearch": {"timeRangeFilter": {}}},
        {"urlContext": {}},
    ],
    "toolConfig": {
        "functionCallingConfig": {"mode": "VALIDATED", "allowedFunctionNames": ["f"]},
        "retrievalConfig": {"languageCode": "de"},
    },
    "generationConfig": {
        "temperature": 0.1,
        "topP": 0.9,
        "topK": 3,
        "candidateCount": 2,
        "maxOutputTokens": 10,
        "stopSequences": ["x"],
        "seed": 1,
        "presencePenalty": 1.0,
        "frequencyPenalty": 2.0,
        "responseLogprobs": True,
        "logprobs": 2,
        "responseMimeType": "application/json",
        "responseSchema": {"anyOf": [{"type": "STRING"}, {"type": "ARRAY", "items": {"type": "BOOLEAN"}}]},
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 100},
        "responseModalities": ["TEXT"],
        "speechConfig": {"languageCode": "de-DE"},
        "mediaResolution": "MEDIA_RESOLUTION_LOW",
    },
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    "cachedContent": "cachedContents/1",
    "labels": {"team": "a"},
    "serviceTier": "flex",
    "novel": {"x": [1, None]},
}


def test_the_same_dialect_loses_nothing() -> None:
    request = decode_request(json.dumps(FULL).encode(), model="gemini-2.5-pro")
    body, losses = encode_request(request)
    assert losses == []
    wire = json.loads(body)
    # The one normal form: a result that is a JSON object goes as one, text as `output`.
    assert wire == FULL
    assert decode_request(body, model="gemini-2.5-pro") == request


def test_losses_are_told_in_the_callers_own_terms() -> None:
    wire = {
        "systemInstruction": {"parts": [{"text": "a"}]},
        "contents": [
            {"role": "model", "parts": [{"functionCall": {"id": "c", "name": "f"}}]},
            {"role": "user", "parts": [{"functionResponse": {"id": "c", "name": "f"}}, {"text": "b"}]},
        ],
    }
    messages = decode_request(json.dumps(wire).encode(), model="m").messages
    assert [message.place_of(index, 0) for index, message in enumerate(messages)] == [
        "systemInstruction.parts[0]",
        "contents[0].parts[0]",
        "contents[1].parts[0]",
        "contents[1].parts[1]",
    ]
    moved = replace(
        messages[0], parts=(Text("x", cache=CacheHint()),), path="messages[7]", part_paths=("messages[7].x",)
    )
    _, losses = write(HI, moved)
    assert [loss.path for loss in losses] == ["messages[7].role", "messages[7].x.cache_control"]


def test_streamed_arguments_are_not_asked_for() -> None:
    calling = {"functionCallingConfig": {"streamFunctionCallArguments": True}}
    request = decode_request(json.dumps({**FULL, "toolConfig": calling}).encode(), model="m")
    body, losses = encode_request(request)
    assert "toolConfig" not in json.loads(body)
    assert [loss.path for loss in losses] == ["toolConfig.functionCallingConfig.streamFunctionCallArguments"]


def test_counting_takes_contents_or_a_whole_request() -> None:
    body, losses = GEMINI_COUNT.encode_request(ChatRequest(model="m", messages=(HI,)))
    assert (json.loads(body), losses) == ({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}, [])
    request = ChatRequest(model="m", messages=(Message("system", (Text("a"),)), HI))
    body, _ = GEMINI_COUNT.encode_request(request, model="x")
    assert json.loads(body)["generateContentRequest"]["model"] == "models/x"
    assert GEMINI_COUNT.decode_request(body, model="m") == request
    with pytest.raises(InvalidRequest) as caught:
        GEMINI_COUNT.decode_request(json.dumps({"contents": [], "generateContentRequest": {}}).encode())
    assert caught.value.param == "contents"
    with pytest.raises(InvalidRequest) as caught:
        GEMINI_COUNT.decode_request(b'{"generateContentRequest":{}}', model="m")
    assert caught.value.param == "generateContentRequest.contents"
