"""What must be so when the cases of failover were asked: for the caller, for the operator, and afterwards."""

from __future__ import annotations

from headgate.core.call import Outcome
from headgate.observe.metrics import attempt_outcome
from headgate.routing.health import Circuit
from headgate.routing.target import Target
from tests.contract.dialect_faults import told_status
from tests.contract.failover_cases import GOOD_FAULT, FailoverCase, Served
from tests.contract.fault_answers import Case, Told, broken, refused, whole

PROMPT = 2.0
"""Seconds within which a call ends whose caller has left, while dozens of others go on."""


def check(served: Served, some: list[FailoverCase]) -> None:
    answers = served.ask(some)
    wrong: list[str] = []
    for case, told in zip(some, answers, strict=True):
        try:
            if isinstance(told, Exception):
                raise AssertionError(repr(told))
            told_right(case, told)
            counted(served, case)
            for target in served.targets(case):
                at_rest(target)
        except Exception as error:
            wrong.append(f"{case.id}: {error!r}" if isinstance(error, KeyError) else f"{case.id}: {error}")
    wrong += [f"left behind: {what}" for what in served.left()]
    assert not wrong, "\n\n".join([f"{len(wrong)} of {len(some)} cases", *wrong])


def told_right(case: FailoverCase, told: Told) -> None:
    """What the caller got."""
    if case.kind == "left":
        return
    assert told.headers["x-request-id"]
    assert told.headers["x-headgate-attempts"] == ("2" if case.moves else "1")
    if case.moves:
        assert case.second is not None
        assert told.headers["x-headgate-target"] == f"{case.model}#1"
        whole(Case(case.number, case.second, "nothing", GOOD_FAULT), told)
        return
    if case.kind != "refused":
        assert told.headers["x-headgate-target"] == (case.model if case.second is None else f"{case.model}#0")
    {"refused": refused, "broken": broken, "whole": whole}[case.kind](case, told)


def counted(served: Served, case: FailoverCase) -> None:
    """What the operator sees: the call, its attempts, and what became of the first target."""
    call = served.ended.of(case.model)
    good = case.moves or case.kind == "whole"
    assert call.outcome == (Outcome.OK if good else case.fault.outcome)
    assert call.stream == case.pair.form.stream
    first, *rest = call.attempts
    assert len(rest) == case.moves
    if case.kind == "whole" and not case.moves:
        assert attempt_outcome(first) is Outcome.OK
    elif case.kind == "left":
        assert call.ended is not None
        assert call.ended - case.left < PROMPT
        assert attempt_outcome(first) is Outcome.CANCELLED
    else:
        assert first.error is not None
        assert attempt_outcome(first) not in (Outcome.OK, Outcome.CANCELLED)
    for attempt in rest:
        assert attempt_outcome(attempt) is Outcome.OK
    assert all(attempt.ended is not None for attempt in call.attempts)
    health_of(case, served.targets(case)[0])
    for target in served.targets(case)[1:]:
        assert target.health.circuit is Circuit.CLOSED
        assert target.health.reason is None
        assert target.health.quota.until == 0
        assert (target.health.pace(case.pair.form.stream).seconds is None) is not case.moves


def health_of(case: FailoverCase, target: Target) -> None:
    """A quota is spent by a 429 only; a fault of the target's own counts against it, a refusal does not."""
    health = target.health
    status = case.fault.status
    if status is None:
        assert case.pair.spoken is not None
        status = told_status(case.pair.spoken)
    fine = case.kind in ("whole", "left") and not case.moves
    limited = case.kind == "refused" and status == 429
    assert (health.quota.until > 0) is limited
    blamed = not fine and not limited and (status in (200, 401, 408) or status >= 500)
    assert (health.reason is not None) is blamed
    assert health.circuit is Circuit.CLOSED


def at_rest(target: Target) -> None:
    assert target.health.in_flight == 0
    assert target.admission is not None
    assert (target.admission.running, target.admission.waiting) == (0, 0)


def every_place_is_given_back(served: Served) -> None:
    for route in served.server.gateway.router.routes.values():
        assert route.admission is not None
        assert (route.admission.running, route.admission.waiting) == (0, 0)
        assert route.pace.waiting == 0
