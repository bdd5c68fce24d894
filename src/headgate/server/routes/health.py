"""Probes and metrics. They only read what is in memory, so that nothing a model does can delay them."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headgate import __version__
from headgate.core.backend import Status
from headgate.core.errors import Unauthenticated
from headgate.server.gateway import Gateway
from headgate.server.targets import describe_route

_STARTED = time.time()


def _answer(status: int, content: object) -> Response:
    headers = {"cache-control": "no-store"}
    if status == 503:
        headers["retry-after"] = "1"
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


def _described(
    gateway: Gateway, statuses: Mapping[str, Status], request: Request, *, targets: bool = False
) -> dict[str, Any]:
    """Each model's state. Reasons and particulars hold paths: they are for those who may call the models.

    Args:
        targets: say how each of its targets is, too.
    """
    try:
        gateway.keys.authenticate(request.scope["headers"])
    except Unauthenticated:
        return {name: {"state": status.state} for name, status in statuses.items()}
    shown: dict[str, dict[str, Any]] = {}
    for name, status in statuses.items():
        shown[name] = {"state": status.state}
        if status.detail:
            shown[name]["detail"] = status.detail
        if status.info:
            shown[name]["info"] = dict(status.info)
        if targets and name in gateway.router.routes:
            shown[name]["targets"] = describe_route(gateway.router.routes[name])
    return shown


def _example(content: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": content}}}


READY_EXAMPLE = {"status": "ready", "models": {"smollm2": {"state": "ready"}, "wine": {"state": "ready"}}}
NOT_READY_EXAMPLE = {
    "status": "not ready",
    "models": {"smollm2": {"state": "restarting", "detail": "the engine was ended by signal 9"}},
}
HEALTH_EXAMPLE = {
    "status": "ok",
    "device": {
        "device": "cpu",
        "platform": "Linux",
        "machine": "x86_64",
        "cpus": 2,
        "python_version": "3.11.7",
    },
    "loaded_models": ["smollm2", "wine"],
    "models": {"smollm2": {"state": "ready"}, "minilm": {"state": "idle"}, "wine": {"state": "ready"}},
    "in_flight": 3,
    "pid": 4711,
    "timestamp": "2026-11-20T09:30:00Z",
    "uptime_seconds": 12.5,
    "versions": {"headgate": __version__, "python": "3.11.7"},
}


def health_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["Health"])

    @router.get("/livez", responses={200: _example({"status": "alive"}, "The process answers.")})
    async def livez() -> Response:
        """Is the process alive? Says nothing about models."""
        return _answer(200, {"status": "alive"})

    @router.get(
        "/startupz",
        responses={
            200: _example({"status": "started"}, "The start is over."),
            503: _example({"status": "starting"}, "Still starting."),
        },
    )
    async def startupz() -> Response:
        """Is the start over?"""
        return _answer(
            200 if gateway.started else 503, {"status": "started" if gateway.started else "starting"}
        )

    @router.get(
        "/readyz",
        responses={
            200: _example(READY_EXAMPLE, "Every model serves, or loads at its first request."),
            503: _example(NOT_READY_EXAMPLE, "At least one model can't answer now; the body names it."),
        },
    )
    async def readyz(request: Request) -> Response:
        """Can every model be sent requests?

        `degraded` (200) when the only models missing are those that failed at the start of a server run
        with `--keep-going`: its operator has said that it should serve without them.
        """
        statuses = gateway.statuses()
        unwell = {n for n, s in statuses.items() if not s.serving and n not in gateway.broken}
        ready = gateway.started and not gateway.draining and not unwell
        word = "not ready" if not ready else "degraded" if gateway.broken else "ready"
        models = _described(gateway, statuses, request)
        return _answer(200 if ready else 503, {"status": word, "models": models})

    _add_reports(router, gateway)
    return router


def _add_reports(router: APIRouter, gateway: Gateway) -> None:
    @router.get("/health", responses={200: _example(HEALTH_EXAMPLE, "The server answers.")})
    async def health(request: Request) -> Response:
        """What runs here: device, models and their states, process, versions.

        With a key, or on a server without keys, each model's targets too, as `/admin/targets` has them.
        """
        statuses = gateway.statuses()
        well = all(status.serving for status in statuses.values())
        return _answer(
            200,
            {
                "status": "ok" if well else "degraded",
                "device": _device(),
                "loaded_models": [name for name, status in statuses.items() if status.state == "ready"],
                "models": _described(gateway, statuses, request, targets=True),
                "in_flight": gateway.in_flight,
                "pid": os.getpid(),
                "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "uptime_seconds": round(time.time() - _STARTED, 3),
                "versions": {"headgate": __version__, "python": platform.python_version()},
            },
        )

    @router.get(
        "/metrics",
        responses={
            200: {
                "description": "Prometheus text, or OpenMetrics where `Accept` asks for it.",
                "content": {
                    "text/plain": {"example": 'headgate_model_state{model="wine",state="ready"} 1.0\n'}
                },
            }
        },
    )
    async def metrics(request: Request) -> Response:
        """Counters and histograms for Prometheus."""
        body, media_type = gateway.metrics.render(request.headers.get("accept"))
        return Response(body, media_type=media_type)


def _device() -> dict[str, Any]:
    return {
        "device": "cpu",
        "platform": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python_version": platform.python_version(),
    }
