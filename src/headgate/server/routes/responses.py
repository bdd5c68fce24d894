"""The Responses API beyond creating: fetch, replay, delete, cancel, input items; for the owner only.

What an upstream keeps is asked of that upstream; the rest is kept here.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from headgate.core.call import ANONYMOUS, Principal
from headgate.core.errors import InvalidRequest, NotFound
from headgate.dialects import sse
from headgate.observe.tracing import passthrough
from headgate.server.bodies import unless_gone
from headgate.server.gateway import Gateway
from headgate.server.responses.fetch import ask
from headgate.server.responses.origins import home_of
from headgate.server.routes.streams import StreamResponse
from headgate.server.streams.kept import KeptStream

RESPONSE_EXAMPLE = {
    "id": "resp_0123",
    "object": "response",
    "created_at": 1763600000,
    "status": "completed",
    "model": "smollm2",
    "output": [
        {
            "id": "msg_0123",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello!", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 4, "output_tokens": 2, "total_tokens": 6},
}


def _example(content: object) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "OK", "content": {"application/json": {"example": content}}}}


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _principal(request: Request) -> Principal:
    found: Principal = request.scope.get("headgate.principal", ANONYMOUS)
    return found


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise InvalidRequest(f"{name} must be a number", param=name)
    return int(text)


async def _at_upstream(
    gateway: Gateway, request: Request, identity: str, action: str = ""
) -> Response | None:
    """The answer of the upstream that keeps the response; None for what is kept here, or unknown."""
    origins, principal = gateway.book.origins, _principal(request)
    origin = await origins.find("native", identity, principal)
    if origin is None:
        return None
    target, archive = home_of(origin, identity, gateway.router)
    rid: str = request.scope["headgate.request_id"]
    answer = await unless_gone(
        request.receive,
        ask(
            archive,
            request.method,
            f"/{quote(identity, safe='')}{action}",
            urlencode(parse_qsl(request.url.query, keep_blank_values=True)),
            [(b"x-request-id", rid.encode("ascii")), *passthrough(request.scope["headers"])],
            total=target.timeouts.total,
        ),
    )
    if request.method == "DELETE":
        await origins.forget("native", identity)
    return answer


async def _resumed(gateway: Gateway, request: Request, identity: str) -> Response | None:
    """The events of a response whose model's streams can be resumed, as long as they are all there."""
    if request.query_params.get("stream") != "true":
        return None
    found = await gateway.streams.find_named(identity, _principal(request))
    after = _number(request, "starting_after", -1) + 1  # they are numbered from 0 there, from 1 here
    if found is None or (isinstance(found, KeptStream) and after + 1 < found.first):
        return None
    return StreamResponse(gateway, found, after)


async def _kept_here(gateway: Gateway, request: Request, identity: str) -> Response:
    """A response, or its events."""
    book = gateway.book
    if request.query_params.get("stream") != "true":
        return _json(await book.retrieve(identity, _principal(request)))
    after = _number(request, "starting_after", -1)
    events = await book.replay(identity, _principal(request), after)
    return StreamingResponse(events, media_type=sse.CONTENT_TYPE)


async def _deleted(gateway: Gateway, request: Request, identity: str) -> Response:
    """Forgotten, and its stream with it."""
    principal = _principal(request)
    told = await _at_upstream(gateway, request, identity) or _json(
        await gateway.book.delete(identity, principal)
    )
    await gateway.streams.stop_named(identity, principal)
    return told


def responses_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1/responses", tags=["Responses"])
    book = gateway.book

    @router.get("/{response_id}", responses=_example(RESPONSE_EXAMPLE))
    async def retrieve_response(request: Request, response_id: str) -> Response:
        """A kept response. With `stream=true` its events after `starting_after`, live while it runs.

        Where an upstream keeps it, that is asked, with the whole query.
        """
        return (
            await _resumed(gateway, request, response_id)
            or await _at_upstream(gateway, request, response_id)
            or await _kept_here(gateway, request, response_id)
        )

    @router.delete(
        "/{response_id}", responses=_example({"id": "resp_0123", "object": "response", "deleted": True})
    )
    async def delete_response(request: Request, response_id: str) -> Response:
        """Forget a response; one in the background is stopped."""
        return await _deleted(gateway, request, response_id)

    @router.post(
        "/{response_id}/cancel",
        responses=_example({**RESPONSE_EXAMPLE, "status": "cancelled"}),
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}},
    )
    async def cancel_response(request: Request, response_id: str) -> Response:
        """Stop a response in the background."""
        return await _at_upstream(gateway, request, response_id, "/cancel") or _json(
            await book.cancel(response_id, _principal(request))
        )

    @router.get(
        "/{response_id}/input_items",
        responses=_example({"object": "list", "data": [], "has_more": False}),
    )
    async def list_input_items(request: Request, response_id: str) -> Response:
        """What the response was asked, history included; paged by `after`, `limit` and `order`."""
        kept = await _at_upstream(gateway, request, response_id, "/input_items")
        if kept is not None:
            return kept
        return _json(
            await book.input_items(
                response_id,
                _principal(request),
                after=request.query_params.get("after"),
                limit=_number(request, "limit", 20),
                order=request.query_params.get("order", "desc"),
            )
        )

    @router.post("/compact", include_in_schema=False)
    async def compact() -> Response:
        raise NotFound("Headgate does not compact conversations; send the input as it is")

    return router
