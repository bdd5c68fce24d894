"""Errors on the API's other routes, each in its route's own shape."""

from __future__ import annotations

import logging
import math

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from headgate.core.errors import HeadgateError, Internal, InvalidRequest, MethodNotAllowed, NotFound

log = logging.getLogger("headgate.server")


def response_for(path: str, error: HeadgateError) -> Response:
    """`{"message": "ERROR: …"}` on the custom-model routes, OpenAI's error object everywhere else."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if is_custom_model_path(path):
        content: object = {"message": f"ERROR: {error.message}"}
    else:
        content = {
            "error": {
                "message": error.message,
                "type": error.type,
                "param": error.param,
                "code": error.code,
            }
        }
    return Response(msgspec.json.encode(content), error.status, headers, media_type="application/json")


def is_custom_model_path(path: str) -> bool:
    return path.startswith("/models/") or path.rstrip("/") in ("/predict", "/predictions", "/invocations")


async def on_headgate_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HeadgateError)
    return response_for(request.url.path, error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    known: HeadgateError
    if error.status_code == 404:
        known = NotFound(f"There is no route {request.method} {path[:200]}; GET /docs lists those there are")
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        known = MethodNotAllowed(f"{request.method} is not allowed on {path[:200]}; allowed: {allowed}")
    else:
        known = HeadgateError(str(error.detail), status=error.status_code)
    response = response_for(path, known)
    response.headers.update(error.headers or {})
    return response


async def on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return response_for(
        request.url.path, InvalidRequest(f"{where or 'request'}: {first['msg']}", param=where or None)
    )


def internal(request_id: str) -> Internal:
    return Internal(f"Something went wrong here; the log has the reason under request id {request_id}")
