"""Responses by id: kept, continued, fetched, replayed, listed, cancelled, deleted; each for its owner only.

Source: OpenAI API reference, "Responses": create (`store`, `background`, `previous_response_id`), retrieve,
delete, cancel, list input items.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import suppress
from typing import Any

import msgspec

from headgate.core.call import Principal
from headgate.core.errors import HeadgateError, InvalidRequest, NotFound, Overloaded, StreamBroken
from headgate.core.fold import unfold
from headgate.dialects import sse
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.json_bodies import wrong_value
from headgate.dialects.openai_responses import StreamEncoder, decode_request, decode_result, echo_of
from headgate.policy.store import MAX_TTL, Clock, Store
from headgate.server.responses.draft import (
    Asked,
    Draft,
    id_of,
    item_referred_to,
    named_items,
    refuse_previous,
    shown,
    unknown,
)
from headgate.server.responses.origins import Origins
from headgate.server.responses.run import TERMINAL, Run

log = logging.getLogger("headgate.responses")

MAX_LIST = 100


class Record(msgspec.Struct, array_like=True):
    """A response as it is kept. `response` and each of `items` is JSON."""

    owner: str
    background: bool
    status: str
    response: bytes
    items: list[bytes]


class _Output(msgspec.Struct):
    output: list[msgspec.Raw] = []


_RECORD = msgspec.msgpack.Decoder(Record)
_EVENTS = msgspec.msgpack.Decoder(list[tuple[int, bytes]])
_OUTPUT = msgspec.json.Decoder(_Output)


class ResponseBook:
    """All responses of one server. Used from the event loop's thread only.

    Args:
        store: where they are kept once they have ended.
        clock: seconds since the epoch.
        ttl: seconds for which a response is kept, 30 days at most.
        max_background: responses that may be under way in the background at once.
        max_events: bytes of one answer's events that are kept for replay.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        ttl: float = 3600.0,
        max_background: int = 64,
        max_events: int = 4 * 1024 * 1024,
    ) -> None:
        self._store = store
        self._clock = clock
        self._ttl = min(ttl, MAX_TTL)
        self._max_background = max_background
        self._max_events = max_events
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.origins = Origins(store, self._ttl)
        """Of the responses that upstreams keep."""

    async def recover(self) -> int:
        """Say of what an earlier process left under way that it failed. Returns how many there were.

        Another process that lives and shares the store still works on what is its own.
        """
        found = 0
        after = ""
        while keys := await self._store.list("running:", after):
            for key in keys:
                identity = key.removeprefix("running:")
                if _lives(await self._store.get(key)):
                    continue
                record = await self._load(identity)
                if record is not None and record.status not in TERMINAL and identity not in self._runs:
                    error = {"code": "server_error", "message": "The server stopped before the answer ended."}
                    await self._change(identity, record, "failed", {"error": error})
                    found += 1
                await self._store.delete(key)
            after = keys[-1]
        return found

    async def close(self) -> None:
        """Wait until all that has ended is kept."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.origins.close()

    # Create.

    async def open(self, asked: Asked, principal: Principal) -> Draft:
        """Expand what a request continues.

        Raises:
            InvalidRequest: with `param`; for an unknown `previous_response_id` with status 404.
        """
        asked.check_emulated()
        identity = f"resp_{secrets.token_hex(24)}"
        new = asked.input_items()
        history: list[bytes] = []
        if asked.previous is not None:
            history = await self._history(asked.previous, principal)
        items = None if new is None else [*history, *[await self._resolved(i, principal) for i in new]]
        draft = Draft(
            id=identity,
            model=asked.model,
            created=int(self._clock()),
            owner=principal.name,
            store=asked.store,
            background=asked.background,
            stream=asked.stream,
            body=asked.body(items),
            items=named_items(items or (), identity),
            echo=asked.echo(),
        )
        if draft.background:  # its caller learns of mistakes now or never
            decode_request(draft.body)
        return draft

    async def begin(self, draft: Draft) -> Run:
        """Have the answer of a draft kept. A response in the background can be fetched from now on.

        Raises:
            Overloaded: too many are under way in the background.
            Unavailable: the store can't be written.
        """
        if draft.background and self.in_background >= self._max_background:
            raise Overloaded(
                f"The server works on {self._max_background} responses in the background, its limit; "
                "try again later.",
                retry_after=5.0,
            )
        run = Run(draft, self._max_events, self._ended)
        self._runs[draft.id] = run
        if draft.background:
            try:
                await self._put(draft.id, self._record(run))
                await self._store.put(f"running:{draft.id}", str(os.getpid()).encode(), self._ttl)
            except HeadgateError:
                del self._runs[draft.id]
                raise
        return run

    @property
    def in_background(self) -> int:
        return sum(run.draft.background and not run.done for run in self._runs.values())

    # Fetch.

    async def retrieve(self, identity: str, principal: Principal) -> bytes:
        """The response object as it is now, as JSON. Raises NotFound, as all below."""
        run = self._running(identity, principal)
        if run is not None and run.response:
            return run.response
        return (await self._find(identity, principal)).response

    async def replay(
        self, identity: str, principal: Principal, starting_after: int = -1
    ) -> AsyncGenerator[bytes, None]:
        """Framed events with numbers above `starting_after`; of an answer under way, those to come as well.

        An answer that was not streamed is told in the events in which it would have been.
        """
        run = self._running(identity, principal)
        if run is not None and (run.events or not run.done):
            return run.follow(starting_after)
        record = await self._find(identity, principal)
        kept = await self._store.get(f"events:{identity}")
        events = _EVENTS.decode(kept) if kept is not None else _told(record)
        return _from(events, starting_after)

    async def input_items(
        self,
        identity: str,
        principal: Principal,
        *,
        after: str | None = None,
        limit: int = 20,
        order: str = "desc",
    ) -> bytes:
        """One page of what the response was asked, history included, as a JSON list object."""
        if not 1 <= limit <= MAX_LIST:
            raise wrong_value("limit", f"it must be between 1 and {MAX_LIST}")
        if order not in ("asc", "desc"):
            raise wrong_value("order", "supported values are 'asc', 'desc'")
        run = self._running(identity, principal)
        items = list(run.draft.items if run is not None else (await self._find(identity, principal)).items)
        if order == "desc":
            items.reverse()
        ids = [id_of(item) for item in items]
        start = 0
        if after is not None:
            if after not in ids:
                raise wrong_value("after", "there is no item with this id among those of the response")
            start = ids.index(after) + 1
        page, page_ids = items[start : start + limit], ids[start : start + limit]
        return msgspec.json.encode(
            {
                "object": "list",
                "data": [msgspec.Raw(item) for item in page],
                "first_id": page_ids[0] if page_ids else None,
                "last_id": page_ids[-1] if page_ids else None,
                "has_more": start + limit < len(items),
            }
        )

    # Change.

    async def cancel(self, identity: str, principal: Principal) -> bytes:
        """Stop a response in the background; one that has ended stays as it is. Gives the response object.

        Raises:
            InvalidRequest: it is not in the background.
        """
        run = self._running(identity, principal)
        record = self._record(run) if run is not None else await self._find(identity, principal)
        if not record.background:
            raise InvalidRequest(
                "Cannot cancel a synchronous response. Only responses that were created with "
                "'background' set to true can be cancelled.",
                code="response_not_cancellable",
            )
        if run is not None:
            run.cancel()
            return run.response
        if record.status not in TERMINAL:  # begun by another process
            return await self._change(identity, record, "cancelled", {})
        return record.response

    async def delete(self, identity: str, principal: Principal) -> bytes:
        """Forget a response; one under way in the background is stopped. Gives the confirmation as JSON."""
        run = self._running(identity, principal)
        if run is None:
            await self._find(identity, principal)
        else:
            del self._runs[identity]
            run.cancel()
        for kind in ("response", "events", "running"):
            await self._store.delete(f"{kind}:{identity}")
        return msgspec.json.encode({"id": identity, "object": "response", "deleted": True})

    # Within.

    def _running(self, identity: str, principal: Principal) -> Run | None:
        run = self._runs.get(identity)
        if run is not None and run.draft.owner != principal.name:
            raise unknown(identity)
        return run

    async def _find(self, identity: str, principal: Principal) -> Record:
        record = await self._load(identity)
        if record is None or record.owner != principal.name:
            raise unknown(identity)
        return record

    async def _load(self, identity: str) -> Record | None:
        value = await self._store.get(f"response:{identity}")
        return None if value is None else _RECORD.decode(value)

    async def _history(self, identity: str, principal: Principal) -> list[bytes]:
        """The items of a response and of all before it, its own output last."""
        try:
            run = self._running(identity, principal)
            record = self._record(run) if run is not None else await self._find(identity, principal)
        except NotFound:
            raise refuse_previous(identity) from None
        if record.status not in TERMINAL:
            raise wrong_value("previous_response_id", "the response has not ended yet; wait, or cancel it")
        return [*record.items, *(bytes(item) for item in _OUTPUT.decode(record.response).output)]

    async def _resolved(self, item: bytes, principal: Principal) -> bytes:
        """The item that a reference means, if one of our responses has it; else the item itself."""
        named = item_referred_to(item)
        if named is None:
            return item
        response, identity = named
        try:
            candidates = await self._history(response, principal)
        except InvalidRequest:
            candidates = []
        for candidate in candidates:
            if id_of(candidate) == identity:
                return candidate
        raise InvalidRequest(f"Item with id '{shown(identity)}' not found.", param="input", status=404)

    def _record(self, run: Run) -> Record:
        draft = run.draft
        return Record(draft.owner, draft.background, run.status, run.response, list(draft.items))

    async def _put(self, identity: str, record: Record) -> None:
        await self._store.put(f"response:{identity}", msgspec.msgpack.encode(record), self._ttl)

    async def _change(self, identity: str, record: Record, status: str, details: dict[str, Any]) -> bytes:
        response = msgspec.json.decode(record.response) | {"status": status} | details
        record.status = status
        record.response = msgspec.json.encode(response)
        await self._put(identity, record)
        return record.response

    def _ended(self, run: Run) -> None:
        if self._runs.get(run.draft.id) is run:
            self._spawn(self._keep(run))

    async def _keep(self, run: Run) -> None:
        """What has ended leaves the runs only once it is in the store, so that it is always found."""
        identity = run.draft.id
        try:
            if run.events:
                await self._store.put(f"events:{identity}", msgspec.msgpack.encode(run.events), self._ttl)
            await self._put(identity, self._record(run))
            if run.draft.background:
                await self._store.delete(f"running:{identity}")
        except HeadgateError as error:
            log.warning("response %s is not kept: %s", identity, error.message)
            with suppress(HeadgateError):
                await self._give_up(run, error)
        if self._runs.pop(identity, None) is None:  # deleted meanwhile
            for kind in ("response", "events"):
                await self._store.delete(f"{kind}:{identity}")

    async def _give_up(self, run: Run, error: HeadgateError) -> None:
        """What can't be kept leaves nothing behind that seems to go on for ever."""
        draft = run.draft
        await self._store.delete(f"events:{draft.id}")
        if draft.background:
            response = draft.opening()[1] | {"status": "failed"}
            response["error"] = {
                "code": "server_error",
                "message": f"The answer is not kept: {error.message}",
            }
            record = Record(draft.owner, True, "failed", msgspec.json.encode(response), list(draft.items))
            try:
                await self._put(draft.id, record)
            except HeadgateError:
                await self._store.delete(f"response:{draft.id}")
            await self._store.delete(f"running:{draft.id}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _from(events: Iterable[tuple[int, bytes]], after: int) -> AsyncGenerator[bytes, None]:
    for number, data in events:
        if number > after:
            yield data


def _told(record: Record) -> list[tuple[int, bytes]]:
    """The events of an answer that came as a whole."""
    response = msgspec.json.decode(record.response)
    encoder = StreamEncoder(AnswerOptions(), echo_of(response))
    try:
        wire = b"".join(encoder.encode(event) for event in unfold(decode_result(record.response)))
    except (HeadgateError, StreamBroken):
        encoder.begin(response["id"], response["model"], response["created_at"])
        kind = "response.failed" if record.status == "failed" else "response.in_progress"
        data = msgspec.json.encode({"type": kind, "sequence_number": 0, "response": response})
        wire = sse.encode(data, kind)
    blocks = wire.split(b"\n\n")[:-1]
    return [(number, block + b"\n\n") for number, block in enumerate(blocks)]


def _lives(process: bytes | None) -> bool:
    """Another process of this number runs. A number is used again in time: then a response stays as it is
    until it is too old to be kept."""
    if not process or not process.isdigit() or int(process) == os.getpid() or sys.platform == "win32":
        return False
    try:
        os.kill(int(process), 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
