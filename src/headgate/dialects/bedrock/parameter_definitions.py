"""Parameters of a tool as Command R has them: a flat list of names with Python's words for types.

Source: Cohere API reference, "Chat" (v1), `tools.parameter_definitions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.messages import JSON
from headgate.dialects.json_bodies import Fields

_TYPES: Mapping[str, str] = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}
_WORDS: Mapping[str, str] = {word: name for name, word in _TYPES.items()}


def schema_from_definitions(values: Mapping[str, Any], path: str) -> tuple[dict[str, JSON], dict[str, JSON]]:
    """A JSON schema, and the definitions that it does not hold whole (`List[str]`). Raises InvalidRequest."""
    properties: dict[str, JSON] = {}
    required: list[JSON] = []
    rest: dict[str, JSON] = {}
    for name, value in values.items():
        fields = Fields.of(value, f"{path}.{name}")
        kind, description, needed = (
            fields.text("type"),
            fields.text("description"),
            fields.boolean("required"),
        )
        found: dict[str, JSON] = {}
        if (word := _TYPES.get(kind or "")) is not None:
            found["type"] = word
        if description is not None:
            found["description"] = description
        properties[name] = found
        if needed:
            required.append(name)
        if fields.rest() or (kind is not None and word is None):
            rest[name] = value
    schema: dict[str, JSON] = {"type": "object", "properties": properties}
    return schema | ({"required": required} if required else {}), rest


def definitions_from_schema(schema: Mapping[str, JSON]) -> tuple[dict[str, Any], bool]:
    """The definitions, and whether they say all that the schema does."""
    properties, required = schema.get("properties"), schema.get("required")
    needed = required if isinstance(required, list) else []
    definitions: dict[str, Any] = {}
    for name, value in (properties if isinstance(properties, dict) else {}).items():
        found: dict[str, Any] = {}
        if isinstance(value, dict):
            kind, description = value.get("type"), value.get("description")
            if isinstance(kind, str) and kind in _WORDS:
                found["type"] = _WORDS[kind]
            if isinstance(description, str):
                found["description"] = description
        if name in needed:
            found["required"] = True
        definitions[name] = found
    again, _ = schema_from_definitions(definitions, "")
    said: dict[str, Any] = {"type": "object", "properties": {}, "required": [], **schema}
    told: dict[str, Any] = {"required": [], **again}
    for each in (said, told):
        if isinstance(each["required"], list):
            each["required"] = sorted(map(str, each["required"]))
    return definitions, said == told
