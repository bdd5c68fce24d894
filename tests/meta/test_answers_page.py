"""docs/dialects/answers.md says what the codecs do with every field of an answer."""

from __future__ import annotations

import pytest

from tests.meta.tree import ROOT
from tests.support.answer_table import VENDORS, answer_of, page
from tests.support.answers.row import COMMON, Vendor, said

PAGE = ROOT / "docs/dialects/answers.md"
UNSTREAMED = {
    *("sound", "block of an unknown type", "document", "video", "guardContent", "searchResult"),
    "signed reasoning",
}
"""Fields that some vendor's streams don't have, or have in other pieces."""

vendors = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.dialect)


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), (
        "the page is out of date; make docs writes it. Look at what changed before you commit it."
    )


@vendors
def test_every_field_of_the_vendors_sdk_has_a_sample(vendor: Vendor) -> None:
    missing = vendor.sdk - vendor.unsaid - set(said([sample.told for _, sample in vendor.samples()]))
    assert not missing, f"no samples in tests/support/answers for {sorted(missing)}"


@vendors
def test_every_sample_differs_by_its_field(vendor: Vendor) -> None:
    assert {name for names in COMMON.values() for name in names} >= vendor.common.keys()
    assert [name for name, sample in vendor.samples() if sample.told == sample.without] == []


@vendors
def test_streams_say_what_whole_answers_say(vendor: Vendor) -> None:
    bodies = {name: sample.told for name, sample in vendor.samples()} | dict(vendor.words)
    differing = {
        name
        for name, body in bodies.items()
        if answer_of(vendor, body, stream=False) != answer_of(vendor, body, stream=True)
    }
    assert differing <= UNSTREAMED
