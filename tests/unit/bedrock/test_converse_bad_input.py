"""Converse requests that are none: refused with the path of the field."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import InvalidRequest
from headgate.core.messages import (
    Media,
)
from headgate.dialects.bedrock import decode_request, encode_request
from headgate.dialects.json_bodies import MAX_ITEMS
from tests.unit.bedrock.converse_bodies import DATA, OPUS, RICH, S3, USER, decode

GIVEN = settings(max_examples=150, deadline=None, database=None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"content": []}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": []}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"system": "Be brief."}, "system"),
        ({"system": [{"text": 1}]}, "system[0].text"),
        ({"inferenceConfig": []}, "inferenceConfig"),
        ({"inferenceConfig": {"maxTokens": "1"}}, "inferenceConfig.maxTokens"),
        ({"inferenceConfig": {"maxTokens": -1}}, "inferenceConfig.maxTokens"),
        ({"inferenceConfig": {"temperature": "x"}}, "inferenceConfig.temperature"),
        ({"inferenceConfig": {"stopSequences": "x"}}, "inferenceConfig.stopSequences"),
        ({"inferenceConfig": {"stopSequences": [1]}}, "inferenceConfig.stopSequences[0]"),
        ({"toolConfig": []}, "toolConfig"),
        ({"toolConfig": {"tools": {}}}, "toolConfig.tools"),
        ({"toolConfig": {"tools": [1]}}, "toolConfig.tools[0]"),
        ({"toolConfig": {"tools": [{}]}}, "toolConfig.tools[0]"),
        (
            {"toolConfig": {"tools": [{"toolSpec": {"name": "f"}}]}},
            "toolConfig.tools[0].toolSpec.inputSchema",
        ),
        (
            {"toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": "{}"}}}]}},
            "toolConfig.tools[0].toolSpec.inputSchema.json",
        ),
        ({"toolConfig": {"toolChoice": {}}}, "toolConfig.toolChoice"),
        ({"toolConfig": {"toolChoice": {"tool": {}}}}, "toolConfig.toolChoice.tool.name"),
        ({"guardrailConfig": 1}, "guardrailConfig"),
        ({"promptVariables": []}, "promptVariables"),
        ({"additionalModelRequestFields": []}, "additionalModelRequestFields"),
        ({"additionalModelResponseFieldPaths": {}}, "additionalModelResponseFieldPaths"),
        ({"requestMetadata": {"a": 1}}, "requestMetadata"),
        ({"serviceTier": "flex"}, "serviceTier"),
        ({"serviceTier": {}}, "serviceTier.type"),
        ({"outputConfig": {"effort": 1}}, "outputConfig.effort"),
        ({"outputConfig": {"textFormat": {"type": "xml"}}}, "outputConfig.textFormat.type"),
        (
            {
                "outputConfig": {
                    "textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{"}}}
                }
            },
            "outputConfig.textFormat.structure.jsonSchema.schema",
        ),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        decode(**fields)
    assert raised.value.param == param
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("block", "param"),
    [
        (1, ""),
        ({}, ""),
        ({"text": None}, ""),
        ({"text": {}}, ".text"),
        ({"image": "x"}, ".image"),
        ({"image": {"source": {"bytes": DATA}}}, ".image.format"),
        ({"image": {"format": "a b", "source": {"bytes": DATA}}}, ".image.format"),
        ({"image": {"format": "png"}}, ".image.source"),
        ({"image": {"format": "png", "source": {}}}, ".image.source"),
        ({"image": {"format": "png", "source": {"bytes": DATA, **S3}}}, ".image.source"),
        ({"image": {"format": "png", "source": {"bytes": "no base64!"}}}, ".image.source.bytes"),
        ({"image": {"format": "png", "source": {"bytes": "PGh0bWw+"}}}, ".image.source.bytes"),
        ({"image": {"format": "png", "source": {"bytes": "ü"}}}, ".image.source.bytes"),
        ({"image": {"format": "png", "source": {"bytes": ""}}}, ".image.source.bytes"),
        ({"image": {"format": "png", "source": {"s3Location": {}}}}, ".image.source.s3Location.uri"),
        ({"document": {"format": "pdf", "source": {"bytes": DATA}}}, ".document.name"),
        ({"document": {"name": "n", "source": {"content": [1]}}}, ".document.source.content[0]"),
        ({"toolUse": {"name": "f", "input": {}}}, ".toolUse.toolUseId"),
        ({"toolUse": {"toolUseId": "a", "input": {}}}, ".toolUse.name"),
        ({"toolUse": {"toolUseId": "a", "name": "f"}}, ".toolUse.input"),
        ({"toolResult": {"content": []}}, ".toolResult.toolUseId"),
        ({"toolResult": {"toolUseId": "a"}}, ".toolResult.content"),
        ({"toolResult": {"toolUseId": "a", "content": "x"}}, ".toolResult.content"),
        ({"toolResult": {"toolUseId": "a", "content": [{}]}}, ".toolResult.content[0]"),
        ({"toolResult": {"toolUseId": "a", "content": [], "status": 1}}, ".toolResult.status"),
        ({"reasoningContent": {}}, ".reasoningContent.reasoningText"),
        ({"reasoningContent": {"reasoningText": {}}}, ".reasoningContent.reasoningText.text"),
        ({"reasoningContent": {"redactedContent": "!"}}, ".reasoningContent.redactedContent"),
        ({"guardContent": {}}, ".guardContent.text"),
        ({"citationsContent": {"content": [1]}}, ".citationsContent.content[0]"),
        ({"citationsContent": {"citations": "x"}}, ".citationsContent.citations"),
        ({"cachePoint": {}}, ".cachePoint.type"),
        ({"cachePoint": {"type": "default", "ttl": 5}}, ".cachePoint.ttl"),
    ],
)
def test_a_bad_block_is_named(block: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        decode(messages=[USER | {"content": [{"text": "a"}, block]}])
    assert raised.value.param == f"messages[0].content[1]{param}"
    assert DATA not in raised.value.message


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"null", b"[" * 5000, b'{"messages":' * 3000])
def test_a_body_that_is_no_object(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_request(body, model="m")


def test_large_requests_are_bounded() -> None:
    tool = {"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}
    assert len(decode(toolConfig={"tools": [tool] * 1000}).tools) == 1000
    with pytest.raises(InvalidRequest):
        decode(toolConfig={"tools": [tool] * (MAX_ITEMS + 1)})
    with pytest.raises(InvalidRequest):
        decode(messages=[USER | {"content": [{"text": "a"}] * 9000}] * 2)
    image = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20_000_000)).decode()
    (message,) = decode(
        messages=[{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": image}}}]}]
    ).messages
    assert isinstance(message.parts[0], Media)


NAMES = ["role", "content", "text", "image", "format", "source", "bytes", "toolUse", "toolUseId", "name"]
NAMES += ["input", "toolResult", "json", "type", "tools", "toolSpec", "inputSchema", "cachePoint"]
NAMES += ["reasoningContent", "reasoningText", "signature", "citationsContent", "citations"]
garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*RICH, *NAMES]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=14,
)


@GIVEN
@given(st.dictionaries(st.sampled_from(list(RICH)), garbage, max_size=4), garbage)
def test_any_json_is_a_request_or_refused(fields: dict[str, Any], content: Any) -> None:
    for messages in (fields.get("messages"), [{"role": "user", "content": [content]}]):
        with contextlib.suppress(InvalidRequest):
            encode_request(decode(**fields | {"messages": messages}))


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] + [path for key, inner in items for path in paths(inner, (*at, key))]


@settings(max_examples=400, deadline=None, database=None)
@given(st.sampled_from(paths(RICH)[1:]), garbage | st.just("delete"))
def test_a_mutated_request_is_read_or_refused(path: tuple[Any, ...], value: Any) -> None:
    wire = json.loads(json.dumps(RICH))
    target = wire
    for key in path[:-1]:
        target = target[key]
    if value == "delete":
        del target[path[-1]]
    else:
        target[path[-1]] = value
    try:
        request = decode(OPUS, **wire)
    except InvalidRequest as error:
        assert error.param is None or error.param.partition("[")[0].partition(".")[0] in RICH
        return
    try:
        encode_request(request)
    except InvalidRequest as error:  # a result whose call is gone
        assert error.param is not None and error.param.startswith("messages[")
