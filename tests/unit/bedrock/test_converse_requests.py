"""Converse requests: read, and written again without loss, judged by botocore."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import InvalidRequest
from headgate.core.messages import (
    CacheHint,
    Media,
    Opaque,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Text,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from headgate.dialects.bedrock import CONVERSE, decode_request, encode_request
from tests.unit.bedrock.aws import complaints
from tests.unit.bedrock.converse_bodies import ANY, BLOCKS, DATA, OPUS, RESULT, RICH, USER, decode, encode

GIVEN = settings(max_examples=150, deadline=None, database=None)


def test_a_request_with_everything_is_written_back_as_it_was() -> None:
    assert complaints(RICH) == ""
    assert encode(decode(ANY, **RICH)) == RICH


def test_what_a_rich_request_means() -> None:
    request = decode(OPUS, **RICH)
    assert (request.model, request.stream, request.include_usage) == (OPUS, True, True)
    assert [message.role for message in request.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "user",
        "system",
        "user",
    ]
    system, user, assistant, tool = request.messages[:4]
    assert system.parts[1] == Text("g", cache=CacheHint(), extensions={"converse": {"guardContent": {}}})
    picture, stored, document, notes, bits = user.parts[1:6]
    assert picture == Media("image", "image/png", DATA)
    assert isinstance(stored, Media)
    assert (stored.url, stored.data) == ("s3://bucket/key", None)
    assert isinstance(document, Media)
    assert (document.mime, document.name, document.data) == ("application/pdf", "My report", DATA)
    assert isinstance(notes, Media)
    assert isinstance(bits, Media)
    assert base64.b64decode(notes.data or "").decode() == "Grüße"
    assert base64.b64decode(bits.data or "").decode() == "a\nb"
    assert isinstance(user.parts[-1], Opaque)  # search results have no hint, so that the point stands alone
    assert assistant.parts[:3] == (
        Reasoning("Hm.", "SIG", origin="converse"),
        Reasoning(data=DATA, redacted=True, origin="converse"),
        Reasoning("unsigned", origin="converse"),
    )
    cited = assistant.parts[4]
    assert isinstance(cited, Text)
    assert (cited.citations[0].kind, cited.citations[0].source) == ("document", 0)
    assert assistant.parts[6] == ToolCall("a", "f", '{"x":1}')
    assert [type(part) for part in assistant.parts[8:]] == [Opaque, Opaque]
    first, second = tool.parts
    assert isinstance(first, ToolResult)
    assert (first.call_id, first.cache, first.parts[1]) == ("a", CacheHint(), Text("two"))
    assert second == ToolResult("b", (), is_error=True)
    assert request.tools[0].cache == CacheHint("5m")
    assert request.tool_choice == ToolChoice("tool", "f")
    assert request.sampling == Sampling(max_tokens=9, temperature=0.5, top_p=0.25, top_k=7, stop=("x", "y"))
    assert request.reasoning == ReasoningOptions(effort="high", budget_tokens=2048, enabled=True)
    assert request.response_format == ResponseFormat(
        "json_schema", name="n", description="d", schema={"type": "object"}
    )
    assert (request.metadata, request.service_tier) == ({"team": "a b"}, "priority")


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
rest_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
points = st.sampled_from(
    [{"cachePoint": {"type": "default"}}, {"cachePoint": {"type": "default", "ttl": "5m"}}]
)
user_blocks = st.one_of(
    st.builds(lambda text: {"text": text}, texts),
    st.sampled_from(BLOCKS[:3] + BLOCKS[6:]),
    points,
)
results = st.builds(
    lambda identity, content, error: {
        "toolResult": {"toolUseId": identity, "content": content} | ({"status": "error"} if error else {})
    },
    st.sampled_from(["a", "b"]),
    st.lists(
        st.sampled_from([RESULT[1], RESULT[2], RESULT[4], RESULT[5]])
        | rest_json.filter(lambda value: value is not None).map(lambda value: {"json": value}),
        max_size=3,
    ),
    st.booleans(),
)
model_blocks = st.one_of(
    st.builds(lambda text: {"text": text}, texts),
    st.sampled_from(RICH["messages"][1]["content"]),
    st.builds(
        lambda arguments: {"toolUse": {"toolUseId": "a", "name": "f", "input": arguments}},
        st.dictionaries(texts, rest_json, max_size=2),
    ),
    points,
)
turns = st.builds(
    lambda user, model: [
        {"role": "user", "content": user},
        {"role": "assistant", "content": model},
    ],
    st.lists(user_blocks | results, min_size=1, max_size=5),
    st.lists(model_blocks, min_size=1, max_size=5),
)
CALLED = [
    {"role": "user", "content": [{"text": "go"}]},
    {
        "role": "assistant",
        "content": [{"toolUse": {"toolUseId": each, "name": "f", "input": {}}} for each in "ab"],
    },
]
requests = st.builds(
    lambda pairs, options: {"messages": CALLED + [turn for pair in pairs for turn in pair]} | options,
    st.lists(turns, min_size=1, max_size=3),
    st.fixed_dictionaries(
        {}, optional={key: st.just(RICH[key]) for key in RICH if key not in ("messages", "toolConfig")}
    ),
).map(lambda wire: wire | {"toolConfig": RICH["toolConfig"]})


@GIVEN
@given(requests)
def test_any_request_is_written_back_as_it_was(wire: dict[str, Any]) -> None:
    assert encode(decode(ANY, **wire)) == wire


def test_unknown_fields_at_every_level_come_back() -> None:
    wire: dict[str, Any] = {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"text": "a", "new": 1},
                    {"image": {"format": "png", "source": {"bytes": DATA, "new": 1}, "new": 2}, "new": 3},
                    {"hologram": {"depth": 3}},
                ],
                "new": 4,
            },
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "t", "new": 1}, "new": 2}},
                    {"toolUse": {"toolUseId": "a", "name": "f", "input": {}, "new": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"toolResult": {"toolUseId": "a", "content": [{"text": "b", "new": 1}], "new": 2}},
                ],
            },
        ],
        "inferenceConfig": {"maxTokens": 1, "new": 1},
        "toolConfig": {
            "tools": [
                {"toolSpec": {"name": "f", "inputSchema": {"json": {}, "new": 1}, "new": 2}, "new": 3},
                {"newTool": {"x": 1}},
            ],
            "toolChoice": {"any": {"new": 1}},
            "new": 1,
        },
        "outputConfig": {"new": 1},
        "serviceTier": {"type": "flex", "new": 1},
        "new": {"x": 1},
    }
    body, losses = encode_request(decode(**wire))
    assert losses == []
    assert json.loads(body) == wire


def test_the_model_comes_from_the_route_or_the_body() -> None:
    body = json.dumps({"messages": [USER], "modelId": "m"}).encode()
    assert decode_request(body).model == "m"
    with pytest.raises(InvalidRequest) as raised:
        decode_request(json.dumps({"messages": [USER]}).encode())
    assert raised.value.param == "modelId"


def test_a_prompt_of_prompt_management_needs_no_messages() -> None:
    arn = "arn:aws:bedrock:eu-west-1:123456789012:prompt/ABCDEFGHIJ:1"
    request = decode_request(b'{"promptVariables": {"a": {"text": "b"}}}', model=arn)
    assert request.messages == ()


def test_the_route_holds_the_model() -> None:
    assert CONVERSE.path("a.b-v1:0", False) == "/model/a.b-v1%3A0/converse"
    arn = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.x"
    assert CONVERSE.path(arn, True) == (
        "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Ainference-profile%2Feu.x/converse-stream"
    )
    assert not CONVERSE.model_in_body
    assert list(CONVERSE.stream_types) == ["eventstream", "sse"]
