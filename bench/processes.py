"""Processes under measurement: started on one core, accounted with their children, always ended."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_clock_ns(pid: int) -> int:
    """CPU time of a process, user and system, all its threads, ended ones too; nanoseconds.

    This is the clock that clock_getcpuclockid(3) names. /proc/PID/stat shows the same sum rounded to
    ticks of 10 ms; /proc/PID/schedstat has nanoseconds, but of the main thread only.
    """
    return time.clock_gettime_ns((~pid << 3) | 2)


def parent_and_reaped(stat: str) -> tuple[int, int]:
    """The parent's pid, and the ticks of children that were waited for, from a line of /proc/PID/stat."""
    # The command's name stands in parentheses and may hold anything, parentheses included.
    fields = stat[stat.rindex(")") + 2 :].split()
    return int(fields[1]), int(fields[13]) + int(fields[14])


def _stat(pid: int) -> tuple[int, int]:
    return parent_and_reaped(Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace"))


def family(pid: int) -> list[int]:
    """A process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(_stat(int(entry.name))[0], []).append(int(entry.name))
            except OSError:  # it ended just now
                continue
    found = [pid]
    for member in found:
        found += children.get(member, ())
    return found


def cpu_ns(pids: Sequence[int]) -> int:
    """CPU time of these processes and of the children they have waited for; nanoseconds."""
    total = 0
    for pid in pids:
        try:
            total += cpu_clock_ns(pid) + _stat(pid)[1] * _TICK_NS
        except OSError:  # ended: its time is now its parent's
            continue
    return total


def rss_bytes(pids: Sequence[int]) -> int:
    """Resident memory of these processes; pages that they share count once for each."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
        except OSError:
            continue
    return total


class Process:
    """A child process pinned to one core. Use as a context manager: leaving ends it and its children.

    It runs in a session of its own, so that Ctrl-C reaches only the benchmark, which then ends its
    children in order; should the benchmark be killed outright, the kernel ends them (PR_SET_PDEATHSIG).
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
        stdout: int | None = None,
    ) -> None:
        def prepare() -> None:
            os.sched_setaffinity(0, {core})
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

        self.log = log
        self.started = time.perf_counter()
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=out,
                env={**os.environ, **(environment or {})},
                preexec_fn=prepare,  # pins before the first instruction; safe, as this is the only thread
                start_new_session=True,
                text=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def runs_for(self, seconds: float) -> bool:
        """Let time pass; False as soon as the process has ended."""
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def stop(self, grace: float = 5.0) -> None:
        """SIGTERM, then after `grace` seconds SIGKILL for whatever of the family is left."""
        pids = family(self.pid)
        if self.popen.poll() is None:
            self.popen.terminate()
        if self.runs_for(grace):
            for pid in reversed(pids):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.popen.wait(grace)
        if self.popen.stdout is not None:
            self.popen.stdout.close()

    def last_words(self, lines: int = 5) -> str:
        """The end of its log, for an error message."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
