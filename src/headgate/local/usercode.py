"""Calling code that users wrote: their errors become clear ones, their coroutines find an event loop."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from headgate.core.errors import ConfigError, HeadgateError
from headgate.core.operations import Table
from headgate.local.diagnosis import client_mistake
from headgate.local.runner import model_error

log = logging.getLogger(__name__)


class UserCode:
    """The way into one model's code.

    Args:
        model: public name, for messages to callers.
        place: where the code is, for the operator: a folder or `module:attr`.
        folder: to tell the user's own lines in a traceback; None: the innermost line counts.
    """

    def __init__(self, model: str, place: str, folder: Path | None = None) -> None:
        self.model = model
        self.place = place
        self._folder = folder
        self._loop = PrivateLoop()

    def prepare(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
        """Run a part of the start. Raises ConfigError naming file, line and reason."""
        try:
            return self._finished(function(*args))
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            log.debug("%s: %s failed", self.place, what, exc_info=True)
            raise ConfigError(self._at_load(what, error)) from error

    def call(self, what: str, table: Table, function: Callable[[], Any]) -> Any:
        """Run a part of a prediction; `function` has its arguments already.

        Raises:
            InvalidData: the error is recognised as one that `table` caused.
            Internal: any other; the log has the trace.
        """
        try:
            return self._finished(function())
        except HeadgateError:
            raise
        except (Exception, SystemExit) as error:
            mistake = client_mistake(error, table)
            if mistake is not None:
                raise mistake from error
            log.exception("model %s: %s failed", self.model, what)
            raise model_error(
                f"model {self.model!r}: {what} raised {type(error).__name__}; the server's log has the trace"
            ) from error

    def close(self) -> None:
        self._loop.close()

    def _finished(self, result: Any) -> Any:
        return self._loop.run(result) if inspect.isawaitable(result) else result

    def _at_load(self, what: str, error: BaseException) -> str:
        if isinstance(error, SyntaxError) and error.filename:
            return f"{error.filename}, line {error.lineno}: {error.msg}; correct the file"
        place = self._line_of(error) or self.place
        if isinstance(error, ModuleNotFoundError) and error.name:
            package = error.name.partition(".")[0]
            return (
                f"{place}: {what} imports {error.name!r}, which is not installed; "
                f"install the package that has it (pip install {package}?) or put the module into the folder"
            )
        reason = str(error).strip().partition("\n")[0]
        return f"{place}: {what} raised {type(error).__name__}{': ' if reason else ''}{reason}; correct it"

    def _line_of(self, error: BaseException) -> str | None:
        frames = traceback.extract_tb(error.__traceback__)
        for frame in reversed(frames):
            if self._folder is None or Path(frame.filename).is_relative_to(self._folder):
                return f"{frame.filename}, line {frame.lineno}"
        return None


class PrivateLoop:
    """An event loop in a thread of its own, for `async def` hooks. Starts when first needed.

    One loop for all of a model's hooks: a client that `load_model` opened works in `predict` too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Wait for the result, on the calling thread."""

        async def finish() -> Any:
            return await awaitable

        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="headgate-hooks", daemon=True
                )
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(finish(), self._loop).result()

    def close(self) -> None:
        with self._lock:
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with_cancelled = asyncio.gather(task, return_exceptions=True)
            loop.run_until_complete(with_cancelled)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
