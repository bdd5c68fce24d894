"""One engine process, owned: started on first use, watched, restarted with back-off, stopped for good.

A local engine runs in a process of its own, so that a native crash costs one engine and not the server.
It answers HTTP on a Unix socket in a private folder; `Supervisor` brings it up and knows how it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headgate.core.backend import State, Status
from headgate.core.errors import Unavailable

logger = logging.getLogger("headgate.engine")

BACKOFF_FIRST = 0.5
BACKOFF_MOST = 30.0
HEALTHY_SECONDS = 60.0
"""An engine that has run this long starts again with the shortest back-off."""

FAILURES_BEFORE_FAILED = 5
EXIT_CONFIGURATION = 2
"""The engine's exit code when trying again can't help: a missing package, a broken model file."""

_TAIL_LINES = 20
_LINE_LIMIT = 2000
_REASON_LINES = 3
_REASON_LIMIT = 400
_SOCKET_PATH_LIMIT = 100  # sun_path holds 104 bytes on macOS, 108 on Linux

_TELLING = re.compile(
    r"^(ERROR|CRITICAL): |GGML_ASSERT|GGML_ABORT|terminate called|Fatal Python error"
    r"|out of memory|failed to alloc"
)
"""Lines of a serving engine that may be shown as the reason of its end. Others could quote a request."""

_ENV_NAMES = frozenset(
    {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "VIRTUAL_ENV"}
    | {"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"}
)
_ENV_PREFIXES = (
    "LC_",
    "PYTHON",
    "CUDA_",
    "NVIDIA_",
    "HIP_",
    "ROCR_",
    "GGML_",
    "OMP_",
    "MKL_",
    "ORT_",
    "COVERAGE_",
)
_ENV_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What to run. The supervisor adds `--socket PATH` to `argv`. Times are seconds.

    `idle_unload` stops an engine that nobody has leased for so long; None keeps it. `env` is added to the
    few variables that the child inherits.
    """

    name: str
    argv: tuple[str, ...]
    start_timeout: float = 120.0
    idle_unload: float | None = None
    stop_grace: float = 5.0
    env: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def for_engine(
        cls,
        name: str,
        kind: str,
        options: Mapping[str, Any],
        *,
        start_timeout: float = 120.0,
        idle_unload: float | None = None,
    ) -> EngineSpec:
        """An engine of this package: `kind` is a module of `headgate.local.engines` (gguf, embedding)."""
        module = f"headgate.local.engines.{kind}"
        argv = (sys.executable, "-P", "-m", module, "--options", json.dumps(dict(options)))
        return cls(name, argv, start_timeout=start_timeout, idle_unload=idle_unload)


