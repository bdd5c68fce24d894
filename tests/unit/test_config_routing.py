"""Mistakes in how a model's targets are tried, in exact words."""

from __future__ import annotations

import pytest

from tests.unit.test_config_mistakes import OPENAI, mistakes

MISTAKES: dict[str, tuple[str, str]] = {
    "share": (
        f"models: {{m: {{{OPENAI}, retry: {{budget: 200%}}}}}}",
        'headgate.yaml:1: models.m.retry.budget: must be a share from 0 to 1, or from 0% to 100%, not "200%"',
    ),
    "affinity": (
        f"models: {{m: {{{OPENAI}, affinity: cookie}}}}",
        "headgate.yaml:1: models.m.affinity: must be `user`, `prompt` or `header:NAME`",
    ),
    "ability that does not exist": (
        f"models: {{m: {{{OPENAI}, lacks: [vision]}}}}",
        "headgate.yaml:1: models.m.lacks[0]: must be one of tools, images, files, audio, structured_output, "
        'not "vision"',
    ),
    "fallback that does not exist": (
        f"models: {{m: {{{OPENAI}, fallbacks: [n]}}, other: {{{OPENAI}}}}}",
        'headgate.yaml:1: models.m.fallbacks[0]: unknown model "n"; known: other',
    ),
    "fallback to itself": (
        f"models: {{m: {{{OPENAI}, fallbacks: [m]}}}}",
        "headgate.yaml:1: models.m.fallbacks[0]: is the model itself; name another one",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_words_of_a_mistake(mistake: str) -> None:
    text, words = MISTAKES[mistake]
    assert mistakes(text) == [words]
