"""What the tests of kept responses share: a book with a clock that stands still, and scripted answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any

from headgate.core.call import Principal, Usage
from headgate.core.events import (
    ChatEvent,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.fold import fold
from headgate.core.messages import Reasoning, Text, ToolCall
from headgate.dialects.dialect import AnswerOptions
from headgate.policy.store import MemoryStore, Store
from headgate.server.responses import (
    Asked,
    Draft,
    ResponseBook,
    Run,
)
from tests.unit.responses.test_store import FakeClock
from tests.unit.responses.wire import valid

ANN, BOB = Principal("ann"), Principal("bob")
OPTIONS = AnswerOptions(model="m")

ANSWER: list[ChatEvent] = [
    Started("up", "upstream", 3),
    PartStarted(0, Text("")),
    PartDelta(0, "It is "),
    PartDelta(0, "sunny."),
    PartEnded(0),
    UsageReported(Usage(3, 4)),
    Finished((Stop("stop"),)),
]
CALLS: list[ChatEvent] = [
    Started("up", "upstream", 3),
    PartStarted(0, Reasoning("Hm.", "sig", origin="anthropic")),
    PartEnded(0),
    PartStarted(1, ToolCall("call_a", "weather", "{}")),
    PartEnded(1),
    Finished((Stop("tool_calls"),)),
]


class Bench:
    """A book with a clock that stands still until told."""

    def __init__(self, store: Store | None = None, **options: Any) -> None:
        self.clock = FakeClock()
        self.store = store if store is not None else MemoryStore(clock=self.clock)
        self.book = ResponseBook(self.store, self.clock, **options)

    async def open(self, principal: Principal = ANN, **fields: Any) -> Draft:
        body = json.dumps({"model": "m", "input": "Hi"} | fields).encode()
        return await self.book.open(Asked(body), principal)

    async def answered(self, events: Sequence[ChatEvent] = ANSWER, **fields: Any) -> Draft:
        """A request with its answer, ended and kept."""
        draft = await self.open(**fields)
        run = await self.book.begin(draft)
        if draft.stream or draft.background:
            feed(draft, run, events)
        else:
            run.answer(200, draft.dialect.encode_result(fold(list(events)), OPTIONS)[0])
        await self.book.close()
        return draft

    async def fetched(self, draft: Draft, principal: Principal = ANN) -> dict[str, Any]:
        return valid(await self.book.retrieve(draft.id, principal))


def feed(draft: Draft, run: Run, events: Sequence[ChatEvent]) -> bytes:
    encoder = draft.dialect.stream_encoder(OPTIONS)
    wire = b"".join(encoder.encode(event) for event in events)
    for cut in range(0, len(wire), 37):
        run.feed(wire[cut : cut + 37])
    return wire


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def gather(stream: AsyncGenerator[bytes, None]) -> list[bytes]:
    return [data async for data in stream]


def kinds_of(events: list[bytes]) -> list[str]:
    return [
        data.partition(b"\n")[0].decode().removeprefix("event: ").removeprefix("response.") for data in events
    ]
