"""How the targets of one tier share the calls: shares with a fixed seed, and who is never left out."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.routing.plan import EXPLORE, plan
from headgate.routing.route import Balance, Route
from headgate.routing.target import Target
from tests.unit.targets import call, open_circuit, route, target

NOW = 100.0


def firsts(route: Route, count: int = 4000, *, now: float = NOW, stream: bool = False) -> Counter[str]:
    """Which targets come first, in `count` plans with nothing under way."""
    rng = random.Random(42)
    return Counter(plan(route, call(stream=stream), now, rng).order[0].name for _ in range(count))


def recover(target: Target, now: float) -> None:
    open_circuit(target, now)
    target.health.succeeded(target.health.begun(now), now)


def simulate(route: Route, seconds: dict[str, float], *, clients: int, count: int = 4000) -> Counter[str]:
    """How many calls each target served, when `clients` callers ask again as soon as they are answered.

    Args:
        seconds: how long each target takes for an answer.
    """
    rng = random.Random(7)
    served: Counter[str] = Counter()
    under_way: list[tuple[float, int, Target, float]] = []
    now = NOW
    for number in range(count + clients):
        if number >= clients:
            now, _, done, sent = heapq.heappop(under_way)
            done.health.answered(sent, now, stream=False)
            done.health.succeeded(sent, now)
            served[done.name] += 1
        chosen = plan(route, call(), now, rng).order[0]
        sent = chosen.health.begun(now)
        ends = now + seconds[chosen.name] * rng.uniform(0.9, 1.1)
        heapq.heappush(under_way, (ends, number, chosen, sent))
    return served


# By weight.


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (10, 1, 1), (0.5, 0.25, 0.25), (1000, 1)])
def test_shares_are_those_of_the_weights(weights: Sequence[float]) -> None:
    own = route(*(target(str(number), weight) for number, weight in enumerate(weights)))
    counts = firsts(own, 20_000)
    for number, weight in enumerate(weights):
        assert counts[str(number)] / 20_000 == pytest.approx(weight / sum(weights), rel=0.1, abs=0.002)


def test_second_places_go_by_weight_too() -> None:
    """When a target fails, its calls are spread over the others as their weights say."""
    own = route(target("a", 100), target("b", 3), target("c", 1))
    rng = random.Random(3)
    second = Counter(plan(own, call(), NOW, rng).order[1].name for _ in range(8000))
    assert second["b"] / second["c"] == pytest.approx(3, rel=0.1)


def test_a_target_that_is_back_starts_slowly() -> None:
    back, well = target("back"), target("well")
    own = route(back, well)
    recover(back, NOW)
    shares = [firsts(own, now=NOW + after)["back"] / 4000 for after in (0, 2.5, 5, 10)]
    assert shares == pytest.approx([0.1 / 1.1, 0.25 / 1.25, 0.5 / 1.5, 0.5], abs=0.03)


# By calls in flight.


def test_an_idle_server_shares_by_weight() -> None:
    own = route(target("a", 3), target("b", 1), balance=Balance.LEAST_IN_FLIGHT)
    counts = firsts(own)
    assert counts["a"] / counts["b"] == pytest.approx(3, rel=0.1)


def test_the_one_with_least_in_flight_for_its_weight_comes_first() -> None:
    a, b, c = target("a", 4), target("b", 1), target("c", 2)
    a.health.in_flight, b.health.in_flight, c.health.in_flight = 4, 4, 4
    own = route(a, b, c, balance=Balance.LEAST_IN_FLIGHT)
    rng = random.Random(1)
    orders = Counter("".join(each.name for each in plan(own, call(), NOW, rng).order) for _ in range(200))
    assert orders["acb"] > 195


def test_under_load_slow_targets_get_fewer_calls() -> None:
    own = route("quick", "slow", balance=Balance.LEAST_IN_FLIGHT)
    served = simulate(own, {"quick": 0.1, "slow": 1.0}, clients=20)
    assert served["quick"] / served["slow"] == pytest.approx(10, rel=0.15)


def test_under_load_calls_in_flight_follow_the_weights() -> None:
    own = route(target("a", 3), target("b", 1), balance=Balance.LEAST_IN_FLIGHT)
    simulate(own, {"a": 1.0, "b": 1.0}, clients=40, count=400)
    assert own.targets[0].health.in_flight == pytest.approx(30, abs=1)


def test_a_target_that_is_back_is_not_flooded_because_it_has_nothing_to_do() -> None:
    back, well = target("back"), target("well")
    own = route(back, well, balance=Balance.LEAST_IN_FLIGHT)
    well.health.in_flight = 40
    recover(back, NOW)
    rng = random.Random(1)
    while (first := plan(own, call(), NOW, rng).order[0]) is back:
        first.health.begun(NOW)
    assert back.health.in_flight == pytest.approx(4, abs=1)


# By latency.


def measured(name: str, seconds: float, weight: float = 1.0) -> Target:
    made = target(name, weight)
    made.health.plain.note(seconds)
    return made


def test_the_fastest_comes_first_but_for_the_floor_of_exploration() -> None:
    own = route(measured("quick", 0.1), measured("slow", 1.0), balance=Balance.LATENCY)
    counts = firsts(own, 20_000)
    assert counts["slow"] / 20_000 == pytest.approx(EXPLORE / 2, rel=0.15)


def test_each_target_is_explored_by_its_weight() -> None:
    own = route(measured("quick", 0.1), measured("b", 5.0, 3), measured("c", 9.0, 1), balance=Balance.LATENCY)
    counts = firsts(own, 40_000)
    assert counts["b"] / counts["c"] == pytest.approx(3, rel=0.2)


def test_one_that_nobody_has_measured_is_asked_once_then_waited_for() -> None:
    """Else all calls would go to it until it answers, which may be never."""
    new, known = target("new"), measured("known", 0.5)
    own = route(new, known, balance=Balance.LATENCY)
    rng = random.Random(2)
    assert plan(own, call(), NOW, rng).order[0] is new
    sent = new.health.begun(NOW)
    counts = firsts(own)
    assert counts["new"] / 4000 == pytest.approx(EXPLORE / 2, rel=0.3)
    new.health.answered(sent, NOW + 0.1, stream=False)
    assert firsts(own)["new"] / 4000 > 0.9


def test_where_none_is_measured_the_calls_are_spread() -> None:
    own = route("a", "b", "c", "d", balance=Balance.LATENCY)
    rng = random.Random(1)
    for _ in range(100):
        plan(own, call(), NOW, rng).order[0].health.begun(NOW)
    assert all(each.health.in_flight == pytest.approx(25, abs=8) for each in own.targets)


def test_streams_are_compared_with_streams() -> None:
    a, b = measured("a", 9.0), measured("b", 1.0)
    a.health.streams.note(0.1)
    b.health.streams.note(0.5)
    own = route(a, b, balance=Balance.LATENCY)
    assert firsts(own, stream=True).most_common(1)[0][0] == "a"
    assert firsts(own, stream=False).most_common(1)[0][0] == "b"


def test_calls_under_way_count_or_all_would_go_to_the_fastest() -> None:
    own = route("quick", "slow", balance=Balance.LATENCY)
    served = simulate(own, {"quick": 0.1, "slow": 0.2}, clients=20)
    assert served["quick"] / served["slow"] == pytest.approx(4, rel=0.15), "twice the calls, twice as fast"


def test_a_weight_is_a_preference_among_the_equally_fast() -> None:
    own = route(target("a", 3), target("b", 1), balance=Balance.LATENCY)
    served = simulate(own, {"a": 0.5, "b": 0.5}, clients=40)
    assert served["a"] / served["b"] == pytest.approx(3, rel=0.2)


def test_a_target_that_got_faster_is_found_again() -> None:
    own = route("a", "b", balance=Balance.LATENCY)
    simulate(own, {"a": 0.1, "b": 2.0}, clients=1, count=200)
    served = simulate(own, {"a": 0.1, "b": 0.02}, clients=1, count=4000)
    assert served["b"] > 3000


# Whatever the balance.


@pytest.mark.parametrize("balance", Balance)
def test_nobody_starves(balance: Balance) -> None:
    names = [f"t{number}" for number in range(5)]
    own = route(*(target(name, 1 + number) for number, name in enumerate(names)), balance=balance)
    seconds = {name: 0.05 * (1 + number) ** 2 for number, name in enumerate(names)}
    for clients in (1, 30):
        served = simulate(own, seconds, clients=clients)
        assert all(served[name] >= 4000 * EXPLORE / 15 / 3 for name in names), served


@pytest.mark.parametrize("balance", Balance)
@pytest.mark.parametrize("weight", [1e-9, 1e9])
def test_extreme_weights_break_nothing(balance: Balance, weight: float) -> None:
    own = route(target("a", weight), target("b", 1), balance=balance)
    assert set(firsts(own, 200)) <= {"a", "b"}


# By affinity.


def homes(route: Route, keys: int = 4000, now: float = NOW) -> dict[int, str]:
    rng = random.Random(9)
    spread = [rng.getrandbits(64) for _ in range(keys)]
    return {key: plan(route, call(affinity=key), now, rng).order[0].name for key in spread}


def moved(before: dict[int, str], after: dict[int, str]) -> list[int]:
    return [key for key in before if before[key] != after[key]]


def fleet(count: int) -> list[Target]:
    return [target(f"model#{number}") for number in range(count)]


def test_a_key_has_a_home_whatever_else_is_random() -> None:
    own = route(*fleet(8), balance=Balance.LATENCY)
    assert homes(own) == homes(own)
    rng = random.Random(1)
    assert len({tuple(t.name for t in plan(own, call(affinity=1), NOW, rng).order) for _ in range(50)}) == 1


@pytest.mark.parametrize("count", [2, 3, 10, 50])
def test_keys_spread_evenly_over_targets_whose_names_are_alike(count: int) -> None:
    shares = Counter(homes(route(*fleet(count)), 20_000).values())
    expected = 20_000 / count
    assert all(
        shares[f"model#{number}"] == pytest.approx(expected, abs=5 * expected**0.5) for number in range(count)
    )


def test_keys_spread_by_weight() -> None:
    shares = Counter(homes(route(target("a", 3), target("b", 1)), 8000).values())
    assert shares["a"] / shares["b"] == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("count", [3, 10])
def test_where_a_key_has_its_home_says_nothing_about_its_second_choice(count: int) -> None:
    """Or one neighbour would get all of the load of a target that is down."""
    own = route(*fleet(count))
    rng = random.Random(11)
    pairs: Counter[tuple[str, str]] = Counter()
    for _ in range(20_000):
        first, second, *_ = plan(own, call(affinity=rng.getrandbits(64)), NOW, rng).order
        pairs[first.name, second.name] += 1
    expected = 20_000 / (count * (count - 1))
    assert len(pairs) == count * (count - 1)
    assert all(found == pytest.approx(expected, abs=5 * expected**0.5) for found in pairs.values())


def test_a_target_that_comes_takes_its_share_and_moves_nothing_else() -> None:
    targets = fleet(5)
    four, five = homes(route(*targets[:4])), homes(route(*targets))
    changed = moved(four, five)
    assert {five[key] for key in changed} == {"model#4"}
    assert len(changed) == pytest.approx(800, rel=0.15)


def test_a_heavier_weight_only_draws_keys_to_itself() -> None:
    before = homes(route(target("a"), target("b"), target("c")))
    after = homes(route(target("a", 2), target("b"), target("c")))
    assert {after[key] for key in moved(before, after)} == {"a"}


def test_a_target_that_is_away_lends_its_keys_out_and_gets_them_back() -> None:
    targets = fleet(4)
    own = route(*targets)
    before = homes(own)
    away = targets[2]
    away.health.drain()
    lent = homes(own)
    assert set(moved(before, lent)) == {key for key in before if before[key] == away.name}
    assert len(set(lent.values())) == 3
    away.health.enable()
    assert homes(own) == before


def test_the_second_place_is_the_home_that_a_key_would_have_without_the_first() -> None:
    targets = fleet(4)
    own = route(*targets)
    rng = random.Random(1)
    for key in range(0, 2**64, 2**57):
        first, second, *_ = plan(own, call(affinity=key), NOW, rng).order
        first.health.drain()
        assert plan(own, call(affinity=key), NOW, rng).order[0] is second
        first.health.enable()


def test_keys_come_back_to_a_recovered_target_little_by_little_each_once() -> None:
    targets = fleet(4)
    own = route(*targets)
    before = homes(own)
    recover(targets[0], NOW)
    theirs = {key for key in before if before[key] == targets[0].name}
    back: set[int] = set()
    for after in (0, 2, 4, 6, 8, 10):
        now = {key for key, home in homes(own, now=NOW + after).items() if home == targets[0].name}
        assert back <= now <= theirs
        back = now
        if after == 0:
            assert 0 < len(now) < len(theirs) / 4
    assert back == theirs


def test_a_strained_home_is_left_for_the_next_best() -> None:
    a, b = target("a", limit=1), target("b")
    own = route(a, b)
    key = next(key for key, home in homes(own).items() if home == "a")
    assert a.admission is not None
    ticket = a.admission.enter(lambda: None)
    rng = random.Random(1)
    assert [each.name for each in plan(own, call(affinity=key), NOW, rng).order] == ["b", "a"]
    ticket.release()
    assert plan(own, call(affinity=key), NOW, rng).order[0] is a


@settings(max_examples=50)
@given(st.lists(st.text(max_size=8), min_size=2, max_size=6, unique=True), st.integers(0, 2**64 - 1))
def test_removing_a_target_that_is_not_its_home_never_moves_a_key(names: list[str], key: int) -> None:
    rng = random.Random(1)
    whole = plan(route(*names), call(affinity=key), NOW, rng).order
    for gone in whole[1:]:
        rest = route(*(name for name in names if name != gone.name))
        assert plan(rest, call(affinity=key), NOW, rng).order[0].name == whole[0].name
