"""The memory guard: above a limit no new call is taken in, so that those under way can end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from headgate.core.errors import ConfigError, Overloaded

INTERVAL = 0.25
"""Seconds between two looks: reading the figure takes 10 µs."""
_RELEASED_AT = 0.95
"""Of the limit; calls are taken in again below it."""
_STATM = Path("/proc/self/statm")


def resident_memory() -> int:
    """Bytes of this process that are in memory, those of engine processes not included.

    Raises ConfigError where the system does not tell (anything but Linux).
    """
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError) as error:
        raise ConfigError("server.max_memory works on Linux only; remove it") from error


class MemoryGuard:
    """Looks at the resident memory from time to time; `check` refuses while it is over `limit` bytes."""

    def __init__(self, limit: int, read: Callable[[], int] = resident_memory) -> None:
        self._limit = limit
        self._read = read
        self._over = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raises ConfigError where the memory can't be read."""
        self.look()
        self._timer = loop.call_later(INTERVAL, self.start, loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        used = self._read()
        self._over = used > (self._limit * _RELEASED_AT if self._over else self._limit)

    def check(self) -> None:
        """Raises Overloaded while the memory is over the limit."""
        if self._over:
            raise Overloaded(
                "The server's memory is over its limit (server.max_memory); try again later", retry_after=2.0
            )
