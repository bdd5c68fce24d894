"""Threads for work that blocks: few, named, and waited for in a bounded queue."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from headgate.core.errors import DeadlineExceeded, Overloaded, Unavailable

T = TypeVar("T")

_Job = tuple["Future[Any]", Callable[[], Any]]


class Workers:
    """A few threads of one model.

    Daemon threads of our own in place of ThreadPoolExecutor, which joins its threads when the process ends:
    one prediction that hangs would keep the server from stopping. Work waits on the event loop, not in the
    threads' queue, so that a caller who leaves takes its place in the queue along.

    Args:
        name: of the model, for thread names and messages.
        threads: how many calls run at once.
        max_queue: how many more may wait.
    """

    def __init__(self, name: str, threads: int, max_queue: int) -> None:
        self._name = name
        self._count = threads
        self._max_queue = max_queue
        self._free = asyncio.Semaphore(threads)
        self._waiting = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False

    @property
    def waiting(self) -> int:
        return self._waiting

    async def run(self, work: Callable[[], T], deadline: float | None = None) -> T:
        """Run `work` on a thread. It never starts when the caller is gone or the deadline has passed by then.

        Args:
            deadline: absolute, on the event loop's clock; over the wait and the run. A run that has begun
                goes on to its end on its thread, and its result is dropped.

        Raises:
            Overloaded: the queue is full.
            DeadlineExceeded: the deadline passed.
            Unavailable: closed.
        """
        loop = asyncio.get_running_loop()
        if self._free.locked() and self._waiting >= self._max_queue:
            raise Overloaded(
                f"model {self._name!r} has {self._count} predictions running and {self._waiting} waiting, "
                "its limit; try again later",
                retry_after=1.0,
            )
        if deadline is not None and deadline <= loop.time():
            raise self._too_late()
        try:
            async with asyncio.timeout_at(deadline) as limit:
                self._waiting += 1
                try:
                    await self._free.acquire()
                finally:
                    self._waiting -= 1
                return await asyncio.wrap_future(self._started(work, loop))
        except TimeoutError:
            if limit.expired():
                raise self._too_late() from None
            raise

    async def close(self, grace: float) -> bool:
        """Refuse new work and end the threads. False: one still runs after `grace` seconds, and was left."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        waiting = [asyncio.to_thread(thread.join, grace) for thread in self._threads]
        await asyncio.gather(*waiting)
        return not any(thread.is_alive() for thread in self._threads)

    def _started(self, work: Callable[[], T], loop: asyncio.AbstractEventLoop) -> Future[T]:
        """Hand `work` to a thread; the permit comes back when the thread is done with it."""
        if self._closed:
            self._free.release()
            raise Unavailable(f"model {self._name!r} is being stopped")
        future: Future[T] = Future()

        def give_back(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed before a hanging prediction ended
                loop.call_soon_threadsafe(self._free.release)

        future.add_done_callback(give_back)
        if len(self._threads) < self._count:
            thread = threading.Thread(
                target=self._work, name=f"headgate-{self._name}-{len(self._threads)}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._jobs.put((future, work))
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, work = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            del job, future, work  # a waiting thread keeps no request's data alive

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"model {self._name!r} did not answer before the deadline", code="total_timeout"
        )
