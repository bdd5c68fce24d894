"""From a name to ordered targets: aliases, near names, tiers and weights."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

import pytest

from headgate.backends.scripted import ScriptedBackend, ScriptedSettings
from headgate.core.call import Call, Operation
from headgate.core.errors import ModelNotFound
from headgate.routing.plan import plan
from headgate.routing.route import Route, Router
from headgate.routing.target import Target


def target(name: str, weight: float = 1.0, priority: int = 1) -> Target:
    backend = ScriptedBackend(ScriptedSettings(backend="scripted"))
    return Target(name, backend, "scripted", weight=weight, priority=priority)


class OnlyEmbeds(ScriptedBackend):
    operations = frozenset({Operation.EMBED})


def names(route: Route, rng: random.Random, operation: Operation = Operation.CHAT) -> list[str]:
    call = Call("r", "m", operation, "openai_chat", 0.0)
    return [each.name for each in plan(route, call, 0.0, rng).order]


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
    embeds = Target("e", OnlyEmbeds(ScriptedSettings(backend="scripted")), "scripted")
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
    embeds = Target("e", OnlyEmbeds(ScriptedSettings(backend="scripted")), "scripted")
    both = Route("m", (target("a"), embeds))
    assert names(both, random.Random(1), Operation.COUNT_TOKENS) == ["a"]
