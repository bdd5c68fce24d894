"""Two hundred streams at once; half of the callers leave; and an event loop that nothing may hold up."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import request
from tests.support.upstream import DONE, SSE_HEAD, Seen, Step, delta, event

CHAT = "/v1/chat/completions"
STREAMS = 200
PIECES = 5


@dataclass
class Caller:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def reset(self) -> None:
        """Leave as a killed process does: at once, with a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def _open(port: int, number: int) -> Caller:
    """One stream that has had its first piece."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = {"model": "gpt", "stream": True, "messages": [{"role": "user", "content": str(number)}]}
    text = json.dumps(body).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(text), text)
    )
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    await reader.readuntil(b"first of %d" % number)
    return Caller(reader, writer)


async def _finish(caller: Caller, number: int) -> None:
    rest = await caller.reader.readuntil(b"0\r\n\r\n")
    caller.writer.close()
    assert rest.count(b'next of %d"' % number) == PIECES
    assert b"data: [DONE]\n\n" in rest


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "asgi"])
def test_half_of_the_callers_leave_and_the_other_half_is_served(play: Play, serve: Serve, fast: bool) -> None:
    released = threading.Event()

    async def script(seen: Seen) -> AsyncIterator[Step]:
        number = seen.json["messages"][0]["content"]
        yield SSE_HEAD + event(delta(f"first of {number}"))
        while not released.is_set():
            yield 0.05
        for _ in range(PIECES):
            yield event(delta(f"next of {number}"))
        yield event(delta(finish="stop")) + DONE

    upstream = play(script)
    server = serve(models={"gpt": remote(upstream)}, fast=fast)

    async def main() -> float:
        callers = await asyncio.gather(*(_open(server.port, n) for n in range(STREAMS)))
        assert upstream.open_connections == STREAMS
        assert server.gateway.in_flight == STREAMS
        began = time.perf_counter()
        for caller in callers[::2]:
            caller.reset()
        half = STREAMS // 2
        freed = await asyncio.to_thread(upstream.wait_until, lambda u: u.open_connections <= half, 1.0)
        took = time.perf_counter() - began
        assert freed, (
            f"{upstream.open_connections} upstream connections are left of {STREAMS} after {took:.3f} s"
        )
        assert upstream.open_connections == half
        assert server.gateway.in_flight == half
        released.set()
        await asyncio.gather(*(_finish(callers[n], n) for n in range(1, STREAMS, 2)))
        return took

    took = asyncio.run(main())
    print(f"\n{STREAMS // 2} of {STREAMS} callers killed: upstream connections freed in {took * 1000:.0f} ms")
    assert server.gateway.in_flight == 0
    text = request(server.port, "GET", "/metrics").body.decode()
    for outcome, status in (("ok", 200), ("cancelled", 499)):
        series = f'model="gpt",operation="chat",outcome="{outcome}",status="{status}"}}'
        assert f"{series} {STREAMS // 2}.0" in text
