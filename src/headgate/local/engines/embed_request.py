"""An OpenAI embeddings request, checked: honoured, or refused with 400 and the field's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headgate.core.errors import InvalidRequest
from headgate.local.engines.fields import no_others, text, whole, wrong

MOST_INPUTS = 2048
"""As OpenAI has it."""


@dataclass(frozen=True, slots=True)
class EmbedJob:
    """A checked request. `inputs` are texts, or token id lists."""

    model: str
    inputs: list[str] | list[list[int]]
    dimensions: int | None
    base64: bool


def read_embed_request(body: Mapping[str, Any]) -> EmbedJob:
    """Raises InvalidRequest or UnsupportedParameter, with `param` set."""
    given = {name: value for name, value in body.items() if value is not None}
    no_others(given, {"model", "input", "encoding_format", "dimensions", "user"})
    encoding = given.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise wrong("encoding_format", "float or base64")
    if "user" in given:
        text(given, "user")
    return EmbedJob(
        model=text(given, "model"),
        inputs=_inputs(given.get("input")),
        dimensions=whole(given, "dimensions", 1, 1_000_000),
        base64=encoding == "base64",
    )


def _inputs(value: Any) -> list[str] | list[list[int]]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not items:
        raise wrong("input", "a non-empty string, a list of strings, or token ids")
    if _is_token(items[0]):
        items = [items]
    if len(items) > MOST_INPUTS:
        raise InvalidRequest(
            f"input has {len(items)} items; at most {MOST_INPUTS} go in one request", param="input"
        )
    for index, item in enumerate(items):
        if type(item) is not type(items[0]):
            raise wrong(f"input.{index}", "of the same kind as the first: all texts, or all token lists")
        if isinstance(item, list):
            if not item or not all(_is_token(token) for token in item):
                raise wrong(f"input.{index}", "a non-empty list of token ids")
        elif not isinstance(item, str) or not item:
            raise wrong(f"input.{index}", "a non-empty string or a list of token ids")
    return items


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
