"""A scripted upstream on a real socket: it plays back bytes, delays and faults, and notes what it saw.

Raw on purpose: a broken answer can't be made with a well-behaved server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Hang:
    """Say nothing more until the client leaves."""


class Drop:
    """Close the connection now."""


Step = bytes | float | Hang | Drop | threading.Event
Script = Callable[[Seen], AsyncIterator[Step]]


@dataclass
class Upstream:
    """Serves `script` on a thread of its own.

    Steps: bytes are sent, a number waits that many seconds, an event is awaited. `greeting` is sent, and the
    connection closed, before anything was asked.
    """

    script: Script
    seen: list[Seen] = field(default_factory=list)
    open_connections: int = 0
    connections: int = 0
    port: int = 0
    greeting: bytes = b""
    closed: float = 0.0
    """When the latest of its connections was closed, by `time.monotonic`."""

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    def wait_until(self, condition: Callable[[Upstream], bool], timeout: float = 5.0) -> bool:
        """Wait for the upstream's counts to satisfy `condition`; False when they don't in time."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), timeout)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def _count(self, change: int) -> None:
        with self._changed:
            self.open_connections += change
            self.connections += max(change, 0)
            if change < 0:
                self.closed = time.monotonic()
            self._changed.notify_all()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count(1)
        try:
            if self.greeting:
                writer.write(self.greeting)
                return
            while (request := await self._read(reader)) is not None:
                with self._changed:
                    self.seen.append(request)
                    self._changed.notify_all()
                if not await self._play(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # asyncio's streams log the end of a cancelled task as a defect
        finally:
            self._count(-1)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> Seen | None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Seen(method, path, headers, body)

    async def _play(self, request: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        gone = asyncio.ensure_future(reader.read(1))  # noqa: TID251 - a future of this scope
        try:
            async for step in self.script(request):
                if isinstance(step, Drop):
                    writer.transport.abort()
                    return False
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                    continue
                if isinstance(step, threading.Event):
                    waiter: asyncio.Future[Any] = self._loop.run_in_executor(None, step.wait, 10)
                else:
                    seconds = 60.0 if isinstance(step, Hang) else float(step)
                    waiter = asyncio.ensure_future(asyncio.sleep(seconds))  # noqa: TID251
                await asyncio.wait((gone, waiter), return_when=asyncio.FIRST_COMPLETED)
                waiter.cancel()
                if gone.done():
                    return False
        finally:
            if gone.done():
                writer.transport.abort()
            else:
                gone.cancel()
                await asyncio.gather(gone, return_exceptions=True)
        return True


def head(status: int = 200, kind: str = "application/json", *fields: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", *fields]
    lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def plain(status: int, content: Any, *fields: str) -> bytes:
    """A whole JSON answer."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return head(status, "application/json", *fields, length=len(body)) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(content: Any) -> bytes:
    """One server-sent event as an HTTP chunk; a str goes out as it is (`[DONE]`)."""
    text = content if isinstance(content, str) else json.dumps(content)
    return chunk(b"data: " + text.encode() + b"\n\n")


SSE_HEAD = head(200, "text/event-stream")
LAST_CHUNK = b"0\r\n\r\n"
DONE = event("[DONE]") + LAST_CHUNK


def delta(text: str | None = None, finish: str | None = None, **extra: Any) -> dict[str, Any]:
    """One chunk of a streamed OpenAI chat answer."""
    content: dict[str, Any] = {} if text is None else {"content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "upstream-model",
        "choices": [{"index": 0, "delta": {**content, **extra}, "finish_reason": finish}],
    }


def completion(text: str = "Hello!") -> dict[str, Any]:
    """A whole OpenAI chat answer."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "upstream-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }
