"""Gemini requests that are refused: always with 400 and the path of the field."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from headgate.core.errors import InvalidRequest
from headgate.core.messages import Media
from headgate.dialects.gemini import decode_request
from tests.unit.gemini.test_requests import PNG, read


def refused(param: str, **fields: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert caught.value.param == param
    return caught.value.message


def config(**fields: Any) -> dict[str, Any]:
    return {"generationConfig": fields}


def json_config(**fields: Any) -> dict[str, Any]:
    return config(responseMimeType="application/json", **fields)


def function(**fields: Any) -> dict[str, Any]:
    return {"tools": [{"functionDeclarations": [fields]}]}


def calling(**fields: Any) -> dict[str, Any]:
    return {"toolConfig": {"functionCallingConfig": fields}}


def refused_part(path: str, *wire: object) -> str:
    where = f"contents[0].parts{path}"
    return refused(where, contents=[{"role": "user", "parts": list(wire)}])


def test_a_field_in_both_spellings_is_refused() -> None:
    refused(
        "systemInstruction",
        system_instruction={"parts": [{"text": "a"}]},
        systemInstruction={"parts": [{"text": "b"}]},
    )


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("contents", {"contents": None}),
        ("contents", {"contents": []}),
        ("contents", {"contents": "Hi"}),
        ("contents[0]", {"contents": ["Hi"]}),
        ("contents[0].role", {"contents": [{"role": "assistant", "parts": [{"text": "a"}]}]}),
        ("contents[0].parts", {"contents": [{"role": "user"}]}),
        ("contents[0].parts", {"contents": [{"role": "user", "parts": []}]}),
        ("systemInstruction", {"systemInstruction": "Be brief"}),
        ("systemInstruction.parts", {"systemInstruction": {"parts": []}}),
        ("generationConfig", {"generationConfig": []}),
        ("generationConfig.temperature", config(temperature="hot")),
        ("generationConfig.topK", config(topK=1.5)),
        ("generationConfig.candidateCount", config(candidateCount=0)),
        ("generationConfig.stopSequences[1]", config(stopSequences=["a", 1])),
        ("generationConfig.thinkingConfig.thinkingBudget", config(thinkingConfig={"thinkingBudget": -2})),
        ("generationConfig.responseMimeType", config(responseMimeType=1)),
        ("generationConfig.responseSchema", json_config(responseSchema={}, responseJsonSchema={})),
        ("generationConfig.responseSchema.type", json_config(responseSchema={"type": "SOUND"})),
        (
            "generationConfig.responseJsonSchema.properties",
            json_config(responseJsonSchema={"properties": []}),
        ),
        ("generationConfig.responseJsonSchema", json_config(responseJsonSchema="string")),
        ("tools", {"tools": "f"}),
        ("tools[0].functionDeclarations[0].name", function()),
        ("tools[0].functionDeclarations[0].parameters", function(name="f", parameters=[])),
        (
            "tools[0].functionDeclarations[0].parameters.properties.a.anyOf[0].minItems",
            function(name="f", parameters={"properties": {"a": {"anyOf": [{"minItems": "x"}]}}}),
        ),
        (
            "tools[0].functionDeclarations[0].parameters",
            function(name="f", parameters={}, parametersJsonSchema={}),
        ),
        ("toolConfig.functionCallingConfig.mode", calling(mode="SOME")),
        (
            "toolConfig.functionCallingConfig.allowedFunctionNames[0]",
            calling(mode="ANY", allowedFunctionNames=[1]),
        ),
        ("safetySettings", {"safetySettings": "none"}),
        ("cachedContent", {"cachedContent": 1}),
        ("labels", {"labels": []}),
        ("serviceTier", {"serviceTier": 1}),
    ],
)
def test_bad_fields_are_named(param: str, fields: dict[str, Any]) -> None:
    assert refused(param, **fields)


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("[0]", "text"),
        ("[0]", {}),
        ("[0]", {"thought": True}),
        ("[0].text", {"text": 1}),
        ("[0]", {"text": "a", "functionCall": {"name": "f"}}),
        ("[0].thoughtSignature", {"text": "a", "thoughtSignature": "no base64!"}),
        ("[0].thoughtSignature", {"text": "a", "thoughtSignature": 1}),
        ("[0].thought", {"text": "a", "thought": "yes"}),
        ("[0].inlineData", {"inlineData": "AAAA"}),
        ("[0].inlineData.mimeType", {"inlineData": {"data": "AAAA"}}),
        ("[0].inlineData.mimeType", {"inlineData": {"mimeType": "png", "data": "AAAA"}}),
        ("[0].inlineData.data", {"inlineData": {"mimeType": "image/png", "data": "no base64!"}}),
        ("[0].inlineData.data", {"inlineData": {"mimeType": "image/png", "data": ""}}),
        ("[0].inlineData.data", {"inlineData": {"mimeType": "image/png"}}),
        ("[0].inlineData.data", {"inlineData": {"mimeType": "image/PNG", "data": "AAAA"}}),
        ("[0].fileData.fileUri", {"fileData": {"mimeType": "image/png"}}),
        ("[0].functionCall.name", {"functionCall": {"args": {}}}),
        ("[0].functionCall.args", {"functionCall": {"name": "f", "args": "{}"}}),
        ("[0].functionResponse", {"functionResponse": {"response": {}}}),
        ("[0].functionResponse.response", {"functionResponse": {"name": "f", "response": "x"}}),
        (
            "[0].functionResponse.parts[0].inlineData.data",
            {"functionResponse": {"name": "f", "parts": [{"inlineData": {"mimeType": "a/b", "data": "?"}}]}},
        ),
    ],
)
def test_bad_parts_are_named(path: str, part: object) -> None:
    assert refused_part(path, part)


def test_a_schema_within_schemas_without_end_is_refused() -> None:
    schema: dict[str, Any] = {"type": "STRING"}
    for _ in range(200):
        schema = {"type": "ARRAY", "items": schema}
    with pytest.raises(InvalidRequest, match="nested"):
        read(tools=[{"functionDeclarations": [{"name": "f", "parameters": schema}]}])


def test_a_thousand_tools_and_a_large_image_are_taken() -> None:
    tools = [{"functionDeclarations": [{"name": f"f{number}"} for number in range(1000)]}]
    data = base64.b64encode(PNG + bytes(20 * 1024 * 1024)).decode()
    image = [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": data}}]}]
    request = read(tools=tools, contents=image)
    assert len(request.tools) == 1000
    (part,) = request.messages[0].parts
    assert isinstance(part, Media) and part.data == data


def test_too_many_parts_are_refused() -> None:
    content = {"role": "user", "parts": [{"text": "a"}] * 10_000}
    assert "16,384" in refused("contents", contents=[content, content])


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'"a"', b"[" * 2000])
def test_bodies_that_are_no_object(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_request(body, model="m")
