"""The mock, the load generator and the servers at work: takes one measurement at a time."""

from __future__ import annotations

import http.client
import json
import mmap
import os
import resource
import socket
import struct
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.build import BenchError, compiled
from bench.mock import Mock, call
from bench.processes import Process, cpu_ns, family, rss_bytes
from bench.scenarios import SCENARIOS, Scenario, request_body
from bench.servers import Server, prepare

ENDLESS = 1_000_000_000
SETTLE = 0.5
"""Seconds before a window of streams, and before idle memory is read."""
OPENING = 10.0
"""Seconds until all streams of a scenario have had their first event, at most."""

KEEPING_UP = 0.9
"""Share of the mock's events that must arrive in a window; a server that lags looks cheap."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one measurement gave: values by metric name, and what went wrong."""

    values: Mapping[str, float]
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """A load's counters at one moment."""

    opened: int
    events: int
    finished: int
    errors: int
    bytes: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cores() -> tuple[int, int]:
    """The core for the server under measurement and the one for mock and load; one if there is but one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@dataclass(slots=True)
class Running:
    """A server that has given its first answer."""

    name: str
    port: int
    process: Process | None  # None: the mock itself, without a server between
    start_seconds: float = 0.0
    start_cpu_ns: int = 0
    pids: list[int] = field(default_factory=list)

    def cpu_ns(self) -> int:
        return cpu_ns(self.pids)


class Rig:
    """Everything that one run of the benchmark starts. A context manager: leaving ends every process.

    Args:
        folder: an empty directory for configurations, bodies and logs.
        scale: factor on the length of every window.
    """

    def __init__(self, folder: Path, scale: float = 1.0) -> None:
        self.folder = folder
        self.scale = scale
        self.server_core, self.load_core = cores()
        self._stack = ExitStack()
        self._load = compiled("load")
        self._mock: Mock
        self.mock_port = 0

    def __enter__(self) -> Rig:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        os.sched_setaffinity(0, {self.load_core})
        try:
            self._start_mock()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start_mock(self) -> None:
        self._mock = self.mock()
        self.mock_port = self._mock.port

    def mock(self, port: int = 0, **settings: int) -> Mock:
        """One more mock upstream, on the load's core, until the rig is left."""
        log = self.folder / "mock.log"
        return self._stack.enter_context(Mock(core=self.load_core, log=log, port=port, settings=settings))

    @property
    def direct(self) -> Running:
        """The mock without a server between: the baseline."""
        return Running("direct", self.mock_port, None)

    def start(self, server: Server, command_prefix: tuple[str, ...] = ()) -> Running:
        """Start a server and wait for its first answer to a chat request.

        Raises:
            BenchError: it is not installed, ended, or did not answer in time.
        """
        launch = prepare(server, self.folder / server.name, free_port(), self.mock_port)
        log = self.folder / f"{server.name}.log"
        process = Process(
            command_prefix + launch.command, core=self.server_core, log=log, environment=launch.environment
        )
        self._stack.enter_context(process)
        running = Running(server.name, launch.port, process)
        try:
            running.start_seconds = self._first_answer(server, running)
        except BenchError:
            process.stop()
            raise
        running.pids = family(process.pid)
        running.start_cpu_ns = running.cpu_ns()
        return running

    def stop(self, running: Running) -> None:
        if running.process is not None:
            running.process.stop()

    def _first_answer(self, server: Server, running: Running) -> float:
        assert running.process is not None
        process, body, seen = running.process, request_body(SCENARIOS[0]), "no answer"
        while (passed := time.perf_counter() - process.started) < server.ready_timeout:
            try:
                status, answer = call(running.port, "POST", SCENARIOS[0].dialect.path, body)
                if status == 200:
                    return time.perf_counter() - process.started
                seen = f"status {status}: {answer[:200].decode(errors='replace')}"
            except (OSError, http.client.HTTPException) as error:
                seen = str(error)
            if not process.runs_for(0.003):
                raise BenchError(f"{server.name} ended after {passed:.1f} s:\n{process.last_words()}")
        raise BenchError(
            f"{server.name} did not answer a chat request within {server.ready_timeout:.0f} s "
            f"({seen}):\n{process.last_words()}"
        )

    def idle(self, running: Running) -> Figures:
        """Start-up time and the memory of a server that has answered one request."""
        assert running.process is not None
        running.process.runs_for(SETTLE)
        running.pids = family(running.process.pid)
        values = {"start.first_answer_s": running.start_seconds, "start.cpu_s": running.start_cpu_ns / 1e9}
        return Figures(values | {"idle.rss_mb": rss_bytes(running.pids) / 1e6})

    def measure(self, scenario: Scenario, running: Running) -> Figures:
        """One measurement of one server; the metric names begin with the scenario's."""
        self._end_streams()  # those that a server before this one has not let go of
        self._mock.set(chunks=ENDLESS, pace_us=scenario.pace_us)
        if running.process is not None:
            running.pids = family(running.process.pid)
        take = self._streams if scenario.mode == "streams" else self._closed_loop
        figures = take(scenario, running)
        left = self._streams_left()
        errors = figures.errors
        if left:
            errors += (f"{left} upstream streams still open 2 s after their clients had gone",)
        named = {f"{scenario.name}.{metric}": value for metric, value in figures.values.items()}
        return Figures(named, tuple(f"{running.name}, {scenario.title}: {error}" for error in errors))

    def _closed_loop(self, scenario: Scenario, running: Running) -> Figures:
        seconds = scenario.seconds * self.scale
        self.run_load(scenario, running, min(0.5, seconds / 4))
        before = running.cpu_ns()
        report = self.run_load(scenario, running, seconds)
        cpu = running.cpu_ns() - before
        finished = report["finished"]
        if not finished:
            return Figures({}, (f"no request succeeded: {report['error']}",))
        values = {"per_second": finished / report["seconds"], "cpu_us": cpu / 1e3 / finished}
        values |= {f"{name}_us": value for name, value in report["latency_us"].items()}
        return Figures(values, _complaints(report))

    def _streams(self, scenario: Scenario, running: Running) -> Figures:
        """A window in the middle of long streams, so that opening and ending them is not in it."""
        seconds = scenario.seconds * self.scale
        with self.load_process(scenario, running, deadline=OPENING + SETTLE + seconds + 5) as load:
            progress = _ProgressFile(self._progress_path)
            waited_until = time.perf_counter() + OPENING
            while progress.read().opened < scenario.connections and time.perf_counter() < waited_until:
                if not load.runs_for(0.01):
                    break
            load.runs_for(SETTLE)
            sent = self._mock.stats()["chunks"]
            first, cpu, begun = progress.read(), running.cpu_ns(), time.perf_counter()
            load.runs_for(seconds)
            last, cpu, passed = progress.read(), running.cpu_ns() - cpu, time.perf_counter() - begun
            sent = self._mock.stats()["chunks"] - sent
            rss = rss_bytes(running.pids)
            self._mock.set(chunks=0, pace_us=scenario.pace_us)  # every stream ends at its next event
            report = result(load)
        events = last.events - first.events
        if not events:
            return Figures({}, (f"no event was relayed: {report['error']}",))
        values = {"cpu_us": cpu / 1e3 / events, "per_second": events / passed, "rss_mb": rss / 1e6}
        values |= {f"first_{name}_ms": value / 1e3 for name, value in report["latency_us"].items()}
        return Figures(values, _complaints(report) + lag(events, sent))

    @property
    def _progress_path(self) -> Path:
        return self.folder / "progress"

    def load_process(
        self, scenario: Scenario, running: Running, *, deadline: float, seconds: float = 0
    ) -> Process:
        """A load under way; `result` waits for its end."""
        body = self.folder / f"{scenario.name}.json"
        body.write_bytes(request_body(scenario))
        self._progress_path.write_bytes(bytes(_COUNTERS.size))
        dialect = scenario.dialect
        command = [str(self._load), scenario.mode, "--port", str(running.port), "--path", dialect.path]
        command += ["--end-mark", dialect.end_mark]
        command += ["--body", str(body), "--connections", str(scenario.connections)]
        command += ["--seconds", str(seconds), "--deadline", str(deadline)]
        command += ["--progress", str(self._progress_path)]
        log = self.folder / "load.log"
        return Process(command, core=self.load_core, log=log, stdout=subprocess.PIPE)

    def run_load(self, scenario: Scenario, running: Running, seconds: float) -> dict[str, Any]:
        """What a load of so many seconds reports: the line of JSON of bench/load.c."""
        with self.load_process(scenario, running, deadline=seconds + 10, seconds=seconds) as load:
            return result(load)

    def _end_streams(self) -> None:
        self._mock.set(chunks=0, pace_us=1_000)
        self._streams_left()

    def _streams_left(self) -> int:
        """Streams that the mock still sends 2 s after the load has ended: nobody told it that they left."""
        until = time.perf_counter() + 2.0
        while left := self._mock.stats()["streams"]:
            if time.perf_counter() > until or not self._mock.runs_for(0.01):
                break
        return left


_COUNTERS = struct.Struct("=5Q")


class _ProgressFile:
    """The counters that a running load keeps in mapped memory."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), _COUNTERS.size, access=mmap.ACCESS_READ)

    def read(self) -> Progress:
        return Progress(*_COUNTERS.unpack_from(self._map))


def result(load: Process) -> dict[str, Any]:
    """Wait for a load to end (it has a deadline of its own) and read its report."""
    out, _ = load.popen.communicate()
    if load.popen.returncode != 0:
        raise BenchError(f"the load generator failed: {load.last_words()}")
    result: dict[str, Any] = json.loads(out)
    return result


def lag(relayed: int, sent: int) -> tuple[str, ...]:
    """The complaint about a server that relays fewer events than it is sent, if there is one."""
    if relayed >= KEEPING_UP * sent:
        return ()
    return (f"{relayed:,} of {sent:,} events relayed in the window: it can't keep up",)


def _complaints(result: Mapping[str, Any]) -> tuple[str, ...]:
    if not result["errors"]:
        return ()
    return (f"{result['errors']} of {result['errors'] + result['finished']} failed: {result['error']}",)
