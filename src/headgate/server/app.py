"""The ASGI application: composes routes around a gateway, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from headgate import __version__
from headgate.core.errors import HeadgateError
from headgate.server import build
from headgate.server.gateway import Gateway
from headgate.server.handlers import on_headgate_error, on_http_exception, on_validation_error
from headgate.server.middleware import Front
from headgate.server.routes.admin import admin_routes
from headgate.server.routes.explain import explain_routes
from headgate.server.routes.health import health_routes
from headgate.server.routes.hot import hot_routes
from headgate.server.routes.models import models_routes
from headgate.server.routes.predict import describe_predictions, predict_routes
from headgate.server.routes.responses import responses_routes
from headgate.server.routes.streams import streams_routes

DESCRIPTION = """
One asynchronous server in front of every model a team has.

Where the server has keys, send one as `Authorization: Bearer KEY` or `x-api-key: KEY`; the probes,
`/docs` and `/openapi.json` need none. Every answer carries `x-request-id`.
"""

SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


def create_app(gateway: Gateway) -> FastAPI:
    """The application for any ASGI server; its lifespan starts and stops the gateway."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not gateway.started:
            await build.start(gateway)
        try:
            yield
        finally:
            await build.stop(gateway)

    app: FastAPI = FastAPIOffline(  # the API page's own scripts come from here, not from a stranger's server
        title="Headgate",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        static_url="/docs/static",
        redirect_slashes=False,
        strict_content_type=False,
    )
    app.include_router(hot_routes(gateway))
    app.include_router(responses_routes(gateway))
    app.include_router(streams_routes(gateway))
    app.include_router(models_routes(gateway))
    app.include_router(explain_routes(gateway))
    app.include_router(predict_routes(gateway))
    app.include_router(health_routes(gateway))
    app.include_router(admin_routes(gateway))
    app.add_exception_handler(HeadgateError, on_headgate_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_middleware(Front, gateway=gateway)
    _describe_models(app, gateway)
    return app


def _drop_validation(responses: dict[str, Any]) -> None:
    """FastAPI's own 422, which no route here gives."""
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]


def _describe_models(app: FastAPI, gateway: Gateway) -> None:
    """The API page shows each custom model's own columns, which are known once the models have started."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = dict(generate())  # which is made once: what depends on the models goes into a copy
        for operations in schema["paths"].values():
            for operation in operations.values():
                _drop_validation(operation["responses"])
        schema["paths"] = {**schema["paths"], **describe_predictions(gateway)}
        schema["components"] = {"securitySchemes": SECURITY} if gateway.keys else {}
        schema["security"] = [{name: []} for name in SECURITY] if gateway.keys else []
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
