"""The store: end of life, bounds, order, and what survives a restart."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from headgate.core.errors import ConfigError, PayloadTooLarge, Unavailable
from headgate.policy.store import MAX_TTL, MemoryStore, SqliteStore, Store


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


Make = Callable[..., Store]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    def build(**options: Any) -> Store:
        if request.param == "memory":
            return MemoryStore(**options)
        return SqliteStore(tmp_path / "store.db", **options)

    return build


def test_put_get_delete_list(make: Make) -> None:
    async def work() -> None:
        store = make()
        assert await store.get("a:1") is None
        for key in ("a:2", "a:1", "b:1", "a:3"):
            await store.put(key, key.encode(), 10)
        await store.put("a:1", b"new", 10)
        assert await store.get("a:1") == b"new"
        assert await store.list("a:") == ["a:1", "a:2", "a:3"]
        assert await store.list("a:", after="a:1") == ["a:2", "a:3"]
        assert await store.list("a:", limit=2) == ["a:1", "a:2"]
        assert await store.list("c:") == []
        assert await store.delete("a:2")
        assert not await store.delete("a:2")
        assert await store.list("a:") == ["a:1", "a:3"]
        await store.close()

    run(work())


def test_entries_end(make: Make) -> None:
    async def work() -> None:
        clock = FakeClock()
        store = make(clock=clock)
        await store.put("a", b"1", 10)
        await store.put("b", b"2", 20)
        await store.put("c", b"3", 10 * MAX_TTL)
        clock.now += 10
        assert await store.get("a") is None
        assert not await store.delete("a")
        assert await store.list("") == ["b", "c"]
        clock.now += MAX_TTL
        assert await store.get("c") is None
        await store.close()

    run(work())


def test_the_oldest_make_room(make: Make) -> None:
    async def work() -> None:
        store = make(max_bytes=1000)
        for key in ("c", "b", "a"):
            await store.put(key, bytes(100), 10)
        assert await store.list("") == ["a", "b", "c"]
        await store.put("b", bytes(101), 10)
        await store.put("d", bytes(100), 10)
        assert await store.list("") == ["a", "b", "d"]
        with pytest.raises(PayloadTooLarge):
            await store.put("e", bytes(1000), 10)
        assert await store.list("") == ["a", "b", "d"]
        await store.close()

    run(work())


def test_memory_holds_so_many() -> None:
    async def work() -> None:
        store = MemoryStore(max_items=2)
        for key in "abc":
            await store.put(key, b"", 10)
        assert (await store.list(""), len(store)) == (["b", "c"], 2)
        await store.delete("b")
        await store.delete("c")
        assert store.size == 0

    run(work())


def test_sqlite_survives_and_is_private(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "s.db"
        first = SqliteStore(path)
        await first.put("a", b"\0\xff", 10)
        second = SqliteStore(path)
        assert await second.get("a") == b"\0\xff"
        await first.close()
        await second.put("b", b"2", 10)
        await second.close()
        third = SqliteStore(path)
        assert await third.list("") == ["a", "b"]
        await third.close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    run(work())


def test_sqlite_that_can_not_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be opened"):
        SqliteStore(tmp_path / "no" / "s.db")
    other = tmp_path / "other"
    other.write_bytes(b"not a database, but some text that is long enough to be told from one" * 20)
    with pytest.raises(ConfigError, match="can't be opened"):
        SqliteStore(other)


def test_sqlite_that_fails_later(tmp_path: Path) -> None:
    async def work() -> None:
        store = SqliteStore(tmp_path / "s.db")
        with sqlite3.connect(tmp_path / "s.db") as other:
            other.execute("DROP TABLE entries")
        other.close()
        with pytest.raises(Unavailable):
            await store.put("a", b"", 10)
        await store.close()

    run(work())
