"""How a target's answer becomes bytes in the caller's dialect: one lane for each kind of target.

Every lane is an exchange to the relay: it can be aborted, paused and resumed, and it tells the relay what
comes, already in the caller's dialect.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Protocol

from typing_extensions import override

from headgate.core.backend import ChatBackend, EmbedBackend, Exchange, RawHeaders, Receiver, Timeouts, Wire
from headgate.core.call import Usage
from headgate.core.errors import DeadlineExceeded, HeadgateError, Internal, InvalidRequest, UpstreamError
from headgate.core.events import ChatEvent, Failed, Finished, UsageReported
from headgate.core.fold import Assembler
from headgate.core.messages import ChatRequest
from headgate.core.operations import EmbedRequest
from headgate.dialects.dialect import AnswerOptions, ChatDialect, EmbedDialect
from headgate.routing.plan import Target
from headgate.server.intake import Intake

log = logging.getLogger("headgate.lanes")

_JSON = [(b"content-type", b"application/json")]


class Lane(Exchange, Protocol):
    """An attempt under way. `complete` is True once the answer has had its terminal event."""

    @property
    def usage(self) -> Usage | None: ...

    @property
    def finish_reason(self) -> str | None: ...

    @property
    def complete(self) -> bool: ...

    @property
    def failed(self) -> bool:
        """The upstream reported an error of its own within the answer, and the caller has it."""
        ...

    def frame_error(self, error: HeadgateError) -> bytes:
        """What to send when the stream breaks now: everything open closed, then the dialect's error event."""
        ...


def open_lane(target: Target, intake: Intake, receiver: Receiver) -> Lane:
    """Begin an attempt at `target`. Raises InvalidRequest for a request that the target can't take."""
    wire = target.wire(intake.call.operation)
    if wire is not None and wire.dialect == intake.dialect.name:
        return PassThrough(wire, intake, receiver)
    backend = target.backend
    if isinstance(intake.dialect, ChatDialect) and isinstance(backend, ChatBackend):
        return ChatLane(backend, intake, intake.dialect, receiver, target.timeouts)
    if isinstance(intake.dialect, EmbedDialect) and isinstance(backend, EmbedBackend):
        return EmbedLane(backend, intake, intake.dialect, receiver, target.timeouts)
    raise InvalidRequest(
        f"The model {intake.route.model!r} can't be reached in the dialect {intake.dialect.name}",
        param="model",
    )


def content_type(headers: RawHeaders) -> str:
    """The content type in lower case; empty where none was sent."""
    for name, value in headers:
        if name == b"content-type":
            return value.decode("latin-1").lower()
    return ""


class PassThrough:
    """Same dialect on both sides: the bytes go through, an observer reads along."""

    __slots__ = ("_begun", "_dialect", "_exchange", "_kind", "_observer", "_receiver", "_stream")

    def __init__(self, wire: Wire, intake: Intake, receiver: Receiver) -> None:
        call = intake.call
        self._dialect = intake.dialect
        self._stream = call.stream
        self._begun = False
        self._kind = ""
        self._receiver = receiver
        self._observer = intake.dialect.observer(call.stream, "")
        body = intake.envelope.with_model(wire.model)
        self._exchange = wire.send(body, intake.upstream_headers, call.deadline, self)

    @property
    def usage(self) -> Usage | None:
        return self._observer.usage

    @property
    def finish_reason(self) -> str | None:
        return self._observer.finish_reason

    @property
    def complete(self) -> bool:
        return not self._stream or self._observer.terminal or self._observer.failed

    @property
    def failed(self) -> bool:
        return self._observer.failed

    def frame_error(self, error: HeadgateError) -> bytes:
        if not isinstance(self._dialect, ChatDialect) or self._observer.terminal or self._observer.failed:
            return b""
        return self._dialect.stream_encoder(AnswerOptions()).encode(Failed(error))

    def abort(self) -> None:
        self._exchange.abort()

    def pause(self) -> None:
        self._exchange.pause()

    def resume(self) -> None:
        self._exchange.resume()

    def on_head(self, status: int, headers: RawHeaders) -> None:
        self._kind = content_type(headers)
        self._observer = self._dialect.observer(self._stream, self._kind)
        self._receiver.on_head(status, headers)

    def on_data(self, data: bytes) -> None:
        observer = self._observer
        observer.feed(data)
        if observer.failed and not self._begun:
            self._receiver.on_fail(self._first_error(data))
            return
        self._begun = True
        self._receiver.on_data(data)

    def on_end(self) -> None:
        self._observer.end()
        self._receiver.on_end()

    def on_fail(self, error: HeadgateError) -> None:
        self._receiver.on_fail(error)

    def _first_error(self, data: bytes) -> HeadgateError:
        """The error with which a stream begins: nobody has been told 200 yet, another target may be tried."""
        if isinstance(self._dialect, ChatDialect):
            for event in self._dialect.stream_decoder(self._kind).feed(data):
                if isinstance(event, Failed):
                    return event.error
        return UpstreamError("the upstream's stream began with an error")


class _TaskLane:
    """A lane whose work is a coroutine on this loop. Subclasses give `_work`."""

    failed = False

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
        self._encoder = dialect.stream_encoder(
            AnswerOptions(
                include_usage=request.include_usage, created=int(time.time()), model=intake.envelope.model
            )
        )
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
                begun = True
                kind = self._dialect.stream_types["sse"].encode("ascii")
                self._receiver.on_head(200, [(b"content-type", kind)])
            self._note(event)
            data = self._encoder.encode(event)
            if data:
                self._receiver.on_data(data)
            await self._flow()

    async def _whole(self, events: AsyncGenerator[ChatEvent, None]) -> None:
        assembler = Assembler()
        async for event in events:
            if isinstance(event, Failed):
                raise event.error
            self._note(event)
            assembler.feed(event)
        result = replace(assembler.result(), model=self._request.model)
        self._receiver.on_head(200, _JSON)
        body, _losses = self._dialect.encode_result(result, AnswerOptions())
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


class EmbedLane(_TaskLane):
    """A backend that embeds: one result."""

    def __init__(
        self,
        backend: EmbedBackend,
        intake: Intake,
        dialect: EmbedDialect,
        receiver: Receiver,
        timeouts: Timeouts,
    ) -> None:
        request = intake.request
        assert isinstance(request, EmbedRequest)
        self._backend = backend
        self._request = request
        self._call = intake.call
        self._dialect = dialect
        super().__init__(receiver, intake, timeouts)

    @override
    async def _work(self) -> None:
        result = await self._backend.embed(self._request, self._call)
        self.usage = result.usage
        self.complete = True
        self._receiver.on_head(200, _JSON)
        self._receiver.on_data(self._dialect.encode_result(self._request, result))
