"""One connection pool for each origin, whichever targets use it."""

from __future__ import annotations

from headgate.upstream.http import Pool
from headgate.upstream.origin import Origin


class Pools:
    def __init__(self) -> None:
        self._pools: dict[Origin, Pool] = {}

    def at(self, origin: Origin) -> Pool:
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(origin)
        return pool

    @property
    def open_connections(self) -> int:
        return sum(pool.open_connections for pool in self._pools.values())

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close()
        self._pools.clear()
