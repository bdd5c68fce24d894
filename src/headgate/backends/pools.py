"""One connection pool for each origin, whichever targets use it."""

from __future__ import annotations

import threading
from collections import Counter

from headgate.upstream.http import Pool
from headgate.upstream.origin import Origin


class Pools:
    """Who takes a pool with `at` gives it back with `leave`, and the last one to leave closes it.

    Pools may be taken from any thread; all else is for the event loop's.
    """

    def __init__(self) -> None:
        self._pools: dict[Origin, Pool] = {}
        self._users: Counter[Origin] = Counter()
        self._retired: list[Pool] = []
        """Those nobody uses any more whose last answers are still under way."""
        self._lock = threading.Lock()

    def at(self, origin: Origin) -> Pool:
        with self._lock:
            pool = self._pools.get(origin)
            if pool is None:
                pool = self._pools[origin] = Pool(origin)
            self._users[origin] += 1
            return pool

    def leave(self, pool: Pool) -> None:
        origin = pool.origin
        with self._lock:
            self._retired = [each for each in self._retired if each.busy]
            if self._pools.get(origin) is not pool:
                return  # closed already
            self._users[origin] -= 1
            if self._users[origin]:
                return
            del self._pools[origin], self._users[origin]
            self._retired.append(pool)
        pool.retire()

    @property
    def open_connections(self) -> int:
        return sum(pool.open_connections for pool in (*self._pools.values(), *self._retired))

    async def close(self) -> None:
        pools = [*self._pools.values(), *self._retired]
        self._pools.clear()
        self._users.clear()
        self._retired.clear()
        for pool in pools:
            await pool.close()
