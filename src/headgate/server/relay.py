"""One call on its way: attempts, the peek, the commit, and the bytes to the caller.

A relay is driven by callbacks from both sides and has no task of its own. Until the first bytes of an
answer are there, nothing has been said to the caller and another target may be tried; from then on the
answer is committed, and what breaks becomes an error event in the caller's dialect.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic

from headgate.core.backend import RawHeaders, Wire
from headgate.core.call import Attempt, Call, Outcome, outcome_of
from headgate.core.errors import (
    Cancelled,
    HeadgateError,
    Internal,
    StreamBroken,
)
from headgate.core.loss import Loss
from headgate.policy.limits import Ticket
from headgate.routing.execute import Attempts
from headgate.routing.plan import Target
from headgate.server.client import Client
from headgate.server.gateway import Gateway
from headgate.server.intake import Intake
from headgate.server.lanes import Lane, decodes, open_lane

log = logging.getLogger("headgate.relay")

MAX_PLAIN_ANSWER = 4 * 1024 * 1024
"""A plain answer up to this size is held until it is whole, so that one cut short can be tried elsewhere."""
MAX_ERROR_BODY = 64 * 1024
LARGE_BODY = 256 * 1024
"""From this size on a request that has to be decoded whole is decoded on a thread."""
MAX_LOSSES = 50
"""Losses that a header or a log line lists; it says how many more there are."""

KEPT_HEADERS = frozenset({b"content-type", b"content-language"})
KEPT_PREFIXES = (b"x-ratelimit-", b"openai-", b"anthropic-")


class Relay:
    """Executes one call for one client. `cancel` when the client leaves; `pause`/`resume` when it is slow."""

    __slots__ = (
        "_admitted",
        "_attempt",
        "_attempts",
        "_buffer",
        "_buffered",
        "_client",
        "_committed",
        "_failed_status",
        "_gateway",
        "_head",
        "_intake",
        "_lane",
        "_logged",
        "_paused",
        "_target",
        "_task",
        "_ticket",
        "_timer",
        "done",
    )

    def __init__(self, gateway: Gateway, intake: Intake, client: Client) -> None:
        self._gateway = gateway
        self._intake = intake
        self._client = client
        self._attempts = Attempts(intake.plan, intake.route.retry, gateway.rng)
        self._attempt: Attempt | None = None
        self._target: Target | None = None
        self._lane: Lane | None = None
        self._ticket: Ticket | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head: list[tuple[bytes, bytes]] = []
        self._failed_status = 0
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._logged = 0
        self._committed = self._paused = self.done = False

    @property
    def call(self) -> Call:
        return self._intake.call

    # From the caller's side.

    def start(self) -> None:
        self._gateway.opened(self)
        self._try(self._attempts.first())

    def cancel(self) -> None:
        """The client has left: stop everything that is under way for it, now."""
        if not self.done:
            self._drop_attempt("cancelled")
            self._finish(Outcome.CANCELLED, Cancelled.status)

    def pause(self) -> None:
        if not self._paused and self._lane is not None:
            self._paused = True
            self._lane.pause()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._lane is not None:
                self._lane.resume()

    def abandon(self, error: HeadgateError) -> None:
        """End the call from the server's side (a shutdown past its grace)."""
        if not self.done:
            self._stop(error)

    def _stop(self, error: HeadgateError) -> None:
        """End with `error`, told to the caller in whatever way is still open."""
        frame = self._lane.frame_error if self._lane is not None and self._streams() else None
        self._drop_attempt(error.code or type(error).__name__)
        if self._committed:
            self._break_off(error, frame)
        else:
            self._give_up(error)

    # One attempt.

    def _try(self, target: Target) -> None:
        self._timer = None
        self._target = target
        now = monotonic()
        self._attempt = Attempt(target.name, now)
        self._intake.call.attempts.append(self._attempt)
        if target.admission is None:
            self._launch()
            return
        try:
            ticket = target.admission.enter(self._on_turn)
        except HeadgateError as error:
            self.on_fail(error)
        else:
            self._ticket = ticket

    def _on_turn(self) -> None:
        # Inside `enter` the ticket is not ours yet; and a turn that comes from another call's end
        # should not run inside that call's stack.
        self._gateway.loop.call_soon(self._launch_if_alive, self._attempt)

    def _launch_if_alive(self, attempt: Attempt | None) -> None:
        if not self.done and attempt is self._attempt:
            self._launch()

    def _launch(self) -> None:
        target = self._target
        assert target is not None
        try:
            wire = target.wire(self._intake.call.operation, self._intake.speaks)
            heavy = (
                self._intake.size > LARGE_BODY and not self._intake.decoded and decodes(target, self._intake)
            )
        except Exception:
            self._defect(target)
            return
        if heavy or (wire is not None and not wire.ready):
            self._task = self._gateway.loop.create_task(self._prepare(wire, heavy))
        else:
            self._open(target)

    async def _prepare(self, wire: Wire | None, heavy: bool) -> None:
        """Bring the target up; decode a large body on a thread, where it holds up nobody else."""
        try:
            async with asyncio.timeout_at(self._intake.call.deadline):
                if wire is not None and not wire.ready:
                    await wire.prepare()
                if heavy:
                    await asyncio.to_thread(lambda: self._intake.request)
        except TimeoutError:
            self.on_fail(self._intake.total_timeout())
        except HeadgateError as error:
            self.on_fail(error)
        except Exception:
            self._defect(self._target)
        else:
            self._task = None
            assert self._target is not None
            self._open(self._target)

    def _open(self, target: Target) -> None:
        try:
            lane = open_lane(target, self._intake, self)
        except HeadgateError as error:
            self.on_fail(error)
        except Exception:
            self._defect(target)
        else:
            self._lane = lane
            if self._paused:
                lane.pause()

    def _defect(self, target: Target | None) -> None:
        """A backend, perhaps an outsider's, raised what it must not: the call ends all the same."""
        log.exception("opening %s failed", target.name if target is not None else "a target")
        self.on_fail(Internal("The request could not be sent on; the log has the reason"))

    # From the lane. Nothing here may run after `done`.

    def on_head(self, status: int, headers: RawHeaders) -> None:
        attempt = self._attempt
        assert attempt is not None
        attempt.status = status
        if status >= 300:
            self._failed_status = status
        self._head = list(headers)

    def on_data(self, data: bytes) -> None:
        if self._committed:
            self._client.write(data)
            return
        self._buffer.append(data)
        self._buffered += len(data)
        if self._failed_status:
            if self._buffered > MAX_ERROR_BODY:
                self._refused()
        elif self._streams() or self._buffered > MAX_PLAIN_ANSWER:
            self._commit()

    def on_end(self) -> None:
        lane = self._lane
        assert lane is not None
        if self._failed_status:
            self._refused()
        elif not lane.complete:
            self.on_fail(StreamBroken(f"{self._name()} ended its answer before it was complete"))
        elif self._committed:
            self._client.end()
            self._succeed(lane)
        else:
            self._note_first()
            status = self._attempt.status if self._attempt is not None else None
            self._client.respond(status or 200, self._answer_headers(), b"".join(self._buffer))
            self._succeed(lane)

    def on_fail(self, error: HeadgateError) -> None:
        self._task = None
        lane = self._lane
        if self._committed and lane is not None and self._streams() and lane.complete:
            # The caller has the stream's own end, or the upstream's own error: it must not get a second one.
            self._client.end()
            self._succeed(lane)
            return
        following = None if self._committed else self._attempts.after(error, self._intake.remaining())
        if following is None:
            self._stop(error)
            return
        self._drop_attempt(error.code or type(error).__name__)
        self._forget_answer()
        if following.delay:
            self._timer = self._gateway.loop.call_later(following.delay, self._try, following.target)
        else:
            self._try(following.target)

    def _refused(self) -> None:
        """The upstream answered with an error: read it, and go on as with any other failure."""
        lane = self._lane
        if lane is not None:
            self.on_fail(lane.decode_error(self._failed_status, self._head, b"".join(self._buffer)))

    # To the caller.

    def _streams(self) -> bool:
        """The answer under way is a stream: what breaks can be told within it."""
        return self._lane is not None and self._intake.call.stream and self._lane.streaming

    def _commit(self) -> None:
        self._note_first()
        self._committed = True
        data = b"".join(self._buffer)
        self._buffer = []
        self._client.begin(200, self._answer_headers(), data)

    def _note_first(self) -> None:
        now = monotonic()
        if self._attempt is not None:
            self._attempt.first_event = now
        self._intake.call.first_event = now

    def _answer_headers(self) -> list[tuple[bytes, bytes]]:
        kept = [
            field for field in self._head if field[0] in KEPT_HEADERS or field[0].startswith(KEPT_PREFIXES)
        ]
        kept.append((b"x-request-id", self._intake.call.id.encode("latin-1")))
        if self._lane is not None and self._lane.losses:
            self._log_losses(self._lane.losses)
            kept.append((b"x-headgate-loss", self._report_losses(self._lane.losses)))
        return kept

    def _log_losses(self, losses: Sequence[Loss]) -> None:
        """Those that the log does not have yet: a stream's come when its header has gone."""
        new = losses[self._logged : self._logged + MAX_LOSSES]
        self._logged = len(losses)
        if new:
            log.info(
                "request %s lost in translation: %s",
                self._intake.call.id,
                "; ".join(f"{loss.path}: {loss.reason}" for loss in new),
            )

    def _report_losses(self, losses: Sequence[Loss]) -> bytes:
        """The paths of what got lost, for the header."""
        paths = list(dict.fromkeys(loss.path for loss in losses))
        text = ", ".join(paths[:MAX_LOSSES])
        if len(paths) > MAX_LOSSES:
            text += f", and {len(paths) - MAX_LOSSES} more"
        return text.encode("ascii", "replace").replace(b"\r", b"?").replace(b"\n", b"?")

    def _break_off(self, error: HeadgateError, frame: Callable[[HeadgateError], bytes] | None) -> None:
        """The answer had begun. A stream is told in its own dialect; a plain answer is cut."""
        log.warning("request %s broke off: %s", self._intake.call.id, error.message)
        if frame is not None:
            self._client.write(frame(error))
            self._client.end()
        else:
            self._client.abort()
        self._finish(outcome_of(error), 200)

    def _give_up(self, error: HeadgateError) -> None:
        wire = self._intake.dialect.encode_error(error)
        headers = [*wire.headers, (b"x-request-id", self._intake.call.id.encode("ascii"))]
        self._client.respond(wire.status, headers, wire.body)
        self._finish(outcome_of(error), wire.status)

    # Book-keeping.

    def _name(self) -> str:
        return self._target.name if self._target is not None else "the target"

    def _forget_answer(self) -> None:
        self._head = []
        self._logged = 0
        self._failed_status = 0
        self._buffer = []
        self._buffered = 0

    def _drop_lane(self) -> None:
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.abort()
            self._intake.call.usage = lane.usage  # what was generated is paid for, whoever left

    def _drop_attempt(self, reason: str) -> None:
        """Stop the attempt that is under way, in whichever phase it is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._drop_lane()
        self._release()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.ended = monotonic()
            attempt.error = reason

    def _release(self) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.release()

    def _succeed(self, lane: Lane) -> None:
        call = self._intake.call
        call.usage = lane.usage
        call.finish_reason = lane.finish_reason
        self._log_losses(lane.losses)
        self._lane = None
        self._release()
        if self._attempt is not None:
            self._attempt.ended = monotonic()
        self._finish(Outcome.UPSTREAM_ERROR if lane.failed else Outcome.OK, 200)

    def _finish(self, outcome: Outcome, status: int) -> None:
        self.done = True
        call = self._intake.call
        call.outcome = outcome
        call.status = status
        call.ended = monotonic()
        self._gateway.finished(self, call)
