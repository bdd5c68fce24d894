"""docs/dialects/losses.md says what the codecs do with every field, and no field is gone without a word."""

from __future__ import annotations

import pytest

from tests.meta.tree import ROOT
from tests.support.fields.row import Caller
from tests.support.loss_table import SECTIONS, page, vanished

PAGE = ROOT / "docs/dialects/losses.md"
CALLERS = [caller for section in SECTIONS for caller in section.callers]


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), (
        "the page is out of date; make docs writes it. Look at what changed before you commit it."
    )


def test_no_field_vanishes() -> None:
    assert list(vanished()) == []


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.dialect)
def test_every_field_of_the_vendors_sdk_has_a_row(caller: Caller) -> None:
    missing = {
        f"{group}: {name}"
        for group, names in caller.sdk.items()
        for name in names - caller.unasked - {row.name for row in caller.rows if row.group == group}
    }
    assert not missing, f"no rows in tests/support/fields for {sorted(missing)}"


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.dialect)
def test_every_row_differs_by_its_field(caller: Caller) -> None:
    names = [(row.group, row.name) for row in caller.rows]
    assert len(set(names)) == len(names)
    assert [row.name for row in caller.rows if row.asked == row.without] == []
