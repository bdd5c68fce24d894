"""Schemas: the subset of OpenAPI 3.0 that Gemini calls `Schema`, and JSON Schema.

Source: Gemini API reference, "Caching#Schema" (the subset) and `parametersJsonSchema`, `responseJsonSchema`
(JSON Schema). Neutral requests hold JSON Schema only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.dialects.gemini.vocabulary import ProtoFields
from headgate.dialects.json_bodies import join, wrong_type, wrong_value

MAX_DEPTH = 64
"""Schemas within schemas that are walked; deeper ones are refused, or sent as they are."""

_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object"})
_FORMATS: Mapping[str, frozenset[str]] = {
    "string": frozenset({"enum", "date-time"}),
    "number": frozenset({"float", "double"}),
    "integer": frozenset({"int32", "int64"}),
}
_COUNTS = (
    *("minItems", "maxItems", "minLength", "maxLength"),
    *("minProperties", "maxProperties"),
)
_PLAIN = frozenset(
    {
        "title",
        "description",
        "default",
        "example",
        "minimum",
        "maximum",
        "pattern",
        "propertyOrdering",
        *_COUNTS,
    }
)


def from_subset(value: object, path: str, depth: int = 0) -> dict[str, Any]:
    """JSON Schema from a `Schema`. Raises InvalidRequest where it is none."""
    if depth > MAX_DEPTH:
        raise wrong_value(path, f"the schema is nested more than {MAX_DEPTH} levels deep")
    fields = ProtoFields.of(value, path)
    schema: dict[str, Any] = {}
    kind = fields.text("type")
    nullable = fields.boolean("nullable")
    if kind is not None:
        word = kind.lower()
        if word not in _TYPES | {"null", "type_unspecified"}:
            names = ", ".join(f"'{name.upper()}'" for name in sorted(_TYPES))
            raise wrong_value(join(path, "type"), f"supported values are {names}")
        if word != "type_unspecified":
            schema["type"] = [word, "null"] if nullable and word != "null" else word
            nullable = None
    if nullable:
        schema["nullable"] = True
    for key in _COUNTS:
        if (count := _count(fields.take(key), join(path, key))) is not None:
            schema[key] = count
    properties = fields.mapping("properties")
    if properties is not None:
        inner = join(path, "properties")
        schema["properties"] = {
            name: from_subset(item, join(inner, name), depth + 1) for name, item in properties.items()
        }
    if (items := fields.take("items")) is not None:
        schema["items"] = from_subset(items, join(path, "items"), depth + 1)
    if (options := fields.items("anyOf")) is not None:
        schema["anyOf"] = [
            from_subset(option, f"{path}.anyOf[{number}]", depth + 1) for number, option in enumerate(options)
        ]
    for key in ("required", "enum"):
        if (words := fields.items(key)) is not None:
            schema[key] = words
    return schema | fields.rest()


def _count(value: object, path: str) -> int | None:
    """A 64-bit number: protobuf's JSON writes it as a string."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    raise wrong_type(path, "an integer", value)


def to_subset(schema: Mapping[str, Any], depth: int = 0) -> dict[str, Any] | None:
    """The `Schema` that says the same; None where the subset lacks something that the JSON Schema has."""
    if depth > MAX_DEPTH:
        return None
    rest = dict(schema)
    wire = _typed(rest)
    if wire is None:
        return None
    for key in ("properties", "items", "anyOf", "required", "enum"):
        if key in rest:
            inner = _INNER[key](rest.pop(key), depth)
            if inner is None:
                return None
            wire[key] = inner
    if wire.get("type") == "OBJECT" and not wire.get("properties"):
        return None  # the API refuses objects without properties
    for key in _PLAIN & rest.keys():
        wire[key] = rest.pop(key)
    return None if rest else wire


def _typed(rest: dict[str, Any]) -> dict[str, Any] | None:
    """Type, nullability and format, taken out of `rest`."""
    kind, form, nullable = rest.pop("type", None), rest.pop("format", None), rest.pop("nullable", None)
    if isinstance(kind, list):
        if len(kind) != 2 or kind[1] != "null":
            return None
        kind, nullable = kind[0], True
    wire: dict[str, Any] = {}
    if kind is not None:
        if not isinstance(kind, str) or kind not in _TYPES:
            return None
        wire["type"] = kind.upper()
    elif "anyOf" not in rest:
        return None
    if form is not None:
        if not isinstance(form, str) or form not in _FORMATS.get(str(kind), ()):
            return None
        wire["format"] = form
    if nullable is not None:
        wire["nullable"] = nullable
    return wire


def _properties(value: object, depth: int) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    wire = {name: _schema(item, depth) for name, item in value.items()}
    return None if None in wire.values() else wire


def _schema(value: object, depth: int) -> dict[str, Any] | None:
    return to_subset(value, depth + 1) if isinstance(value, dict) else None


def _schemas(value: object, depth: int) -> list[Any] | None:
    if not isinstance(value, list) or not value:
        return None
    wire = [_schema(item, depth) for item in value]
    return None if None in wire else wire


def _texts(value: object, depth: int) -> list[Any] | None:
    fits = isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
    return value if fits and isinstance(value, list) else None


_INNER = {
    "properties": _properties,
    "items": _schema,
    "anyOf": _schemas,
    "required": _texts,
    "enum": _texts,
}


def checked_json_schema(value: object, path: str) -> dict[str, Any]:
    """A JSON Schema as far as its outer level says. Raises InvalidRequest where it is none."""
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    for key, kinds, expected in (
        ("type", str | list, "a string or an array of strings"),
        ("properties", dict, "an object"),
        ("required", list, "an array of strings"),
    ):
        if key in value and not isinstance(value[key], kinds):
            raise wrong_type(join(path, key), expected, value[key])
    return value
