"""The list of models in the Gemini API's form.

Source: Gemini API reference, "Models".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from headgate.core.call import Operation

_METHODS: Mapping[Operation, tuple[str, ...]] = {
    Operation.CHAT: ("generateContent", "streamGenerateContent"),
    Operation.COUNT_TOKENS: ("countTokens",),
    Operation.EMBED: ("embedContent", "batchEmbedContents"),
}


class ModelEntry(NamedTuple):
    """A public model name, and what can be asked of it."""

    name: str
    operations: Collection[Operation]
    display_name: str | None = None
    description: str | None = None


def encode_models(models: Iterable[ModelEntry], *, next_page_token: str | None = None) -> bytes:
    """One page of the list; the last one has no token."""
    page: dict[str, Any] = {"models": [_entry(model) for model in models]}
    return msgspec.json.encode(
        page if next_page_token is None else {**page, "nextPageToken": next_page_token}
    )


def encode_model(model: ModelEntry) -> bytes:
    return msgspec.json.encode(_entry(model))


def _entry(model: ModelEntry) -> dict[str, Any]:
    methods = [
        method for operation, names in _METHODS.items() if operation in model.operations for method in names
    ]
    wire: dict[str, Any] = {
        "name": f"models/{model.name}",
        "displayName": model.display_name or model.name,
        "supportedGenerationMethods": methods,
    }
    return wire if model.description is None else {**wire, "description": model.description}
