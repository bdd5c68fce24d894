"""The list of models, in the form that the caller's dialect has for it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headgate.core.call import Operation
from headgate.core.errors import HeadgateError, InvalidRequest
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
GEMINI_PAGE = 50
"""Models on a page of Gemini's form where the caller says no number: that API's own."""


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")


def _example(content: object) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "OK", "content": {"application/json": {"example": content}}}}


def _refused(wire: WireError) -> Response:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in wire.headers}
    return Response(wire.body, wire.status, headers)


def models_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["Models"])
    _add_shared(router, gateway)
    _add_gemini(router, gateway)
    return router


def _add_shared(router: APIRouter, gateway: Gateway) -> None:
    """Three APIs have these paths; each one's callers are known by their header fields."""

    @router.get("/v1/models", responses=_example({"object": "list", "data": [MODEL_EXAMPLE]}))
    async def list_models(request: Request) -> Response:
        """Every declared model. Each `id`, and each alias, can be asked for as `model`.

        With the header `anthropic-version` in Anthropic's form, with `x-goog-api-key` or `x-goog-api-client`
        in Gemini's, each with its paging.
        """
        if "anthropic-version" in request.headers:
            return _anthropic_page(gateway, request)
        if _is_googles(request):
            return _gemini_page(gateway, request)
        shown = [_openai(gateway, route) for route in gateway.router.routes.values()]
        return _json(msgspec.json.encode({"object": "list", "data": shown}))

    @router.get("/v1/models/{model:path}", responses=_example(MODEL_EXAMPLE))
    async def get_model(request: Request, model: str) -> Response:
        """One model. 404 with near names when there is none of that name."""
        if "anthropic-version" in request.headers:
            return _anthropic_model(gateway, model)
        if _is_googles(request):
            return _gemini_model(gateway, model)
        return _json(msgspec.json.encode(_openai(gateway, gateway.route(model))))


def _is_googles(request: Request) -> bool:
    return "x-goog-api-key" in request.headers or "x-goog-api-client" in request.headers


def _add_gemini(router: APIRouter, gateway: Gateway) -> None:
    @router.get("/v1beta/models", responses=_example({"models": [GEMINI_EXAMPLE]}))
    async def list_models(request: Request) -> Response:
        """The declared models, in Gemini's form, with its paging: `pageSize` and `pageToken`."""
        return _gemini_page(gateway, request)

    @router.get("/v1beta/models/{model:path}", responses=_example(GEMINI_EXAMPLE))
    async def get_model(model: str) -> Response:
        """One model, in Gemini's form."""
        return _gemini_model(gateway, model)


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
    if not _is_number(limit) or not 1 <= int(limit) <= MAX_PAGE:
        error = InvalidRequest(f"limit must be a number from 1 to {MAX_PAGE}", param="limit")
        return _refused(anthropic.encode_error(error))
    page = anthropic.encode_models(
        [_anthropic(route) for route in gateway.router.routes.values()],
        limit=int(limit),
        after_id=query.get("after_id"),
        before_id=query.get("before_id"),
    )
    return _json(page)


def _anthropic_model(gateway: Gateway, model: str) -> Response:
    try:
        page = msgspec.json.decode(anthropic.encode_models([_anthropic(gateway.route(model))]))
    except HeadgateError as error:
        return _refused(anthropic.encode_error(error))
    return _json(msgspec.json.encode(page["data"][0]))


def _gemini_model(gateway: Gateway, model: str) -> Response:
    try:
        return _json(gemini.encode_model(_gemini(gateway.route(model))))
    except HeadgateError as error:
        return _refused(gemini.encode_error(error))


def _gemini(route: Route) -> gemini.ModelEntry:
    counted = {Operation.COUNT_TOKENS} if Operation.CHAT in route.operations else set()
    return gemini.ModelEntry(route.model, route.operations | counted, None, route.description)


def _gemini_page(gateway: Gateway, request: Request) -> Response:
    """A page's token is the name of the last model on the page before, so that a list may grow meanwhile."""
    query = request.query_params
    routes = list(gateway.router.routes.values())
    try:
        size = _page_size(query.get("pageSize", ""))
        start = _page_start(query.get("pageToken", ""), [route.model for route in routes])
    except InvalidRequest as error:
        return _refused(gemini.encode_error(error))
    page = routes[start : start + size]
    token = _page_token(page[-1].model) if start + size < len(routes) else None
    return _json(gemini.encode_models(map(_gemini, page), next_page_token=token))


def _page_size(value: str) -> int:
    """More than the most is the most, as Google's APIs have it."""
    if value in ("", "0"):
        return GEMINI_PAGE
    if not _is_number(value):
        raise InvalidRequest(f"pageSize must be a number from 1 to {MAX_PAGE}", param="pageSize")
    return min(int(value), MAX_PAGE)


def _is_number(value: str) -> bool:
    """Of 32 bits at most, as both APIs have it: Python refuses to read very long ones."""
    return value.isascii() and value.isdecimal() and len(value) <= 10


def _page_token(model: str) -> str:
    return base64.urlsafe_b64encode(model.encode()).decode().rstrip("=")


def _page_start(token: str, models: Sequence[str]) -> int:
    if not token:
        return 0
    known = {_page_token(model): position for position, model in enumerate(models)}
    if token not in known:
        raise InvalidRequest(
            "pageToken is not one of this list's; ask for the first page, without it", param="pageToken"
        )
    return known[token] + 1
