"""Fields that OpenAI's Chat Completions and Responses share and other vendors don't have.

They are kept in `extensions["openai"]` by the names of Chat Completions (`verbosity` stands in `text` at
Responses), so that either dialect takes them from callers of the other, and gives them.

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
"""Those of requests, with their JSON types."""
DIALECTS = frozenset({"openai_chat", "openai_responses"})
_OF_ANSWERS = frozenset({"service_tier"})


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


def of_answer(dialect: str, fields: Mapping[str, Any]) -> Extensions:
    """The extensions of an answer, from fields that have no neutral place.

    Args:
        dialect: that the answer is in.
    """
    names = _OF_ANSWERS & fields.keys() if dialect in DIALECTS else frozenset()
    kept = {
        dialect: {key: value for key, value in fields.items() if key not in names},
        VENDOR: {key: fields[key] for key in names},
    }
    return {name: values for name, values in kept.items() if values}


def for_answer(dialect: str, extensions: Extensions) -> dict[str, Any]:
    """A copy of the fields of an answer that have a place in the dialect."""
    shared = extensions.get(VENDOR, {}) if dialect in DIALECTS else {}
    return {**shared, **extensions.get(dialect, {})}
