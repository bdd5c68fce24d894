"""`GET /v1/models` in Anthropic's form."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec


class ModelEntry(NamedTuple):
    """`created` is Unix seconds; 0 where nobody knows, which this API writes as the epoch too."""

    id: str
    created: int
    display_name: str


def encode_models(
    models: Sequence[ModelEntry | tuple[str, int, str]],
    *,
    limit: int | None = None,
    after_id: str | None = None,
    before_id: str | None = None,
) -> bytes:
    """One page of the list, in the order given; all of it without a limit.

    Args:
        models: id, time of creation and name for people of each.
        limit: most entries on the page.
        after_id: the page begins behind this model. A model that is not in the list gives an empty page.
        before_id: the page ends before this model.
    """
    entries = [ModelEntry(*model) for model in models]
    positions = {entry.id: index for index, entry in enumerate(entries)}
    start, end = 0, len(entries)
    if after_id is not None:
        start = positions.get(after_id, end) + 1
    if before_id is not None:
        end = positions.get(before_id, 0)
    asked = entries[start:end]
    page = asked if limit is None else asked[-limit:] if before_id is not None else asked[:limit]
    return msgspec.json.encode(
        {
            "data": [_entry(entry) for entry in page],
            "has_more": len(page) < len(asked),
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
        }
    )


def _entry(entry: ModelEntry) -> dict[str, str]:
    created = datetime.fromtimestamp(max(0, entry.created), UTC)
    return {
        "type": "model",
        "id": entry.id,
        "display_name": entry.display_name,
        "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
    }
