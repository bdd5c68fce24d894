"""`--watch`: looks at the configuration's files from time to time, and reloads when they have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from headgate.config.sources import Source, Stamps

INTERVAL = 0.5
"""Seconds between two looks: one takes some 10 µs for each file, on a thread."""


async def watch(
    source: Source, reload: Callable[[], Awaitable[object]], *, interval: float = INTERVAL
) -> None:
    """Run until cancelled.

    A change is taken over when two looks in a row have found the same: a file that is still being written is
    left alone. What a reload refuses is in the log, and tried again when a file changes again.
    """
    last: Stamps | None = None
    while True:
        await asyncio.sleep(interval)
        now = await asyncio.to_thread(source.stamps)
        if now == last and now != source.read_stamps:
            with suppress(Exception):  # it is in the log
                await reload()
        last = now
