"""Local engines as backends: a remote backend whose process we own.

The engine speaks OpenAI's dialect on a Unix socket, so a request passes through to it like to any other
upstream; what is special is only that it may have to be started first, and may die.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from headgate.backends.registry import BackendType, BuildContext
from headgate.config.quantities import Duration
from headgate.config.schema import TargetSettings, WeightsReference
from headgate.core.backend import Backend, Exchange, RawHeaders, Receiver, Status, Timeouts, Wire
from headgate.core.call import Operation
from headgate.core.errors import (
    ConfigError,
    ConnectFailed,
    HeadgateError,
    StreamBroken,
    Unavailable,
)
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest
from headgate.core.operations import EmbedRequest, RerankRequest
from headgate.dialects import openai_chat
from headgate.dialects.dialect import EmbedDialect
from headgate.dialects.openai_shared import FIELDS as SHARED
from headgate.dialects.registry import dialect as find_dialect
from headgate.local import catalog
from headgate.local.catalog import Weights
from headgate.local.engines.chat_request import LABELS, ONLY_DEFAULT
from headgate.local.supervisor import EngineSpec, Supervisor
from headgate.upstream.heads import complete_head, request_head
from headgate.upstream.http import Pool
from headgate.upstream.origin import Origin

log = logging.getLogger("headgate.engine")


class EngineSettings(TargetSettings):
    """What all local engines take."""

    weights: WeightsReference = Field(
        description="`catalog:NAME`, `hf:ORG/REPO/FILE`, an http(s) or file URL, or a path."
    )
    preload: bool = Field(default=False, description="Load at the start in place of at the first request.")
    idle_unload: Duration | None = Field(
        default=None, description="Unload after this long without a request; kept when left out."
    )
    start_timeout: Duration = Field(default=120.0, description="How long loading may take.")


class GgufSettings(EngineSettings):
    """A chat model in GGUF form, run by llama.cpp."""

    n_ctx: int | None = Field(
        default=None, ge=16, description="Context in tokens; the model's own, 8192 at most, when left out."
    )
    n_threads: int | None = Field(
        default=None, ge=1, description="CPU threads; all cores but one when left out."
    )
    n_gpu_layers: int | None = Field(default=None, ge=-1, description="Layers to put on a GPU.")
    n_parallel: int = Field(
        default=2, ge=1, le=64, description="Answers generated at once, each with a context of its own."
    )
    flash_attn: bool | None = Field(default=None, description="Flash attention on or off.")
    chat_template: str | None = Field(default=None, description="Jinja template in place of the model's own.")

    @model_validator(mode="before")
    @classmethod
    def _wait_in_the_server(cls, given: Any) -> Any:
        """As many requests at once as the engine has slots: the others wait where the queue is seen."""
        if isinstance(given, dict):
            given = {"max_concurrency": given.get("n_parallel", 2), **given}
        return given


class EmbeddingSettings(EngineSettings):
    """An embedding model in ONNX form."""

    isolate: Literal["process", "thread"] = Field(
        default="process",
        description="`process`: an engine of its own, restartable; `thread`: in the server, cheaper.",
    )
    truncate: bool = Field(
        default=False, description="Cut inputs that are too long; otherwise they are refused."
    )
    n_threads: int | None = Field(default=None, ge=1, description="CPU threads of the engine.")


@dataclass(frozen=True, slots=True)
class EngineKind:
    """A row: which engine module runs it, what it does and how it is asked."""

    module: str
    operation: Operation
    path: str
    dialect: str


CHAT_ENGINE = EngineKind("gguf", Operation.CHAT, "/v1/chat/completions", "openai_chat")
EMBED_ENGINE = EngineKind("embedding", Operation.EMBED, "/v1/embeddings", "openai_embeddings")

_PROFILE = replace(
    openai_chat.COMPATIBLE,
    refuses={name: ONLY_DEFAULT.get(name, (None,))[0] for name in SHARED.keys() - LABELS},
)
"""What the engine refuses to callers of chat is left out of requests in other dialects, and reported."""

_COMMON = frozenset(EngineSettings.model_fields) | {"isolate"}


class LocalEngine:
    """One engine process behind the raw lane. Loads lazily; several callers share one load."""

    def __init__(self, kind: EngineKind, settings: EngineSettings, context: BuildContext) -> None:
        self._kind = kind
        self._settings = settings
        self._context = context
        self._supervisor: Supervisor | None = None
        self._pool: Pool | None = None

    @property
    def operations(self) -> frozenset[Operation]:
        return frozenset({self._kind.operation})

    @property
    def status(self) -> Status:
        return self._supervisor.status if self._supervisor is not None else Status("idle")

    async def start(self) -> None:
        """Have the weights here, and with `preload` the model loaded. Raises ConfigError."""
        weights = await asyncio.to_thread(_ensure, self._settings, self._context)
        if self._kind is CHAT_ENGINE:
            await asyncio.to_thread(_check_gguf, weights.path)
        options: dict[str, Any] = {
            "model": str(weights.path),
            "max_queue": self._settings.max_queue,
            **self._settings.model_dump(exclude=set(_COMMON), exclude_none=True),
        }
        spec = EngineSpec.for_engine(
            self._context.model,
            self._kind.module,
            options,
            start_timeout=self._settings.start_timeout,
            idle_unload=self._settings.idle_unload,
        )
        self._supervisor = Supervisor(spec)
        self._pool = self._context.pools.at(Origin("localhost", 80, uds=self._supervisor.socket_path))
        if self._settings.preload:
            try:
                await self._supervisor.ready()
            except Unavailable as error:
                detail = self._supervisor.status.detail or error.message
                raise ConfigError(f"the engine can't load {self._settings.weights}: {detail}") from error

    async def close(self) -> None:
        if self._pool is not None:
            self._context.pools.leave(self._pool)
        if self._supervisor is not None:
            await self._supervisor.stop()

    def wire(self, operation: Operation, dialect: str) -> Wire | None:
        supervisor, pool = self._supervisor, self._pool
        if operation is not self._kind.operation or supervisor is None or pool is None:
            return None
        prefix = request_head("POST", self._kind.path, "localhost", [(b"content-type", b"application/json")])
        return EngineWire(
            self._kind.dialect, self._context.model, self._context.timeouts, supervisor, pool, prefix
        )


@dataclass(frozen=True, slots=True)
class EngineWire:
    """An engine's raw lane. Not ready while the engine is not up; `prepare` brings it up."""

    dialect: str
    model: str
    timeouts: Timeouts
    _supervisor: Supervisor
    _pool: Pool
    _prefix: bytes

    @property
    def ready(self) -> bool:
        return self._supervisor.is_ready

    async def prepare(self) -> None:
        with self._supervisor.lease():
            await self._supervisor.ready()

    @property
    def reports_usage_when_asked(self) -> bool:
        return True

    def encode(self, request: ChatRequest | EmbedRequest | RerankRequest) -> tuple[bytes, list[Loss]]:
        if isinstance(request, ChatRequest):
            return openai_chat.encode_request(request, model=self.model, profile=_PROFILE)
        record = find_dialect(self.dialect)
        assert isinstance(record, EmbedDialect)
        return record.encode_request(request, model=self.model)  # type: ignore[arg-type]

    def send(
        self,
        body: bytes,
        headers: RawHeaders,
        deadline: float | None,
        receiver: Receiver,
        *,
        stream: bool = False,
    ) -> Exchange:
        head = complete_head(self._prefix, headers, len(body))
        leased = LeasedExchange(self._supervisor, receiver)
        leased.exchange = self._pool.send(head, body, leased, timeouts=self.timeouts, deadline=deadline)
        return leased


