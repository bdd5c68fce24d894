"""The hot routes behind any ASGI server: the same relay as the fast lane, fed by ASGI messages.

They also stand here for the API page: `headgate.server.openapi` describes what they take and give.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import override

from headgate.core.errors import Cancelled, HeadgateError, PayloadTooLarge
from headgate.server.bodies import drain, read_body
from headgate.server.calls import begin
from headgate.server.client import AsgiClient, Ongoing
from headgate.server.endpoints import Endpoint, Match
from headgate.server.gateway import Gateway
from headgate.server.openapi import describe_endpoint
from headgate.server.responses.create import Request, create


async def attend(client: AsgiClient, relay: Ongoing, receive: Receive) -> None:
    """Send what `relay` writes to `client` until the answer ends or the caller leaves."""
    watch = asyncio.create_task(_watch(receive, client))
    try:
        await client.run()
    finally:
        watch.cancel()
        relay.cancel()


async def _watch(receive: Receive, client: AsgiClient) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    client.leave()


class RelayResponse(Response):
    """Answers by relaying: reads the body, starts a relay, sends what it gives."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["headgate.call"] = True
        match: Match = scope["headgate.match"]
        try:
            body = await read_body(scope, receive, self._gateway)
        except Cancelled:
            return
        except PayloadTooLarge as error:
            await self._refuse(match, scope, receive, send, error)
            return
        client = AsgiClient(send)
        await self._begin(scope, match, body, client)
        relay = client.relay
        if relay is None:
            await client.run()
            return
        await attend(client, relay, receive)

    async def _begin(self, scope: Scope, match: Match, body: bytes, client: AsgiClient) -> None:
        """Start a relay for `client`, or answer it."""
        client.relay = begin(self._gateway, match, scope["headers"], body, client)

    async def _refuse(
        self, match: Match, scope: Scope, receive: Receive, send: Send, error: HeadgateError
    ) -> None:
        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
                await send(message)
            else:
                await send({**message, "more_body": True})
                await drain(receive)
                await send({"type": "http.response.body", "body": b""})

        client = AsgiClient(tell)
        self._gateway.refuse(match.endpoint, scope["headers"], error, client)
        await client.run()


class KeptResponse(RelayResponse):
    """Answers of the Responses API: kept, continued, and made in the background."""

    @override
    async def _begin(self, scope: Scope, match: Match, body: bytes, client: AsgiClient) -> None:
        await create(self._gateway, Request(match, scope["headers"], body, client))


def hot_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter()
    for endpoint in gateway.endpoints.all:
        _add(router, gateway, endpoint)
    return router


def _add(router: APIRouter, gateway: Gateway, endpoint: Endpoint) -> None:
    async def relay() -> Response:
        return KeptResponse(gateway) if endpoint.stateful else RelayResponse(gateway)

    description = describe_endpoint(endpoint)
    router.add_api_route(
        endpoint.path.replace("{model}", "{model:path}"),
        relay,
        methods=["POST"],
        summary=description.summary,
        description=description.text,
        tags=[description.tag],
        openapi_extra={"requestBody": description.request_body},
        responses=description.responses,
        operation_id=description.operation_id,
    )
