"""From a name to ordered targets: aliases, near names, tiers, what keeps a target out of the order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.call import Call, Need, Operation
from headgate.core.errors import InvalidRequest, ModelNotFound, RateLimited, Unavailable, UpstreamError
from headgate.routing.health import Circuit
from headgate.routing.plan import Plan, nobody, obstacle, plan
from headgate.routing.quota import Quota
from headgate.routing.route import Balance, Route, Router
from headgate.routing.target import Abilities, Target
from tests.unit.targets import EMBEDS, call, limited, open_circuit, route, target

NOW = 100.0


def planned(route: Route, asked: Call | None = None, seed: int = 1) -> Plan:
    return plan(route, asked or call(), NOW, random.Random(seed))


def order(route: Route, asked: Call | None = None, seed: int = 1) -> list[str]:
    return [each.name for each in planned(route, asked, seed).order]


def names(route: Route, rng: random.Random, operation: Operation = Operation.CHAT) -> list[str]:
    return [each.name for each in plan(route, call(operation), NOW, rng).order]


def test_lower_tiers_come_first_whatever_the_weights() -> None:
    route = Route("m", (target("c", 1000, 3), target("a", 0.001, 1), target("b", 500, 2)))
    rng = random.Random(1)
    assert all(names(route, rng) == ["a", "b", "c"] for _ in range(200))


def test_within_a_tier_the_first_is_drawn_by_weight() -> None:
    route = Route("m", (target("a", 3), target("b", 1), target("spare", 100, 2)))
    rng = random.Random(7)
    drawn = [names(route, rng) for _ in range(4000)]
    first = Counter(order[0] for order in drawn)
    assert first["a"] / first["b"] == pytest.approx(3, rel=0.15)
    assert all(sorted(order[:2]) == ["a", "b"] and order[2] == "spare" for order in drawn)


def test_only_targets_that_can_do_it_are_planned() -> None:
    embeds = target("e", backend=EMBEDS)
    rng = random.Random(1)
    both = Route("m", (target("a"), embeds))
    assert names(both, rng) == ["a"]
    assert sorted(names(both, rng, Operation.EMBED)) == ["a", "e"]
    assert names(both, rng, Operation.PREDICT) == []
    assert names(Route("m", (embeds,)), rng) == []
    assert both.operations == {Operation.CHAT, Operation.EMBED, Operation.RERANK}


def router(*models: str, aliases: Mapping[str, str] | None = None) -> Router:
    return Router({name: Route(name, (target(name),)) for name in models}, aliases or {})


def test_models_and_aliases_are_found() -> None:
    found = router("gpt-4o", "mini", aliases={"gpt-4": "gpt-4o"})
    assert found.find("gpt-4o").model == "gpt-4o"
    assert found.find("gpt-4").model == "gpt-4o"


@pytest.mark.parametrize("name", ["GPT-4o", "gpt-4o ", "", "http://evil", "../gpt-4o", "gpt-4o\0"])
def test_a_name_is_taken_literally(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        router("gpt-4o").find(name)
    assert caught.value.param == "model"
    assert caught.value.status == 404


def test_near_names_are_offered_aliases_too() -> None:
    with pytest.raises(ModelNotFound, match="did you mean 'smollm2'"):
        router("smollm2", "minilm").find("smolm2")
    with pytest.raises(ModelNotFound, match="'gpt-4'"):
        router("x", aliases={"gpt-4": "x"}).find("gpt4")
    with pytest.raises(ModelNotFound, match="GET /v1/models lists those that do"):
        router("smollm2").find("zzzzzz")


def test_a_long_name_is_not_repeated_whole() -> None:
    with pytest.raises(ModelNotFound) as caught:
        router("a").find("x" * 100_000)
    assert len(caught.value.message) < 250


def test_a_wire_is_made_once() -> None:
    plain = target("a")
    assert plain.wire(Operation.CHAT, "openai_chat") is None
    assert plain.wire(Operation.CHAT, "openai_chat") is None


def test_tokens_are_counted_for_whatever_chats() -> None:
    embeds = target("e", backend=EMBEDS)
    both = Route("m", (target("a"), embeds))
    assert names(both, random.Random(1), Operation.COUNT_TOKENS) == ["a"]


# What is kept apart.


def test_a_target_whose_quota_is_spent_or_whose_circuit_is_open_is_not_in_the_order() -> None:
    well, spent, broken, drained = (target(name) for name in ("well", "spent", "broken", "drained"))
    spent.health.quota.until = NOW + 1
    open_circuit(broken, NOW + 1)
    drained.health.drain()
    found = planned(route(broken, drained, spent, well))
    assert (found.order, found.cooling, found.kept_back) == ([well], [spent], [broken])
    spent.health.quota.until = broken.health.opened_until = NOW
    assert sorted(order(route(broken, drained, spent, well))) == ["broken", "spent", "well"]


def test_with_every_circuit_open_the_one_that_is_back_first_is_tried_first() -> None:
    several = [target(name) for name in "abcd"]
    for each, until in zip(several, (40, 10, 30, 20), strict=True):
        open_circuit(each, NOW + until)
    several[3].health.drain()
    found = planned(route(*several))
    assert [each.name for each in found.order] == ["b", "c", "a"]
    assert not found.kept_back


def test_a_half_open_target_is_planned_for_one_call() -> None:
    a, b = target("a", priority=1), target("b", priority=2)
    open_circuit(a, NOW - 1)
    assert order(route(a, b)) == ["a", "b"]
    a.health.begun(NOW)
    assert planned(route(a, b)).order == [b]


def test_a_queue_in_use_comes_after_every_free_target_of_the_model() -> None:
    first, second, third = target("1", priority=1, limit=2), target("2", priority=2), target("3", priority=3)
    assert first.admission is not None
    own = route(first, second, third)
    first.admission.enter(lambda: None)
    assert order(own) == ["1", "2", "3"]
    first.admission.enter(lambda: None)
    assert order(own) == ["2", "3", "1"]


def test_a_quota_all_but_spent_comes_late_but_before_a_queue() -> None:
    queued, low, free = target("queued", limit=1), target("low"), target("free", priority=9)
    assert queued.admission is not None
    queued.admission.enter(lambda: None)
    low.health.quota.spent(NOW + 1)
    assert order(route(queued, low, free)) == ["free", "low", "queued"]
    low.health.quota.low_until = NOW
    assert order(route(queued, low, free)) == ["low", "free", "queued"]


def test_of_queues_the_shortest_for_each_of_its_places_comes_first() -> None:
    small, large = target("small", limit=1), target("large", limit=10)
    for each, calls in ((small, 3), (large, 15)):
        for _ in range(calls):
            assert each.admission is not None
            each.admission.enter(lambda: None)
    assert order(route(small, large)) == ["large", "small"]


def test_those_in_the_same_strait_share_the_calls_by_weight() -> None:
    low = [target("a", 3), target("b", 1)]
    for each in low:
        each.health.quota.spent(NOW + 1)
    first = Counter(order(route(*low), seed=seed)[0] for seed in range(2000))
    assert first["a"] / first["b"] == pytest.approx(3, rel=0.2)


# Abilities and origins.


def test_only_those_able_to_take_the_request_are_planned() -> None:
    blind = target("blind", abilities=Abilities(lacks=frozenset({Need.IMAGES, Need.TOOLS})))
    small = target("small", abilities=Abilities(context_length=1000))
    every = target("every")
    own = route(blind, small, every)
    assert sorted(order(own)) == ["blind", "every", "small"]
    assert sorted(order(own, replace(call(), needs=frozenset({Need.IMAGES})))) == ["every", "small"]
    assert sorted(order(own, replace(call(), needs=frozenset({Need.AUDIO})))) == ["blind", "every", "small"]
    assert sorted(order(own, replace(call(), size=1000))) == ["blind", "every", "small"]
    assert sorted(order(own, replace(call(), size=1250))) == ["blind", "every", "small"], "it may fit"
    assert sorted(order(own, replace(call(), size=1251))) == ["blind", "every"]


def test_what_one_target_keeps_only_that_one_answers() -> None:
    a, b = target("a"), target("b", priority=2)
    own = route(a, b)
    assert order(own, call(origin="b")) == ["b"]
    open_circuit(b, NOW + 5)
    assert order(own, call(origin="b")) == ["b"], "nobody else has it"
    b.health.drain()
    a.health.quota.cool(NOW, limited(9.0), random.Random(1))
    assert planned(own, call(origin="b")) == Plan([], [], [])
    refusal = nobody(own, call(origin="b"), NOW)
    assert isinstance(refusal, Unavailable), "that the other one's quota is spent is beside the point"


def test_an_origin_that_is_gone_is_said() -> None:
    own = route("a", "b")
    assert planned(own, call(origin="z")) == Plan([], [], [])
    refusal = nobody(own, call(origin="z"), NOW)
    assert isinstance(refusal, InvalidRequest)
    assert "only z has what the request refers to" in refusal.message


# Fallback models.


def with_fallbacks(*stages: list[Target]) -> Route:
    own, *reserves = stages
    return Route("m", tuple(own), reserves=tuple(map(tuple, reserves)))


def test_fallback_models_come_after_all_of_the_models_own_one_after_the_other() -> None:
    a, b, c, d = (
        target(name, priority=priority) for name, priority in zip("abcd", (1, 9, 1, 1), strict=True)
    )
    own = with_fallbacks([a, b], [c], [d])
    assert order(own) == ["a", "b", "c", "d"]
    a.health.quota.spent(NOW + 5)
    assert order(own) == ["b", "a", "c", "d"], "another model answers only when this one can't"
    open_circuit(b, NOW + 5)
    assert order(own) == ["a", "c", "d"]
    a.health.quota.until = NOW + 5
    assert order(own) == ["c", "d"]


def test_a_target_that_stands_in_several_places_is_tried_once() -> None:
    a, b, c = (target(name) for name in "abc")
    own = with_fallbacks([a], [b, a], [b, c], [c])
    assert order(own) == ["a", "b", "c"]
    assert [each.name for each in own.every_target] == ["a", "b", "c"]


def test_a_fallback_may_do_what_the_model_does_not() -> None:
    own = with_fallbacks([target("e", backend=EMBEDS)], [target("c")])
    assert order(own) == ["c"]
    assert order(own, call(Operation.EMBED)) == ["e", "c"]


# When there is nobody.


def test_nobody_able() -> None:
    own = route(target("e", backend=EMBEDS))
    refusal = nobody(own, call(), NOW)
    assert (refusal.status, refusal.code) == (400, "unsupported_operation")
    assert refusal.message == "The model 'm' does not chat; it does: embed"


def test_nobody_fit() -> None:
    own = route(
        target("a", abilities=Abilities(frozenset({Need.TOOLS}))),
        target("b", abilities=Abilities(context_length=10)),
    )
    refusal = nobody(own, replace(call(), needs=frozenset({Need.TOOLS}), size=20), NOW)
    assert refusal.status == 400
    assert "it does not take tools; the prompt has about 20 tokens" in refusal.message


def test_nobody_with_quota_left_tells_the_vendors_words_and_the_earliest_end() -> None:
    soon, late, unfit = (
        target("soon"),
        target("late"),
        target("unfit", abilities=Abilities(context_length=10)),
    )
    asked = replace(call(), size=20)
    for each, wait in ((soon, 7.0), (late, 90.0), (unfit, 2.0)):
        each.health.quota.cool(NOW, limited(wait, each.name), random.Random(1))
    refusal = nobody(route(soon, late, unfit), asked, NOW)
    assert isinstance(refusal, UpstreamError)
    assert (refusal.status, refusal.message, refusal.retry_after) == (429, "soon", 7.0)
    soon.health.drain()
    assert nobody(route(soon, late, unfit), asked, NOW).message == "late"
    local = target("local", quota=Quota("q", until=NOW + 0.2, refusal=RateLimited("x")))
    refusal = nobody(route(local), call(), NOW)
    assert isinstance(refusal, RateLimited)
    assert refusal.retry_after == 1.0


def test_nobody_but_drained_ones() -> None:
    only = target("a")
    only.health.drain()
    refusal = nobody(route(only), call(), NOW)
    assert isinstance(refusal, Unavailable)
    assert refusal.retry_after == 5.0


# Whatever state the targets are in.


@st.composite
def routes(draw: st.DrawFn) -> Route:
    """Routes of up to three models, their targets in any state."""

    def made(number: int) -> Target:
        made = target(
            f"t{number}",
            draw(st.floats(0.001, 1000)),
            draw(st.integers(1, 3)),
            limit=draw(st.sampled_from([None, None, 1])),
            abilities=Abilities(
                draw(st.sampled_from([frozenset[Need](), frozenset({Need.TOOLS})])),
                draw(st.sampled_from([None, None, 100])),
            ),
            backend=draw(st.sampled_from([target("x").backend, EMBEDS])),
        )
        health = made.health
        health.drained = draw(st.integers(0, 5)) == 0
        health.in_flight = draw(st.integers(0, 5))
        health.streams.seconds = draw(st.none() | st.floats(0, 60))
        health.quota.until = NOW + draw(st.sampled_from([-50, -50, 5]))
        health.quota.low_until = NOW + draw(st.sampled_from([-50, -50, 5]))
        if draw(st.booleans()):
            open_circuit(made, NOW + draw(st.sampled_from([-1, 1, 2])))
            if draw(st.booleans()):
                health.begun(NOW)
        if made.admission is not None:
            for _ in range(draw(st.integers(0, 3))):
                made.admission.enter(lambda: None)
        return made

    targets = [made(number) for number in range(draw(st.integers(1, 7)))]
    own, *reserves = (
        tuple(draw(st.lists(st.sampled_from(targets), min_size=1, max_size=7)))
        for _ in range(draw(st.integers(1, 3)))
    )
    return Route("m", own, balance=draw(st.sampled_from(Balance)), reserves=tuple(reserves))


@st.composite
def calls(draw: st.DrawFn) -> Call:
    return replace(
        call(
            draw(st.sampled_from([Operation.CHAT, Operation.EMBED])),
            affinity=draw(st.none() | st.integers(0, 2**64 - 1)),
            origin=draw(st.sampled_from([None, None, None, "t0", "gone"])),
            stream=draw(st.booleans()),
        ),
        needs=frozenset(draw(st.sampled_from([(), (Need.TOOLS,)]))),
        size=draw(st.sampled_from([None, 50, 500])),
    )


def is_fit(each: Target, asked: Call) -> bool:
    return (
        each.performs(asked.operation)
        and asked.origin in (None, each.name)
        and each.abilities.missing(asked) is None
    )


@settings(max_examples=60)
@given(routes(), calls(), st.integers(0, 2**32))
def test_each_able_target_that_is_not_drained_is_in_the_plan_once(
    route: Route, asked: Call, seed: int
) -> None:
    found = planned(route, asked, seed)
    everyone = [*found.order, *found.cooling, *found.kept_back]
    assert len(set(everyone)) == len(everyone)
    assert set(everyone) == {
        each for each in route.every_target if is_fit(each, asked) and not each.health.drained
    }
    assert all(each.health.quota.until > NOW for each in found.cooling)
    assert all(each.health.circuit is not Circuit.CLOSED for each in found.kept_back)
    assert not (found.kept_back and not found.order), "the last resort is tried when there is nothing else"


@settings(max_examples=60)
@given(routes(), calls(), st.integers(0, 2**32))
def test_the_order_holds_exactly_those_against_which_nothing_stands(
    route: Route, asked: Call, seed: int
) -> None:
    found = planned(route, asked, seed).order
    unhindered = {each for each in route.every_target if obstacle(each, asked, NOW) is None}
    if unhindered:
        assert set(found) == unhindered
    else:
        assert not any(each.health.available(NOW) for each in found)


@settings(max_examples=60)
@given(routes(), calls(), st.integers(0, 2**32))
def test_nobody_strained_before_one_who_is_free_and_no_worse_tier_before_a_better(
    route: Route, asked: Call, seed: int
) -> None:
    def is_strained(each: Target) -> bool:
        return (each.admission is not None and each.admission.full) or each.health.quota.low_until > NOW

    def model(each: Target) -> int:
        return next(n for n, some in enumerate((route.targets, *route.reserves)) if each in some)

    found = planned(route, asked, seed).order
    if found and found[0].health.available(NOW):
        ranks = [
            (model(each), is_strained(each), 0 if is_strained(each) else each.priority) for each in found
        ]
        assert ranks == sorted(ranks)


@settings(max_examples=60)
@given(routes(), calls(), st.integers(0, 2**32))
def test_planning_changes_nothing_and_the_same_seed_gives_the_same_plan(
    route: Route, asked: Call, seed: int
) -> None:
    before = [repr(each.health) for each in route.every_target]
    assert planned(route, asked, seed) == planned(route, asked, seed)
    assert [repr(each.health) for each in route.every_target] == before


@settings(max_examples=60)
@given(routes(), calls())
def test_when_nothing_is_planned_a_caller_is_told_why(route: Route, asked: Call) -> None:
    found = planned(route, asked)
    if not found.order:
        refusal = nobody(route, asked, NOW)
        assert refusal.status == (429 if found.cooling else refusal.status)
        assert refusal.status in (400, 429, 503)
        if any(is_fit(each, asked) for each in route.every_target):
            assert refusal.status != 400
            assert refusal.retry_after is not None
