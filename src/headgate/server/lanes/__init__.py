"""How a target's answer becomes bytes in the caller's dialect: one lane for each kind of target."""

from __future__ import annotations

from headgate.core.backend import ChatBackend, EmbedBackend, Receiver, RerankBackend
from headgate.core.errors import InvalidRequest
from headgate.dialects.dialect import ChatDialect, CountDialect, EmbedDialect, RerankDialect
from headgate.dialects.registry import dialect as find_dialect
from headgate.routing.target import Target
from headgate.server.intake import Intake
from headgate.server.lanes.in_process import ESTIMATED, ChatLane, ResultLane, embedding, estimate, ranking
from headgate.server.lanes.lane import Lane
from headgate.server.lanes.passthrough import PassThrough
from headgate.server.lanes.translated import TranslatedChat, TranslatedResult

__all__ = ["Lane", "decodes", "open_lane"]


def decodes(target: Target, intake: Intake) -> bool:
    """The whole request has to be decoded for `target`: it speaks another dialect, or takes neutral parts."""
    wire = target.wire(intake.call.operation, intake.speaks)
    return wire is None or wire.dialect != intake.speaks or intake.rewrites


def open_lane(target: Target, intake: Intake, receiver: Receiver) -> Lane:
    """Begin an attempt at `target`. Raises InvalidRequest for a request that the target can't take."""
    caller, backend = intake.dialect, target.backend
    wire = target.wire(intake.call.operation, intake.speaks)
    if wire is not None:
        if wire.dialect == intake.speaks and not intake.rewrites:
            return PassThrough(wire, intake, receiver)
        upstream = find_dialect(wire.dialect)
        if isinstance(caller, ChatDialect) and isinstance(upstream, ChatDialect):
            return TranslatedChat(wire, upstream, caller, intake, receiver)
        if type(caller) is type(upstream):
            return TranslatedResult(wire, upstream, caller, intake, receiver)
    elif isinstance(caller, ChatDialect) and isinstance(backend, ChatBackend):
        return ChatLane(backend, intake, caller, receiver, target.timeouts)
    elif isinstance(caller, EmbedDialect) and isinstance(backend, EmbedBackend):
        return ResultLane(embedding(backend, caller, intake), intake, receiver, target.timeouts)
    elif isinstance(caller, CountDialect):
        return ResultLane(estimate(caller, intake), intake, receiver, target.timeouts, [ESTIMATED])
    elif isinstance(caller, RerankDialect) and isinstance(backend, RerankBackend):
        return ResultLane(ranking(backend, caller, intake), intake, receiver, target.timeouts)
    raise InvalidRequest(
        f"The model {intake.route.model!r} can't be reached in the dialect {intake.speaks}", param="model"
    )