class Supervisor:
    """Owns one engine process. Use from one event loop.

    To use the engine, take a lease first and call `ready()` within it:

        with supervisor.lease():
            await supervisor.ready()
            ...  # talk HTTP to supervisor.socket_path
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self._folder = _private_folder()
        self._remove_folder = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self.socket_path: str = str(self._folder / "engine.sock")
        self.restarts = 0
        self._state: State = "idle"
        self._detail: str | None = None
        self._info: Mapping[str, Any] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._owner: asyncio.Task[None] | None = None
        self._attempt: asyncio.Future[bool] | None = None
        self._retry_at: float | None = None
        self._failures = 0
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._drain: asyncio.Task[None] | None = None
        self._leases = 0
        self._idle = asyncio.Event()
        self._idle_timer: asyncio.TimerHandle | None = None

    @property
    def status(self) -> Status:
        info: dict[str, Any] = {**self._info, "restarts": self.restarts}
        if self._process is not None:
            info["pid"] = self._process.pid
        return Status(self._state, self._detail, info)

    @property
    def is_ready(self) -> bool:
        """`ready()` would return at once."""
        return self._state == "ready"

    @property
    def retry_after(self) -> float | None:
        """Seconds until a next try makes sense; None when the engine is well, or will never be."""
        if self._retry_at is not None:
            return max(0.1, self._retry_at - asyncio.get_running_loop().time())
        return 1.0 if self._state in ("loading", "restarting") else None

    async def ready(self) -> None:
        """Return when the engine answers, starting it if need be. Callers share one start.

        Raises:
            Unavailable: in back-off after a crash or failed start (at once, with `retry_after`), the start
                failed, or the engine is stopped.
        """
        while self._state != "ready":
            if self._state == "stopped" or self._retry_at is not None or self._gave_up:
                raise self._unavailable()
            if self._owner is not None and self._state == "idle":
                await asyncio.wait({self._owner})  # it is being unloaded; start it again after that
                continue
            if self._owner is None:
                self._set("loading")
                self._attempt = asyncio.get_running_loop().create_future()
                self._owner = asyncio.create_task(self._own(), name=f"engine {self.spec.name}")
            assert self._attempt is not None
            if not await asyncio.shield(self._attempt):
                raise self._unavailable()

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """While held, the engine is not unloaded for idleness."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def acquire(self) -> None:
        self._leases += 1
        self._idle.clear()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def release(self) -> None:
        self._leases -= 1
        self._watch_idleness()

    async def stop(self) -> None:
        """End the process (SIGTERM, SIGKILL after the grace), reap it, remove the socket. For good."""
        self._set("stopped")
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait({self._owner})
        self._set("stopped")
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        await asyncio.to_thread(self._remove_folder)

    @property
    def _gave_up(self) -> bool:
        return self._state == "failed" and self._owner is None

    def _set(self, state: State, detail: str | None = None) -> None:
        self._state, self._detail = state, detail

    def _unavailable(self) -> Unavailable:
        name = self.spec.name
        if self._state == "stopped":
            return Unavailable(f"the engine of {name!r} is stopped: the server is shutting down")
        if self._gave_up:
            return Unavailable(f"the engine of {name!r} can't start: {self._detail}")
        doing = "is restarting" if self._state == "restarting" else "failed to start"
        wait = self.retry_after or 1.0
        return Unavailable(
            f"the engine of {name!r} {doing}: try again in {math.ceil(wait)} s; /readyz says why",
            retry_after=wait,
        )

    async def _own(self) -> None:
        """The process's life, from the first use until it is idle, stopped or past help."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                failure = await self._launch()
                if failure is None:
                    failure = await self._serve_until_exit()
                    if failure is None:
                        return
                elif self._process is not None and self._process.returncode == EXIT_CONFIGURATION:
                    self._set("failed", failure)
                    logger.error("%s can't start: %s", self.spec.name, failure)
                    return
                delay = self._back_off()
                self._set(self._after_failure, failure)
                logger.warning("%s: %s; next try in %.1f s", self.spec.name, failure, delay)
                self._retry_at = loop.time() + delay
                self._settle(False)
                await asyncio.sleep(delay)
                self._retry_at = None
                self._attempt = loop.create_future()
                self.restarts += 1
        finally:
            self._retry_at = None
            await self._end_process()
            self._owner = None
            self._settle(False)

    @property
    def _after_failure(self) -> State:
        if self._state == "loading" or self._failures >= FAILURES_BEFORE_FAILED:
            return "failed"
        return self._state if self._state == "failed" else "restarting"

    def _settle(self, ready: bool) -> None:
        if self._attempt is not None and not self._attempt.done():
            self._attempt.set_result(ready)

    def _back_off(self) -> float:
        """Exponential, 0.5 s to 30 s, with jitter of a quarter either way."""
        delay = min(BACKOFF_MOST, BACKOFF_FIRST * float(1 << min(self._failures, 10)))
        self._failures += 1
        return min(BACKOFF_MOST, delay * random.uniform(0.75, 1.25))  # noqa: S311 - spreads load only

    async def _launch(self) -> str | None:
        """Start the process and wait for its health. The reason of the failure, or None."""
        await self._end_process()
        self._tail.clear()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.argv,
                "--socket",
                self.socket_path,
                stdin=asyncio.subprocess.PIPE,  # its end tells the child that we are gone
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=child_environment(self.spec.env),
            )
        except OSError as error:
            return f"can't run {self.spec.argv[0]}: {error.strerror}"
        self._drain = asyncio.create_task(self._drain_output(self._process), name="engine output")
        try:
            async with asyncio.timeout(self.spec.start_timeout):
                return await self._until_healthy(self._process)
        except TimeoutError:
            await self._end_process()
            return f"did not answer its health check within {self.spec.start_timeout:g} s{self._last_words()}"

    async def _until_healthy(self, process: asyncio.subprocess.Process) -> str | None:
        pause = 0.01
        exited = asyncio.create_task(process.wait())
        try:
            while not exited.done():
                info = await _health(self.socket_path)
                if info is not None:
                    self._info = info
                    return None
                await asyncio.wait({exited}, timeout=pause)
                pause = min(0.1, pause * 1.5)
            return await self._exit_reason(process)
        finally:
            exited.cancel()

    async def _serve_until_exit(self) -> str | None:
        """Ready until the process ends (the reason) or has been idle for long enough (None)."""
        assert self._process is not None
        loop = asyncio.get_running_loop()
        self._set("ready")
        since = loop.time()
        logger.info("%s is ready, pid %d", self.spec.name, self._process.pid)
        self._settle(True)
        self._idle.clear()
        self._watch_idleness()
        exited = asyncio.create_task(self._process.wait())
        idle = asyncio.create_task(self._idle.wait())
        try:
            while not exited.done():
                await asyncio.wait({exited, idle}, return_when=asyncio.FIRST_COMPLETED)
                if self._idle.is_set() and not exited.done():
                    self._set("idle")
                    logger.info("%s is unloaded: idle for %g s", self.spec.name, self.spec.idle_unload)
                    return None
                if idle.done():  # a lease taken meanwhile has cleared it
                    idle = asyncio.create_task(self._idle.wait())
        finally:
            exited.cancel()
            idle.cancel()
        self._set("restarting", "the process ended")
        if loop.time() - since >= HEALTHY_SECONDS:
            self._failures = 0
        return await self._exit_reason(self._process)

    def _watch_idleness(self) -> None:
        if self.spec.idle_unload is None or self._leases or self._state != "ready":
            return
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._idle_timer = asyncio.get_running_loop().call_later(self.spec.idle_unload, self._idle.set)

    async def _end_process(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            for send in (process.terminate, process.kill):
                with contextlib.suppress(ProcessLookupError):
                    send()
                try:
                    async with asyncio.timeout(self.spec.stop_grace):
                        await process.wait()
                    break
                except TimeoutError:
                    continue
        if self._drain is not None:
            await asyncio.wait({self._drain}, timeout=1.0)
            self._drain.cancel()
            self._drain = None

    async def _drain_output(self, process: asyncio.subprocess.Process) -> None:
        """Read what the child writes, always, so that it never blocks on a full pipe."""
        assert process.stdout is not None
        rest = b""
        while block := await process.stdout.read(65536):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                self._note(line)
            rest = rest[:_LINE_LIMIT]
        if rest:
            self._note(rest)

    def _note(self, raw: bytes) -> None:
        line = raw[:_LINE_LIMIT].decode("utf-8", "replace").strip()
        if not line:
            return
        if self._state != "ready" or _TELLING.search(line):
            self._tail.append(line)
        word, _, rest = line.partition(": ")
        level = logging.getLevelNamesMapping().get(word)
        logger.log(level or logging.DEBUG, "%s: %s", self.spec.name, rest if level else line)

    async def _exit_reason(self, process: asyncio.subprocess.Process) -> str:
        code = await process.wait()
        if self._drain is not None:
            await asyncio.wait({self._drain}, timeout=1.0)
        if code == EXIT_CONFIGURATION and self._tail:
            # The native library's threads may write another line after ours.
            told = [line for line in self._tail if line.startswith("ERROR: ")] or list(self._tail)
            return told[-1].removeprefix("ERROR: ")
        if code < 0:
            try:
                how = f"killed by {signal.Signals(-code).name}"
            except ValueError:
                how = f"killed by signal {-code}"
        else:
            how = f"exited with code {code}"
        return how + self._last_words()

    def _last_words(self) -> str:
        words = " | ".join(list(self._tail)[-_REASON_LINES:])[-_REASON_LIMIT:]
        return f"; its last words: {words}" if words else ""


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The few variables an engine needs: no keys, no tokens, nothing of the server's own settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if (name in _ENV_NAMES or name.startswith(_ENV_PREFIXES))
        and not any(word in name.upper() for word in _ENV_SECRET)
    }
    return {**kept, "PYTHONUNBUFFERED": "1", **extra}


def _private_folder() -> Path:
    """A new 0700 folder whose socket's path fits into a socket address."""
    folder = tempfile.mkdtemp(prefix="headgate-")
    if len(folder) + len("/engine.sock") < _SOCKET_PATH_LIMIT:
        return Path(folder)
    Path(folder).rmdir()
    return Path(tempfile.mkdtemp(prefix="headgate-", dir="/tmp"))


async def _health(socket_path: str) -> Mapping[str, Any] | None:
    """What the engine's GET /health tells, or None while it does not answer 200."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket_path)
    except OSError:
        return None
    try:
        writer.write(b"GET /health HTTP/1.1\r\nhost: engine\r\nconnection: close\r\n\r\n")
        answer = await reader.read(-1)
    except OSError:
        return None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        return None
    try:
        told = json.loads(body)
    except ValueError:
        return None
    return told if isinstance(told, dict) else {}
