"""Request fields that OpenAI's Chat Completions and Responses share and other vendors don't have.

They are kept in `extensions["openai"]` by the names of Chat Completions (`verbosity` stands in `text` at
Responses), so that either dialect takes them from callers of the other.

Source: OpenAI API reference, "Create chat completion" and "Create a model response".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.core.messages import Extensions

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


def with_shared(extensions: Extensions, shared: Mapping[str, Any]) -> Extensions:
    return {**extensions, VENDOR: shared} if shared else extensions


def shared_fields(extensions: Extensions) -> dict[str, Any]:
    """A copy of what the extensions hold for both dialects."""
    return dict(extensions.get(VENDOR, {}))
