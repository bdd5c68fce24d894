"""The envelope of one request: who, what, until when, and what happened. Never the payload."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from headgate.core.errors import Cancelled, HeadgateError, Internal
from headgate.core.record import record


class Operation(StrEnum):
    """What a caller wants done; a backend performs some of these."""

    __hash__ = str.__hash__  # that of enums is a call of its own, at every look-up

    CHAT = "chat"
    COUNT_TOKENS = "count_tokens"
    EMBED = "embed"
    RERANK = "rerank"
    PREDICT = "predict"
    TRANSFORM = "transform"
    EXTRACT = "extract"
    TRANSCRIBE = "transcribe"
    SPEAK = "speak"


class Need(StrEnum):
    """What a request asks of a model beyond text."""

    __hash__ = str.__hash__

    TOOLS = "tools"
    IMAGES = "images"
    FILES = "files"
    AUDIO = "audio"
    STRUCTURED_OUTPUT = "structured_output"


@record(frozen=True, slots=True)
class Principal:
    """Who calls: the name of the key, or `anonymous` on a server without keys.

    `admin`: the key may use `/admin/…` too.
    """

    name: str
    authenticated: bool = True
    admin: bool = False


ANONYMOUS = Principal("anonymous", authenticated=False)


@record(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, cumulative; None where the upstream did not say.

    Each count is whole: `input_tokens` includes those read from and written to a cache, `output_tokens`
    includes reasoning. Codecs of dialects that count otherwise add and subtract.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int | None:
        if self.input_tokens is None and self.output_tokens is None:
            return None
        return (self.input_tokens or 0) + (self.output_tokens or 0)

    def merged(self, later: Usage) -> Usage:
        """This report brought up to date: fields that `later` leaves out keep their value."""
        return Usage(
            self.input_tokens if later.input_tokens is None else later.input_tokens,
            self.output_tokens if later.output_tokens is None else later.output_tokens,
            self.cached_tokens if later.cached_tokens is None else later.cached_tokens,
            self.cache_write_tokens if later.cache_write_tokens is None else later.cache_write_tokens,
            self.reasoning_tokens if later.reasoning_tokens is None else later.reasoning_tokens,
        )


class Outcome(StrEnum):
    """How a call or an attempt ended."""

    __hash__ = str.__hash__

    OK = "ok"
    CLIENT_ERROR = "client_error"
    UPSTREAM_ERROR = "upstream_error"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    INTERNAL_ERROR = "internal_error"


def outcome_of(error: HeadgateError) -> Outcome:
    """How a call that ended with `error` is counted."""
    if isinstance(error, Cancelled):
        return Outcome.CANCELLED
    if error.status == 504:
        return Outcome.TIMEOUT
    if isinstance(error, Internal):
        return Outcome.INTERNAL_ERROR
    if error.status < 500:
        return Outcome.CLIENT_ERROR
    return Outcome.UPSTREAM_ERROR


@dataclass(slots=True)
class Attempt:
    """One try at one target. Times are seconds of `time.monotonic`.

    Args:
        started: it took its place in the target's queue; `launched`: its turn came, and the target was ready;
            `connected`: the request was written; `first_event`: the first of the answer came.
        usage: what the target reported, whether or not the caller got this answer.
        hedge: sent beside another attempt that was slow.
    """

    target: str
    started: float
    ended: float | None = None
    launched: float | None = None
    connected: float | None = None
    first_event: float | None = None
    status: int | None = None
    error: str | None = None
    usage: Usage | None = None
    hedge: bool = False


@dataclass(slots=True)
class Call:
    """One request on its way. Mutable on purpose: each stage notes what it knows.

    Times are seconds of `time.monotonic`, the clock of the event loop too; `deadline` is absolute on it.
    `queued`: seconds in which it waited while no attempt was under way. `needs` and `size` (tokens of prompt
    and answer, estimated) are known only where a target's abilities are declared, `affinity` (a hash of what
    belongs together) only where the model asks for it; `origin` names the one target that can answer, as for
    an item that it keeps.
    """

    id: str
    model: str
    operation: Operation
    dialect: str
    started: float
    principal: Principal = ANONYMOUS
    stream: bool = False
    deadline: float | None = None
    queued: float = 0.0
    needs: frozenset[Need] = frozenset()
    size: int | None = None
    affinity: int | None = None
    origin: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    usage: Usage | None = None
    outcome: Outcome | None = None
    status: int | None = None
    finish_reason: str | None = None
    first_event: float | None = None
    ended: float | None = None
