"""What every request needs at hand: routes, keys, limits, the ledger of calls under way.

Made once by `headgate.server.build`; read by the fast lane, the relay and the API routes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

from headgate.backends.pools import Pools
from headgate.config.schema import Settings
from headgate.core.backend import RawHeaders, Status
from headgate.core.call import ANONYMOUS, Call, outcome_of
from headgate.core.errors import HeadgateError, Overloaded, Unavailable
from headgate.observe.logs import AccessLog, request_id
from headgate.observe.metrics import Metrics
from headgate.observe.tracing import Tracing
from headgate.policy.keys import KeyRing
from headgate.policy.memory import MemoryGuard
from headgate.policy.store import Store
from headgate.routing.route import Route, Router
from headgate.routing.target import Target
from headgate.server.changes import Changes
from headgate.server.client import Client, Ongoing
from headgate.server.endpoints import Endpoint, Endpoints
from headgate.server.probing import Probes
from headgate.server.responses import ResponseBook
from headgate.server.retiring import Retiring
from headgate.server.streams import StreamBook

log = logging.getLogger("headgate.server")


@dataclass(eq=False)
class Gateway:
    """Shared state of one server. Used from the event loop's thread only."""

    settings: Settings
    router: Router
    keys: KeyRing
    metrics: Metrics
    pools: Pools
    endpoints: Endpoints
    store: Store
    """What must survive a restart, where there is a file for it."""
    book: ResponseBook
    access_log: AccessLog | None = None
    tracing: Tracing | None = None
    broken: dict[str, str] = field(default_factory=dict)
    """Models that could not be started, with the reason (`--keep-going`)."""
    failed: Collection[Target] = ()
    """Targets that could not be started, of models that serve all the same."""
    reload: Callable[[], Awaitable[Changes]] | None = None
    """Reads the configuration again; None where there is none. Raises ConfigError: nothing has changed."""
    streams: StreamBook = field(default_factory=StreamBook)
    """Streams that can be resumed."""
    rng: random.Random = field(default_factory=random.Random)
    draining: bool = False
    started: bool = False

    def __post_init__(self) -> None:
        self.probes = Probes(self.rng)
        self.retiring = Retiring()
        self._relays: set[Ongoing] = set()
        self._by_key: dict[str, int] = {}
        """Calls under way of each key that has any."""
        self._idle: asyncio.Event | None = None
        limit = self.settings.server.max_memory
        self.memory = MemoryGuard(limit) if limit is not None else None
        self._take_limits()

    def _take_limits(self) -> None:
        self.max_body = self.settings.server.max_body
        self.max_in_flight = self.settings.server.max_in_flight
        self._crowded = self.max_in_flight * 3 // 4
        self.too_large_message = (
            f"The request body is over the limit of {self.max_body} bytes (server.max_body)"
        )

    def adopt(self, settings: Settings, router: Router, broken: dict[str, str]) -> None:
        """Go by another configuration from now on. Calls under way end by the one that they began with.

        Raises:
            ConfigError: there is a memory limit and the memory can't be read; nothing has changed.
        """
        limit = settings.server.max_memory
        if limit != self.settings.server.max_memory:
            guard = MemoryGuard(limit) if limit is not None else None
            if guard is not None:
                guard.start(self.loop)
            if self.memory is not None:
                self.memory.stop()
            self.memory = guard
        old, self.router = self.router, router
        self.settings = settings
        self.keys = KeyRing(settings.server.keys)
        self.broken = broken
        self._take_limits()
        self.retiring.replace(old, router)
        self.probes.follow(router.targets)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which loop this gateway lives on; looked up once in place of once for each request."""
        self._loop = loop

    # Calls.

    @property
    def in_flight(self) -> int:
        return len(self._relays)

    def admit(self) -> None:
        """Raises Overloaded or Unavailable when no further call may start."""
        if len(self._relays) >= self.max_in_flight:
            raise Overloaded(
                f"The server has {self.max_in_flight} requests under way, its limit; try again later",
                retry_after=1.0,
            )
        if self.memory is not None:
            self.memory.check()
        if self.draining:
            raise Unavailable("The server is stopping; try again in a moment", retry_after=1.0)

    def admit_key(self, name: str) -> None:
        """Keep one key from taking every place.

        Raises Overloaded when three quarters of all places are taken and the key `name` has more than its
        share of them, while others have calls under way too.
        """
        if len(self._relays) < self._crowded:
            return
        held = self._by_key.get(name, 0)
        if held * len(self._by_key) > self.max_in_flight:
            raise Overloaded(
                f"The server is nearly full, and the key {name!r} has {held} requests under way, more than"
                " its share; try again later",
                retry_after=1.0,
            )

    def opened(self, relay: Ongoing, call: Call) -> None:
        self._relays.add(relay)
        name = call.principal.name
        self._by_key[name] = self._by_key.get(name, 0) + 1

    def finished(self, relay: Ongoing, call: Call) -> None:
        self._relays.discard(relay)
        name = call.principal.name
        left = self._by_key[name] - 1
        if left:
            self._by_key[name] = left
        else:
            del self._by_key[name]
        if self._idle is not None and not self._relays:
            self._idle.set()
        self.record(call)

    def record(self, call: Call) -> None:
        """Hand an ended call to the metrics, the access log and the tracer."""
        self.metrics.call_finished(call)
        self._report(call)

    def _report(self, call: Call) -> None:
        if self.access_log is not None:
            self.access_log.write(call)
        if self.tracing is not None:
            self.tracing.finish(call)

    def refuse(
        self, endpoint: Endpoint, headers: RawHeaders, error: HeadgateError, client: Client, model: str = ""
    ) -> None:
        """Answer a request that did not get as far as a relay, and count it."""
        now = monotonic()
        call = Call(request_id(headers), model, endpoint.operation, endpoint.speaks, now, ANONYMOUS)
        wire = endpoint.dialect.encode_error(error)
        call.status, call.outcome, call.ended = wire.status, outcome_of(error), now
        client.respond(wire.status, [*wire.headers, (b"x-request-id", call.id.encode("ascii"))], wire.body)
        self.metrics.call_refused(call)
        self._report(call)

    async def drained(self) -> None:
        """Wait until nothing is under way: there are calls without a connection."""
        self.streams.leave_unattended()
        if self._relays:
            log.info("%d calls without a connection are under way; waiting for them", len(self._relays))
            self._idle = asyncio.Event()
            await self._idle.wait()

    def abandon_all(self) -> None:
        """End every call under way: the grace period of a stop is over."""
        stopping = Unavailable("The server is stopping; try again in a moment", retry_after=1.0)
        for relay in list(self._relays):
            relay.abandon(stopping)
        self.streams.abandon_all(stopping)

    # Models.

    def route(self, model: str) -> Route:
        """Raises ModelNotFound, or Unavailable for a declared model that could not be started."""
        if model in self.broken:
            raise Unavailable(f"The model {model!r} failed to start; GET /readyz says why", param="model")
        return self.router.find(model)

    def statuses(self) -> Mapping[str, Status]:
        """Each declared model's state: the best of its targets'."""
        order = ("ready", "loading", "idle", "restarting", "failed", "stopped")
        found = {
            name: min((t.backend.status for t in route.targets), key=lambda s: order.index(s.state))
            for name, route in self.router.routes.items()
        }
        found.update({name: Status("failed", reason) for name, reason in self.broken.items()})
        return found

    def retire(self, broken: Mapping[str, str]) -> None:
        """Serve no longer what could not be started."""
        if broken:
            self.broken.update(broken)
            self.router = self.router.without(broken)

    def model_names(self) -> Sequence[str]:
        return [*self.router.routes, *self.router.aliases]