class LeasedExchange:
    """An exchange with an engine: while it lasts, the engine is not unloaded."""

    __slots__ = ("_held", "_receiver", "_supervisor", "exchange")

    def __init__(self, supervisor: Supervisor, receiver: Receiver) -> None:
        self._supervisor = supervisor
        self._receiver = receiver
        self._held = True
        self.exchange: Exchange | None = None
        supervisor.acquire()

    def _release(self) -> None:
        if self._held:
            self._held = False
            self._supervisor.release()

    @property
    def connected(self) -> float | None:
        return self.exchange.connected if self.exchange is not None else None

    def abort(self) -> None:
        self._release()
        if self.exchange is not None:
            self.exchange.abort()

    def pause(self) -> None:
        if self.exchange is not None:
            self.exchange.pause()

    def resume(self) -> None:
        if self.exchange is not None:
            self.exchange.resume()

    def on_head(self, status: int, headers: RawHeaders) -> None:
        self._receiver.on_head(status, headers)

    def on_data(self, data: bytes) -> None:
        self._receiver.on_data(data)

    def on_end(self) -> None:
        self._release()
        self._receiver.on_end()

    def on_fail(self, error: HeadgateError) -> None:
        """A connection that breaks means that the engine died: it comes back, so say when to try again."""
        self._release()
        if isinstance(error, StreamBroken | ConnectFailed):
            wait = self._supervisor.retry_after or 1.0
            error = Unavailable(
                f"the engine of {self._supervisor.spec.name!r} stopped while answering; it restarts now",
                retry_after=wait,
            )
        self._receiver.on_fail(error)


def _ensure(settings: EngineSettings, context: BuildContext) -> Weights:
    return catalog.ensure(settings.weights, offline=context.offline, announce=log.warning)


def _check_gguf(path: Path) -> None:
    """Refuse at the start what the engine could only refuse at the first request."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ConfigError(f"weights {path}: {error.strerror}") from error
    if magic != b"GGUF":
        raise ConfigError(f"weights {path}: not a GGUF file (it begins with {magic!r})")


def _build_gguf(settings: TargetSettings, context: BuildContext) -> Backend:
    assert isinstance(settings, GgufSettings)
    return LocalEngine(CHAT_ENGINE, settings, context)


def _build_embedding(settings: TargetSettings, context: BuildContext) -> Backend:
    assert isinstance(settings, EmbeddingSettings)
    if settings.isolate == "process":
        return LocalEngine(EMBED_ENGINE, settings, context)
    from headgate.local.embedding import ThreadEmbedding

    return ThreadEmbedding(
        context.model,
        lambda: _ensure(settings, context).path,
        truncate=settings.truncate,
        n_threads=settings.n_threads,
        max_queue=settings.max_queue,
        preload=settings.preload,
    )


GGUF = BackendType(GgufSettings, _build_gguf)
EMBEDDING = BackendType(EmbeddingSettings, _build_embedding)
