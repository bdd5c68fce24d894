"""What would be tried for a request, in which order and why, and what stands against the others.

Nothing is sent, and nothing is learnt from it. Where targets are drawn by weight, this is one draw.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from headgate.core.backend import RawHeaders
from headgate.core.call import Operation
from headgate.core.errors import HeadgateError, NotFound
from headgate.core.loss import Loss
from headgate.dialects.envelope import Envelope
from headgate.dialects.terms import in_callers_terms
from headgate.routing.plan import Considered, explain, nobody
from headgate.routing.target import Target
from headgate.server.calls import take_in, who
from headgate.server.gateway import Gateway
from headgate.server.intake import Intake

USUAL_PATHS = {
    Operation.CHAT: "/v1/chat/completions",
    Operation.EMBED: "/v1/embeddings",
    Operation.RERANK: "/v1/rerank",
}
"""Where a request for an operation goes, unless it is said."""


def explain_request(gateway: Gateway, path: str | None, headers: RawHeaders, body: bytes) -> dict[str, Any]:
    """The explanation, as JSON values, of what `body` would meet at the hot route `path`.

    Args:
        path: as a client would write it; None: the usual one for what the model does.

    Raises HeadgateError where the request itself would be refused: no key, no such model, …
    """
    if path is None:
        named = Envelope.read(body, stream=False)
        does = gateway.route(named.model).operations
        path = next((usual for able, usual in USUAL_PATHS.items() if able in does), "/v1/chat/completions")
    match = gateway.endpoints.match(path.encode("latin-1", "replace"), headers)
    if match is None:
        known = ", ".join(endpoint.path for endpoint in gateway.endpoints.all)
        raise NotFound(f"There is no model call at {path!r}; there is: {known}", param="path")
    principal = who(gateway, match, headers)
    envelope = Envelope.read(body, model=match.model, stream=match.endpoint.stream)
    return _explained(gateway, take_in(gateway, match, headers, body, principal, envelope))


def _explained(gateway: Gateway, intake: Intake) -> dict[str, Any]:
    intake.examine()
    route, call, now = intake.route, intake.call, monotonic()
    considered = explain(route, call, now, gateway.rng)
    refused = None if any(each.place for each in considered) else nobody(route, call, now)
    hedge = route.hedge and (route.hedge.after or route.pace.tail(call.stream).p95)
    return {
        "model": route.model,
        "operation": call.operation.value,
        "dialect": call.dialect,
        "stream": call.stream,
        "needs": sorted(call.needs) if route.examines else None,
        "tokens": call.size,
        "balance": route.balance.value,
        "affinity": route.affinity.by if route.affinity is not None and call.affinity is not None else None,
        "attempts": route.retry.limit(sum(each.place is not None for each in considered)),
        "hedge_after": hedge,
        "deadline": round((call.deadline or now) - call.started, 3),
        "targets": [_described(each, intake) for each in considered],
        "refusal": None if refused is None else {"status": refused.status, "message": refused.message},
    }


def _described(considered: Considered, intake: Intake) -> dict[str, Any]:
    target = considered.target
    wire = target.wire(intake.call.operation, intake.speaks) if _performs(target, intake) else None
    lane = "in process" if wire is None else "translated"
    if wire is not None and wire.dialect == intake.speaks:
        lane = "passed through"
    losses, refusal = _translated(target, intake) if lane == "translated" else ([], None)
    return {
        "target": target.name,
        "provider": target.provider,
        "upstream_model": None if wire is None else wire.model,
        "dialect": None if wire is None else wire.dialect,
        "lane": lane,
        "place": considered.place,
        "reason": considered.reason,
        "losses": [{"path": loss.path, "reason": loss.reason} for loss in losses],
        "refusal": refusal,
    }


def _performs(target: Target, intake: Intake) -> bool:
    return target.performs(intake.call.operation)


def _translated(target: Target, intake: Intake) -> tuple[list[Loss], str | None]:
    """What would get lost on the way into the target's dialect, or why it can't be written in it."""
    wire = target.wire(intake.call.operation, intake.speaks)
    about_the_model = not intake.envelope.fields.keys() - {"model", "stream"}
    if wire is None or about_the_model or intake.call.operation is Operation.COUNT_TOKENS:
        return [], None
    try:
        _, losses = wire.encode(intake.request)
    except HeadgateError as error:
        return [], error.message
    losses = in_callers_terms(losses, intake.dialect.name)
    refused = "strict: something would get lost" if losses and intake.strict else None
    return losses, refused
