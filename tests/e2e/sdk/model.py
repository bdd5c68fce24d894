"""A model that does as it is told, as far as one can without being one.

It calls the tool that it is given, fills schemas, thinks when asked, and otherwise says something.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.e2e.sdk.said import THOUGHT, Call, Said
from tests.e2e.sdk.vendors import Vendor

TEXT = Said(("Once ", "upon ", "a ", "time."))


_QUOTED = re.compile(r"'([^'\x00-\x7f]+)'")

_WANTED = re.compile(r"JSON with (?:'\w+'(?: and )?)+ keys")
"""A caller who asks for JSON in words."""
_WORD = re.compile(r"'(\w+)'")


def answer(vendor: Vendor, body: dict[str, Any]) -> Said:
    """What it says to a request in the vendor's dialect."""
    thought = THOUGHT if vendor.thinks(body) else ""
    quoted = _QUOTED.findall(json.dumps(body, ensure_ascii=False))
    word = quoted[-1] if quoted else "foo"
    if schema := vendor.schema(body):
        text = json.dumps(Example(schema, word).value(schema), separators=(",", ":"))
        return Said((text[:7], text[7:]), thought=thought)
    tools = vendor.tools(body)
    if tools and not vendor.results(body):
        name, schema = next(iter(tools.items()))
        return Said(calls=(Call("call_0", Example(schema, word).value(schema), name),), thought=thought)
    if wanted := _WANTED.search(json.dumps(body)):
        return Said((json.dumps(dict.fromkeys(_WORD.findall(wanted[0]), word)),), thought=thought)
    return Said(TEXT.pieces, thought=thought)


class Example:
    """A value that fits a JSON schema, in OpenAPI's words (Gemini's) as well; `word` stands for all text."""

    def __init__(self, root: dict[str, Any], word: str) -> None:
        self._root = root
        self._word = word

    def value(self, schema: dict[str, Any]) -> Any:
        if "$ref" in schema:
            found: Any = self._root
            for step in schema["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            return self.value(found)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        for choice in ("anyOf", "oneOf", "allOf"):
            if choice in schema:
                return self.value(schema[choice][0])
        kind = schema.get("type", "object")
        return self._plain(str(kind if isinstance(kind, str) else kind[0]).lower(), schema)

    def _plain(self, kind: str, schema: dict[str, Any]) -> Any:
        match kind:
            case "object":
                return {name: self.value(field) for name, field in schema.get("properties", {}).items()}
            case "array":
                return [self.value(schema.get("items", {"type": "string"}))]
            case "integer" | "number":
                return 3
            case "boolean":
                return True
            case "null":
                return None
        return self._word
