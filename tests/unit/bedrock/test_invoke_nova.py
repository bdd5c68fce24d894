"""InvokeModel with Nova's bodies: Converse, but for what stands outside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.call import Usage
from headgate.core.errors import InvalidRequest
from headgate.core.events import Stop
from headgate.core.fold import unfold
from headgate.core.messages import (
    ChatRequest,
    Media,
    Message,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Text,
    ToolCall,
)
from headgate.core.result import ChatResult, Choice
from headgate.dialects.bedrock import CONVERSE
from headgate.dialects.dialect import AnswerOptions
from tests.support.fields.row import PDF, PNG
from tests.unit.bedrock.invoke_cases import encode, record

NOVA = record("invoke_nova")
BODY: dict[str, Any] = {
    "schemaVersion": "messages-v1",
    "system": [{"text": "Be brief."}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"text": "What is this?"},
                {"image": {"format": "png", "source": {"bytes": PNG}}},
                {"cachePoint": {"type": "default"}},
            ],
        },
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c1", "name": "f", "input": {"a": 1}}}]},
        {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "done"}]}}],
        },
    ],
    "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "topK": 20, "stopSequences": ["x"]},
    "toolConfig": {
        "tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}],
        "toolChoice": {"any": {}},
    },
    "reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"},
    "special": 1,
}


def decoded(body: dict[str, Any], stream: bool = False) -> ChatRequest:
    return NOVA.decode_request(json.dumps(body).encode(), model="m", stream=stream)


def test_a_request_comes_back() -> None:
    asked = decoded(BODY, stream=True)
    assert (asked.model, asked.stream, asked.sampling.top_k) == ("m", True, 20)
    assert asked.reasoning == ReasoningOptions(effort="low", enabled=True)
    body, losses = NOVA.encode_request(asked)
    assert losses == []
    assert json.loads(body) == {key: value for key, value in BODY.items() if key != "schemaVersion"}
    assert NOVA.decode_request(body, model="m", stream=True) == asked


def test_converse_has_the_models_own_fields_elsewhere() -> None:
    body, losses = CONVERSE.encode_request(decoded(BODY), model="amazon.nova-pro-v1:0")
    assert losses == []
    wire = json.loads(body)
    assert wire["additionalModelRequestFields"] == {
        "inferenceConfig": {"topK": 20},
        "reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"},
        "special": 1,
    }
    assert wire["inferenceConfig"] == {key: BODY["inferenceConfig"][key] for key in wire["inferenceConfig"]}
    again, losses = NOVA.encode_request(CONVERSE.decode_request(body, model="amazon.nova-pro-v1:0"))
    assert losses == []
    assert json.loads(again) == {key: value for key, value in BODY.items() if key != "schemaVersion"}


def test_old_names_of_settings_are_read() -> None:
    old = {"max_new_tokens": 9, "top_p": 0.5, "top_k": 7, "temperature": 0}
    asked = decoded({"messages": BODY["messages"][:1], "inferenceConfig": old})
    assert asked.sampling == Sampling(max_tokens=9, top_p=0.5, top_k=7, temperature=0)
    within = {"reasoningConfig": {"type": "disabled"}}
    asked = decoded({"messages": BODY["messages"][:1], "inferenceConfig": within})
    assert asked.reasoning == ReasoningOptions(enabled=False)


def test_what_has_no_place_is_reported() -> None:
    asked = ChatRequest(
        model="m",
        messages=(Message("user", (Text("a"), Media("file", "application/pdf", PDF, name="p"))),),
        response_format=ResponseFormat("json_schema", schema={"type": "object"}),
        metadata={"a": "b"},
        service_tier="flex",
        extensions={"converse": {"guardrailConfig": {"a": 1}}, "elsewhere": {"b": 1}},
    )
    body, losses = NOVA.encode_request(asked)
    assert {loss.path for loss in losses} == {
        *("messages[0].content[1]", "response_format", "metadata", "service_tier", "guardrailConfig", "b")
    }
    assert json.loads(body) == {"messages": [{"role": "user", "content": [{"text": "a"}]}]}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"schemaVersion": 1}, "schemaVersion"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"system": "s"}, "system"),
        ({"inferenceConfig": 1}, "inferenceConfig"),
        ({"inferenceConfig": {"topK": 0.5}}, "inferenceConfig.topK"),
        ({"inferenceConfig": {"topP": "1"}}, "inferenceConfig.topP"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": "!"}}}]}
                ]
            },
            "messages[0].content[0].image.source.bytes",
        ),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        decoded(BODY | change)
    assert raised.value.param == param


def test_cached_tokens_have_novas_names() -> None:
    usage = Usage(10, 2, cached_tokens=4, cache_write_tokens=1)
    result = ChatResult(
        "", "", 0, (Choice(0, (Text("a"), ToolCall("c", "f", "{}")), Stop("tool_calls")),), usage
    )
    body, _ = NOVA.encode_result(result, AnswerOptions())
    told = json.loads(body)["usage"]
    assert told["cacheReadInputTokenCount"] == 4 and told["cacheWriteInputTokenCount"] == 1
    assert NOVA.decode_result(body).usage == usage
    wire, _ = encode("invoke_nova", unfold(result), "sse")
    assert b'"cacheReadInputTokenCount":4' in wire
    converse, _ = CONVERSE.encode_result(result, AnswerOptions())
    assert json.loads(converse)["usage"]["cacheReadInputTokens"] == 4
