"""The first step of a request for a hot route: who asks, for which model, within what limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from headgate.config.quantities import QuantityError, parse_duration
from headgate.core.backend import RawHeaders
from headgate.core.call import Call, Principal
from headgate.core.errors import HeadgateError, InvalidRequest, UnsupportedMediaType
from headgate.dialects.dialect import ChatDialect
from headgate.dialects.envelope import Envelope
from headgate.observe.logs import request_id
from headgate.observe.tracing import passthrough
from headgate.server.client import Client
from headgate.server.endpoints import Match
from headgate.server.gateway import Gateway
from headgate.server.intake import Intake
from headgate.server.relay import Relay
from headgate.server.streams.call import ResumableCall
from headgate.server.streams.resume import Place, Resumption, place_in


@dataclass(frozen=True, slots=True)
class ReadsAlong:
    """Somebody who reads an answer on its way to the caller.

    Args:
        client: what is between the relay and the caller's side.
        name: the answer's stream can be found under it too.
        attended: there is a caller; without one the answer is made to its end anyway.
    """

    client: Callable[[Client], Client]
    name: str
    attended: bool = True


def begin(
    gateway: Gateway,
    match: Match,
    headers: RawHeaders,
    body: bytes,
    client: Client,
    *,
    answers_in: ChatDialect | None = None,
    origin: str | None = None,
    along: ReadsAlong | None = None,
) -> Relay | ResumableCall | Resumption | None:
    """Take a request in and start its relay; None when it was refused, and answered, at once.

    Args:
        along: reads along with the answer.
        origin: name of the one target that can answer, because it keeps what the request refers to.
        answers_in: the caller's dialect with an encoder for just this answer: it is written anew even where
            the upstream speaks the same dialect.
    """
    model = match.model or ""
    try:
        gateway.admit()
        principal = who(gateway, match, headers)
        gateway.admit_key(principal.name)
        envelope = Envelope.read(body, model=match.model, stream=match.endpoint.stream)
        model = envelope.model
        intake = take_in(gateway, match, headers, body, principal, envelope)
        resumable = intake.route.resumable
        place = place_in(headers) if resumable is not None else None
        if place is not None:
            return _go_on(gateway, match, headers, client, principal, place)
    except HeadgateError as error:
        gateway.refuse(match.endpoint, headers, error, client, model)
        return None
    call = intake.call
    call.origin = origin
    gateway.metrics.call_started(call)
    intake.added = [(b"x-request-id", call.id.encode("ascii")), *_trace_fields(gateway, call, headers)]
    if answers_in is not None:
        intake.dialect = answers_in
        intake.rewrites = True
    if resumable is not None and intake.resumes and (along is None or along.attended):
        caller = ResumableCall(gateway.streams, resumable, client, along.name if along is not None else None)
        relay = Relay(gateway, intake, caller if along is None else along.client(caller))
        caller.bind(relay)
        relay.start()
        return caller
    relay = Relay(gateway, intake, client if along is None else along.client(client))
    relay.start()
    return relay


def _go_on(
    gateway: Gateway, match: Match, headers: RawHeaders, client: Client, principal: Principal, place: Place
) -> Resumption:
    """The request was made before, and its stream broke off. Raises Overloaded."""
    gateway.streams.admit()
    endpoint, rid = match.endpoint, request_id(headers)

    def refuse(error: HeadgateError) -> None:
        gateway.refuse(endpoint, headers, error, client)

    def ended(duration: float) -> None:
        gateway.metrics.http_request("POST", endpoint.path, 200, duration)
        if gateway.access_log is not None:
            gateway.access_log.request("POST", endpoint.path, 200, duration, rid, principal.name)

    resumption = Resumption(gateway, client, rid, refuse, ended)
    resumption.start(place, principal)
    return resumption


def who(gateway: Gateway, match: Match, headers: RawHeaders) -> Principal:
    """Who asks, and for something that can be read. Raises Unauthenticated, UnsupportedMediaType."""
    principal = gateway.keys.authenticate(
        headers if match.key is None else [*headers, (b"x-goog-api-key", match.key)]
    )
    check_content_type(headers)
    return principal


def take_in(
    gateway: Gateway, match: Match, headers: RawHeaders, body: bytes, principal: Principal, envelope: Envelope
) -> Intake:
    """The call that a request asks for: which model, until when. Nothing is counted or begun by it.

    Raises ModelNotFound, Unavailable, InvalidRequest.
    """
    endpoint = match.endpoint
    route = gateway.route(envelope.model)
    patience = asked_timeout(headers, route.timeouts.total)
    if endpoint.form is not None:
        form = endpoint.form(envelope.model, envelope.fields, route.operations, envelope.stream)
        endpoint = endpoint.of_form(form)
        match = replace(match, endpoint=endpoint)
    now = monotonic()
    call = Call(
        request_id(headers),
        route.model,
        endpoint.operation,
        endpoint.speaks,
        now,
        principal,
        envelope.stream,
        now + patience,
    )
    return Intake(gateway, call, match, route, envelope, body, headers)


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


def asked_timeout(headers: RawHeaders, longest: float) -> float:
    """Seconds that the caller gives its call (`x-headgate-timeout: 30`, `1500ms`), `longest` at most.

    Raises InvalidRequest.
    """
    for name, value in headers:
        if name == b"x-headgate-timeout":
            text = value.decode("latin-1").strip()
            try:
                return min(parse_duration(text), longest)
            except QuantityError as error:
                raise InvalidRequest(f"x-headgate-timeout {error}", param="x-headgate-timeout") from None
    return longest


def _trace_fields(gateway: Gateway, call: Call, headers: RawHeaders) -> Sequence[tuple[bytes, bytes]]:
    if gateway.tracing is None:
        return passthrough(headers)
    gateway.tracing.start(call, headers)
    return gateway.tracing.inject(call)
