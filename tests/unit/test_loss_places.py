"""What a translation loses is told by the place where the caller wrote it, whoever the upstream is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from headgate.core.errors import InvalidRequest
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest, Message, Text, Tool
from headgate.dialects.dialect import ChatDialect
from headgate.dialects.registry import dialect
from headgate.dialects.terms import in_callers_terms

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HINT = {"type": "ephemeral"}

ANTHROPIC: dict[str, Any] = {
    "max_tokens": 9,
    "top_k": 4,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": HINT}],
    "tools": [
        {"name": "f", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "w"},
    ],
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c",
                    "content": [
                        {"type": "text", "text": "x"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                            "cache_control": HINT,
                        },
                    ],
                },
                {"type": "text", "text": "and", "cache_control": HINT},
            ],
        },
    ],
}
GEMINI: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}]},
    "generationConfig": {"topK": 4, "thinkingConfig": {"includeThoughts": True}},
    "tools": [{"functionDeclarations": [{"name": "f"}], "googleSearch": {}}],
    "contents": [
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": [{"text": "I'll "}, {"text": "call"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f"}, "thoughtSignature": "c2ln"}]},
        {
            "role": "user",
            "parts": [
                {"text": "here", "videoMetadata": {"fps": 1}},
                {"functionResponse": {"name": "f", "response": {"output": "x"}, "willContinue": False}},
            ],
        },
    ],
}
CONVERSE: dict[str, Any] = {
    "system": [
        {"text": "a"},
        {"cachePoint": {"type": "default"}},
        {"guardContent": {"text": {"text": "b", "qualifiers": ["query"]}}},
    ],
    "toolConfig": {
        "tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}, {"systemTool": {"name": "s"}}]
    },
    "inferenceConfig": {"topP": 1, "stopSequences": ["x"]},
    "messages": [
        {
            "role": "user",
            "content": [{"text": "hi"}, {"cachePoint": {"type": "default"}}, {"text": "x"}, {"newBlock": 1}],
        },
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c", "name": "f", "input": {}}}]},
        {
            "role": "user",
            "content": [
                {
                    "toolResult": {
                        "toolUseId": "c",
                        "content": [{"text": "x"}, {"image": {"format": "png", "source": {"bytes": PNG}}}],
                    }
                },
                {"text": "and"},
                {"cachePoint": {"type": "default"}},
            ],
        },
    ],
}
RESPONSES: dict[str, Any] = {
    "instructions": "a",
    "max_output_tokens": 9,
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "description": "d"}},
    "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_new", "x": 1}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "enc"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "c",
            "output": [
                {"type": "input_text", "text": "x"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
            ],
        },
    ],
}
CHAT: dict[str, Any] = {
    "reasoning_effort": "minimal",
    "top_k": 4,
    "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "web_search"}],
    "messages": [
        {"role": "system", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": HINT}]},
        {
            "role": "assistant",
            "reasoning_content": "hm",
            "content": "I call",
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "new": 1}
            ],
        },
        {
            "role": "tool",
            "tool_call_id": "c",
            "content": [{"type": "text", "text": "x", "cache_control": HINT}],
        },
    ],
}
COMPLETIONS: dict[str, Any] = {"prompt": "a", "best_of": 2, "logprobs": 2}

BODIES: Mapping[str, dict[str, Any]] = {
    "anthropic": ANTHROPIC,
    "converse": CONVERSE,
    "gemini": GEMINI,
    "openai_chat": CHAT,
    "openai_completions": COMPLETIONS,
    "openai_responses": RESPONSES,
}
UPSTREAMS = ("openai_chat", "openai_responses", "anthropic", "gemini", "converse", "openai_completions")


def chat(name: str) -> ChatDialect:
    found = dialect(name)
    assert isinstance(found, ChatDialect)
    return found


def asked(caller: str) -> ChatRequest:
    codec = chat(caller)
    body = BODIES[caller] | ({"model": "m"} if codec.model_in_body else {})
    route: dict[str, Any] = {} if codec.model_in_body else {"model": "m", "stream": False}
    return codec.decode_request(json.dumps(body).encode(), **route)


def lost(caller: str, upstream: str) -> list[str]:
    _, losses = chat(upstream).encode_request(asked(caller))
    return [loss.path for loss in in_callers_terms(losses, caller)]


@pytest.mark.parametrize(
    ("caller", "upstream", "paths"),
    [
        (
            "anthropic",
            "openai_chat",
            [
                "system[1].cache_control",
                "messages[2].content[0].content[1]",
                "messages[2].content[1].cache_control",
                "tools[1]",
                "thinking.budget_tokens",
                "thinking.type",
            ],
        ),
        (
            "anthropic",
            "openai_responses",
            [
                "system[1].cache_control",
                "messages[2].content[0].content[1].cache_control",
                "messages[2].content[1].cache_control",
                "tools[1]",
                "top_k",
                "thinking.budget_tokens",
                "thinking.type",
            ],
        ),
        (
            "anthropic",
            "gemini",
            [
                "system[1].cache_control",
                "messages[2].content[0].content[1].cache_control",
                "messages[2].content[1].cache_control",
                "tools[1]",
            ],
        ),
        ("anthropic", "converse", ["messages[2].content[0].content[1].cache_control", "tools[1]"]),
        (
            "gemini",
            "openai_chat",
            [
                "contents[3].parts[1].functionResponse",
                "contents[3].parts[0].videoMetadata",
                "tools[0].googleSearch",
                "generationConfig.thinkingConfig.includeThoughts",
            ],
        ),
        (
            "gemini",
            "anthropic",
            [
                "systemInstruction.parts[1]",
                "contents[2].parts[0]",
                "contents[3].parts[1].functionResponse",
                "contents[3].parts[0].videoMetadata",
                "generationConfig.thinkingConfig.includeThoughts",
                "tools[0].googleSearch",
            ],
        ),
        (
            "gemini",
            "converse",
            [
                "systemInstruction",
                "contents[2].parts[0]",
                "contents[3].parts[1].functionResponse",
                "contents[3].parts[0].videoMetadata",
                "generationConfig.thinkingConfig.includeThoughts",
                "tools[0].googleSearch",
            ],
        ),
        (
            "converse",
            "openai_chat",
            [
                "system[0].cache_control",
                "system[2].guardContent",
                "messages[0].content[0].cache_control",
                "messages[0].content[3]",
                "messages[2].content[0].toolResult.content[1]",
                "messages[2].content[1].cache_control",
                "toolConfig.tools[1]",
            ],
        ),
        (
            "converse",
            "gemini",
            [
                "system[0].cache_control",
                "system[2].guardContent",
                "messages[0].content[0].cache_control",
                "messages[0].content[3]",
                "messages[2].content[1].cache_control",
                "toolConfig.tools[1]",
            ],
        ),
        (
            "openai_responses",
            "openai_chat",
            ["input[0].content[1]", "input[1]", "input[3].output[1]", "tools[1]"],
        ),
        ("openai_responses", "converse", ["input[0].content[1]", "input[1].id", "input[1]", "tools[1]"]),
        (
            "openai_chat",
            "anthropic",
            [
                "messages[2].reasoning_content",
                "messages[2].tool_calls[0].new",
                "reasoning_effort",
                "tools[1]",
            ],
        ),
        (
            "openai_chat",
            "gemini",
            [
                "messages[1].content[0].cache_control",
                "messages[2].tool_calls[0].new",
                "messages[3].content[0].cache_control",
                "tools[1]",
            ],
        ),
        ("openai_completions", "anthropic", ["best_of", "logprobs"]),
    ],
)
def test_a_loss_has_the_callers_own_place(caller: str, upstream: str, paths: list[str]) -> None:
    assert lost(caller, upstream) == paths


@pytest.mark.parametrize(
    ("caller", "upstream"), [(one, other) for one in BODIES for other in UPSTREAMS if one != other]
)
def test_every_place_is_in_the_callers_request(caller: str, upstream: str) -> None:
    """All but the last word of each path can be followed in the caller's body."""
    body = BODIES[caller]
    for path in lost(caller, upstream):
        steps = [step for word in path.split(".") for step in _steps(word)]
        value: Any = body
        for step in steps[:-1]:
            value = value[step]
            if isinstance(value, str):  # content in the shorthand of a text
                break


