"""A custom-model folder to write and to load."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from headgate.core.errors import ConfigError
from headgate.core.operations import Table
from headgate.local.folder import load
from headgate.local.runner import Runner

NUMBERS = Table(("a", "b"), ([1, 2, 3], [0.5, None, 2.5]))


class Folder:
    """Writes a folder and loads it; closes what it loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loaded: list[Runner] = []

    def write(self, code: str, files: Mapping[str, str] | None = None) -> Folder:
        """A folder with `code` as its custom.py, and other files by their path in it."""
        for name, text in {"custom.py": code, **(files or {})}.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), "utf-8")
        return self

    def load(self, name: str = "m") -> Runner:
        runner = load(self.path, name=name)
        self.loaded.append(runner)
        return runner

    def fails(self) -> str:
        with pytest.raises(ConfigError) as caught:
            self.load()
        return caught.value.message


def metadata(target_type: str, **inference: Any) -> str:
    return json.dumps(
        {"name": "m", "type": "inference", "targetType": target_type, "inferenceModel": inference}
    )


def one(runner: Runner, **record: Any) -> Any:
    table = Table(tuple(record), tuple([value] for value in record.values()))
    return runner.predict(table, {}).predictions[0]
