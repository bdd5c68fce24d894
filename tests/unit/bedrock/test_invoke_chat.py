"""InvokeModel with bodies of Chat Completions: Mistral's words beside OpenAI's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.errors import InvalidRequest, StreamBroken, UpstreamError
from headgate.core.events import Finished
from headgate.core.fold import fold
from headgate.core.messages import (
    ChatRequest,
    Message,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from tests.unit.bedrock.invoke_cases import METRICS, chunk, decode, record

CHAT = record("invoke_chat")
MISTRAL = "mistral.mistral-large-2407-v1:0"
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
BODY: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "mild"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": "any",
    "max_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.9,
}


def decoded(body: dict[str, Any], stream: bool = False) -> ChatRequest:
    return CHAT.decode_request(json.dumps(body).encode(), model="m", stream=stream)


def encoded(asked: ChatRequest, model: str = MISTRAL) -> tuple[dict[str, Any], set[str]]:
    body, losses = CHAT.encode_request(asked, model=model)
    return json.loads(body), {loss.path for loss in losses}


def test_a_request_comes_back() -> None:
    asked = decoded(BODY, stream=True)
    assert asked.tool_choice == ToolChoice("required")
    assert (asked.stream, asked.include_usage) == (True, True)
    body, losses = encoded(asked)
    assert losses == set()
    assert body.keys() == BODY.keys()
    assert body["tool_choice"] == "any"
    again = CHAT.decode_request(json.dumps(body).encode(), model="m", stream=True)
    assert again == asked
    assert encoded(asked, "openai.gpt-oss-120b-1:0")[0]["tool_choice"] == "required"


def test_the_word_any_elsewhere_is_no_choice() -> None:
    asked = decoded({"messages": [{"role": "user", "content": "any"}]})
    assert asked.messages[0].parts == (Text("any"),)
    with pytest.raises(InvalidRequest) as raised:
        decoded(BODY | {"tool_choice": "every"})
    assert raised.value.param == "tool_choice"


def test_mistral_is_sent_what_it_publishes() -> None:
    asked = ChatRequest(
        model="m",
        messages=(
            Message("user", (Text("a"),), "ann"),
            Message("assistant", (Reasoning("hm"), Text("b"))),
            Message("user", (Text("c"),)),
        ),
        tools=(Tool("f", parameters={"type": "object"}),),
        tool_choice=ToolChoice("tool", "f"),
        parallel_tool_calls=False,
        response_format=ResponseFormat("json_object"),
        reasoning=ReasoningOptions(effort="high"),
        sampling=Sampling(top_k=3, seed=7, n=2, presence_penalty=0.5),
        user="u",
        service_tier="flex",
    )
    body, losses = encoded(asked)
    assert body.keys() == {"messages", "tools", "tool_choice"}
    assert body["tool_choice"] == "any"
    assert losses >= {
        *("tool_choice", "parallel_tool_calls", "response_format", "top_k", "seed", "n", "presence_penalty"),
        *("user", "service_tier", "messages[0].name"),
    }
    others, _ = encoded(asked, "openai.gpt-oss-20b-1:0")
    assert others["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert others["seed"] == 7
    assert others["reasoning_effort"] == "high"


def test_calls_in_mistrals_chunks() -> None:
    events = [
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "", "tool_calls": [CALL]}}]},
        {
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": ""}, "stop_reason": "tool_calls"}
            ],
            **METRICS,
        },
    ]
    result = fold(decode("invoke_chat", b"".join(map(chunk, events))))
    assert result.choices[0].parts == (ToolCall("c1", "f", '{"a":1}'),)
    assert result.choices[0].stop.reason == "tool_calls"
    assert result.usage is not None and result.usage.output_tokens == 2


def test_openais_own_chunks_and_answers() -> None:
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-oss"}
    events = [
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
        {**head, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}},
    ]
    seen = decode("invoke_chat", b"".join(map(chunk, events)))
    assert isinstance(seen[-1], Finished)
    result = fold(seen)
    assert (result.id, result.choices[0].stop.reason) == ("x", "length")
    assert result.usage is not None and result.usage.input_tokens == 3
    whole = {
        "id": "x",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "length"}
        ],
    }
    assert CHAT.decode_result(json.dumps(whole).encode()).choices == result.choices


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{}", StreamBroken),
        (b"[]", StreamBroken),
        (b"{", StreamBroken),
        (b'{"message":"no"}', UpstreamError),
        (b'{"error":{"message":"no"}}', UpstreamError),
    ],
)
def test_what_is_no_answer(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        CHAT.decode_result(body)
