"""The snippets of docs/custom-models.md run, and answer what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from headgate.dialects.tables import decode, encode
from headgate.local.custom import FolderSettings
from headgate.local.folder import load
from headgate.local.hooks import HOOKS, NOT_SERVED
from headgate.local.runner import SERVED_TARGET_TYPES

PAGE = (Path(__file__).parents[2] / "docs" / "custom-models.md").read_text("utf-8")
SNIPPET = re.compile(
    r"```python\n# custom\.py\n(?P<code>.*?)```\n\n(?:```yaml metadata\n(?P<metadata>.*?)```\n\n)?"
    r"```json request\n(?P<request>.*?)```\n\n```json answer\n(?P<answer>.*?)```",
    re.DOTALL,
)
SNIPPETS = list(SNIPPET.finditer(PAGE))


def test_every_python_snippet_is_run() -> None:
    assert len(SNIPPETS) == PAGE.count("```python") > 0


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[str(at) for at in range(len(SNIPPETS))])
def test_a_snippet_answers_what_the_page_says(snippet: re.Match[str], tmp_path: Path) -> None:
    (tmp_path / "custom.py").write_text(snippet["code"])
    if snippet["metadata"]:
        (tmp_path / "model-metadata.yaml").write_text(snippet["metadata"])
    runner = load(tmp_path, name="m")
    table = decode(snippet["request"].encode(), "application/json", schema=runner.schema.input)
    assert json.loads(encode(runner.predict(table, {}))) == json.loads(snippet["answer"])
    runner.close()


@pytest.mark.parametrize("word", [*HOOKS, *NOT_SERVED, *SERVED_TARGET_TYPES, "trust_types", "max_workers"])
def test_hooks_target_types_and_settings_are_documented(word: str) -> None:
    assert f"`{word}" in PAGE


def test_the_settings_named_on_the_page_exist() -> None:
    assert {"folder", "trust_types", "max_workers", "max_queue"} <= set(FolderSettings.model_fields)
