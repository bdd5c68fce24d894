"""Tool calls that a model writes as JSON text: recognised while they stream, parsed when whole.

Large models have a syntax that llama.cpp parses itself. Small ones write `{"name": …, "arguments": …}` as
plain text, in a code fence or in `<tool_call>` tags. A forced call is not left to chance: a JSON schema
holds the model to one call of an allowed tool.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

_WRAPPERS = ("", "```json", "```", "<tool_call>")
_STARTS = ('{"name":', '[{"name":', '{"arguments":', '[{"arguments":')
_OPENINGS = tuple(wrapper + start for wrapper in _WRAPPERS for start in _STARTS)
_SPACE = re.compile(r"\s+")
_BETWEEN = re.compile(r"(?:\s|,|;|```(?:json)?|</?tool_call>)*")
_LONGEST_OPENING = 400
"""Characters after which a text that has not opened as a call is taken for one no more."""


def may_become_call(text: str) -> bool:
    """Whether `text`, the answer's beginning, could be the beginning of a tool call."""
    head = _SPACE.sub("", text[:_LONGEST_OPENING])
    return any(head.startswith(opening) or opening.startswith(head) for opening in _OPENINGS)


def parse_calls(text: str, names: frozenset[str]) -> list[dict[str, Any]] | None:
    """The calls in OpenAI's shape, if `text` is nothing but calls of tools in `names`; else None."""
    decoder = json.JSONDecoder()
    calls: list[dict[str, Any]] = []
    position = _skip(text, 0)
    while position < len(text):
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return None
        for item in value if isinstance(value, list) else [value]:
            call = _call(item, names)
            if call is None:
                return None
            calls.append(call)
        position = _skip(text, position)
    return calls or None


def forced_call_schema(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A JSON schema for one call of one of `tools` (OpenAI tool objects)."""
    definitions, choices = {}, []
    for index, tool in enumerate(tools):
        function = tool["function"]
        key = f"tool{index}"
        parameters = function.get("parameters") or {"type": "object"}
        definitions[key] = _rebased(parameters, f"#/$defs/{key}")
        choices.append(
            {
                "type": "object",
                "properties": {"name": {"const": function["name"]}, "arguments": {"$ref": f"#/$defs/{key}"}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return {"anyOf": choices, "$defs": definitions}


def _rebased(schema: Any, root: str) -> Any:
    """`schema` with its own references pointing below `root`, where it now lies."""
    if isinstance(schema, list):
        return [_rebased(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    rebased = {key: _rebased(value, root) for key, value in schema.items()}
    reference = rebased.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        rebased["$ref"] = root + reference[1:]
    return rebased


def _skip(text: str, position: int) -> int:
    found = _BETWEEN.match(text, position)
    return found.end() if found else position


def _call(item: Any, names: frozenset[str]) -> dict[str, Any] | None:
    if not isinstance(item, dict) or item.get("name") not in names or set(item) - {"name", "arguments"}:
        return None
    arguments = item.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "id": f"call_{secrets.token_hex(12)}",
        "type": "function",
        "function": {"name": item["name"], "arguments": arguments},
    }
