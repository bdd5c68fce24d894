"""Request fields that OpenAI's Chat Completions and Responses share and other vendors don't have.

They are kept in `extensions["openai"]` by the names of Chat Completions (`verbosity` stands in `text` at
Responses), so that either dialect takes them from callers of the other.

Source: OpenAI API reference, "Create chat completion" and "Create a model response".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.messages import Extensions
from headgate.dialects.json_bodies import Fields, wrong_type

VENDOR = "openai"
FIELDS: Mapping[str, type] = {
    "moderation": dict,
    "prompt_cache_key": str,
    "prompt_cache_options": dict,
    "prompt_cache_retention": str,
    "safety_identifier": str,
    "store": bool,
    "verbosity": str,
}
"""With their JSON types."""


def stream_options(fields: Fields) -> Fields | None:
    """`stream_options`, taken out; the type of what all of OpenAI's dialects have in it is checked."""
    options = fields.fields("stream_options")
    padded = None if options is None else options.peek("include_obfuscation")
    if options is not None and not isinstance(padded, bool | None):
        raise wrong_type(options.param("include_obfuscation"), "a boolean", padded)
    return options


def with_shared(extensions: Extensions, shared: Mapping[str, Any]) -> Extensions:
    return {**extensions, VENDOR: shared} if shared else extensions


def shared_fields(extensions: Extensions) -> dict[str, Any]:
    """A copy of what the extensions hold for both dialects."""
    return dict(extensions.get(VENDOR, {}))
