"""What a reload replaces is closed when its last call has ended, and not before."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from typing_extensions import override

from headgate.backends.pools import Pools
from headgate.backends.scripted import ScriptedBackend, ScriptedSettings
from headgate.routing.route import Route, Router
from headgate.routing.target import Target
from headgate.server.retiring import Retiring
from headgate.upstream.origin import Origin


class Closes(ScriptedBackend):
    def __init__(self) -> None:
        super().__init__(ScriptedSettings(backend="scripted"))
        self.closed = 0

    @override
    async def close(self) -> None:
        self.closed += 1


class Fails(Closes):
    @override
    async def close(self) -> None:
        await super().close()
        raise OSError("it would not")


def target(name: str, backend: Closes) -> Target:
    return Target(name, backend, "scripted")


def router(**models: list[Target]) -> Router:
    return Router({name: Route(name, tuple(targets)) for name, targets in models.items()}, {})


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def _unused_is_closed_at_once() -> None:
    old, kept = Closes(), Closes()
    retiring = Retiring()
    retiring.replace(router(a=[target("a", old)], b=[target("b", kept)]), router(b=[target("b", kept)]))
    await turns()
    assert (old.closed, kept.closed) == (1, 0)
    assert retiring.backends == 0
    await retiring.close()
    assert (old.closed, kept.closed) == (1, 0)


async def _the_last_call_ends_it() -> None:
    gone, kept, beside = Closes(), Closes(), Closes()
    first = router(a=[target("a#0", gone), target("a#1", kept)], b=[target("b", beside)])
    route = first.routes["a"]
    route.leases.take()
    route.leases.take()
    retiring = Retiring()
    retiring.replace(first, router(a=[target("a", kept)]))
    await turns()
    assert (gone.closed, kept.closed, beside.closed) == (0, 0, 1)
    route.leases.give_back()
    await turns()
    assert gone.closed == 0
    route.leases.give_back()
    await turns()
    assert (gone.closed, kept.closed) == (1, 0)


async def _a_call_of_two_reloads_ago_counts() -> None:
    backend = Closes()
    first = router(a=[target("a", backend)])
    first.routes["a"].leases.take()
    second = router(a=[replace(first.routes["a"].targets[0], weight=2.0)])
    third = router(a=[target("a", Closes())])
    retiring = Retiring()
    retiring.replace(first, second)
    retiring.replace(second, third)
    await turns()
    assert backend.closed == 0
    first.routes["a"].leases.give_back()
    await turns()
    assert backend.closed == 1


async def _a_fallback_counts() -> None:
    spare = Closes()
    own = router(a=[target("a", Closes())], b=[target("b", spare)])
    route = own.routes["a"].with_reserves((own.routes["b"].targets,))
    first = Router({"a": route, "b": own.routes["b"]}, {})
    route.leases.take()
    retiring = Retiring()
    retiring.replace(first, router(a=[target("a", Closes())]))
    await turns()
    assert spare.closed == 0  # the call may still move there
    route.leases.give_back()
    await turns()
    assert spare.closed == 1


async def _a_stop_closes_all() -> None:
    backend, bad = Closes(), Fails()
    first = router(a=[target("a", backend), target("a#1", bad)])
    first.routes["a"].leases.take()
    retiring = Retiring()
    retiring.replace(first, router(b=[target("b", Closes())]))
    await retiring.close()
    assert (backend.closed, bad.closed) == (1, 1)
    first.routes["a"].leases.give_back()
    await turns()
    assert (backend.closed, bad.closed) == (1, 1)


async def _pools_go_with_their_last_user() -> None:
    pools = Pools()
    origin = Origin("127.0.0.1", 1)
    first, second = pools.at(origin), pools.at(origin)
    assert first is second
    pools.leave(first)
    assert pools.at(origin) is first
    pools.leave(first)
    pools.leave(first)
    assert pools.at(origin) is not first
    pools.leave(first)  # it left already: the new one stays
    again = pools.at(origin)
    pools.leave(again)
    assert pools.at(origin) is again
    await pools.close()


CASES = (
    _unused_is_closed_at_once,
    _the_last_call_ends_it,
    _a_call_of_two_reloads_ago_counts,
    _a_fallback_counts,
    _a_stop_closes_all,
    _pools_go_with_their_last_user,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.strip("_"))
def test_what_is_replaced(case: object) -> None:
    asyncio.run(case())  # type: ignore[operator]
