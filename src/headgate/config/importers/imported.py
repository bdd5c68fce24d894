"""What a reader of another server's configuration gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Note:
    """Something of the other configuration that is not in ours, or means something else there.

    Args:
        path: where it stands in the other file, like `model_list[2].litellm_params.rpm`.
    """

    path: str
    message: str


@dataclass(slots=True)
class Imported:
    """A configuration of ours as plain data, and what has no equivalent in it."""

    content: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def note(self, path: str, message: str) -> None:
        self.notes.append(Note(path, message))

    def yaml(self) -> str:
        return yaml.safe_dump(self.content, sort_keys=False, allow_unicode=True, width=100)
