"""Chat Completions requests: read, refused with the field's path, written again without loss."""

from __future__ import annotations

import json
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from headgate.core.errors import HeadgateError, InvalidRequest
from headgate.core.messages import (
    ChatRequest,
    Media,
    Message,
    Opaque,
    Reasoning,
    ReasoningOptions,
    Refusal,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from headgate.dialects.json_bodies import MAX_ITEMS
from headgate.dialects.openai_chat import OPENAI_CHAT, Profile, decode_request, encode_request

TAKES_ALL = Profile(max_tokens_field="max_completion_tokens", developer_role=True, cache_control=True)
PNG = "data:image/png;base64,iVBORw0KGgo="
USER = {"role": "user", "content": "Hi"}


def decode(**fields: Any) -> ChatRequest:
    return decode_request(json.dumps({"model": "m", "messages": [USER]} | fields).encode())


def encode(request: ChatRequest) -> dict[str, Any]:
    body, losses = encode_request(request, profile=TAKES_ALL)
    assert losses == []
    return json.loads(body)  # type: ignore[no-any-return]


CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief.", "name": "ops"},
    {"role": "developer", "content": [{"type": "text", "text": "a", "cache_control": {"type": "x"}}]},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "format": "png"}, "extra": 1},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "file", "file": {"file_data": "AAAA"}, "prompt_cache_breakpoint": {"mode": "explicit"}},
            {"type": "video_url", "video_url": {"url": "https://x/y.mp4"}},
            {"type": "hologram", "hologram": {"depth": 3}},
        ],
        "vendor": True,
    },
    {
        "role": "assistant",
        "reasoning_content": "Hm.",
        "content": "Let me look.",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1'}},
            {"id": "b", "type": "custom", "custom": {"name": "g", "input": "raw"}, "x": 1},
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": "1"},
    {
        "role": "tool",
        "tool_call_id": "b",
        "content": [{"type": "text", "text": "2"}, {"type": "text", "text": "3"}],
    },
    {"role": "assistant", "content": None, "function_call": {"name": "old", "arguments": "{}"}},
    {"role": "function", "name": "old", "content": "4"},
    {"role": "assistant", "content": None, "refusal": "No.", "name": "bot"},
    {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
    {"role": "assistant", "content": None, "audio": {"id": "audio_1"}},
    {"role": "user", "content": ""},
]

REQUEST: dict[str, Any] = {
    "model": "gpt",
    "messages": CONVERSATION,
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "d",
                "parameters": {"type": "object"},
                "strict": True,
                "x": 1,
            },
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "custom", "custom": {"name": "g", "description": "d", "format": {"type": "text"}}},
        {"type": "web_search", "depth": 2},
    ],
    "functions": [{"name": "old", "parameters": {}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": {
        "type": "json_schema",
        "json_schema": {
            "name": "n",
            "description": "d",
            "schema": {"type": "object"},
            "strict": True,
            "x": 1,
        },
    },
    "reasoning_effort": "low",
    "max_completion_tokens": 7,
    "temperature": 0.5,
    "top_p": 1,
    "top_k": 3,
    "min_p": 0.1,
    "seed": 42,
    "stop": ["a", "b"],
    "presence_penalty": 0.1,
    "frequency_penalty": -0.1,
    "logit_bias": {"5": -100},
    "n": 2,
    "logprobs": True,
    "top_logprobs": 3,
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "user": "u",
    "metadata": {"k": "v"},
    "service_tier": "flex",
    "modalities": ["text", "audio"],
    "audio": {"voice": "ash", "format": "wav"},
    "prediction": {"type": "content", "content": "x"},
    "store": True,
    "verbosity": "low",
    "web_search_options": {},
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "moderation": {"model": "m"},
    "think": True,
    "n_ctx": 4096,
}


def test_every_field_comes_back_as_it_was() -> None:
    assert encode(decode_request(json.dumps(REQUEST).encode())) == REQUEST


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "required"},
        {"tool_choice": {"type": "custom", "custom": {"name": "g"}}},
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{}]}}},
        {"function_call": "auto"},
        {"function_call": {"name": "old"}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "text"}},
    ],
)
def test_the_other_forms_of_a_field_come_back_too(fields: dict[str, Any]) -> None:
    assert encode(decode(**fields)) == {"model": "m", "messages": [USER]} | fields


