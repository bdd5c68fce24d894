"""Which upstream keeps what: ids that upstreams gave, whose they are, and from where they came.

Nothing of a request or an answer is held here.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from headgate.core.backend import Archive, ArchiveBackend
from headgate.core.call import Principal
from headgate.core.errors import HeadgateError, InvalidRequest, NotFound
from headgate.dialects.openai_responses.vocabulary import NAME
from headgate.policy.store import Store
from headgate.routing.route import Route, Router
from headgate.routing.target import Target
from headgate.server.responses.draft import shown, unknown

log = logging.getLogger("headgate.responses")

Kind: TypeAlias = Literal["native", "conversation"]
"""`native`: a response that an upstream keeps."""

MAX_ID = 512
"""Characters of an id that can be remembered; those of vendors have about 60."""


class Origin(msgspec.Struct, array_like=True, frozen=True):
    """Where an id came from.

    Args:
        owner: name of the key that it was made for.
        model, target: what answered.
        address: of the upstream, for targets are numbered and a changed configuration may number them anew.
    """

    owner: str
    model: str
    target: str
    address: str


@dataclass(slots=True)
class _Coming:
    """An origin on its way into the store; None when it was forgotten meanwhile."""

    origin: Origin | None
    writes: int = 0


_ORIGIN = msgspec.msgpack.Decoder(Origin)


class Origins:
    """Remembers origins until their time is over. Used from the event loop's thread only.

    Args:
        ttl: seconds.
    """

    def __init__(self, store: Store, ttl: float) -> None:
        self._store = store
        self._ttl = ttl
        self._coming: dict[str, _Coming] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def remember(self, kind: Kind, identity: str, origin: Origin) -> None:
        """From now on `identity` is known, also while it is not yet in the store."""
        if len(identity) > MAX_ID:
            log.warning("an upstream's id of %d characters is not remembered", len(identity))
            return
        key = f"{kind}:{identity}"
        coming = self._coming.setdefault(key, _Coming(origin))
        coming.origin = origin
        coming.writes += 1
        task = asyncio.get_running_loop().create_task(self._put(key, origin, coming))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def find(self, kind: Kind, identity: str, principal: Principal) -> Origin | None:
        """None for an id that no upstream gave. Raises NotFound: it is another key's."""
        if len(identity) > MAX_ID:
            return None
        key = f"{kind}:{identity}"
        coming = self._coming.get(key)
        if coming is not None:
            origin = coming.origin
        else:
            kept = await self._store.get(key)
            origin = None if kept is None else _ORIGIN.decode(kept)
        if origin is not None and origin.owner != principal.name:
            raise unknown(identity, "Response" if kind == "native" else "Conversation")
        return origin

    async def forget(self, kind: Kind, identity: str) -> None:
        key = f"{kind}:{identity}"
        coming = self._coming.get(key)
        if coming is not None:
            coming.origin = None
        await self._store.delete(key)

    async def close(self) -> None:
        """Wait until all is in the store."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _put(self, key: str, origin: Origin, coming: _Coming) -> None:
        try:
            await self._store.put(key, msgspec.msgpack.encode(origin), self._ttl)
        except HeadgateError as error:
            log.warning("%s is not remembered and can't be fetched: %s", key, error.message)
        coming.writes -= 1
        if coming.writes == 0 and coming.origin is None:
            with suppress(HeadgateError):  # it ends by itself when its time is over
                await self._store.delete(key)
        if coming.writes == 0 and self._coming.get(key) is coming:
            del self._coming[key]


def archive_of(target: Target) -> Archive | None:
    """What the target's upstream keeps of its answers in OpenAI's Responses dialect."""
    backend = target.backend
    return backend.archive(NAME) if isinstance(backend, ArchiveBackend) else None


def home_of(origin: Origin, identity: str, router: Router) -> tuple[Target, Archive]:
    """The target that an id came from, as it is configured now.

    Raises:
        NotFound: there is none any more.
    """
    own = router.routes.get(origin.model)
    routes = [*([own] if own is not None else []), *router.routes.values()]
    found = [
        (target, archive)
        for route in routes
        for target in route.targets
        if (archive := archive_of(target)) is not None and archive.address == origin.address
    ]
    for target, archive in found:
        if target.name == origin.target:
            return target, archive
    if found:  # its model has another name now, or its targets another order
        return found[0]
    raise NotFound(
        f"'{shown(identity)}' is kept by the upstream of the model {origin.model!r}, "
        "which is not configured any more."
    )


def target_in(route: Route, origin: Origin, identity: str, router: Router, param: str) -> Target:
    """The target of `route` that can go on with what `identity`, in the field `param`, names.

    Raises:
        InvalidRequest: none of them has the account in which it is kept.
        NotFound: nothing that is configured has it.
    """
    home, archive = home_of(origin, identity, router)
    reached = [target for target in route.targets if target is home]
    for target in route.targets:
        other = archive_of(target)
        if other is not None and other.account == archive.account:
            reached.append(target)
    if reached:
        return reached[0]
    raise InvalidRequest(
        f"'{shown(identity)}' is kept by the upstream of the model {origin.model!r}, where "
        f"{route.model!r} can't read it: continue with {origin.model!r}, or send the whole conversation "
        "as 'input'.",
        param=param,
        code="kept_elsewhere",
    )
