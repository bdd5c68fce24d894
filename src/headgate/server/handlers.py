"""FastAPI's exceptions, and ours, as answers."""

from __future__ import annotations

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from headgate.core.errors import HeadgateError, InvalidRequest, MethodNotAllowed, NotFound
from headgate.server.failures import answer


def response_for(path: str, error: HeadgateError) -> Response:
    wire = answer(path, error)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in wire.headers}
    return Response(wire.body, wire.status, headers)


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
