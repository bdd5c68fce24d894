"""Creating a response: by an upstream that keeps it, by one that keeps nothing, or kept here.

Who keeps what a model answers does not depend on the moment. All of its targets keep it, each what it made
itself; or none does, and Headgate keeps it, so that any target can go on with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from headgate.core.backend import RawHeaders
from headgate.core.call import Call, Operation, Principal
from headgate.core.errors import HeadgateError, NotFound
from headgate.dialects import sse
from headgate.routing.route import Router
from headgate.routing.target import Target
from headgate.server.calls import ReadsAlong, begin, check_content_type
from headgate.server.client import AsgiClient
from headgate.server.endpoints import Match
from headgate.server.gateway import Gateway
from headgate.server.lanes.lane import JSON_HEAD
from headgate.server.relay import Relay
from headgate.server.responses.clients import (
    DetachedClient,
    Follower,
    InBackground,
    NamedClient,
    RecordedCall,
    RecordingClient,
)
from headgate.server.responses.draft import Asked, Draft, refuse_previous
from headgate.server.responses.origins import Origin, archive_of, target_in
from headgate.server.responses.run import Run
from headgate.server.streams.call import STREAM_HEADER, ResumableCall
from headgate.server.streams.kept import KeptStream, StreamHead
from headgate.server.streams.resume import place_in


@dataclass(frozen=True, slots=True)
class Request:
    """A request to create a response, as it came in."""

    match: Match
    headers: RawHeaders
    body: bytes
    client: AsgiClient


@dataclass(frozen=True, slots=True)
class Native:
    """Upstreams that keep their answers may have the request as it is.

    Args:
        only: name of the one target that has what is to be continued.
    """

    only: str | None = None


async def create(gateway: Gateway, request: Request) -> None:
    """Answer `request`, or start what answers it."""
    headers = request.headers
    draft: Draft | None = None
    try:
        gateway.admit()
        principal = gateway.keys.authenticate(headers)
        check_content_type(headers)
        asked = Asked(request.body)
        if gateway.route(asked.model).resumable is not None and place_in(headers) is not None:
            request.client.relay = begin(gateway, request.match, headers, request.body, request.client)
            return
        native = Native() if asked.stateless else await _native(gateway, asked, principal)
        if native is None:
            draft = await gateway.book.open(asked, principal)
    except HeadgateError as error:
        gateway.refuse(request.match.endpoint, headers, error, request.client)
        return
    if draft is not None:
        await _emulate(gateway, request, draft)
    elif native is not None:
        _pass(gateway, request, asked, native, principal)


async def _native(gateway: Gateway, asked: Asked, principal: Principal) -> Native | None:
    """None where the state is emulated.

    Raises:
        InvalidRequest: what it continues is another's, or kept where this model can't read it.
        NotFound: the upstream that keeps it is not configured any more.
    """
    route = gateway.route(asked.model)
    origins = gateway.book.origins
    if asked.previous is not None:
        try:
            origin = await origins.find("native", asked.previous, principal)
        except NotFound:
            raise refuse_previous(asked.previous) from None
        if origin is None:
            return None
        param = "previous_response_id"
        return Native(target_in(route, origin, asked.previous, gateway.router, param).name)
    able = [target for target in route.every_target if target.performs(Operation.CHAT)]
    keeping = [target for target in able if _keeps(target, asked)]
    if asked.conversation is not None and keeping:
        origin = await origins.find("conversation", asked.conversation, principal)
        if origin is None:
            return Native(min(keeping, key=lambda target: target.priority).name)
        return Native(target_in(route, origin, asked.conversation, gateway.router, "conversation").name)
    return Native() if able and len(keeping) == len(able) and not asked.refers_here() else None


def _keeps(target: Target, asked: Asked) -> bool:
    archive = archive_of(target)
    return archive is not None and asked.needs <= archive.keeps


def _pass(gateway: Gateway, request: Request, asked: Asked, native: Native, principal: Principal) -> None:
    """Have the request answered as it came."""
    client, match, headers, body = request.client, request.match, request.headers, request.body
    if not asked.store and asked.conversation is None:
        client.relay = begin(gateway, match, headers, body, client, origin=native.only)
        return
    call: Call | None = None
    router = gateway.router  # the one that the call goes by, whatever is loaded meanwhile

    def found(identity: str) -> None:
        """Only an answer has an id, and none comes before `begin` has returned."""
        assert call is not None
        target = _answering(router, call)
        archive = archive_of(target) if target is not None else None
        if target is None or archive is None:
            return
        origin = Origin(principal.name, call.model, target.name, archive.address)
        if asked.store:
            gateway.book.origins.remember("native", identity, origin)
        if asked.conversation is not None:
            gateway.book.origins.remember("conversation", asked.conversation, origin)

    relay = begin(gateway, match, headers, body, NamedClient(client, found), origin=native.only)
    if isinstance(relay, Relay | ResumableCall):
        client.relay, call = relay, relay.call


def _answering(router: Router, call: Call) -> Target | None:
    """The target whose answer has begun."""
    begun = [each.target for each in call.attempts if each.first_event is not None and each.error is None]
    return next((target for target in router.targets if target.name in begun[-1:]), None)


async def _emulate(gateway: Gateway, request: Request, draft: Draft) -> None:
    """Have the request answered by whatever upstream, and the answer kept here."""
    match, headers, client = request.match, request.headers, request.client
    try:
        gateway.route(draft.model)
        run = await gateway.book.begin(draft) if draft.store else None
    except HeadgateError as error:
        gateway.refuse(match.endpoint, headers, error, client)
        return
    if run is None:
        client.relay = begin(gateway, match, headers, draft.body, client, answers_in=draft.dialect)
        return
    if not draft.background:
        along = ReadsAlong(lambda caller: RecordingClient(caller, run), draft.id)
        relay = begin(gateway, match, headers, draft.body, client, answers_in=draft.dialect, along=along)
        if isinstance(relay, Relay | ResumableCall):
            client.relay = RecordedCall(relay, run)
        if isinstance(relay, ResumableCall):
            run.on_cancel = relay.stop
        return
    along = ReadsAlong(lambda _: DetachedClient(run), draft.id, attended=False)
    relay = begin(gateway, match, headers, draft.body, client, answers_in=draft.dialect, along=along)
    run.on_cancel = relay.cancel if relay is not None else None
    stream = _copy(gateway, draft, run)
    # At once: the response as it stands, or its events as they come. The caller may leave.
    if not draft.stream:
        client.respond(200, JSON_HEAD, run.response)
    elif stream is not None:
        client.relay = stream.attach(client, 0, stream.head.headers)
    else:
        client.relay = Follower(client, run)


def _copy(gateway: Gateway, draft: Draft, run: Run) -> KeptStream | None:
    """A response in the background as a stream that can be resumed, where its model's can."""
    route = gateway.route(draft.model)
    if route.resumable is None:
        return None
    identity = gateway.streams.mint()
    headers = [
        (b"content-type", sse.CONTENT_TYPE.encode("ascii")),
        (STREAM_HEADER, identity.encode("ascii")),
    ]
    head = StreamHead(
        *(identity, draft.owner, route.model, "openai_responses", True, headers),
        *(route.resumable, route.timeouts.total),
        unattended=True,
    )
    stream = gateway.streams.open(head, InBackground(run))
    if stream is not None:
        gateway.streams.name(stream, draft.id)
        run.copy_to(stream)
    return stream
