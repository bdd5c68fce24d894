"""One field of an upstream's answer, by example."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

Body = dict[str, Any]

COMMON: Mapping[str, tuple[str, ...]] = {
    "content": (
        "text",
        "reasoning",
        "signed reasoning",
        "redacted reasoning",
        "tool call",
        "parallel tool calls",
        "signed tool call",
        "free-form tool call",
        "tool call whose arguments are no JSON",
        "refusal",
        "second answer",
        "image",
        "sound",
        "call that the vendor ran",
        "result of what the vendor ran",
        "block of an unknown type",
        "cited web page",
        "cited document",
        "log probabilities",
        "alternatives of tokens",
    ),
    "end": ("stop sequence",),
    "usage": ("tokens", "tokens from a cache", "tokens to a cache", "tokens of reasoning", "tokens of sound"),
    "head": ("id", "model", "created", "service tier"),
}
"""Fields that more than one dialect has, by group."""

HERS = {
    "model": "the caller gets the name that it asked for",
    "created": "the time is the gateway's own",
    "id": "answers have no id in this dialect",
}
"""Why some fields may be left out."""


@dataclass(frozen=True, slots=True)
class Sample:
    """`told` is a whole answer with the field, `without` one that differs by nothing else.

    `implied` says, for a field that callers may be sent without, why nothing is lost then. `within` is in the
    paths of what holds the field: where that is lost, so is the field.
    """

    told: Body
    without: Body
    implied: str | None = None
    within: str | None = None


@dataclass(frozen=True, slots=True)
class Vendor:
    """A dialect as upstreams answer in it.

    Args:
        common: samples by the names in COMMON; what is missing the vendor never says.
        own: fields that no other dialect has.
        words: for each word that the vendor has for the end of an answer, an answer that ended so.
        streamed: an answer as a stream, None where the vendor has no such stream.
        sdk: names of fields, and types of blocks, that its vendor's SDK knows: each must be in a sample.
        unsaid: those of them that are none of an answer's, or that a sample would say nothing about.
    """

    dialect: str
    common: Mapping[str, Sample]
    own: Mapping[str, Sample]
    words: Mapping[str, Body]
    streamed: Callable[[Body], bytes]
    content_type: str = "text/event-stream"
    sdk: frozenset[str] = frozenset()
    unsaid: frozenset[str] = field(default=frozenset())

    def samples(self) -> Iterator[tuple[str, Sample]]:
        yield from self.common.items()
        yield from self.own.items()


def pieces(text: str) -> list[str]:
    """A text in two, as streams have it."""
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


def said(value: Any) -> Iterator[str]:
    """All names of fields in a body, and all its types."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            if key == "type" and isinstance(item, str):
                yield item
            yield from said(item)
    elif isinstance(value, list):
        for item in value:
            yield from said(item)


def fields_of(*models: type[BaseModel]) -> frozenset[str]:
    return frozenset(name for model in models for name in model.model_fields)


def tags(union: Any) -> frozenset[str]:
    """The types by which the members of a union of models are told apart."""
    return frozenset(
        value
        for member in _members(union)
        for value in typing.get_args(member.model_fields["type"].annotation)
        if isinstance(value, str)
    )


def _members(union: Any) -> list[type[BaseModel]]:
    origin = typing.get_origin(union)
    if origin is typing.Annotated:
        return _members(typing.get_args(union)[0])
    if origin in (typing.Union, types.UnionType):
        return [each for member in typing.get_args(union) for each in _members(member)]
    return [union] if isinstance(union, type) and issubclass(union, BaseModel) else []
