"""A model that does as it is told, as far as one can without being one.

It calls the tool that it is given, fills schemas, thinks when asked, and otherwise says something.
"""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.sdk.said import THOUGHT, Call, Said
from tests.e2e.sdk.vendors import Vendor

TEXT = Said(("Once ", "upon ", "a ", "time."))


def answer(vendor: Vendor, body: dict[str, Any]) -> Said:
    """What it says to a request in the vendor's dialect."""
    thought = THOUGHT if vendor.thinks(body) else ""
    if schema := vendor.schema(body):
        text = json.dumps(example(schema, schema), separators=(",", ":"))
        return Said((text[:7], text[7:]), thought=thought)
    tools = vendor.tools(body)
    if tools and not vendor.results(body):
        calls = [Call(f"call_{n}", example(tools[name], tools[name]), name) for n, name in enumerate(tools)]
        return Said(calls=tuple(calls[:1]), thought=thought)
    return Said(TEXT.pieces, thought=thought)


def example(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """A value that fits a JSON schema, in OpenAPI's words (Gemini's) as well."""
    if "$ref" in schema:
        found: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return example(found, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return example(schema[choice][0], root)
    kind = schema.get("type", "object")
    match str(kind if isinstance(kind, str) else kind[0]).lower():
        case "object":
            fields = schema.get("properties", {})
            return {name: example(field, root) for name, field in fields.items()}
        case "array":
            return [example(schema.get("items", {"type": "string"}), root)]
        case "integer" | "number":
            return 3
        case "boolean":
            return True
        case "null":
            return None
    return "foo"
