"""Reading request bodies with a limit, and noticing callers that leave."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope

from headgate.core.errors import Cancelled, PayloadTooLarge
from headgate.server.gateway import Gateway

T = TypeVar("T")

LINGER = 5.0
"""Seconds for which the rest of a refused body is read, so that the refusal is not lost to a reset."""


async def read_body(scope: Scope, receive: Receive, gateway: Gateway) -> bytes:
    """The whole request body.

    Raises:
        PayloadTooLarge: it is, or says it is, over `server.max_body`; raised as soon as that is known.
        Cancelled: the caller left before it was complete.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > gateway.max_body:
            raise PayloadTooLarge(gateway.too_large_message)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Cancelled("the caller left while sending")
        part = message.get("body", b"")
        size += len(part)
        if size > gateway.max_body:
            raise PayloadTooLarge(gateway.too_large_message)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def drain(receive: Receive) -> None:
    """Read and throw away what still comes, for `LINGER` seconds at most (RFC 9112 9.6)."""
    try:
        async with asyncio.timeout(LINGER):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`; cancel it when the caller leaves. The body must have been read. Raises Cancelled."""
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Cancelled("the caller left")
        return await task
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
