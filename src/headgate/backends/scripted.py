"""The double: a backend that answers from a script. It ships, for tests, demonstrations and dry runs.

It takes every way of going wrong that a real backend has: slow, failing at once, failing in mid-stream,
stalling for ever, never ending its answer properly.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import struct
import time
from collections.abc import AsyncGenerator
from typing import Literal

from pydantic import Field

from headgate.backends.registry import BackendType, BuildContext
from headgate.config.quantities import Duration
from headgate.config.schema import SettingsModel, TargetSettings
from headgate.core.backend import Backend, Status
from headgate.core.call import Call, Operation, Usage
from headgate.core.errors import HeadgateError, StreamBroken, UnsupportedParameter, UpstreamError
from headgate.core.events import (
    ChatEvent,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.messages import ChatRequest, Text
from headgate.core.operations import EmbedRequest, EmbedResult, Ranked, RerankRequest, RerankResult


class FaultSettings(SettingsModel):
    """What goes wrong, and when."""

    kind: Literal["error", "cut", "stall"] = Field(
        description="`error`: it reports one; `cut`: the answer ends early; `stall`: nothing more comes."
    )
    after: int = Field(default=0, ge=0, description="Pieces of the answer that come before the fault.")
    status: int = Field(default=500, ge=400, le=599, description="Status of an `error`.")
    message: str = Field(default="scripted error", description="Message of an `error`.")
    retry_after: Duration | None = Field(default=None, description="Retry-After of an `error`.")


class ScriptedSettings(TargetSettings):
    """A target that answers from a script."""

    reply: str = Field(default="This is a scripted answer.", description="The text of every chat answer.")
    pieces: int = Field(
        default=0, ge=0, description="How many deltas the text comes in; 0: one for each word."
    )
    first_delay: float = Field(default=0.0, ge=0, description="Seconds before the first event.")
    delay: float = Field(default=0.0, ge=0, description="Seconds before each further piece.")
    dimensions: int = Field(default=8, ge=1, le=4096, description="Length of embedding vectors.")
    fault: FaultSettings | None = Field(default=None, description="What goes wrong, and when.")


class ScriptedBackend:
    """Chat, embeddings and rankings from a script; the same request always has the same answer."""

    def __init__(self, settings: ScriptedSettings) -> None:
        self._script = settings
        self.running = 0
        """Answers under way now."""
        self.cancelled = 0
        """Answers that were stopped before their end."""

    @property
    def operations(self) -> frozenset[Operation]:
        return frozenset({Operation.CHAT, Operation.EMBED, Operation.RERANK})

    @property
    def status(self) -> Status:
        return Status("ready")

    async def start(self) -> None:
        """Always ready."""

    async def close(self) -> None:
        """Nothing is held."""

    async def chat(self, request: ChatRequest, call: Call) -> AsyncGenerator[ChatEvent, None]:
        _refuse_unscripted(request)
        self.running += 1
        ended = False
        try:
            async for event in self._events(request, call):
                yield event
            ended = True
        finally:
            self.running -= 1
            if not ended:
                self.cancelled += 1

    async def _events(self, request: ChatRequest, call: Call) -> AsyncGenerator[ChatEvent, None]:
        pieces = self._pieces(request)
        fault = self._script.fault
        await asyncio.sleep(self._script.first_delay)
        if fault is not None and fault.after == 0:
            await _strike(fault)
        yield Started(f"chatcmpl-{call.id}", request.model, int(time.time()))
        yield PartStarted(0, Text(""))
        for number, piece in enumerate(pieces):
            if fault is not None and number == fault.after > 0:
                try:
                    await _strike(fault)
                except HeadgateError as error:
                    yield Failed(error)
                    return
            if number:
                await asyncio.sleep(self._script.delay)
            yield PartDelta(0, piece)
        yield PartEnded(0)
        yield UsageReported(Usage(_count_words(request), len(pieces)))
        limit = request.sampling.max_tokens
        cut = limit is not None and limit < len(self._words())
        yield Finished((Stop("length" if cut else "stop"),))

    def _words(self) -> list[str]:
        words = self._script.reply.split(" ")
        return [word if i == 0 else f" {word}" for i, word in enumerate(words)]

    def _pieces(self, request: ChatRequest) -> list[str]:
        words = self._words()[: request.sampling.max_tokens]
        if not self._script.pieces:
            return words
        text = "".join(words)
        size = max(1, math.ceil(len(text) / self._script.pieces))
        return [text[i : i + size] for i in range(0, len(text), size)]

    async def embed(self, request: EmbedRequest, call: Call) -> EmbedResult:
        """Vectors of unit length that depend on nothing but their input."""
        if self._script.fault is not None:
            await _strike(self._script.fault)
        size = request.dimensions or self._script.dimensions
        vectors = tuple(_vector(repr(each), size) for each in request.inputs)
        tokens = sum(len(each.split()) if isinstance(each, str) else len(each) for each in request.inputs)
        return EmbedResult(request.model, vectors, Usage(tokens, 0))

    async def rerank(self, request: RerankRequest, call: Call) -> RerankResult:
        """By the share of the query's words that a document has."""
        if self._script.fault is not None:
            await _strike(self._script.fault)
        wanted = set(request.query.lower().split())
        ranked = [
            Ranked(index, len(wanted & set(document.lower().split())) / max(len(wanted), 1))
            for index, document in enumerate(request.documents)
        ]
        ranked.sort(key=lambda each: (-each.score, each.index))
        tokens = len(wanted) + sum(len(document.split()) for document in request.documents)
        return RerankResult(request.model, tuple(ranked[: request.top_n]), Usage(tokens))


async def _strike(fault: FaultSettings) -> None:
    if fault.kind == "error":
        raise UpstreamError(fault.message, status=fault.status, retry_after=fault.retry_after)
    if fault.kind == "cut":
        raise StreamBroken("the scripted answer was cut")
    await asyncio.Event().wait()


def _refuse_unscripted(request: ChatRequest) -> None:
    """A script has one answer in plain text: what asks for another kind is refused, not ignored."""
    asked = {
        "n": request.sampling.n not in (None, 1),
        "logprobs": bool(request.sampling.logprobs),
        "tools": bool(request.tools),
        "response_format": request.response_format is not None and request.response_format.kind != "text",
    }
    for name, present in asked.items():
        if present:
            raise UnsupportedParameter(f"the scripted backend does not do {name}", param=name)


def _count_words(request: ChatRequest) -> int:
    return sum(
        len(part.text.split())
        for message in request.messages
        for part in message.parts
        if isinstance(part, Text)
    )


def _vector(seed: str, size: int) -> bytes:
    numbers = [
        int.from_bytes(hashlib.blake2b(f"{i}:{seed}".encode(), digest_size=4).digest(), "big") / 2**31 - 1
        for i in range(size)
    ]
    length = math.sqrt(sum(x * x for x in numbers)) or 1.0
    return struct.pack(f"<{size}f", *(x / length for x in numbers))


def _build(settings: TargetSettings, context: BuildContext) -> Backend:
    assert isinstance(settings, ScriptedSettings)
    return ScriptedBackend(settings)


SCRIPTED = BackendType(ScriptedSettings, _build)
