"""One attempt of a call at one target: its turn in the queue, its lane, and what it gave so far.

A trial tells its call (a `Trials`) what comes of it; whether it is the one whose answer goes to the caller is
for the call to say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from headgate.core.backend import RawHeaders, Wire
from headgate.core.call import Attempt
from headgate.core.errors import HeadgateError, Internal, StreamBroken
from headgate.core.events import PartDelta
from headgate.dialects.dialect import ChatDialect
from headgate.policy.limits import Ticket
from headgate.routing.rate_limits import spent_for
from headgate.routing.target import Target
from headgate.server.gateway import Gateway
from headgate.server.intake import Intake
from headgate.server.lanes import Lane, decodes, open_lane
from headgate.server.lanes.lane import content_type

log = logging.getLogger("headgate.relay")

MAX_HELD = 4 * 1024 * 1024
"""A plain answer up to this size is held until it is whole, so that one cut short can be tried elsewhere."""
MAX_ERROR_BODY = 64 * 1024
LARGE_BODY = 256 * 1024
"""From this size on a request that has to be decoded whole is decoded on a thread."""


class Gauge:
    """How many characters of an answer a held stream has."""

    __slots__ = ("_characters", "_decoder", "_read")

    def __init__(self, dialect: ChatDialect, kind: str) -> None:
        self._decoder = dialect.stream_decoder(kind)
        self._read = 0
        self._characters = 0

    def read(self, pieces: Sequence[bytes]) -> int:
        """`pieces`: all that is held; those that were read before are not read again."""
        for data in pieces[self._read :]:
            for event in self._decoder.feed(data):
                if isinstance(event, PartDelta):
                    self._characters += len(event.delta)
        self._read = len(pieces)
        return self._characters


class Trials(Protocol):
    """The call, as its trials see it."""

    def on_progress(self, trial: Trial) -> None:
        """More of the answer is held; it may be committed."""
        ...

    def on_complete(self, trial: Trial) -> None:
        """The answer is there, whole."""
        ...

    def on_failure(self, trial: Trial, error: HeadgateError) -> None: ...


class Trial:
    """One attempt. `start` it; `stop` it when it is not wanted any more; nothing is told after that."""

    __slots__ = (
        "_buffered",
        "_call",
        "_failed_status",
        "_gateway",
        "_gauge",
        "_intake",
        "_patience",
        "_paused",
        "_task",
        "_ticket",
        "_write",
        "attempt",
        "buffer",
        "head",
        "lane",
        "over",
        "target",
    )

    def __init__(
        self, gateway: Gateway, intake: Intake, target: Target, call: Trials, *, hedge: bool = False
    ) -> None:
        self._gateway = gateway
        self._intake = intake
        self._call = call
        self._ticket: Ticket | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._write: Callable[[bytes], None] | None = None
        self._gauge: Gauge | None = None
        self._failed_status = 0
        self._paused = False
        self._buffered = 0
        self.target = target
        self.attempt = Attempt(target.name, monotonic(), hedge=hedge)
        self.lane: Lane | None = None
        self.head: RawHeaders = ()
        self.buffer: list[bytes] = []
        self.over = False
        intake.call.attempts.append(self.attempt)

    # From the call.

    def start(self) -> None:
        admission = self.target.admission
        if admission is None:
            self._launch()
            return
        try:
            ticket = admission.enter(self._on_turn, self._intake.call.principal.name)
        except HeadgateError as error:
            self.on_fail(error)
        else:
            self._ticket = ticket
            if not ticket.running:
                left = max(self._intake.remaining(), 0.0)
                self._patience = self._gateway.loop.call_later(left, self._waited_too_long)

    def _waited_too_long(self) -> None:
        """The call's time was up before its turn came: lanes mind the deadline, queues do not."""
        self._patience = None
        self.on_fail(self._intake.total_timeout())

    def commit(self, write: Callable[[bytes], None]) -> bytes:
        """This answer goes to the caller: what there is of it; the rest is given to `write`."""
        self._write = write
        data, self.buffer = b"".join(self.buffer), []
        return data

    def pause(self) -> None:
        self._paused = True
        if self.lane is not None:
            self.lane.pause()

    def resume(self) -> None:
        self._paused = False
        if self.lane is not None:
            self.lane.resume()

    @property
    def streams(self) -> bool:
        """The answer under way is a stream: what breaks can be told within it."""
        return self.lane is not None and self._intake.call.stream and self.lane.streaming

    def holds(self, characters: int) -> bool:
        """Less than `characters` of the answer is here: of its text, reasoning and arguments."""
        if self._gauge is None:
            dialect = self._intake.dialect
            if not isinstance(dialect, ChatDialect):
                return False
            self._gauge = Gauge(dialect, content_type(self.head))
        return self._gauge.read(self.buffer) < characters

    def stop(self, reason: str, fault: HeadgateError | None = None) -> None:
        """Not wanted any more, in whichever phase it is: the caller left, or another target was better.

        Args:
            fault: counts against the target.
        """
        if self.over:
            return
        self._close(reason)
        sent = self.attempt.launched
        if sent is None:
            return
        health, now = self.target.health, monotonic()
        if self.attempt.first_event is None:
            health.unanswered(sent, now, stream=self._intake.call.stream)
        if fault is not None:
            health.failed(sent, now, fault, self._gateway.rng)
        else:
            health.dropped(sent)

    def free(self) -> None:
        """Let go of the lane, which holds this: without the circle both are freed at once."""
        self.lane = None
        self._write = None

    # Its turn.

    def _on_turn(self) -> None:
        # Inside `enter` the ticket is not ours yet; and a turn that comes from another call's end
        # should not run inside that call's stack.
        self._gateway.loop.call_soon(self._launch_if_wanted)

    def _launch_if_wanted(self) -> None:
        if not self.over:
            self._launch()

    def _launch(self) -> None:
        self._end_wait()
        self.attempt.launched = self.target.health.begun(monotonic())
        intake = self._intake
        try:
            wire = self.target.wire(intake.call.operation, intake.speaks)
            heavy = intake.size > LARGE_BODY and not intake.decoded and decodes(self.target, intake)
        except Exception:
            self._defect()
            return
        if heavy or (wire is not None and not wire.ready):
            self._task = self._gateway.loop.create_task(self._prepare(wire, heavy))
        else:
            self._open()

    async def _prepare(self, wire: Wire | None, heavy: bool) -> None:
        """Bring the target up; decode a large body on a thread, where it holds up nobody else."""
        try:
            async with asyncio.timeout_at(self._intake.call.deadline):
                if wire is not None and not wire.ready:
                    await wire.prepare()
                if heavy:
                    await asyncio.to_thread(lambda: self._intake.request)
        except TimeoutError:
            self._task = None
            self.on_fail(self._intake.total_timeout())
        except HeadgateError as error:
            self._task = None
            self.on_fail(error)
        except Exception:
            self._task = None
            self._defect()
        else:
            self._task = None
            self._open()

    def _open(self) -> None:
        try:
            lane = open_lane(self.target, self._intake, self)
        except HeadgateError as error:
            self.on_fail(error)
        except Exception:
            self._defect()
        else:
            self.lane = lane
            if self._paused:
                lane.pause()

    def _defect(self) -> None:
        """A backend, perhaps an outsider's, raised what it must not: the call ends all the same."""
        log.exception("opening %s failed", self.target.name)
        self.on_fail(Internal("The request could not be sent on; the log has the reason"))

    # From the lane. Nothing here may run after `over`.

    def on_head(self, status: int, headers: RawHeaders) -> None:
        self.attempt.status = status
        if status >= 300:
            self._failed_status = status
        self.head = headers

    def on_data(self, data: bytes) -> None:
        if self._write is not None:
            self._write(data)
            return
        self.buffer.append(data)
        self._buffered += len(data)
        if self._failed_status:
            if self._buffered > MAX_ERROR_BODY:
                self._refused()
        elif self.streams or self._buffered > MAX_HELD:
            self._note_first()
            self._call.on_progress(self)

    @property
    def must_go(self) -> bool:
        """More can't be held."""
        return self._buffered > MAX_HELD

    def on_end(self) -> None:
        lane = self.lane
        assert lane is not None
        if self._failed_status:
            self._refused()
        elif not lane.complete:
            self.on_fail(StreamBroken(f"{self.target.name} ended its answer before it was complete"))
        else:
            self._note_first()
            self._succeed(lane)

    def on_fail(self, error: HeadgateError) -> None:
        lane = self.lane
        if self._write is not None and lane is not None and self.streams and lane.complete:
            # The caller has the stream's own end, or the upstream's own error: it must not get a second one.
            self._succeed(lane)
            return
        sent = self.attempt.launched
        if sent is not None:
            health, now = self.target.health, monotonic()
            if self.attempt.first_event is None:
                health.unanswered(sent, now, stream=self._intake.call.stream)
            health.failed(sent, now, error, self._gateway.rng)
        # The lane stays: its frame for the error may be wanted.
        self._close(error.code or type(error).__name__)
        self._call.on_failure(self, error)

    def _refused(self) -> None:
        """The upstream answered with an error: read it, and go on as with any other failure."""
        if self.lane is not None:
            self.on_fail(self.lane.decode_error(self._failed_status, self.head, b"".join(self.buffer)))

    # Book-keeping.

    def _note_first(self) -> None:
        if self.attempt.first_event is None:
            self.attempt.first_event = now = monotonic()
            sent = self.attempt.launched
            if sent is not None and (self.lane is None or not self.lane.failed):
                self.target.health.answered(sent, now, stream=self._intake.call.stream)

    def _succeed(self, lane: Lane) -> None:
        attempt = self.attempt
        self.over = True
        self._release()
        attempt.usage = lane.usage
        attempt.connected = lane.connected
        attempt.ended = now = monotonic()
        health, sent = self.target.health, attempt.launched
        assert sent is not None
        if lane.failed:
            attempt.error = "error_event"
            health.failed(sent, now, StreamBroken("it told an error in mid-stream"), self._gateway.rng)
        else:
            health.succeeded(sent, now)
            low = spent_for(self.head)
            if low is not None:
                health.quota.spent(now + low)
        self._call.on_complete(self)

    def _close(self, reason: str) -> None:
        """Stop whatever is under way."""
        self.over = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        lane = self.lane
        if lane is not None:
            lane.abort()
            self.attempt.usage = lane.usage  # what was generated is paid for, whoever left
            self.attempt.connected = lane.connected
        self._release()
        self.attempt.ended = monotonic()
        self.attempt.error = reason

    def _end_wait(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _release(self) -> None:
        self._end_wait()
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.release()
