"""The list of models, in OpenAI's form."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from headgate.routing.plan import Route
from headgate.server.gateway import Gateway

MODEL_EXAMPLE = {
    "id": "smollm2",
    "object": "model",
    "created": 1763600000,
    "owned_by": "gguf",
    "operations": ["chat"],
    "aliases": [],
}


def models_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["Models"])

    def shown(route: Route) -> dict[str, Any]:
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

    def answer(content: object) -> Response:
        return Response(msgspec.json.encode(content), media_type="application/json")

    def example(content: object) -> dict[int | str, dict[str, Any]]:
        return {200: {"description": "OK", "content": {"application/json": {"example": content}}}}

    @router.get("/models", responses=example({"object": "list", "data": [MODEL_EXAMPLE]}))
    async def list_models() -> Response:
        """Every declared model. Each `id`, and each alias, can be asked for as `model`."""
        return answer({"object": "list", "data": [shown(r) for r in gateway.router.routes.values()]})

    @router.get("/models/{model:path}", responses=example(MODEL_EXAMPLE))
    async def get_model(model: str) -> Response:
        """One model. 404 with near names when there is none of that name."""
        return answer(shown(gateway.route(model)))

    return router
