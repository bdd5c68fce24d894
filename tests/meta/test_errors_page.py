"""docs/errors.md lists every code that the source can give, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from headgate.core import errors

ROOT = Path(__file__).parents[2]
_CODE = re.compile(r"\bcode=\"([a-z_]+)\"")


def codes_in_source() -> set[str]:
    found = {
        cls.default_code
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, errors.HeadgateError) and cls.default_code
    }
    for path in (ROOT / "src").rglob("*.py"):
        found.update(_CODE.findall(path.read_text()))
    return found


def test_every_code_has_its_row() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == codes_in_source()
