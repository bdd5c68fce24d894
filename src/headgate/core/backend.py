"""What performs operations. Small protocols, one for each ability; a backend has those it can do.

Two ways in, for the two lanes:

* `wire()` hands out a `Wire` when the backend speaks a dialect on the wire: the fast lane sends the
  caller's bytes through it, callback to callback, with no task and no object for each chunk.
* `chat()`, `embed()`, `predict()` take neutral requests and give neutral events or results.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from headgate.core.call import Call, Operation
from headgate.core.errors import HeadgateError
from headgate.core.events import ChatEvent
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest
from headgate.core.operations import (
    EmbedRequest,
    EmbedResult,
    PredictRequest,
    PredictResult,
    RerankRequest,
    RerankResult,
)

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]
"""HTTP headers as they came: lower-case names, order and repetitions kept."""

State: TypeAlias = Literal["idle", "loading", "ready", "restarting", "failed", "stopped"]
"""idle: loads at the first request. restarting: died, is coming back. failed: gave up or never started."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a backend is now, for /health and /readyz. `detail` says why where it is not well."""

    state: State
    detail: str | None = None
    info: Mapping[str, Any] | None = None

    @property
    def serving(self) -> bool:
        """A request sent now has a fair chance: the model is ready, or will load on demand."""
        return self.state in ("idle", "loading", "ready")


@runtime_checkable
class Backend(Protocol):
    """The part that every backend has."""

    @property
    def operations(self) -> frozenset[Operation]: ...

    @property
    def status(self) -> Status: ...

    async def start(self) -> None:
        """Check what can be checked before the first request. Raises ConfigError."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class ChatBackend(Backend, Protocol):
    def chat(self, request: ChatRequest, call: Call) -> AsyncGenerator[ChatEvent, None]:
        """Answer as events, ending in exactly one terminal event.

        Errors before the first event are raised; later ones arrive as `Failed`. Closing the iterator
        stops the work.
        """
        ...


@runtime_checkable
class EmbedBackend(Backend, Protocol):
    async def embed(self, request: EmbedRequest, call: Call) -> EmbedResult: ...


@runtime_checkable
class RerankBackend(Backend, Protocol):
    async def rerank(self, request: RerankRequest, call: Call) -> RerankResult: ...


@runtime_checkable
class PredictBackend(Backend, Protocol):
    @property
    def input_schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of one record, or None where any columns are taken. Known once started."""
        ...

    @property
    def output_schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of one prediction."""
        ...

    async def predict(self, request: PredictRequest, call: Call) -> PredictResult: ...


class Receiver(Protocol):
    """Who listens to one exchange. Called on the event loop, in this order: head, data…, then end or fail."""

    def on_head(self, status: int, headers: RawHeaders) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_end(self) -> None:
        """The body is complete, by its own framing."""
        ...

    def on_fail(self, error: HeadgateError) -> None:
        """Nothing more comes. Also the way in which a connection that never came up is told."""
        ...


class Exchange(Protocol):
    """One request and answer under way upstream."""

    @property
    def connected(self) -> float | None:
        """When the request was written out, on the event loop's clock; None where nobody knows."""
        ...

    def abort(self) -> None:
        """Stop at once and close the connection. No callback follows. Harmless when it has ended."""
        ...

    def pause(self) -> None:
        """Stop reading: the caller's side is full."""
        ...

    def resume(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_event`: from sending to the first byte of the answer's body (for a plain answer, of its
    head); `idle`: between two reads; `total`: of the whole call, queueing and retries included."""

    connect: float = 5.0
    first_event: float = 120.0
    idle: float = 60.0
    total: float = 600.0


class Wire(Protocol):
    """A backend's raw lane for one operation: bytes in its dialect go in, bytes of its answer come out."""

    @property
    def dialect(self) -> str: ...

    @property
    def model(self) -> str:
        """The upstream's name for the model; the request's model field is rewritten to it."""
        ...

    @property
    def timeouts(self) -> Timeouts: ...

    @property
    def reports_usage_when_asked(self) -> bool:
        """The upstream takes its dialect's wish for usage in a stream (`Dialect.ask_for_usage`)."""
        ...

    @property
    def ready(self) -> bool:
        """False while `prepare()` has something to do (a local engine that is not loaded)."""
        ...

    async def prepare(self) -> None:
        """Bring the other side up. Raises Unavailable with `retry_after`."""
        ...

    def encode(self, request: ChatRequest | EmbedRequest | RerankRequest) -> tuple[bytes, list[Loss]]:
        """A neutral request in the wire's dialect, as this upstream wants it, and what got lost."""
        ...

    def send(
        self,
        body: bytes,
        headers: RawHeaders,
        deadline: float | None,
        receiver: Receiver,
        *,
        stream: bool = False,
    ) -> Exchange:
        """Send one request. Returns at once; the rest is told to `receiver`, never from within this call.

        Args:
            body: the request in the wire's dialect.
            stream: the answer is to be a stream (some dialects say so by the route).
            headers: what the caller's side adds (request id, trace context), lower-case names.
            deadline: absolute, on the event loop's clock.
        """
        ...


@runtime_checkable
class WireBackend(Backend, Protocol):
    def wire(self, operation: Operation, dialect: str) -> Wire | None:
        """The lane in `dialect` where the backend speaks it, otherwise the one in its own first choice."""
        ...


@runtime_checkable
class ProbedBackend(Backend, Protocol):
    async def probe(self, path: str | None) -> None:
        """Ask the other side whether it is well, beside the calls. Returns when it is; cancelled when late.

        Args:
            path: to GET, from the root of its address; None: whatever is cheap there.

        Raises:
            HeadgateError: it is not, or can't be reached.
        """
        ...


Kept: TypeAlias = Literal["store", "background", "conversation"]
"""What an upstream may keep for its callers, by the fields of OpenAI's Responses API that ask for it."""


class Archive(Protocol):
    """What one upstream keeps of its own answers, each under its id, for one set of credentials."""

    @property
    def keeps(self) -> frozenset[Kept]: ...

    @property
    def address(self) -> str:
        """Where it is, for remembering it: no secret."""
        ...

    @property
    def account(self) -> object:
        """Compares equal for archives in which the same ids are found. Holds secrets: not to be shown."""
        ...

    @property
    def ready(self) -> bool:
        """False while `prepare()` has something to do."""
        ...

    async def prepare(self) -> None:
        """Have credentials that last. Raises Unavailable."""
        ...

    def ask(
        self, method: str, path: str, query: str, headers: RawHeaders, deadline: float, receiver: Receiver
    ) -> Exchange:
        """Send one request without a body; what comes is told to `receiver`, never from within this call.

        Args:
            path: behind the route that creates answers, URL-quoted: `/resp_1/cancel`.
            query: URL-quoted, without its question mark; may be empty.
            deadline: absolute, on the event loop's clock.
        """
        ...


@runtime_checkable
class ArchiveBackend(Backend, Protocol):
    def archive(self, dialect: str) -> Archive | None:
        """Where the upstream's answers in `dialect` are kept; None where it does not speak that."""
        ...
