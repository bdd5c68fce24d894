"""One field of a caller's request, by example; and the names that a vendor's SDK has for such fields."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""One pixel."""
PDF = "JVBERi0xLjQKMSAwIG9iago8PC9UeXBlL0NhdGFsb2c+PgplbmRvYmoKdHJhaWxlcjw8L1Jvb3QgMSAwIFI+PgolJUVPRgo="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="
SCHEMA: Body = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


@dataclass(frozen=True, slots=True)
class Row:
    """`asked` is a whole request with the field, `without` one that differs by nothing else.

    `implied` says, for a field that upstreams may be sent without, why nothing is lost then.
    """

    group: str
    name: str
    asked: Body
    without: Body
    implied: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """A dialect as callers speak it.

    `sdk` has the names, by group, of the fields that its vendor's SDK knows: each must have a row. `unasked`
    are those that are none of a request's; `note` goes above the table.
    """

    dialect: str
    rows: Sequence[Row]
    model: str = "m"
    sdk: Mapping[str, frozenset[str]] = field(default_factory=dict)
    unasked: frozenset[str] = frozenset()
    note: str = ""


def keys(*kinds: Any) -> frozenset[str]:
    """Fields of TypedDicts, those that they inherit included."""
    return frozenset(key for kind in kinds for key in typing.get_type_hints(kind))


def tags(union: Any, key: str = "type") -> frozenset[str]:
    """The values of `key` by which the members of a union are told apart."""
    found: set[str] = set()
    for member in _members(union):
        hint = typing.get_type_hints(member).get(key)
        found |= {value for value in _literals(hint) if isinstance(value, str)}
    return frozenset(found)


def _members(union: Any) -> list[Any]:
    if typing.get_origin(union) in (typing.Union, types.UnionType):
        return [each for member in typing.get_args(union) for each in _members(member)]
    if typing.get_origin(union) is typing.Annotated:
        return _members(typing.get_args(union)[0])
    return [union] if isinstance(union, type) and hasattr(union, "__total__") else []


def _literals(hint: Any) -> list[Any]:
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    return [value for member in typing.get_args(hint) for value in _literals(member)]


def camel(names: frozenset[str]) -> frozenset[str]:
    """`top_k` as the wire has it, `topK`."""
    return frozenset(
        "".join([head, *(word.capitalize() for word in words)])
        for head, *words in (name.split("_") for name in names)
    )
