"""For operators: targets and what may be said of them, and a reload. Not for every caller: see `Admitted`."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from typing import Any

import msgspec
from fastapi import APIRouter, Depends, Request
from starlette.datastructures import Headers
from starlette.responses import Response

from headgate.core.call import ANONYMOUS, Principal
from headgate.core.errors import ConfigError, Forbidden, InvalidRequest, NotFound
from headgate.policy.keys import is_loopback
from headgate.routing.target import Target
from headgate.server.changes import Changes
from headgate.server.gateway import Gateway
from headgate.server.targets import describe_route

log = logging.getLogger("headgate.admin")

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

TARGET_EXAMPLE: dict[str, Any] = {
    "model": "gpt-4o",
    "target": "gpt-4o#0",
    "provider": "openai",
    "priority": 1,
    "weight": 1.0,
    "circuit": "open",
    "drained": False,
    "reason": "its circuit is open for another 3.2 s; last failure: can't connect to http://127.0.0.1:9001",
    "cooldown": 3.2,
    "in_flight": 0,
    "waiting": 0,
    "share": 1.0,
    "pace": {"stream": 0.21, "plain": None},
    "quota": {"name": "gpt-4o#0", "spent_for": 0.0, "low_for": 0.0},
    "probed": False,
}
RELOAD_EXAMPLE: dict[str, Any] = Changes(
    added=("claude",), changed=("gpt-4o",), restart=("server.port",)
).to_wire()

_NO_BODY = {
    "requestBody": {"required": False, "content": {"application/json": {"schema": {"type": "object"}}}}
}


def _example(content: object) -> dict[int | str, dict[str, Any]]:
    return {200: {"description": "OK", "content": {"application/json": {"example": content}}}}


class Admitted:
    """Lets through who may administer the server. Raises Forbidden for all others.

    With keys: those with `admin: true`. Without: whoever is on this machine, but no page of another site in a
    browser there, nor one whose name was bent to 127.0.0.1 (which `Host` tells).
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, request: Request) -> None:
        if self._gateway.keys:
            principal: Principal = request.scope.get("headgate.principal", ANONYMOUS)
            if not principal.admin:
                raise Forbidden(
                    "This key may not use /admin; its entry under server.keys needs 'admin: true'"
                )
            return
        client = request.client
        if client is None or not is_loopback(client.host) or _is_forwarded(request.headers):
            raise Forbidden(
                "A server without keys takes /admin from its own machine only, and through no proxy; "
                "make a key with 'admin: true' (headgate key NAME)"
            )
        host = request.headers.get("host", "")
        if not is_loopback(_name(host)):
            raise Forbidden(
                f"A server without keys takes /admin under 127.0.0.1 or localhost, not under {host[:100]!r}"
            )
        if _is_foreign(request.headers, host):
            raise Forbidden("A page of another site may not use /admin")


def _is_forwarded(headers: Headers) -> bool:
    return any(name in headers for name in _FORWARDED)


def _is_foreign(headers: Headers, host: str) -> bool:
    """A browser says that it comes from a page of another site."""
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    return headers.get("origin", f"http://{host}") not in (f"http://{host}", f"https://{host}")


def _name(host: str) -> str:
    """Without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def admin_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/admin", tags=["Administration"], dependencies=[Depends(Admitted(gateway))])
    _add_targets(router, gateway)
    _add_reload(router, gateway)
    return router


def _add_targets(router: APIRouter, gateway: Gateway) -> None:
    @router.get("/targets", responses=_example({"targets": [TARGET_EXAMPLE]}))
    async def list_targets() -> Response:
        """Every target: its circuit, its quota, what is under way. Times are seconds from now."""
        return _json({"targets": list(_described(gateway))})

    drained = _example({**TARGET_EXAMPLE, "drained": True})

    @router.post("/targets/{name:path}/drain", responses=drained, openapi_extra=_NO_BODY)
    async def drain_target(request: Request, name: str) -> Response:
        """Send it no further calls. Those under way end; `in_flight` says how many there are still.

        Holds over a reload that keeps the target, until it is enabled or the server is restarted.
        """
        target = _target(gateway, name)
        target.health.drain()
        return _done(gateway, request, target, "drained")

    enabled = _example(TARGET_EXAMPLE)

    @router.post("/targets/{name:path}/enable", responses=enabled, openapi_extra=_NO_BODY)
    async def enable_target(request: Request, name: str) -> Response:
        """Send it calls again after a drain."""
        target = _target(gateway, name)
        target.health.enable()
        return _done(gateway, request, target, "enabled")

    closed = _example({**TARGET_EXAMPLE, "circuit": "closed", "reason": None, "cooldown": 0.0})

    @router.post("/targets/{name:path}/reset", responses=closed, openapi_extra=_NO_BODY)
    async def reset_target(request: Request, name: str) -> Response:
        """Forget what happened: circuit closed, quota not spent, not drained, its whole share at once."""
        target = _target(gateway, name)
        target.health.reset()
        return _done(gateway, request, target, "reset")


def _add_reload(router: APIRouter, gateway: Gateway) -> None:
    wrong = {"description": "The configuration is wrong. Nothing has changed; the message says why."}

    @router.post("/reload", responses={**_example(RELOAD_EXAMPLE), 422: wrong}, openapi_extra=_NO_BODY)
    async def reload() -> Response:
        """Read the configuration again and go by it. Calls under way end by the one they began with.

        Answers when it is done, with what has changed, and with the settings that need a restart.
        """
        if gateway.reload is None:
            raise InvalidRequest("This server was not started from something that can be read again")
        try:
            changed = await gateway.reload()
        except ConfigError as error:
            raise ConfigError(f"Nothing has changed. {error.message}", status=422) from None
        return _json(changed.to_wire())


def _json(content: object) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(content), headers=headers, media_type="application/json")


def _described(gateway: Gateway) -> Iterator[dict[str, Any]]:
    for name, route in gateway.router.routes.items():
        for described in describe_route(route):
            yield {"model": name, **described}


def _target(gateway: Gateway, name: str) -> Target:
    """Raises NotFound with near names."""
    targets = {target.name: target for target in gateway.router.targets}
    if name not in targets:
        near = difflib.get_close_matches(name[:100], targets, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "GET /admin/targets lists them"
        raise NotFound(f"There is no target {name[:100]!r}; {hint}")
    return targets[name]


def _done(gateway: Gateway, request: Request, target: Target, what: str) -> Response:
    who: Principal = request.scope.get("headgate.principal", ANONYMOUS)
    log.warning("target %s is %s by %s", target.name, what, who.name)
    return _json(next(each for each in _described(gateway) if each["target"] == target.name))