def test_neutral_meaning_of_the_messages() -> None:
    request = decode(messages=CONVERSATION)
    user, assistant, tool = request.messages[2], request.messages[3], request.messages[4]
    assert user.parts[:4] == (
        Text("What is this?"),
        Media("image", "image/png", "iVBORw0KGgo=", detail="low"),
        Media(
            "image",
            url="https://x/y.png",
            extensions={"openai_chat": {"extra": 1, "image_url": {"format": "png"}}},
        ),
        Media("audio", "audio/mpeg", "AAAA"),
    )
    assert user.parts[-1] == Opaque("openai_chat", {"type": "hologram", "hologram": {"depth": 3}})
    assert user.extensions == {"openai_chat": {"vendor": True}}
    assert assistant.parts[:3] == (
        Reasoning("Hm."),
        Text("Let me look."),
        ToolCall("a", "f", '{"x": 1'),
    )
    assert tool == Message("tool", (ToolResult("a", (Text("1"),)),))
    call, result = request.messages[6].parts[0], request.messages[7].parts[0]
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert call.id == result.call_id
    assert request.messages[8].parts == (Refusal("No."),)


def test_a_calls_place_in_its_stream_says_nothing() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, "index": 0}
    request = decode(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert request.messages[0].parts == (ToolCall("a", "f", "{}"),)


def test_neutral_meaning_of_the_settings() -> None:
    request = decode_request(json.dumps(REQUEST).encode())
    assert request.sampling == Sampling(
        max_tokens=7,
        temperature=0.5,
        top_p=1,
        top_k=3,
        min_p=0.1,
        seed=42,
        stop=("a", "b"),
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        logit_bias={"5": -100},
        n=2,
        logprobs=True,
        top_logprobs=3,
    )
    assert request.reasoning == ReasoningOptions(effort="low")
    assert (request.stream, request.include_usage, request.service_tier) == (True, True, "flex")
    assert request.tool_choice == ToolChoice("tool", "f")
    assert request.tools[2] == Tool("web_search", kind="web_search", extensions={"openai_chat": {"depth": 2}})
    assert request.response_format is not None
    assert request.response_format.schema == {"type": "object"}
    assert request.extensions["openai_chat"]["n_ctx"] == 4096
    assert decode(stop="x").sampling.stop == ("x",)
    assert decode(max_tokens=3).sampling.max_tokens == 3
    assert decode(stream=None, temperature=None, stop=None, tools=None) == decode()


def test_route_may_hold_model_and_stream() -> None:
    request = decode_request(b'{"messages":[{"role":"user","content":"x"}]}', model="azure", stream=True)
    assert (request.model, request.stream) == ("azure", True)
    assert b'"model":"other"' in encode_request(request, model="other")[0]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 3}, "model", "invalid_type"),
        ({"model": ""}, "model", "missing_required_parameter"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "x"}, "messages", "invalid_type"),
        ({"messages": ["x"]}, "messages[0]", "invalid_type"),
        ({"messages": [1] * (MAX_ITEMS + 1)}, "messages", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 6000}] * 3},
            "messages",
            "invalid_value",
        ),
        ({"messages": [USER, {"content": "x"}]}, "messages[1].role", "missing_required_parameter"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "invalid_value"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", None),
        ({"messages": [USER | {"name": 1}]}, "messages[0].name", "invalid_type"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"max_tokens": -1}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "invalid_type"),
        ({"stop": 1}, "stop", "invalid_type"),
        ({"stop": ["a", 1]}, "stop[1]", "invalid_type"),
        ({"logit_bias": {"1": "x"}}, "logit_bias", "invalid_type"),
        ({"metadata": {"a": 1}}, "metadata", "invalid_type"),
        ({"store": "x"}, "store", "invalid_type"),
        ({"modalities": "text"}, "modalities", "invalid_type"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "x"}]}]},
            "messages[0].tool_calls[0].type",
            "invalid_value",
        ),
        ({"tools": [{}]}, "tools[0].type", "missing_required_parameter"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", None),
        ({"functions": [{"name": 1}]}, "functions[0].name", "invalid_type"),
        (
            {"functions": [{"name": "f", "parameters": {"type": 1}}]},
            "functions[0].parameters.type",
            "invalid_type",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": []}}}]},
            "tools[0].function.parameters.properties",
            "invalid_type",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"required": "x"}},
                }
            },
            "response_format.json_schema.schema.required",
            "invalid_type",
        ),
        ({"tool_choice": "maybe"}, "tool_choice", "invalid_value"),
        ({"tool_choice": 1}, "tool_choice", "invalid_type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function", None),
        ({"function_call": "maybe"}, "function_call", "invalid_value"),
        ({"response_format": "json"}, "response_format", "invalid_type"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", None),
        ({"reasoning_effort": 1}, "reasoning_effort", "invalid_type"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str, code: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    assert caught.value.param == param
    assert f"'{param}'" in caught.value.message
    assert caught.value.code == (code or "missing_required_parameter")


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ("x", ""),
        ({}, ".type"),
        ({"type": "text"}, ".text"),
        ({"type": "image_url"}, ".image_url"),
        ({"type": "image_url", "image_url": "https://x"}, ".image_url"),
        ({"type": "image_url", "image_url": {"url": 1}}, ".image_url.url"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA"}}, ".input_audio.format"),
        ({"type": "file", "file": {}}, ".file"),
        ({"type": "file", "file": {"file_id": "a", "file_data": "b"}}, ".file"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,A"}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png,raw"}}, ".image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:text/plain;base64,AAAA"}}, ".image_url.url"),
        ({"type": "video_url", "video_url": {"url": "data:video/mp4;base64,é"}}, ".video_url.url"),
        ({"type": "input_audio", "input_audio": {"data": "A", "format": "wav"}}, ".input_audio.data"),
        ({"type": "file", "file": {"file_data": "no base64"}}, ".file.file_data"),
        ({"type": "file", "file": {"file_data": "data:a/b;base64,A"}}, ".file.file_data"),
    ],
)
def test_a_wrong_content_part_is_named(part: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(messages=[USER, {"role": "user", "content": [{"type": "text", "text": "a"}, part]}])
    assert caught.value.param == f"messages[1].content[1]{param}"


@pytest.mark.parametrize("field", sorted(get_type_hints(CompletionCreateParamsStreaming)))
def test_every_field_of_openais_api_has_its_type_checked(field: str) -> None:
    refused = []
    for wrong in (1.5, "x"):
        try:
            decode(**{field: wrong})
        except InvalidRequest as error:
            refused.append(error.param)
    assert refused
    assert set(refused) == {field}


def test_messages_read_like_openais_own() -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(temperature="hot")
    assert caught.value.message == (
        "Invalid type for 'temperature': expected a number, but got a string instead."
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b'{"model": "m",}',
        b'{"model": "\xff"}',
        b'{"model": NaN}',
        b'{"x": 1e999}',
        b"[" * 100_000,
        b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_request(body)
    assert caught.value.status == 400


def test_a_large_image_and_a_thousand_tools_are_taken() -> None:
    image = PNG.removesuffix("=") + "A" + "A" * (20 * 1024 * 1024)
    part = {"type": "image_url", "image_url": {"url": image}}
    tools = [{"type": "function", "function": {"name": f"f{number}"}} for number in range(1000)]
    request = decode(messages=[{"role": "user", "content": [part]}], tools=tools)
    assert len(request.tools) == 1000
    damaged = image[:-4] + "é==="
    with pytest.raises(InvalidRequest):
        decode(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": damaged}}]}])


def test_the_record_holds_the_codec() -> None:
    assert OPENAI_CHAT.decode_request is decode_request
    assert OPENAI_CHAT.path("m", True) == "/chat/completions"


GIVEN = settings(max_examples=200, deadline=None, database=None)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """The full request with one value, anywhere in it, replaced or taken away."""
    value: Any = json.loads(json.dumps(REQUEST))
    parent, key = {"": value}, ""
    node: Any = value
    holder: Any = parent
    while isinstance(node, dict | list) and node and draw(st.integers(0, 4)):
        holder = node
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw(st.sampled_from(keys))
        node = holder[key]
    if draw(st.booleans()) and holder is not parent:
        del holder[key]
    else:
        holder[key] = draw(json_values)
    return parent[""]


@GIVEN
@given(damaged() | json_values)
def test_any_json_is_read_or_refused_with_a_reason(value: Any) -> None:
    body = json.dumps(value).encode()
    try:
        request = decode_request(body)
    except InvalidRequest as error:
        assert error.param or error.code == "invalid_json"
    else:
        assert decode_request(encode_request(request, profile=TAKES_ALL)[0]) == request


@GIVEN
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        decode_request(body)
    except HeadgateError as error:
        assert error.status == 400
