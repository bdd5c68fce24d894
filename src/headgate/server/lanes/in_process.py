"""Backends that answer in events or results: encoded into the caller's dialect as they come."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from typing_extensions import override

from headgate.core.backend import ChatBackend, EmbedBackend, RawHeaders, Receiver, RerankBackend, Timeouts
from headgate.core.call import Usage
from headgate.core.errors import DeadlineExceeded, HeadgateError, Internal
from headgate.core.estimate import estimate_tokens
from headgate.core.events import ChatEvent, Failed, Finished, UsageReported
from headgate.core.fold import Assembler
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest
from headgate.core.operations import EmbedRequest, RerankRequest
from headgate.dialects.dialect import ChatDialect, CountDialect, EmbedDialect, RerankDialect
from headgate.server.intake import Intake
from headgate.server.lanes.lane import JSON_HEAD, LossRefused

log = logging.getLogger("headgate.lanes")

Work: TypeAlias = Callable[[], Awaitable[tuple[bytes, Usage]]]
"""Makes the body of an answer, and says what it used."""

ESTIMATED = Loss("input_tokens", "estimated: the model's upstream does not count tokens")


class _TaskLane:
    """A lane whose work is a coroutine on this loop. Subclasses give `_work`."""

    failed = False
    streaming = False
    connected: float | None = None
    losses: Sequence[Loss] = ()

    def __init__(self, receiver: Receiver, intake: Intake, timeouts: Timeouts) -> None:
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.complete = False
        self._deadline = intake.call.deadline
        self._timeouts = timeouts
        self._begun = False
        self._limit = asyncio.timeout_at(self._until(timeouts.first_event))
        self._receiver = receiver
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _work(self) -> None:
        raise NotImplementedError

    def _until(self, seconds: float) -> float:
        at = asyncio.get_running_loop().time() + seconds
        return at if self._deadline is None else min(at, self._deadline)

    def _progress(self) -> None:
        """Something came from the backend: from here the idle limit counts."""
        self._begun = True
        self._limit.reschedule(self._until(self._timeouts.idle))

    async def _flow(self) -> None:
        """Wait while the caller's side is full; that is no idleness of the backend's."""
        if not self._flowing.is_set():
            self._limit.reschedule(self._deadline)
            await self._flowing.wait()
            self._progress()

    def _expired(self) -> DeadlineExceeded:
        now = asyncio.get_running_loop().time()
        if self._deadline is not None and now + 0.001 >= self._deadline:
            return DeadlineExceeded("the call's total time is up", code="total_timeout")
        if not self._begun:
            return DeadlineExceeded(
                f"the model gave nothing within {self._timeouts.first_event:g} s", code="first_event_timeout"
            )
        return DeadlineExceeded(
            f"the model gave nothing more for {self._timeouts.idle:g} s", code="idle_timeout"
        )

    async def _limited(self) -> None:
        """The work within its limits. Raises DeadlineExceeded."""
        try:
            async with self._limit:
                await self._work()
        except TimeoutError:
            if self._limit.expired():
                raise self._expired() from None
            raise

    async def _run(self) -> None:
        try:
            await self._limited()
        except HeadgateError as error:
            self._receiver.on_fail(error)
        except Exception:
            log.exception("a backend failed while answering")
            self._receiver.on_fail(Internal("The model failed while answering; the log has the reason"))
        else:
            self._receiver.on_end()

    def frame_error(self, error: HeadgateError) -> bytes:
        return b""

    def decode_error(self, status: int, headers: RawHeaders, body: bytes) -> HeadgateError:
        return Internal(f"a backend answered with status {status}")  # backends raise their errors

    def abort(self) -> None:
        # A relay drops its lane from within on_fail too, and a task must not cancel itself.
        if self._task is not asyncio.current_task():
            self._task.cancel()

    def pause(self) -> None:
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()


class ChatLane(_TaskLane):
    """A backend that answers in events: they are encoded into the caller's dialect as they come."""

    def __init__(
        self,
        backend: ChatBackend,
        intake: Intake,
        dialect: ChatDialect,
        receiver: Receiver,
        timeouts: Timeouts,
    ) -> None:
        request = intake.request
        assert isinstance(request, ChatRequest)
        self._backend = backend
        self._request = request
        self._call = intake.call
        self._dialect = dialect
        self._options = replace(intake.options, include_usage=request.include_usage, created=int(time.time()))
        self._encoder = dialect.stream_encoder(self._options)
        super().__init__(receiver, intake, timeouts)

    @override
    async def _work(self) -> None:
        events = self._backend.chat(self._request, self._call)
        try:
            if self._call.stream:
                await self._stream(events)
            else:
                await self._whole(events)
        finally:
            await events.aclose()

    async def _stream(self, events: AsyncGenerator[ChatEvent, None]) -> None:
        begun = False
        async for event in events:
            if isinstance(event, Failed):
                raise event.error
            if not begun:
                begun = self.streaming = True
                kind = self._dialect.stream_types[self._options.framing].encode("ascii")
                self._receiver.on_head(200, [(b"content-type", kind)])
            self._note(event)
            data = self._encoder.encode(event)
            if data:
                self._receiver.on_data(data)
            await self._flow()
        self.losses = self._encoder.losses

    async def _whole(self, events: AsyncGenerator[ChatEvent, None]) -> None:
        assembler = Assembler()
        async for event in events:
            if isinstance(event, Failed):
                raise event.error
            self._note(event)
            assembler.feed(event)
        body, self.losses = self._dialect.encode_result(assembler.result(), self._options)
        self._receiver.on_head(200, JSON_HEAD)
        self._receiver.on_data(body)

    def _note(self, event: ChatEvent) -> None:
        self._progress()
        if isinstance(event, UsageReported):
            self.usage = event.usage if self.usage is None else self.usage.merged(event.usage)
        elif isinstance(event, Finished):
            self.complete = True
            self.finish_reason = event.stops[0].reason if event.stops else None

    @override
    def frame_error(self, error: HeadgateError) -> bytes:
        return self._encoder.encode(Failed(error))


