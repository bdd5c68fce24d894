"""The first step of a request for a hot route: who asks, for which model, within what limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic

from headgate.core.backend import RawHeaders
from headgate.core.call import Call, Operation
from headgate.core.errors import HeadgateError, InvalidRequest, UnsupportedMediaType
from headgate.dialects.dialect import ChatDialect
from headgate.dialects.envelope import Envelope
from headgate.observe.logs import request_id
from headgate.observe.tracing import passthrough
from headgate.routing.plan import Route, Target
from headgate.server.client import Client
from headgate.server.endpoints import Match
from headgate.server.gateway import Gateway
from headgate.server.intake import Intake
from headgate.server.relay import Relay


def begin(
    gateway: Gateway,
    match: Match,
    headers: RawHeaders,
    body: bytes,
    client: Client,
    *,
    answers_in: ChatDialect | None = None,
    origin: str | None = None,
) -> Relay | None:
    """Take a request in and start its relay; None when it was refused, and answered, at once.

    Args:
        origin: name of the one target that can answer, because it keeps what the request refers to.
        answers_in: the caller's dialect with an encoder for just this answer: it is written anew even where
            the upstream speaks the same dialect.
    """
    endpoint = match.endpoint
    model = match.model or ""
    try:
        gateway.admit()
        principal = gateway.keys.authenticate(
            headers if match.key is None else [*headers, (b"x-goog-api-key", match.key)]
        )
        check_content_type(headers)
        envelope = Envelope.read(body, model=match.model, stream=endpoint.stream)
        model = envelope.model
        route = gateway.route(model)
        if endpoint.form is not None:
            endpoint = endpoint.of_form(
                endpoint.form(model, envelope.fields, route.operations, envelope.stream)
            )
            match = replace(match, endpoint=endpoint)
        plan = _plan(gateway, route, endpoint.operation, origin)
    except HeadgateError as error:
        gateway.refuse(endpoint, headers, error, client, model)
        return None
    now = monotonic()
    call = Call(
        request_id(headers),
        route.model,
        endpoint.operation,
        endpoint.speaks,
        now,
        principal,
        envelope.stream,
    )
    call.deadline = now + route.timeouts.total
    gateway.metrics.call_started(call)
    fields = [(b"x-request-id", call.id.encode("ascii")), *_trace_fields(gateway, call, headers)]
    intake = Intake(gateway, call, match, route, plan, envelope, body, headers, fields)
    if answers_in is not None:
        intake.dialect = answers_in
        intake.rewrites = True
    relay = Relay(gateway, intake, client)
    relay.start()
    return relay


def check_content_type(headers: RawHeaders) -> None:
    """JSON, or nothing said (some clients send no type). Raises UnsupportedMediaType."""
    for name, value in headers:
        if name == b"content-type":
            kind = value.split(b";", 1)[0].strip().lower()
            if kind not in (b"application/json", b"") and not kind.endswith(b"+json"):
                shown = kind.decode("latin-1")[:80]
                raise UnsupportedMediaType(
                    f"Content-Type {shown!r} is not supported here; send application/json"
                )
        elif name == b"content-encoding" and value.lower() not in (b"identity", b""):
            raise UnsupportedMediaType("Compressed request bodies are not supported; send the body as it is")


def _plan(gateway: Gateway, route: Route, operation: Operation, origin: str | None) -> Sequence[Target]:
    """The targets that may answer, best first. Raises InvalidRequest: there are none."""
    plan = route.plan(operation, gateway.rng)
    if origin is not None:
        plan = [target for target in plan if target.name == origin]
    if not plan:
        raise _cannot(route, operation)
    return plan


def _cannot(route: Route, operation: Operation) -> InvalidRequest:
    able = ", ".join(sorted(route.operations)) or "nothing"
    return InvalidRequest(
        f"The model {route.model!r} does not do {operation.value}; it does: {able}",
        param="model",
        code="unsupported_operation",
    )


def _trace_fields(gateway: Gateway, call: Call, headers: RawHeaders) -> Sequence[tuple[bytes, bytes]]:
    if gateway.tracing is None:
        return passthrough(headers)
    gateway.tracing.start(call, headers)
    return gateway.tracing.inject(call)
