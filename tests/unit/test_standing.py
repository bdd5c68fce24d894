"""What a new configuration keeps of the one that serves: what stays the same is the same object."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from headgate.backends.pools import Pools
from headgate.backends.registry import Registry
from headgate.config.schema import Settings
from headgate.core.errors import UpstreamError
from headgate.routing.route import Route
from headgate.routing.target import Target
from headgate.server.build import Built, make_routes
from headgate.server.standing import Standing
from tests.support.server import settings_from

REMOTE = {"backend": "openai-compatible", "base_url": "http://127.0.0.1:1/v1"}
OTHER = {"backend": "openai-compatible", "base_url": "http://127.0.0.1:2/v1"}


class Server:
    """Goes from one configuration to the next, without ever sending anything."""

    def __init__(self, folder: Path, **models: Any) -> None:
        self._folder = folder
        self._registry = Registry()
        self.pools = Pools()
        self.built: Built | None = None
        self.settings: Settings | None = None
        self.failed: list[Target] = []
        self.go(**models)

    def prepare(self, accounts: dict[str, Any] | None = None, **models: Any) -> tuple[Settings, Built]:
        settings = settings_from(self._folder, {"models": models, "accounts": accounts or {}})
        router = self.built.router if self.built is not None else None
        standing = Standing(self.settings, router, self.failed)
        return settings, make_routes(settings, self._registry, self.pools, standing=standing)

    def go(self, accounts: dict[str, Any] | None = None, **models: Any) -> Built:
        self.settings, self.built = self.prepare(accounts, **models)
        for adjust in self.built.adjustments:
            adjust()
        return self.built

    def route(self, model: str = "m") -> Route:
        assert self.built is not None
        return self.built.router.routes[model]

    def target(self, model: str = "m", number: int = 0) -> Target:
        return self.route(model).targets[number]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"weight": 7},
        {"priority": 3},
        {"lacks": ["tools"]},
        {"context_length": 4096},
        {"max_concurrency": 2},
        {"quota": "named"},
        {"probe": {"every": "3s"}},
        {"retry": {"attempts": 4, "budget": 0.5}},
        {"breaker": {"failures": 2}},
        {"balance": "latency"},
        {"hedge": {"budget": 0.1}},
        {"max_in_flight": 3},
        {"description": "words"},
    ],
    ids=lambda change: next(iter(change), "nothing"),
)
def test_these_change_while_backend_and_past_stay(tmp_path: Path, change: dict[str, Any]) -> None:
    server = Server(tmp_path, m=REMOTE)
    before, route = server.target(), server.route()
    before.health.drain()
    built = server.go(m={**REMOTE, **change})
    after = server.target()
    assert built.fresh == []
    assert after.backend is before.backend
    assert after.health is before.health
    assert after.health.drained
    assert server.route().pace is route.pace
    assert server.route().created == route.created
    assert after.weight == change.get("weight", 1)
    assert after.priority == change.get("priority", 1)
    assert after.abilities.lacks == set(change.get("lacks", ()))
    assert after.abilities.context_length == change.get("context_length")
    assert (after.admission is not None) == ("max_concurrency" in change)
    assert (after.probe.every if after.probe is not None else None) == (3.0 if "probe" in change else None)
    assert after.health.breaker.failures == change.get("breaker", {}).get("failures", 5)
    assert after.health.quota.name == change.get("quota", "m")
    assert server.route().pace.retries.share == change.get("retry", {}).get("budget", 0.2)
    assert server.route().pace.hedges.share == change.get("hedge", {}).get("budget", 0.0)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"api_key": "key"},
        {"base_url": "http://127.0.0.1:2/v1"},
        {"headers": {"x-a": "b"}},
        {"timeouts": {"idle": "1s"}},
        {"max_queue": 3},
        {"backend": "vllm"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_these_make_a_target_anew(tmp_path: Path, change: dict[str, Any]) -> None:
    server = Server(tmp_path, m=REMOTE)
    before, route = server.target(), server.route()
    built = server.go(m={**REMOTE, **change})
    after = server.target()
    assert built.fresh == [after.backend]
    assert after.backend is not before.backend
    assert after.health is not before.health
    assert server.route().pace is not route.pace


def test_a_model_timeout_that_the_target_overrides_is_no_change_of_it(tmp_path: Path) -> None:
    own = {**REMOTE, "timeouts": {"idle": "2s"}}
    server = Server(tmp_path, m={"targets": [own], "timeouts": {"idle": "1s"}})
    before = server.target()
    server.go(m={"targets": [own], "timeouts": {"idle": "9s"}})
    assert server.target().backend is before.backend


def test_a_target_is_known_again_wherever_it_stands(tmp_path: Path) -> None:
    server = Server(tmp_path, m=REMOTE)
    first = server.target()
    server.go(m={"targets": [OTHER, REMOTE]})
    assert [target.name for target in server.route().targets] == ["m#0", "m#1"]
    assert server.target(number=1).backend is first.backend
    assert server.target(number=1).header == b"m#1"
    other = server.target(number=0)
    server.go(m={"targets": [REMOTE, OTHER, REMOTE]})
    assert server.target(number=1).backend is other.backend
    kept = [target for target in server.route().targets if target.backend is first.backend]
    assert [target.name for target in kept] in (["m#0"], ["m#2"])


def test_equal_targets_keep_their_places(tmp_path: Path) -> None:
    server = Server(tmp_path, m={"targets": [REMOTE, REMOTE]})
    before = [target.backend for target in server.route().targets]
    server.go(m={"targets": [{**REMOTE, "weight": 2}, REMOTE]})
    assert [target.backend for target in server.route().targets] == before
    server.go(m={"targets": [REMOTE]})
    assert server.target().backend in before


def test_another_model_with_the_same_target_has_a_backend_of_its_own(tmp_path: Path) -> None:
    server = Server(tmp_path, m=REMOTE)
    before = server.target()
    server.go(n=REMOTE)
    assert server.target("n").backend is not before.backend


def test_an_account_that_nobody_uses_changes_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path, m=REMOTE)
    before = server.target()
    server.go(accounts={"eu": {"key": "a"}}, m=REMOTE)
    assert server.target().backend is before.backend


def test_limits_are_taken_over_by_the_queues_that_there_are(tmp_path: Path) -> None:
    server = Server(tmp_path, m={**REMOTE, "max_concurrency": 1, "max_in_flight": 5})
    queue, calls = server.target().admission, server.route().admission
    assert queue is not None and calls is not None
    turns: list[str] = []
    for name in ("a", "b", "c"):
        queue.enter(lambda name=name: turns.append(name))  # type: ignore[misc]
    assert turns == ["a"]
    server.go(m={**REMOTE, "max_concurrency": 2, "max_in_flight": 7})
    assert server.target().admission is queue
    assert server.route().admission is calls
    assert turns == ["a", "b"]
    assert (queue.limit, calls.limit) == (2, 7)
    server.go(m=REMOTE)
    assert (server.target().admission, server.route().admission) == (None, None)


def test_a_spent_quota_stays_spent_for_whoever_draws_on_it(tmp_path: Path) -> None:
    server = Server(tmp_path, m={**REMOTE, "quota": "q"}, n=OTHER)
    quota = server.target().health.quota
    quota.cool(0.0, UpstreamError("no more", status=429, retry_after=60), random.Random(1))
    server.go(m={**OTHER, "quota": "q"}, n={**OTHER, "quota": "q"}, o=OTHER)
    assert server.target("m").health.quota is quota  # another backend, the same quota
    assert server.target("n").health.quota is quota
    assert server.target("o").health.quota is not quota
    server.go(m=OTHER, n=OTHER)
    assert server.target("m").health.quota is not quota


def test_until_it_is_taken_over_nothing_that_serves_has_changed(tmp_path: Path) -> None:
    server = Server(tmp_path, m={**REMOTE, "max_concurrency": 1, "quota": "q"})
    before = server.target()
    quota, admission = before.health.quota, before.admission
    changed = {
        **REMOTE,
        "max_concurrency": 5,
        "quota": "r",
        "breaker": {"failures": 1},
        "retry": {"budget": 1},
    }
    _, built = server.prepare(m=changed, n=OTHER)
    assert admission is not None and admission.limit == 1
    assert before.health.quota is quota
    assert before.health.breaker.failures == 5
    assert server.route().pace.retries.share == 0.2
    assert len(built.fresh) == 1


def test_a_target_that_could_not_start_is_made_anew(tmp_path: Path) -> None:
    server = Server(tmp_path, m={"targets": [REMOTE, OTHER]})
    first, second = server.route().targets
    server.failed = [first]
    built = server.go(m={"targets": [REMOTE, OTHER]})
    assert built.fresh == [server.target().backend]
    assert server.target().backend is not first.backend
    assert server.target(number=1).backend is second.backend


def test_fallbacks_are_those_of_the_new_configuration(tmp_path: Path) -> None:
    server = Server(tmp_path, m={**REMOTE, "fallbacks": ["n"]}, n=OTHER)
    pace = server.route().pace
    server.go(m={**REMOTE, "fallbacks": ["n", "o"]}, n={**OTHER, "weight": 2}, o=REMOTE)
    assert [stage[0].name for stage in server.route().reserves] == ["n", "o"]
    assert server.route().reserves[0][0] is server.target("n")
    assert server.route().pace is pace
    assert server.built is not None
    left = server.built.router.without({"n"})
    assert [stage[0].name for stage in left.routes["m"].reserves] == ["o"]
    assert left.routes["m"].pace is pace
    assert list(left.routes) == ["m", "o"]


def test_what_can_not_be_built_is_told_and_what_was_made_for_it_is_known(tmp_path: Path) -> None:
    server = Server(tmp_path, m=REMOTE)
    bad = {"targets": [OTHER, {"backend": "openai-compatible"}]}
    built = server.go(m=REMOTE, n=bad, o={"backend": "scripted", "probe": {}})
    assert list(built.router.routes) == ["m"]
    assert "base_url" in built.broken["n"]
    assert built.broken["o"] == "models.o: backend 'scripted' can't be probed; remove its setting probe"
    assert len(built.fresh) == 2  # to be closed: their models can't serve
