"""An explanation is the plan, with reasons, and every target is in it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Call, Need, Operation
from headgate.routing.plan import explain, obstacle, plan
from headgate.routing.route import Balance, Route
from headgate.routing.target import Abilities, Target
from tests.unit.targets import BROKEN, EMBEDS, call, limited, open_circuit, route, target
from tests.unit.test_plan import NOW, calls, routes


def reasons(route: Route, asked: Call | None = None) -> dict[str, str]:
    found = explain(route, asked or call(), NOW, random.Random(1))
    return {each.target.name: each.reason for each in found}


def reason(only: Target, asked: Call | None = None, balance: Balance = Balance.WEIGHT) -> str:
    return reasons(route(only, balance=balance), asked)[only.name]


@settings(max_examples=100)
@given(routes(), calls(), st.integers(0, 2**32))
def test_an_explanation_is_the_plan_and_then_the_others(route: Route, asked: Call, seed: int) -> None:
    order = list(plan(route, asked, NOW, random.Random(seed)).order)
    found = explain(route, asked, NOW, random.Random(seed))
    assert [each.target for each in found if each.place is not None] == order
    assert [each.place for each in found] == [*range(1, len(order) + 1), *[None] * (len(found) - len(order))]
    assert len(found) == len(set(route.every_target))
    assert {each.target for each in found} == set(route.every_target)
    last_resort = not any(obstacle(each.target, asked, NOW) is None for each in found)
    for each in found:
        assert each.reason
        against = obstacle(each.target, asked, NOW)
        if each.place is None:
            assert each.reason == against
        else:
            assert (against is not None) == last_resort
            assert ("nothing else is left" in each.reason) == last_resort


def test_what_speaks_for_a_target() -> None:
    a = target("a", 2.5, 3)
    assert reason(a) == "priority 3, weight 2.5"
    assert reason(a, call(affinity=7)) == "priority 3, by affinity"
    assert reason(a, balance=Balance.LATENCY) == "priority 3, never measured"
    a.health.plain.note(0.25)
    assert reason(a, balance=Balance.LATENCY) == "priority 3, first event in 250 ms"
    assert reason(a, call(stream=True), Balance.LATENCY) == "priority 3, never measured"
    a.health.begun(NOW)
    assert reason(a, balance=Balance.LEAST_IN_FLIGHT) == "priority 3, 1 in flight"


def test_what_puts_a_target_behind_others() -> None:
    low, queued = target("low"), target("queued", limit=1)
    low.health.quota.spent(NOW + 3)
    assert reason(low) == "priority 1, its quota is all but spent for another 3.0 s"
    assert queued.admission is not None
    for _ in range(3):
        queued.admission.enter(lambda: None)
    assert reason(queued) == "priority 1, its queue is in use (2 waiting)"
    own, other = target("own"), target("other")
    found = reasons(Route("m", (own,), reserves=((other,),)))
    assert found["other"] == "of a fallback model, priority 1, weight 1"


def test_how_a_target_comes_back() -> None:
    a, b = target("a"), target("b")
    open_circuit(a, NOW - 1)
    assert reasons(route(a, b))["a"] == "priority 1, weight 1, as a probe: its circuit is half open"
    a.health.succeeded(a.health.begun(NOW - 3), NOW - 3)
    assert reasons(route(a, b))["a"] == "priority 1, weight 1, back since a moment ago, at 30% of its weight"


def test_what_stands_against_a_target() -> None:
    spent, broken, probed, drained, embeds, small, blind = (
        target("spent"),
        target("broken"),
        target("probed"),
        target("drained"),
        target("embeds", backend=EMBEDS),
        target("small", abilities=Abilities(context_length=10)),
        target("blind", abilities=Abilities(frozenset({Need.TOOLS, Need.IMAGES}))),
    )
    spent.health.quota.cool(NOW, limited(2.0), random.Random(1))
    open_circuit(broken, NOW + 4)
    open_circuit(probed, NOW)
    probed.health.begun(NOW)
    drained.health.drain()
    own = route(target("well"), spent, broken, probed, drained, embeds, small, blind)
    asked = replace(call(), size=13, needs=frozenset({Need.TOOLS, Need.IMAGES}))
    found = reasons(own, asked)
    assert found == {
        "well": "priority 1, weight 1",
        "spent": "its quota is spent for another 2.0 s",
        "broken": "its circuit is open for another 4.0 s; last failure: it broke",
        "probed": "its circuit is half open and a probe is under way; last failure: it broke",
        "drained": "drained by the operator",
        "embeds": "it does not do chat",
        "small": "the prompt has about 13 tokens, more than its context of 10",
        "blind": "it does not take images, tools",
    }
    assert reasons(own, call(origin="well"))["spent"] == "only well has what the request refers to"


def test_a_last_resort_says_so() -> None:
    a = target("a")
    for _ in range(5):
        a.health.failed(a.health.begun(NOW), NOW, BROKEN, random.Random(1))
    assert reason(a) == (
        "nothing else is left, although its circuit is open for another 5.0 s; last failure: it broke"
    )


@pytest.mark.parametrize("operation", Operation)
def test_every_operation_can_be_explained(operation: Operation) -> None:
    own = route(target("chats"), target("embeds", backend=EMBEDS))
    assert set(reasons(own, call(operation))) == {"chats", "embeds"}
