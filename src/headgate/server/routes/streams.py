"""Streams that can be resumed: read on from a given event, or stop; for the owner only."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from headgate.core.call import ANONYMOUS, Principal
from headgate.core.errors import HeadgateError, InvalidRequest
from headgate.dialects import sse
from headgate.server.client import AsgiClient
from headgate.server.failures import answer
from headgate.server.gateway import Gateway
from headgate.server.routes.hot import attend
from headgate.server.streams.archive import StreamRecord
from headgate.server.streams.kept import KeptStream
from headgate.server.streams.resume import Resumption, place_in

EXAMPLE = 'data: {"choices":[{"index":0,"delta":{"content":"lo!"}}]}\nid: str-0123:4\n\n'


class StreamResponse(Response):
    """Answers with a stream's events behind number `after`, those to come included."""

    def __init__(self, gateway: Gateway, found: KeptStream | StreamRecord, after: int) -> None:
        super().__init__()
        self._gateway = gateway
        self._found = found
        self._after = after

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = AsgiClient(send)

        def refuse(error: HeadgateError) -> None:
            wire = answer(scope["path"], error)
            client.respond(wire.status, wire.headers, wire.body)

        rid: str = scope["headgate.request_id"]
        resumption = Resumption(self._gateway, client, rid, refuse, lambda _: None)
        client.relay = resumption
        resumption.start_with(self._found, self._after)
        await attend(client, resumption, receive)


def _principal(request: Request) -> Principal:
    found: Principal = request.scope.get("headgate.principal", ANONYMOUS)
    return found


def _after(request: Request, stream: str) -> int:
    """The number of the last event that the caller has. Raises InvalidRequest."""
    place = place_in(request.scope["headers"])
    if place is not None:
        if place.stream != stream:
            raise InvalidRequest("Last-Event-ID is of another stream than the path", param="Last-Event-ID")
        return place.after
    text = request.query_params.get("starting_after", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise InvalidRequest("starting_after must be the number of an event", param="starting_after")
    return int(text)


def streams_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1/streams", tags=["Streams"])

    @router.get(
        "/{stream_id}",
        response_class=Response,
        responses=_content(sse.CONTENT_TYPE, EXAMPLE),
        openapi_extra={
            "parameters": [
                _parameter("starting_after", "query", {"type": "integer", "minimum": 0, "default": 0}),
                _parameter("Last-Event-ID", "header", {"type": "string"}),
            ]
        },
    )
    async def resume_stream(request: Request, stream_id: str) -> Response:
        """Go on with a stream of a model that is `resumable`: its events behind the one that
        `Last-Event-ID` names, or behind number `starting_after`, and those to come."""
        after = _after(request, stream_id)
        gateway.streams.admit()
        return StreamResponse(gateway, await gateway.streams.find(stream_id, _principal(request)), after)

    @router.delete(
        "/{stream_id}",
        responses=_content("application/json", {"id": "str-0123", "object": "stream", "deleted": True}),
    )
    async def stop_stream(request: Request, stream_id: str) -> Response:
        """Stop a stream, and forget what there is of it."""
        await gateway.streams.stop(stream_id, _principal(request))
        return JSONResponse({"id": stream_id, "object": "stream", "deleted": True})

    return router


def _content(kind: str, example: object) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "OK", "content": {kind: {"example": example}}}}


def _parameter(name: str, place: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": False, "schema": schema}