class ResultLane(_TaskLane):
    """A backend that gives one result: vectors, a ranking.

    Args:
        work: makes the answer's body, and says what it used.
    """

    def __init__(
        self,
        work: Work,
        intake: Intake,
        receiver: Receiver,
        timeouts: Timeouts,
        losses: Sequence[Loss] = (),
    ) -> None:
        if losses and intake.strict:
            raise LossRefused(losses)
        self._result = work
        self.losses = losses
        super().__init__(receiver, intake, timeouts)

    @override
    async def _work(self) -> None:
        body, self.usage = await self._result()
        self.complete = True
        self._receiver.on_head(200, JSON_HEAD)
        self._receiver.on_data(body)


def embedding(backend: EmbedBackend, dialect: EmbedDialect, intake: Intake) -> Work:
    request = intake.request
    assert isinstance(request, EmbedRequest)

    async def work() -> tuple[bytes, Usage]:
        result = await backend.embed(request, intake.call)
        return dialect.encode_result(request, result), result.usage

    return work


def ranking(backend: RerankBackend, dialect: RerankDialect, intake: Intake) -> Work:
    request = intake.request
    assert isinstance(request, RerankRequest)

    async def work() -> tuple[bytes, Usage]:
        result = await backend.rerank(request, intake.call)
        return dialect.encode_result(request, result), result.usage

    return work


def estimate(dialect: CountDialect, intake: Intake) -> Work:
    """Counts a prompt's tokens for a model that can't count them: by rule of thumb, and said so."""
    request = intake.request
    assert isinstance(request, ChatRequest)

    async def work() -> tuple[bytes, Usage]:
        count = estimate_tokens(request)
        return dialect.encode_result(count), Usage(count)

    return work
