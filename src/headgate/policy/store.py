"""Small state that outlives a request: bytes under keys, each with an end of life, bounded in all.

In memory by default; in SQLite for what must survive a restart. Keys are text, `kind:id` by convention.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from headgate.core.errors import ConfigError, PayloadTooLarge, Unavailable

MAX_BYTES = 256 * 1024 * 1024
MAX_ITEMS = 100_000
MAX_TTL = 30 * 24 * 3600.0
"""Seconds; nothing is kept for longer."""

_ITEM_OVERHEAD = 200
"""Bytes that an entry takes besides its key and value, roughly."""

Result = TypeVar("Result")
Clock = Callable[[], float]


class Store(Protocol):
    """Where state is kept. Used from the event loop, which none of these blocks."""

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        """Keep `value` for `ttl` seconds, in place of what was there. The oldest entries make room.

        Raises:
            PayloadTooLarge: it alone is larger than the store may grow.
            Unavailable: the store can't be written.
        """
        ...

    async def put_many(self, entries: Sequence[tuple[str, bytes, float]]) -> None:
        """`put` of several entries (key, value, ttl), all of them or none.

        Raises:
            PayloadTooLarge: together they are larger than the store may grow.
            Unavailable: the store can't be written.
        """
        ...

    async def get(self, key: str) -> bytes | None: ...

    async def delete(self, key: str) -> bool:
        """Was there anything?"""
        ...

    async def list(self, prefix: str, after: str = "", limit: int = 100) -> list[str]:
        """Keys that begin with `prefix` and sort behind `after`, in order, `limit` at most."""
        ...

    async def close(self) -> None: ...


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + _ITEM_OVERHEAD


def _check(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise PayloadTooLarge(
            f"An entry of {size:,} bytes can't be kept: the whole store may hold {max_bytes:,} bytes."
        )


class MemoryStore:
    """Entries in this process; gone with it.

    Args:
        max_bytes: of all entries, overhead included.
        max_items: how many there may be.
        clock: seconds, of any epoch.
    """

    def __init__(
        self, max_bytes: int = MAX_BYTES, max_items: int = MAX_ITEMS, clock: Clock = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._max_items = max_items
        self._clock = clock
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._keys: list[str] = []
        self._ends: list[tuple[float, str]] = []
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes held, overhead included."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        size = _size(key, value)
        _check(size, self._max_bytes)
        self._expire()
        self._drop(key)
        while self._entries and (
            self._bytes + size > self._max_bytes or len(self._entries) >= self._max_items
        ):
            self._drop(next(iter(self._entries)))
        end = self._clock() + min(ttl, MAX_TTL)
        self._entries[key] = (value, end)
        insort(self._keys, key)
        insort(self._ends, (end, key))
        self._bytes += size

    async def put_many(self, entries: Sequence[tuple[str, bytes, float]]) -> None:
        _check(sum(_size(key, value) for key, value, _ in entries), self._max_bytes)
        for key, value, ttl in entries:
            await self.put(key, value, ttl)

    async def get(self, key: str) -> bytes | None:
        self._expire()
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    async def delete(self, key: str) -> bool:
        self._expire()
        return self._drop(key)

    async def list(self, prefix: str, after: str = "", limit: int = 100) -> list[str]:
        self._expire()
        found: list[str] = []
        start = bisect_left(self._keys, max(prefix, after))
        for key in self._keys[start : start + limit + 1]:
            if not key.startswith(prefix) or len(found) == limit:
                break
            if key != after:
                found.append(key)
        return found

    async def close(self) -> None:
        self._entries.clear()
        self._keys.clear()
        self._ends.clear()
        self._bytes = 0

    def _expire(self) -> None:
        now = self._clock()
        while self._ends and self._ends[0][0] <= now:
            self._drop(self._ends[0][1])

    def _drop(self, key: str) -> bool:
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        value, end = entry
        self._bytes -= _size(key, value)
        del self._keys[bisect_left(self._keys, key)]
        del self._ends[bisect_left(self._ends, (end, key))]
        return True


_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, ends REAL NOT NULL, size INTEGER NOT NULL,
    put INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_by_end ON entries (ends);
CREATE INDEX IF NOT EXISTS entries_by_age ON entries (put, size);
"""


