"""The memory guard: when it refuses, when it lets in again, and what it reads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headgate.core.errors import ConfigError, Overloaded
from headgate.policy import memory
from headgate.policy.memory import MemoryGuard, resident_memory


def test_it_refuses_above_the_limit_until_well_below_it() -> None:
    used = [90]
    guard = MemoryGuard(100, lambda: used[0])
    for used[0], refused in ((90, False), (101, True), (97, True), (94, False), (100, False)):
        guard.look()
        if refused:
            with pytest.raises(Overloaded) as caught:
                guard.check()
            assert caught.value.retry_after
        else:
            guard.check()


def test_it_looks_again_until_it_is_stopped() -> None:
    looks = 0

    async def main() -> None:
        enough = asyncio.Event()

        def read() -> int:
            nonlocal looks
            looks += 1
            if looks == 3:
                enough.set()
            return 0

        guard = MemoryGuard(1, read)
        guard.start(asyncio.get_running_loop())
        await enough.wait()
        guard.stop()

    asyncio.run(main())
    assert looks == 3


def test_the_memory_of_this_process_grows_with_what_it_holds() -> None:
    before = resident_memory()
    held = bytearray(b"x" * 64_000_000)
    assert resident_memory() - before > 50_000_000
    del held


def test_where_nobody_tells_it_can_not_be_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_STATM", tmp_path / "nothing")
    with pytest.raises(ConfigError, match="max_memory"):
        resident_memory()