def _steps(word: str) -> list[str | int]:
    name, *numbers = word.replace("]", "").split("[")
    return [name, *map(int, numbers)]


def test_a_refused_call_is_named_by_the_callers_place() -> None:
    contents = [
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": [{"text": "so"}, {"functionCall": {"name": "f"}}]},
        {"role": "user", "parts": [{"text": "no"}]},
    ]
    request = chat("gemini").decode_request(json.dumps({"contents": contents}).encode(), model="m")
    with pytest.raises(InvalidRequest) as refused:
        chat("anthropic").encode_request(request)
    assert refused.value.param == "contents[1].parts[1]"


def test_an_empty_message_is_named_by_the_callers_place() -> None:
    request = chat("openai_responses").decode_request(
        b'{"model": "m", "input": [{"role": "system", "content": "s"}, {"role": "user", "content": ""}]}'
    )
    with pytest.raises(InvalidRequest) as refused:
        chat("anthropic").encode_request(request)
    assert refused.value.param == "input[1].content"


@pytest.mark.parametrize("upstream", UPSTREAMS)
def test_another_vendors_tool_is_a_loss(upstream: str) -> None:
    tool = Tool("search", kind="web_search_20250305", extensions={"elsewhere": {"max_uses": 5}})
    request = ChatRequest(model="m", messages=(Message("user", (Text("hi"),)),), tools=(tool,))
    body, losses = chat(upstream).encode_request(request)
    assert b"web_search" not in body
    assert [loss.path for loss in losses] == ["tools[0]"]


