"""Settings of neutral requests, written for a Gemini upstream."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.core.messages import ReasoningOptions, ResponseFormat, Tool, ToolChoice
from tests.unit.gemini.test_encoding import write


def config(**fields: Any) -> tuple[dict[str, Any], list[str]]:
    wire, losses = write(**fields)
    return wire.get("generationConfig", {}), [loss.path for loss in losses]


def test_tools_and_choice() -> None:
    schema: Any = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}}
    refers: Any = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}},
        "$defs": {"A": {"type": "string"}},
    }
    wire, losses = write(
        tools=(
            Tool("f", "d", schema),
            Tool("googleSearch", kind="googleSearch", extensions={"gemini": {"googleSearch": {}}}),
            Tool("g", parameters=refers),
            Tool("h"),
        ),
        tool_choice=ToolChoice("tool", "f"),
        parallel_tool_calls=True,
    )
    assert losses == []
    assert wire["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "f",
                    "description": "d",
                    "parameters": {
                        "type": "OBJECT",
                        "properties": {"a": {"type": "STRING", "nullable": True}},
                    },
                },
                {"name": "g", "parametersJsonSchema": refers},
                {"name": "h"},
            ]
        },
        {"googleSearch": {}},
    ]
    assert wire["toolConfig"] == {
        "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]},
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False},
        {"type": ["string", "integer"]},
        {"type": "string", "format": "uri"},
        {"type": "integer", "enum": [1, 2]},
        {"type": "string", "const": "a"},
        {"anyOf": []},
        {"type": "array", "items": [{"type": "string"}]},
        {"type": "null"},
        {"type": {}},
        {"type": "string", "format": {}},
        {"$schema": "x", "type": "string"},
    ],
)
def test_what_the_subset_lacks_goes_as_json_schema(schema: dict[str, Any]) -> None:
    wire, _ = write(tools=(Tool("f", parameters=schema),))
    assert wire["tools"] == [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}]


def test_structured_output() -> None:
    subset = ResponseFormat("json_schema", schema={"type": "string", "enum": ["a"]}, strict=True)
    assert config(response_format=subset) == (
        {"responseMimeType": "application/json", "responseSchema": {"type": "STRING", "enum": ["a"]}},
        [],
    )
    whole = ResponseFormat("json_schema", schema={"const": 1})
    assert config(response_format=whole) == (
        {"responseMimeType": "application/json", "responseJsonSchema": {"const": 1}},
        [],
    )
    assert config(response_format=ResponseFormat("json_object"))[0] == {
        "responseMimeType": "application/json"
    }
    assert config(response_format=ResponseFormat("text"))[0] == {"responseMimeType": "text/plain"}


@pytest.mark.parametrize(
    ("model", "options", "wire", "lost"),
    [
        ("gemini-2.5-flash", ReasoningOptions(effort="high"), {"thinkingBudget": 24576}, []),
        ("gemini-2.5-flash", ReasoningOptions(effort="none"), {"thinkingBudget": 0}, []),
        ("gemini-2.5-flash", ReasoningOptions(effort="max"), {"thinkingBudget": 24576}, ["reasoning.effort"]),
        (
            "gemini-2.5-flash",
            ReasoningOptions(effort="low", budget_tokens=5),
            {"thinkingBudget": 5},
            ["reasoning.effort"],
        ),
        ("gemini-3-pro", ReasoningOptions(effort="low"), {"thinkingLevel": "LOW"}, []),
        ("gemini-3-pro", ReasoningOptions(effort="xhigh"), {"thinkingLevel": "XHIGH"}, []),
        ("gemini-3-pro", ReasoningOptions(effort="none"), {"thinkingLevel": "MINIMAL"}, ["reasoning.effort"]),
        (
            "gemini-3-pro",
            ReasoningOptions(effort="low", budget_tokens=5),
            {"thinkingLevel": "LOW"},
            ["reasoning.budget_tokens"],
        ),
        (
            "gemini-3-pro",
            ReasoningOptions(enabled=True, budget_tokens=5),
            {"thinkingBudget": 5, "includeThoughts": True},
            [],
        ),
        ("gemini-3-pro", ReasoningOptions(enabled=True), {"thinkingBudget": -1, "includeThoughts": True}, []),
        ("gemini-2.5-pro", ReasoningOptions(enabled=False), {"thinkingBudget": 0}, []),
        ("gemini-2.5-pro", ReasoningOptions(summary="detailed"), {"includeThoughts": True}, []),
    ],
)
def test_thinking(model: str, options: ReasoningOptions, wire: dict[str, Any], lost: list[str]) -> None:
    assert config(model=model, reasoning=options) == ({"thinkingConfig": wire}, lost)


@pytest.mark.parametrize(
    ("tier", "word"), [("default", "standard"), ("flex", "flex"), ("priority", "priority"), ("auto", None)]
)
def test_service_tier(tier: str, word: str | None) -> None:
    wire, losses = write(service_tier=tier)
    assert (wire.get("serviceTier"), losses) == (word, [])