class SqliteStore:
    """Entries in one SQLite file, shared by the processes that open it. One thread does all the work.

    Args:
        path: of the file; its folder exists.
        max_bytes: of all entries, overhead included.
        clock: seconds since the epoch, for they outlive the process.

    Raises:
        ConfigError: the file can't be opened, or is no such store.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, clock: Clock = time.time) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        try:
            self._database = self._thread.submit(_open, path).result()
        except (sqlite3.Error, OSError) as error:
            self._thread.shutdown()
            raise ConfigError(
                f"The store {path} can't be opened ({error}). Name a file in a folder that the server may "
                "write to, or move the file away if it is something else."
            ) from None

    async def put(self, key: str, value: bytes, ttl: float) -> None:
        await self.put_many([(key, value, ttl)])

    async def put_many(self, entries: Sequence[tuple[str, bytes, float]]) -> None:
        size = sum(_size(key, value) for key, value, _ in entries)
        _check(size, self._max_bytes)
        now = self._clock()
        rows = [(key, value, now + min(ttl, MAX_TTL), _size(key, value)) for key, value, ttl in entries]
        await self._do(lambda: self._put(rows, size))

    async def get(self, key: str) -> bytes | None:
        query = "SELECT value FROM entries WHERE key = ? AND ends > ?"
        row = await self._do(lambda: self._database.execute(query, (key, self._clock())).fetchone())
        return None if row is None else bytes(row[0])

    async def delete(self, key: str) -> bool:
        return await self._do(lambda: self._delete(key))

    async def list(self, prefix: str, after: str = "", limit: int = 100) -> list[str]:
        query = (
            "SELECT key FROM entries WHERE key >= ? AND key > ? AND substr(key, 1, ?) = ? AND ends > ? "
            "ORDER BY key LIMIT ?"
        )
        values = (prefix, after, len(prefix), prefix, self._clock(), limit)
        rows = await self._do(lambda: self._database.execute(query, values).fetchall())
        return [row[0] for row in rows]

    async def close(self) -> None:
        await self._do(self._database.close)
        self._thread.shutdown(wait=False)

    async def _do(self, work: Callable[[], Result]) -> Result:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise Unavailable(f"The server's store can't be used now ({error}).") from None

    def _put(self, rows: Sequence[tuple[str, bytes, float, int]], size: int) -> None:
        database = self._database
        with database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("DELETE FROM entries WHERE ends <= ?", (self._clock(),))
            database.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key, *_ in rows])
            (held,) = database.execute("SELECT coalesce(sum(size), 0) FROM entries").fetchone()
            self._make_room(held + size - self._max_bytes)
            (last,) = database.execute("SELECT coalesce(max(put), 0) FROM entries").fetchone()
            numbered = [(*row, last + number) for number, row in enumerate(rows, 1)]
            database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", numbered)

    def _make_room(self, wanted: int) -> None:
        """Delete the oldest entries until `wanted` bytes are free."""
        while wanted > 0:
            query = "SELECT key, size FROM entries ORDER BY put LIMIT 1"
            key, size = self._database.execute(query).fetchone()
            self._database.execute("DELETE FROM entries WHERE key = ?", (key,))
            wanted -= size

    def _delete(self, key: str) -> bool:
        with self._database:
            query = "DELETE FROM entries WHERE key = ? AND ends > ?"
            return self._database.execute(query, (key, self._clock())).rowcount > 0


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        with suppress(sqlite3.Error):
            database.close()
        raise
    # Answers are somebody's text: nobody else on the machine reads them.
    path.chmod(0o600)
    return database
