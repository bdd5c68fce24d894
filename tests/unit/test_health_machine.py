"""A target's health under calls, failures and operators in any order."""

from __future__ import annotations

import random

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)
from typing_extensions import override

from headgate.core.errors import HeadgateError, InvalidRequest, UpstreamError
from headgate.routing.health import Breaker, Circuit, Health
from headgate.routing.quota import Quota
from tests.unit.targets import BROKEN, limited

ERRORS: list[HeadgateError] = [
    BROKEN,
    BROKEN,
    UpstreamError("overloaded", status=503, retry_after=3),
    UpstreamError("bad request", status=400),
    InvalidRequest("ours"),
    limited(),
    limited(2.0),
]


class HealthMachine(RuleBasedStateMachine):
    """Calls are sent where planning would send them, and now and then where it would not."""

    under_way: Bundle[float] = Bundle("under_way")

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.rng = random.Random(1)
        self.health = Health(Breaker(failures=3, cooldown=2, longest=8, slow_start=4), Quota("q"))
        self.running: set[float] = set()
        self.probe: float | None = None
        """The call that was let through to a target that was not well."""
        self.latest = self.opened = -1.0
        """When the latest call was sent, and the latest one before the circuit opened or was reset."""

    def _watch(self, until: float) -> None:
        """Note what has changed since the circuit was open until `until`."""
        if self.health.circuit is Circuit.OPEN and self.health.opened_until > until:
            self.opened = self.latest
        if self.health.circuit is not Circuit.HALF_OPEN:
            self.probe = None

    @rule(target=under_way)
    def send(self) -> MultipleResults[float] | float:
        if not self.health.available(self.now):
            return multiple()
        return self._send()

    @rule(target=under_way)
    def send_all_the_same(self) -> float:
        return self._send()

    def _send(self) -> float:
        finds_out = (
            self.health.circuit is not Circuit.CLOSED
            and self.now >= self.health.opened_until
            and self.probe is None
        )
        sent = self.health.begun(self.now)
        assert sent > self.latest
        self.running.add(sent)
        self.latest = sent
        if finds_out:
            assert self.health.circuit is Circuit.HALF_OPEN
            self.probe = sent
        return sent

    @rule(sent=under_way)
    def answer(self, sent: float) -> None:
        if sent in self.running:
            before = self.health.circuit
            self.health.answered(sent, self.now, stream=True)
            self._is_proof(sent, before)

    @rule(sent=consumes(under_way))
    def succeed(self, sent: float) -> None:
        before = self.health.circuit
        self.running.remove(sent)
        self.health.succeeded(sent, self.now)
        self._is_proof(sent, before)

    def _is_proof(self, sent: float, before: Circuit) -> None:
        if sent > self.opened:
            assert self.health.circuit is Circuit.CLOSED
        else:
            assert self.health.circuit is before, "an old call changes nothing"
        if self.health.circuit is Circuit.CLOSED:
            self.probe = None

    @rule(sent=consumes(under_way), error=st.sampled_from(ERRORS))
    def fail(self, sent: float, error: HeadgateError) -> None:
        before, until = self.health.circuit, self.health.opened_until
        self.running.remove(sent)
        probing = sent == self.probe
        self.health.failed(sent, self.now, error, self.rng)
        if probing:
            self.probe = None
            if error is BROKEN:
                assert self.health.circuit is Circuit.OPEN
        elif before is not Circuit.CLOSED:
            assert (self.health.circuit, self.health.opened_until) == (before, until)
        self._watch(until)

    @rule(sent=consumes(under_way))
    def drop(self, sent: float) -> None:
        before = self.health.circuit
        self.running.remove(sent)
        self.health.dropped(sent)
        assert self.health.circuit is before
        if sent == self.probe:
            self.probe = None

    @rule(seconds=st.sampled_from([0.001, 0.5, 2.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(works=st.booleans())
    def own_probe(self, works: bool) -> None:
        before, until = self.health.circuit, self.health.opened_until
        if works:
            self.health.revive(self.now)
            assert self.health.circuit is before
        else:
            self.health.trip(self.now, "no connection")
            self._watch(until)

    @rule(drained=st.booleans())
    def say(self, drained: bool) -> None:
        (self.health.drain if drained else self.health.enable)()

    @rule()
    def reset(self) -> None:
        self.health.reset()
        self.health.enable()
        self.opened, self.probe = self.latest, None
        assert self.health.available(self.now)

    @invariant()
    def counts_what_is_under_way(self) -> None:
        assert self.health.in_flight == len(self.running) >= 0

    @invariant()
    def one_call_at_most_finds_out(self) -> None:
        health = self.health
        free = not health.drained and self.now >= health.quota.until
        if self.probe is not None:
            assert health.circuit is Circuit.HALF_OPEN
            assert not health.available(self.now)
        elif health.circuit is Circuit.HALF_OPEN:
            assert health.available(self.now) == free
        elif health.circuit is Circuit.OPEN:
            assert health.available(self.now) == (free and self.now >= health.opened_until)
        else:
            assert health.available(self.now) == free

    @invariant()
    def what_keeps_it_back_has_a_name(self) -> None:
        assert (self.health.obstacle(self.now) is None) == self.health.available(self.now)

    @invariant()
    def its_share_is_a_share(self) -> None:
        assert 0.1 <= self.health.share(self.now) <= 1.0

    @invariant()
    def nothing_is_for_ever(self) -> None:
        assert self.health.back_at() <= self.now + 60

    @override
    def teardown(self) -> None:
        """Whatever happened, it comes back by itself."""
        for sent in self.running:
            self.health.dropped(sent)
        self.health.enable()
        self.now = max(self.now, self.health.back_at()) + 0.001
        assert self.health.available(self.now)
        self.health.succeeded(self.health.begun(self.now), self.now)
        assert self.health.circuit is Circuit.CLOSED
        assert self.health.in_flight == 0
        assert self.health.share(self.now + 4) == 1.0


TestHealth = HealthMachine.TestCase
TestHealth.settings = settings(max_examples=60, stateful_step_count=40)
