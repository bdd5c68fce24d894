"""Every dialect of callers × kind of upstream × fault × alone or with a second target that is well.

What fails before the caller has anything is no concern of the caller's, if there is another target; what
breaks later is told in the caller's own words; nothing is counted as a success that was none, neither in the
metrics nor in the targets' health; and nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.failover_cases import Served, serving, some_cases
from tests.contract.failover_checks import check, every_place_is_given_back

CASES = some_cases()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving([case for some in CASES.values() for case in some]) as served:
        yield served


@pytest.mark.parametrize("caller", CASES)
def test_faults(served: Served, caller: str) -> None:
    check(served, CASES[caller])


def test_every_place_is_given_back(served: Served) -> None:
    every_place_is_given_back(served)
