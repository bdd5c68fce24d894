"""The benchmark of planning: that it plans what it says, and shows it; how fast is not a test's business."""

from __future__ import annotations

import pytest
from bench import plan
from bench.plan import GOAL, WAYS, Requests, cpu_us, measure, render


def test_each_way_serves_its_requests() -> None:
    for way in WAYS:
        requests = Requests(way, 10)
        before = sum(target.health.in_flight for target in requests.route.targets)
        requests.serve(50)
        assert sum(target.health.in_flight for target in requests.route.targets) == before
    kept_back = [
        each for each in Requests("three_open", 10).route.targets if not each.health.available(2000.0)
    ]
    assert len(kept_back) == 3


def test_a_figure_for_each_way_and_count() -> None:
    found = measure(["weight", "affinity"], [1, 10], requests=20)
    assert {way: len(figures) for way, figures in found.items()} == {"weight": 2, "affinity": 2}


def test_the_median_of_the_rounds_counts() -> None:
    rounds: list[int] = []
    assert cpu_us(rounds.append, 7, rounds=3) >= 0
    assert rounds == [7, 7, 7]


def test_the_table() -> None:
    assert render({"weight": [2.04, 6.5]}, [1, 10]).splitlines() == [
        "| CPU per request, µs | 1 target | 10 targets |",
        "|---|--:|--:|",
        "| `weight` | 2.0 | 6.5 |",
    ]


@pytest.mark.parametrize(("figure", "code", "word"), [(GOAL - 1, 0, "ok"), (GOAL, 1, "missed")])
def test_the_goal_is_that_of_ten_targets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], figure: float, code: int, word: str
) -> None:
    monkeypatch.setattr(plan, "measure", lambda *_: {"weight": [99.0, figure, 99.0]})
    assert plan.main([]) == code
    assert f"{figure:.1f} µs at most; the goal is 10: {word}." in capsys.readouterr().out
