"""One GET of our own, for its status alone: is the upstream well?"""

from __future__ import annotations

import asyncio

from headgate.core.backend import Exchange, RawHeaders, Timeouts
from headgate.core.errors import HeadgateError, Unavailable
from headgate.dialects.openai_errors import parse_retry_after
from headgate.upstream.http import Pool

MOST_READ = 1024 * 1024
"""Bytes of an answer that are read, so that its connection can serve calls; beyond, it is closed."""


class _Answer:
    """Receives one exchange; `status` has its result when it is over."""

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.exchange: Exchange | None = None
        self.retry_after: float | None = None
        self._known = 0
        self._read = 0

    def on_head(self, status: int, headers: RawHeaders) -> None:
        self._known = status
        for name, value in headers:
            if name == b"retry-after":
                self.retry_after = parse_retry_after(value.decode("latin-1"))

    def on_data(self, data: bytes) -> None:
        self._read += len(data)
        if self._read > MOST_READ and self.exchange is not None:
            self.exchange.abort()
            self.on_end()

    def on_end(self) -> None:
        if not self.status.done():
            self.status.set_result(self._known)

    def on_fail(self, error: HeadgateError) -> None:
        if not self.status.done():
            self.status.set_exception(error)


async def knock(pool: Pool, head: bytes, timeouts: Timeouts) -> None:
    """Send `head`, a whole request, and wait for the end of its answer.

    Raises:
        Unavailable: the answer's status is 500 or above.
        HeadgateError: there was none.
    """
    answer = _Answer()
    answer.exchange = pool.send(head, b"", answer, timeouts=timeouts)
    try:
        status = await answer.status
    finally:
        answer.exchange.abort()
    if status >= 500:
        raise Unavailable(f"a probe was answered with {status}", retry_after=answer.retry_after)
