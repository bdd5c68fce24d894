"""An embedding model on a thread of the server (`isolate: thread`): no second process to cross."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from typing_extensions import override

from headgate.core.backend import EmbedBackend, Status
from headgate.core.call import Call, Operation, Usage
from headgate.core.operations import EmbedRequest, EmbedResult
from headgate.local.engines.embedding import EmbeddingModel
from headgate.local.threaded import Threaded


class ThreadEmbedding(EmbedBackend):
    """Embeds on one thread; the tensor library spreads one batch over the cores.

    Args:
        name: the public name.
        locate: where the weights are; fetches them if need be (blocks). Raises ConfigError.
        preload: load at the start in place of at the first request.
    """

    def __init__(
        self,
        name: str,
        locate: Callable[[], Path],
        *,
        truncate: bool,
        n_threads: int | None,
        max_queue: int,
        preload: bool,
    ) -> None:
        self._locate = locate
        self._preload = preload
        self._model = Threaded(
            name,
            lambda: EmbeddingModel.load(locate(), truncate=truncate, n_threads=n_threads),
            threads=1,
            max_queue=max_queue,
        )

    @property
    @override
    def operations(self) -> frozenset[Operation]:
        return frozenset({Operation.EMBED})

    @property
    @override
    def status(self) -> Status:
        model = self._model.model
        info = {"dimensions": model.dimensions, "max_length": model.recipe.max_length} if model else None
        return Status(self._model.state, self._model.detail, info)

    @override
    async def start(self) -> None:
        """Have the weights here, and with `preload` the model loaded. Raises ConfigError."""
        await asyncio.to_thread(self._locate)
        if self._preload:
            await self._model.load()

    @override
    async def close(self) -> None:
        await self._model.close()

    @override
    async def embed(self, request: EmbedRequest, call: Call) -> EmbedResult:
        vectors, counts = await self._model.run(
            lambda model: model.embed(request.inputs, request.dimensions), call.deadline
        )
        return EmbedResult(request.model, tuple(vectors), Usage(sum(counts), 0))
