"""The folder that a test writes; nothing of it stays behind in the process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.folders.folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path / "model")
    before = set(sys.modules), list(sys.meta_path), list(sys.path)
    yield folder
    for runner in folder.loaded:
        runner.close()
    assert [name for name in set(sys.modules) - before[0] if "headgate_folder" in name] == []
    assert (list(sys.meta_path), list(sys.path)) == before[1:]