@pytest.mark.parametrize("name", ["openai_chat", "openai_responses"])
def test_a_vendors_tool_without_settings_goes_back_to_it(name: str) -> None:
    body = BODIES[name] | {"model": "m", "tools": [{"type": "web_search"}]}
    written, losses = chat(name).encode_request(chat(name).decode_request(json.dumps(body).encode()))
    assert json.loads(written)["tools"] == [{"type": "web_search"}]
    assert "tools[0]" not in [loss.path for loss in losses]


def test_a_model_in_the_route_replaces_that_of_the_body() -> None:
    for name in ("openai_chat", "openai_completions", "anthropic", "openai_responses"):
        request = chat(name).decode_request(json.dumps(BODIES[name] | {"model": "a"}).encode(), model="b")
        assert json.loads(chat(name).encode_request(request)[0])["model"] == "b"


def test_settings_are_named_as_the_caller_knows_them() -> None:
    losses = [Loss("reasoning.budget_tokens", "r"), Loss("top_k", "r"), Loss("labels", "r")]
    paths = [loss.path for loss in in_callers_terms(losses, "gemini")]
    assert paths == ["generationConfig.thinkingConfig.thinkingBudget", "generationConfig.topK", "labels"]
    assert in_callers_terms(losses, "cohere_rerank") == losses
    asked = chat("openai_responses").decode_request(
        json.dumps(BODIES["openai_responses"] | {"text": {"verbosity": "low"}, "model": "m"}).encode()
    )
    told = in_callers_terms(chat("anthropic").encode_request(asked)[1], "openai_responses")
    assert Loss("text.verbosity", "only openai has this field") in told
    twice = [Loss("logprobs", "r"), Loss("top_logprobs", "r")]
    assert [loss.path for loss in in_callers_terms(twice, "openai_completions")] == ["logprobs"]
