"""Around every route that is not hot: request id, keys, counting, and a last net for our own defects."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headgate.core.errors import HeadgateError, Unavailable
from headgate.observe.logs import request_id
from headgate.server.client import BrokenAnswer
from headgate.server.endpoints import query_key
from headgate.server.failures import internal
from headgate.server.gateway import Gateway
from headgate.server.handlers import response_for

log = logging.getLogger("headgate.server")

OPEN_PATHS = frozenset(
    {"/livez", "/readyz", "/startupz", "/health", "/ping", "/docs", "/docs/oauth2-redirect", "/openapi.json"}
)
"""Routes that need no key: probes can't carry one, and the API page is where a caller learns how to."""


class Front:
    """Pure ASGI middleware: nothing is buffered, no task is added."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway
        self._endpoints = gateway.endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = monotonic()
        path: str = scope["path"]
        rid = request_id(scope["headers"])
        scope["headgate.request_id"] = rid
        status = 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if not any(name == b"x-request-id" for name, _ in message["headers"]):
                    message["headers"] = [*message["headers"], (b"x-request-id", rid.encode("ascii"))]
            await send(message)

        try:
            await self._guarded(scope, receive, note, path)
        except HeadgateError as error:
            if status:
                raise
            await response_for(path, error)(scope, receive, note)
        except asyncio.CancelledError:  # the grace period of a stop is over: uvicorn cancels what still runs
            if status:
                raise
            stopping = Unavailable("The server is stopping; try again in a moment", retry_after=1.0)
            await response_for(path, stopping)(scope, receive, note)
        except BrokenAnswer:
            raise
        except Exception:
            log.exception("%s %s failed", scope["method"], path, extra={"request_id": rid})
            if status:
                raise
            await response_for(path, internal(rid))(scope, receive, note)
        if "headgate.call" not in scope:
            self._count(scope, status, monotonic() - began, rid)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        opened = path in OPEN_PATHS or path.startswith("/docs/static/")
        if not opened and not self._is_hot(scope):
            headers = scope["headers"]
            if path.startswith("/v1beta/") and (key := query_key(scope["query_string"])) is not None:
                headers = [*headers, (b"x-goog-api-key", key)]
            scope["headgate.principal"] = self._gateway.keys.authenticate(headers)
        await self._app(scope, receive, send)

    def _is_hot(self, scope: Scope) -> bool:
        """A relay asks for the key itself: refusals come in the caller's dialect."""
        if scope["method"] != "POST":
            return False
        target = scope.get("raw_path") or scope["path"].encode("utf-8")
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        match = self._endpoints.match(target, scope["headers"])
        scope["headgate.match"] = match
        return match is not None

    def _count(self, scope: Scope, status: int, duration: float, rid: str) -> None:
        route = scope.get("route")
        template = getattr(route, "path", None)
        self._gateway.metrics.http_request(scope["method"], template, status, duration)
        if self._gateway.access_log is not None and scope["path"] not in OPEN_PATHS:
            principal = scope.get("headgate.principal")
            self._gateway.access_log.request(
                scope["method"],
                scope["path"],
                status,
                duration,
                rid,
                principal.name if principal is not None else "anonymous",
            )
