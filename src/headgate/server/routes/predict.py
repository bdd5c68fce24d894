"""Predictions of custom models: tables in, predictions out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from headgate.core.backend import PredictBackend
from headgate.core.call import ANONYMOUS, Attempt, Call, Operation, Outcome, outcome_of
from headgate.core.errors import Cancelled, HeadgateError, NotFound, PayloadTooLarge
from headgate.core.operations import PredictRequest, Table
from headgate.dialects import tables
from headgate.routing.plan import nobody, plan
from headgate.routing.route import Route
from headgate.routing.target import Target
from headgate.server.bodies import drain, read_body, unless_gone
from headgate.server.failures import internal
from headgate.server.gateway import Gateway
from headgate.server.handlers import response_for

LARGE_BODY = 256 * 1024
"""From this size on a body is parsed on a thread: parsing it would hold up everybody else."""


def predict_routes(gateway: Gateway) -> APIRouter:
    """`POST /models/{model}/predict`, and `POST /predict` where there is one model, with and without a slash.

    They are left out of FastAPI's own schema: `describe_predictions` writes one path for each model, with
    that model's columns.
    """
    router = APIRouter(include_in_schema=False)

    @router.post("/models/{model}/predict/")
    @router.post("/models/{model}/predict")
    async def predict(model: str) -> Response:
        return PredictResponse(gateway, model)

    @router.post("/predict/")
    @router.post("/predict")
    async def predict_single() -> Response:
        return PredictResponse(gateway, None)

    return router


class PredictResponse(Response):
    """Answers one prediction request. The bytes are read here, so that refusals come while they arrive."""

    def __init__(self, gateway: Gateway, model: str | None) -> None:
        super().__init__()
        self._gateway = gateway
        self._model = model

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        call = self._open_call(scope)
        route: Route | None = None
        try:
            route, target = self._target(call)
            route.leases.take()
            call.deadline = call.started + route.timeouts.total
            body = await read_body(scope, receive, gateway)
            answer = await unless_gone(receive, self._predict(target, call, scope, body))
            response = Response(answer, media_type="application/json")
            call.outcome, call.status = Outcome.OK, 200
        except Cancelled as error:
            call.outcome, call.status = Outcome.CANCELLED, error.status
            return
        except HeadgateError as error:
            call.outcome, call.status = outcome_of(error), error.status
            response = response_for(scope["path"], error)
            if isinstance(error, PayloadTooLarge):
                await self._refuse(response, scope, receive, send)
                return
        except asyncio.CancelledError:
            call.outcome, call.status = Outcome.CANCELLED, 503
            raise
        except Exception:
            call.outcome, call.status = Outcome.INTERNAL_ERROR, 500
            response = response_for(scope["path"], internal(call.id))
            raise
        finally:
            call.ended = monotonic()
            gateway.record(call)
            if route is not None:
                route.leases.give_back()
        await response(scope, receive, send)

    def _open_call(self, scope: Scope) -> Call:
        scope["headgate.call"] = True
        principal = scope.get("headgate.principal", ANONYMOUS)
        now = monotonic()
        call = Call(
            scope["headgate.request_id"], self._model or "", Operation.PREDICT, "tables", now, principal
        )
        if self._model is None:
            call.model = next(iter(self._gateway.router.routes), "")
        self._gateway.metrics.call_started(call)
        return call

    def _target(self, call: Call) -> tuple[Route, Target]:
        gateway = self._gateway
        gateway.admit()
        if self._model is None and len(gateway.router.routes) != 1:
            raise NotFound("This server has several models: use POST /models/{name}/predict")
        route = gateway.route(call.model)
        now = monotonic()
        order = plan(route, call, now, gateway.rng).order
        if not order:
            raise nobody(route, call, now)
        return route, order[0]

    async def _predict(self, target: Target, call: Call, scope: Scope, body: bytes) -> bytes:
        backend = target.backend
        assert isinstance(backend, PredictBackend)
        table = await self._decode(scope, body, backend.input_schema)
        attempt = Attempt(target.name, monotonic())
        call.attempts.append(attempt)
        try:
            result = await backend.predict(PredictRequest(model=call.model, table=table), call)
        except HeadgateError as error:
            attempt.error = error.code
            raise
        finally:
            attempt.ended = monotonic()
        attempt.status = 200
        if len(result.predictions) > 10_000:
            return await asyncio.to_thread(tables.encode, result)
        return tables.encode(result)

    async def _decode(self, scope: Scope, body: bytes, schema: Mapping[str, Any] | None) -> Table:
        kind = next((v.decode("latin-1") for n, v in scope["headers"] if n == b"content-type"), None)
        if len(body) >= LARGE_BODY:
            return await asyncio.to_thread(tables.decode, body, kind, schema=schema)
        return tables.decode(body, kind, schema=schema)

    async def _refuse(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell at once, keep reading for a while, then close."""
        response.headers["connection"] = "close"
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        await drain(receive)
        await send({"type": "http.response.body", "body": b""})


def describe_predictions(gateway: Gateway) -> dict[str, Any]:
    """OpenAPI paths, one for each model that predicts, with the columns it takes."""
    paths = {}
    for route in gateway.router.routes.values():
        for target in route.targets:
            if isinstance(target.backend, PredictBackend):
                paths[f"/models/{route.model}/predict"] = {"post": _operation(route, target.backend)}
                break
    if len(gateway.router.routes) == 1 and paths:
        paths["/predict"] = next(iter(paths.values()))
    return paths


def _operation(route: Route, backend: PredictBackend) -> dict[str, Any]:
    record = dict(backend.input_schema or {"type": "object"})
    prediction = dict(backend.output_schema or {})
    message = {"type": "object", "properties": {"message": {"type": "string"}}}
    json_example = {"example": {"message": "ERROR: column 'alcohol' is missing"}}
    return {
        "tags": ["Predictions"],
        "summary": f"Predict with {route.model}",
        "description": route.description or "One prediction for each row, in order.",
        "operationId": f"predict_{route.model}",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"type": "array", "items": record}},
                "text/csv": {"schema": {"type": "string", "description": "A header row, then one row each."}},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["X"],
                        "properties": {"X": {"type": "string", "format": "binary"}},
                    }
                },
            },
        },
        "responses": {
            "200": {
                "description": "The predictions.",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["predictions"],
                            "properties": {"predictions": {"type": "array", "items": prediction}},
                        }
                    }
                },
            },
            **{
                status: {
                    "description": text,
                    "content": {"application/json": {"schema": message, **json_example}},
                }
                for status, text in (
                    ("400", "Not readable."),
                    ("413", "Over the limit."),
                    ("415", "Not a table format that is taken here."),
                    ("422", "Not data that this model takes."),
                    ("503", "Too busy; see Retry-After."),
                )
            },
        },
    }
