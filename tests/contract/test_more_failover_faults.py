"""The faults of test_failover_faults.py on the other way to the relay; and all there is of them."""

from __future__ import annotations

import pytest

from tests.contract.failover_cases import FailoverCase, every_case, serving, some_cases
from tests.contract.failover_checks import check, every_place_is_given_back


def test_faults_behind_any_asgi_server() -> None:
    """Each dialect of callers with one kind of upstream."""
    every: list[FailoverCase] = []
    for turn, some in enumerate(some_cases().values()):
        kinds = sorted({case.pair.backend for case in some})
        every += [case for case in some if case.pair.backend == kinds[turn % len(kinds)]]
    with serving(every, fast=False) as served:
        check(served, every)
        every_place_is_given_back(served)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("caller", some_cases())
def test_every_case(caller: str) -> None:
    """The whole product, every kind of healthy target included."""
    every = every_case(caller)
    with serving(every) as served:
        check(served, every)
        every_place_is_given_back(served)
