"""`POST /v1/explain`: which targets a request would be sent to, and why."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from headgate.server.bodies import read_body
from headgate.server.explain import explain_request
from headgate.server.gateway import Gateway
from headgate.server.trial import LARGE_BODY

EXAMPLE: dict[str, Any] = {
    "model": "gpt-4o",
    "operation": "chat",
    "dialect": "openai_chat",
    "stream": False,
    "needs": None,
    "tokens": None,
    "balance": "weight",
    "affinity": None,
    "attempts": 2,
    "hedge_after": None,
    "deadline": 600.0,
    "targets": [
        {
            "target": "gpt-4o#1",
            "provider": "azure-openai",
            "upstream_model": "gpt-4o-eu",
            "dialect": "openai_chat",
            "lane": "passed through",
            "place": 1,
            "reason": "priority 1, weight 1",
            "losses": [],
            "refusal": None,
        },
        {
            "target": "gpt-4o#0",
            "provider": "openai",
            "upstream_model": "gpt-4o",
            "dialect": "openai_chat",
            "lane": "passed through",
            "place": None,
            "reason": "its quota is spent for another 7.2 s",
            "losses": [],
            "refusal": None,
        },
    ],
    "refusal": None,
}


def explain_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["Models"])

    @router.post(
        "/v1/explain",
        responses={200: {"description": "OK", "content": {"application/json": {"example": EXAMPLE}}}},
        openapi_extra={
            "requestBody": {
                "content": {
                    "application/json": {
                        "schema": {"type": "object", "required": ["model"]},
                        "example": {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]},
                    }
                }
            }
        },
    )
    async def explain(
        request: Request,
        path: str | None = Query(None, description="The route that the request would go to."),
    ) -> Response:
        """Which targets this request would be tried at, in order, and why each other one would not.

        The body is that of the request itself, or just `{"model": "…"}`. Nothing is sent to any of them.
        """
        body = await read_body(request.scope, request.receive, gateway)
        headers = request.scope["headers"]
        if len(body) > LARGE_BODY:
            found = await asyncio.to_thread(explain_request, gateway, path, headers, body)
        else:
            found = explain_request(gateway, path, headers, body)
        return Response(msgspec.json.encode(found), media_type="application/json")

    return router
