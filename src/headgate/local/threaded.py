"""A model in the server's own process: loaded once on a thread of its own, and used there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from headgate.core.backend import State
from headgate.core.errors import DeadlineExceeded, HeadgateError, Unavailable
from headgate.local.workers import Workers

log = logging.getLogger(__name__)

CLOSE_GRACE = 5.0
"""Seconds that work under way gets when the model closes; the server's own grace came before."""

M = TypeVar("M")
T = TypeVar("T")


class Threaded(Generic[M]):
    """One model of type `M`, its threads and its state.

    Args:
        name: the public name, for messages.
        load: makes the model. Blocks; runs on a thread. Raises ConfigError.
        threads: how many calls run at once.
        max_queue: how many more may wait.
    """

    def __init__(self, name: str, load: Callable[[], M], *, threads: int, max_queue: int) -> None:
        self.model: M | None = None
        self.state: State = "idle"
        self.detail: str | None = None
        self._name = name
        self._make = load
        self._workers = Workers(name, threads, max_queue)
        self._loading: asyncio.Task[M] | None = None

    @property
    def waiting(self) -> int:
        return self._workers.waiting

    async def load(self, deadline: float | None = None) -> M:
        """Load once, whoever asks; a caller who stops waiting does not stop the loading.

        Raises:
            ConfigError: what the operator must mend. DeadlineExceeded: still loading.
        """
        if self._loading is None:
            self.state = "loading"
            self._loading = asyncio.create_task(self._load())
        try:
            async with asyncio.timeout_at(deadline) as limit:
                return await asyncio.shield(self._loading)
        except TimeoutError:
            if limit.expired():
                raise DeadlineExceeded(
                    f"model {self._name!r} is still loading", code="total_timeout"
                ) from None
            raise

    async def run(self, work: Callable[[M], T], deadline: float | None) -> T:
        """Run `work` with the model on one of its threads, loading it first if need be.

        Raises:
            Overloaded: too many wait already. DeadlineExceeded: `deadline` passed while it waited or ran.
            Unavailable: the model could not be loaded, or is being stopped.
        """
        model = self.model if self.model is not None else await self._loaded_late(deadline)
        return await self._workers.run(lambda: work(model), deadline)

    async def close(self, end: Callable[[M], None] | None = None) -> None:
        """Stop; `end` (blocking) is given the model when nothing uses it any more."""
        self.state = "stopped"
        ended = await self._workers.close(CLOSE_GRACE)
        model, self.model = self.model, None
        if model is not None and not ended:
            log.warning("model %s: a call still runs and is left to itself", self._name)
        elif model is not None and end is not None:
            await asyncio.to_thread(end, model)

    async def _loaded_late(self, deadline: float | None) -> M:
        """The model, at a request. What the operator must mend is no news for the caller."""
        if self.state in ("failed", "stopped"):
            raise Unavailable(f"model {self._name!r} is not served: its state is {self.state}")
        try:
            return await self.load(deadline)
        except DeadlineExceeded:
            raise
        except HeadgateError as error:
            log.error("model %s: %s", self._name, error.message)
            raise Unavailable(
                f"model {self._name!r} could not be loaded; the server's log says why"
            ) from error

    async def _load(self) -> M:
        try:
            model = await self._workers.run(self._make)
        except BaseException as error:
            self.state = "failed"
            self.detail = error.message if isinstance(error, HeadgateError) else type(error).__name__
            raise
        self.model = model
        self.state = "ready"
        return model
