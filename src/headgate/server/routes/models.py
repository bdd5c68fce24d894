"""The list of models, in the form that the caller's dialect has for it."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headgate.core.call import Operation
from headgate.core.errors import HeadgateError, InvalidRequest, NotFound
from headgate.dialects import anthropic, gemini
from headgate.dialects.dialect import WireError
from headgate.routing.route import Route
from headgate.server.gateway import Gateway

MODEL_EXAMPLE = {
    "id": "smollm2",
    "object": "model",
    "created": 1763600000,
    "owned_by": "gguf",
    "operations": ["chat"],
    "aliases": [],
}
GEMINI_EXAMPLE = {
    "name": "models/smollm2",
    "displayName": "smollm2",
    "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
}
MAX_PAGE = 1000


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _example(content: object) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "OK", "content": {"application/json": {"example": content}}}}


def _refused(wire: WireError) -> Response:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in wire.headers}
    return Response(wire.body, wire.status, headers)


def models_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["Models"])
    _add_openai(router, gateway)
    _add_gemini(router, gateway)
    return router


def _add_openai(router: APIRouter, gateway: Gateway) -> None:
    @router.get("/v1/models", responses=_example({"object": "list", "data": [MODEL_EXAMPLE]}))
    async def list_models(request: Request) -> Response:
        """Every declared model. Each `id`, and each alias, can be asked for as `model`.

        With the header `anthropic-version` in Anthropic's form, with its paging.
        """
        if "anthropic-version" in request.headers:
            return _anthropic_page(gateway, request)
        shown = [_openai(gateway, route) for route in gateway.router.routes.values()]
        return _json(msgspec.json.encode({"object": "list", "data": shown}))

    @router.get("/v1/models/{model:path}", responses=_example(MODEL_EXAMPLE))
    async def get_model(request: Request, model: str) -> Response:
        """One model. 404 with near names when there is none of that name."""
        if "anthropic-version" not in request.headers:
            return _json(msgspec.json.encode(_openai(gateway, gateway.route(model))))
        try:
            page = msgspec.json.decode(anthropic.encode_models([_anthropic(gateway.route(model))]))
        except HeadgateError as error:
            return _refused(anthropic.encode_error(error))
        return _json(msgspec.json.encode(page["data"][0]))


def _add_gemini(router: APIRouter, gateway: Gateway) -> None:
    @router.get("/v1beta/models", responses=_example({"models": [GEMINI_EXAMPLE]}))
    async def list_models() -> Response:
        """Every declared model, in Gemini's form, on one page."""
        return _json(gemini.encode_models(map(_gemini, gateway.router.routes.values())))

    @router.get("/v1beta/models/{model:path}", responses=_example(GEMINI_EXAMPLE))
    async def get_model(model: str) -> Response:
        """One model, in Gemini's form."""
        try:
            return _json(gemini.encode_model(_gemini(gateway.route(model))))
        except NotFound as error:
            return _refused(gemini.encode_error(error))


def _openai(gateway: Gateway, route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {
        "id": route.model,
        "object": "model",
        "created": route.created,
        "owned_by": route.owned_by,
        "operations": sorted(route.operations),
        "aliases": [alias for alias, model in gateway.router.aliases.items() if model == route.model],
    }
    if route.description:
        content["description"] = route.description
    return content


def _anthropic(route: Route) -> anthropic.ModelEntry:
    return anthropic.ModelEntry(route.model, route.created, route.description or route.model)


def _anthropic_page(gateway: Gateway, request: Request) -> Response:
    query = request.query_params
    limit = query.get("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit) <= MAX_PAGE:
        error = InvalidRequest(f"limit must be a number from 1 to {MAX_PAGE}", param="limit")
        return _refused(anthropic.encode_error(error))
    page = anthropic.encode_models(
        [_anthropic(route) for route in gateway.router.routes.values()],
        limit=int(limit),
        after_id=query.get("after_id"),
        before_id=query.get("before_id"),
    )
    return _json(page)


def _gemini(route: Route) -> gemini.ModelEntry:
    counted = {Operation.COUNT_TOKENS} if Operation.CHAT in route.operations else set()
    return gemini.ModelEntry(route.model, route.operations | counted, None, route.description)
