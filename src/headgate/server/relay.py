"""One call on its way: its plan, its trials, the peek, the commit, and the bytes to the caller.

A relay is driven by callbacks from both sides and has no task of its own. Until the first bytes of an
answer are there (or more of it, where the model holds streams back), nothing has been said to the caller
and another target may be tried; from then on the answer is committed, and what breaks becomes an error
event in the caller's dialect.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from time import monotonic

from headgate.core.call import Call, Outcome, outcome_of
from headgate.core.errors import Cancelled, DeadlineExceeded, HeadgateError, Internal
from headgate.core.loss import Loss
from headgate.policy.limits import Ticket
from headgate.routing.execute import Execution, Step
from headgate.routing.plan import nobody, plan
from headgate.routing.target import Target
from headgate.server.client import Client
from headgate.server.gateway import Gateway
from headgate.server.intake import Intake
from headgate.server.timing import server_timing
from headgate.server.trial import LARGE_BODY, Trial

log = logging.getLogger("headgate.relay")

MAX_LOSSES = 50
"""Losses that a header or a log line lists; it says how many more there are."""

KEPT_HEADERS = frozenset({b"content-type", b"content-language"})
KEPT_PREFIXES = (b"x-ratelimit-", b"openai-", b"anthropic-", b"x-amzn-bedrock-")


class Relay:
    """Executes one call for one client. `cancel` when the client leaves; `pause`/`resume` when it is slow."""

    __slots__ = (
        "_client",
        "_execution",
        "_gateway",
        "_hedge_timer",
        "_hold_timer",
        "_intake",
        "_logged",
        "_paused",
        "_queued",
        "_slow",
        "_task",
        "_ticket",
        "_timer",
        "_trials",
        "_winner",
        "done",
    )

    def __init__(self, gateway: Gateway, intake: Intake, client: Client) -> None:
        self._gateway = gateway
        self._intake = intake
        self._client = client
        self._execution: Execution | None = None
        self._trials: list[Trial] = []
        """Those under way: one, or two where the first is slow."""
        self._winner: Trial | None = None
        """The one whose answer goes to the caller."""
        self._slow: Trial | None = None
        """One whose stream drips: a second one was asked."""
        self._ticket: Ticket | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._hedge_timer: asyncio.TimerHandle | None = None
        self._hold_timer: asyncio.TimerHandle | None = None
        self._logged = 0
        self._queued = self._paused = self.done = False

    @property
    def call(self) -> Call:
        return self._intake.call

    # From the caller's side.

    def start(self) -> None:
        self._gateway.opened(self, self._intake.call)
        self._intake.route.leases.take()
        admission = self._intake.route.admission
        if admission is None:
            self._examine()
            return
        try:
            ticket = admission.enter(self._on_turn, self._intake.call.principal.name)
        except HeadgateError as error:
            self._give_up(error)
        else:
            self._ticket = ticket
            if not ticket.running:
                left = max(self._intake.remaining(), 0.0)
                self._timer = self._gateway.loop.call_later(left, self._waited_too_long)

    def _waited_too_long(self) -> None:
        """The call's time was up before its turn came."""
        self._timer = None
        self._give_up(self._intake.total_timeout())

    def cancel(self) -> None:
        """The client has left: stop everything that is under way for it, now."""
        if not self.done:
            self._finish(Outcome.CANCELLED, Cancelled.status, "cancelled")

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            for trial in self._trials:
                trial.pause()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            for trial in self._trials:
                trial.resume()

    def abandon(self, error: HeadgateError) -> None:
        """End the call from the server's side (a shutdown past its grace)."""
        if not self.done:
            if self._winner is None:
                self._give_up(error)
            else:
                self._break_off(error, self._winner)

    # Planning.

    def _on_turn(self) -> None:
        self._gateway.loop.call_soon(self._examine_if_wanted)

    def _examine_if_wanted(self) -> None:
        if not self.done:
            self._cancel_timers()
            call = self._intake.call
            call.queued += monotonic() - call.started
            self._examine()

    def _examine(self) -> None:
        """Learn from the request what planning depends on, where it does."""
        intake = self._intake
        if intake.route.examines and intake.size > LARGE_BODY:
            self._task = self._gateway.loop.create_task(self._examine_large())
            return
        try:
            intake.examine()
        except Exception:
            self._defect()
        else:
            self._plan()

    async def _examine_large(self) -> None:
        try:
            await asyncio.to_thread(self._intake.examine)
        except Exception:
            self._task = None
            self._defect()
        else:
            self._task = None
            self._plan()

    def _defect(self) -> None:
        """Reading the request failed in a way that it must not: the call ends all the same."""
        log.exception("a request could not be examined")
        self._give_up(Internal("The request could not be read; the log has the reason"))

    def _plan(self) -> None:
        intake, gateway = self._intake, self._gateway
        now = monotonic()
        planned = plan(intake.route, intake.call, now, gateway.rng)
        if not planned.order and not planned.cooling:
            self._give_up(nobody(intake.route, intake.call, now))
            return
        self._execution = Execution(intake.route, intake.call, planned, gateway.rng)
        try:
            step = self._execution.first(now)
        except HeadgateError as error:
            self._give_up(error)
        else:
            self._take(step, first=True)

    def _take(self, step: Step, *, first: bool = False) -> None:
        if step.queued:
            try:
                self._intake.route.wait()
            except HeadgateError as error:
                self._give_up(error)
                return
            self._queued = True
        if step.delay:
            self._intake.call.queued += step.delay
            self._timer = self._gateway.loop.call_later(step.delay, self._waited, step)
            return
        self._try(step.target)
        if first and self._execution is not None and self._trials:
            self._await_hedge(self._execution)

    def _waited(self, step: Step) -> None:
        self._timer = None
        self._leave_queue()
        assert self._execution is not None
        try:
            following = self._execution.due(step, monotonic())
        except HeadgateError as error:
            self._give_up(error)
        else:
            self._take(following)

    def _try(self, target: Target, *, hedge: bool = False) -> None:
        trial = Trial(self._gateway, self._intake, target, self, hedge=hedge)
        self._trials.append(trial)
        trial.start()
        if self._paused and not trial.over:
            trial.pause()

    def _await_hedge(self, execution: Execution) -> None:
        delay = execution.hedge_delay()
        if delay is not None and delay < self._intake.remaining():
            self._hedge_timer = self._gateway.loop.call_later(delay, self._hedge)

    def _hedge(self) -> None:
        """The first event is late: ask a second target, and take whichever answers first."""
        self._hedge_timer = None
        execution = self._execution
        if execution is None or any(trial.attempt.first_event is not None for trial in self._trials):
            return
        target = execution.hedge(monotonic())
        if target is not None:
            self._try(target, hedge=True)

    # From the trials.

    def on_progress(self, trial: Trial) -> None:
        hold = self._intake.route.hold_back
        if hold is None or trial.must_go or not trial.streams or not trial.holds(hold.characters):
            self._commit(trial)
        elif self._hold_timer is None:
            self._hold_timer = self._gateway.loop.call_later(hold.time, self._held_long, trial)

    def _held_long(self, trial: Trial) -> None:
        """The stream began and drips: ask another target too, and take the first to get far enough.

        Without one, this must do.
        """
        self._hold_timer = None
        hold = self._intake.route.hold_back
        target = None
        if len(self._trials) == 1 and self._execution is not None and self._slow is None:
            target = self._execution.move(monotonic())
        if target is not None and hold is not None:
            self._slow = trial
            self._hold_timer = self._gateway.loop.call_later(hold.time, self._held_long, trial)
            self._try(target)
        elif begun := [each for each in self._trials if each.attempt.first_event is not None]:
            self._commit(begun[0])

    def on_complete(self, trial: Trial) -> None:
        lane = trial.lane
        assert lane is not None
        call = self._intake.call
        if self._winner is None:
            self._settle(trial)
            self._client.respond(
                trial.attempt.status or 200, self._answer_headers(trial), trial.commit(_nobody)
            )
        else:
            self._client.end()
        call.usage = lane.usage
        call.finish_reason = lane.finish_reason
        self._log_losses(lane.losses)
        self._finish(Outcome.UPSTREAM_ERROR if lane.failed else Outcome.OK, 200)

    def on_failure(self, trial: Trial, error: HeadgateError) -> None:
        if trial is self._winner:
            self._break_off(error, trial)
            return
        self._note_usage(trial)
        self._trials.remove(trial)
        trial.free()
        execution = self._execution
        assert execution is not None
        if self._trials:
            execution.note(trial.target, error)
            return  # the other one is under way still
        self._cancel_timers()
        step = execution.after(trial.target, error, monotonic())
        if step is None:
            self._give_up(execution.verdict(error))
        else:
            self._take(step)

    # To the caller.

    def _commit(self, trial: Trial) -> None:
        self._settle(trial)
        self._winner = trial
        self._client.begin(200, self._answer_headers(trial), trial.commit(self._client.write))

    def _settle(self, winner: Trial) -> None:
        """`winner`'s answer is the one: stop the other, learn from the time it took."""
        self._cancel_timers()
        for trial in list(self._trials):
            if trial is winner:
                continue
            if trial is self._slow:
                slow = DeadlineExceeded("its stream began and dripped", code="hold_back_timeout")
                self._drop(trial, "hold_back_timeout", slow)
            else:
                self._learn(trial)
                self._drop(trial, "hedged")
        call = self._intake.call
        call.first_event = winner.attempt.first_event
        self._learn(winner)

    def _learn(self, trial: Trial) -> None:
        """Note how long the first event took; of one that lost, how long it had been waited for.

        Without the slow ones, the percentile after which a second one is asked would sink and sink.
        """
        attempt = trial.attempt
        if attempt.launched is not None:
            seen = attempt.first_event if attempt.first_event is not None else monotonic()
            self._intake.route.pace.tail(self._intake.call.stream).note(seen - attempt.launched)

    def _answer_headers(self, trial: Trial) -> list[tuple[bytes, bytes]]:
        kept = [
            field for field in trial.head if field[0] in KEPT_HEADERS or field[0].startswith(KEPT_PREFIXES)
        ]
        kept += self._usage_headers(trial, {name for name, _ in kept})
        kept += self._own_headers(trial)
        if trial.lane is not None and trial.lane.losses:
            self._log_losses(trial.lane.losses)
            kept.append((b"x-headgate-loss", self._report_losses(trial.lane.losses)))
        return kept

    def _usage_headers(self, trial: Trial, told: set[bytes]) -> list[tuple[bytes, bytes]]:
        """Of a whole answer, where the caller's dialect has such fields; the upstream's own come first."""
        fields, lane = self._intake.dialect.usage_headers, trial.lane
        if fields is None or trial.streams or lane is None or lane.usage is None:
            return []
        return [field for field in fields.write(lane.usage) if field[0] not in told]

    def _own_headers(self, trial: Trial | None) -> list[tuple[bytes, bytes]]:
        call = self._intake.call
        fields = [(b"x-request-id", call.id.encode("latin-1"))]
        if trial is not None:
            fields.append((b"x-headgate-target", trial.target.header))
        if call.attempts:
            fields.append((b"x-headgate-attempts", b"%d" % len(call.attempts)))
            attempt = trial.attempt if trial is not None else call.attempts[-1]
            if trial is not None and trial.lane is not None:
                attempt.connected = trial.lane.connected
            fields.append((b"server-timing", server_timing(call, attempt)))
        return fields

    def _log_losses(self, losses: Sequence[Loss]) -> None:
        """Those that the log does not have yet: a stream's come when its header has gone."""
        new = losses[self._logged : self._logged + MAX_LOSSES]
        self._logged = len(losses)
        if new:
            log.info(
                "request %s lost in translation: %s",
                self._intake.call.id,
                "; ".join(loss.line for loss in new),
            )

    def _report_losses(self, losses: Sequence[Loss]) -> bytes:
        """The paths of what got lost, for the header."""
        places = list(dict.fromkeys(loss.place for loss in losses))
        text = ", ".join(places[:MAX_LOSSES])
        if len(places) > MAX_LOSSES:
            text += f", and {len(places) - MAX_LOSSES} more"
        return text.encode("ascii", "replace")

    def _break_off(self, error: HeadgateError, trial: Trial) -> None:
        """The answer had begun. A stream is told in its own dialect; a plain answer is cut."""
        log.warning("request %s broke off: %s", self._intake.call.id, error.message)
        if trial.streams and trial.lane is not None:
            self._client.write(trial.lane.frame_error(error))
            self._client.end()
        else:
            self._client.abort()
        self._finish(outcome_of(error), 200, error.code or type(error).__name__)

    def _give_up(self, error: HeadgateError) -> None:
        wire = self._intake.dialect.encode_error(error)
        self._client.respond(wire.status, [*wire.headers, *self._own_headers(None)], wire.body)
        self._finish(outcome_of(error), wire.status, error.code or type(error).__name__)

    # Book-keeping.

    def _drop(self, trial: Trial, reason: str, fault: HeadgateError | None = None) -> None:
        trial.stop(reason, fault)
        self._note_usage(trial)
        self._trials.remove(trial)
        trial.free()

    def _note_usage(self, trial: Trial) -> None:
        """What was generated is paid for, whoever left; the answer that the caller gets replaces it."""
        if trial.attempt.usage is not None:
            self._intake.call.usage = trial.attempt.usage

    def _leave_queue(self) -> None:
        if self._queued:
            self._queued = False
            self._intake.route.resume()

    def _cancel_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._hedge_timer is not None:
            self._hedge_timer.cancel()
            self._hedge_timer = None
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None

    def _finish(self, outcome: Outcome, status: int, reason: str = "") -> None:
        """End it: nothing is under way any more after this."""
        self.done = True
        self._cancel_timers()
        self._leave_queue()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        for trial in list(self._trials):
            self._drop(trial, reason)
        self._winner = self._slow = None
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.release()
        call = self._intake.call
        call.outcome = outcome
        call.status = status
        call.ended = monotonic()
        self._gateway.finished(self, call)
        self._intake.route.leases.give_back()


def _nobody(data: bytes) -> None:
    """A whole answer has no rest."""
