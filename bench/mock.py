"""The mock upstream as a process: what it is told, what it has counted, and how it dies and comes back."""

from __future__ import annotations

import http.client
import json
import random
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from bench.build import BenchError, compiled
from bench.processes import Process

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def call(port: int, method: str, path: str, body: bytes = b"", timeout: float = 5.0) -> tuple[int, bytes]:
    """One request to a loopback port: status and body. Raises OSError or http.client.HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def lasting_port() -> int:
    """A free port that no outgoing connection is given while its server is away.

    Raises BenchError when none is found.
    """
    lowest = int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    for port in random.sample(range(lowest // 2, lowest), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BenchError(f"no free port between {lowest // 2} and {lowest}")


class Mock:
    """One mock, started at once. A context manager: leaving ends it.

    Args:
        port: to listen on; 0: a free one.
        settings: as `set` takes them; they hold again after `revive`.
    """

    def __init__(
        self, *, core: int, log: Path, port: int = 0, settings: Mapping[str, int] | None = None
    ) -> None:
        self._core = core
        self._log = log
        self._settings = dict(settings or {})
        self.port = port
        self._process = self._start()

    def _start(self) -> Process:
        command = [str(compiled("mock")), "--port", str(self.port)]
        for name, value in self._settings.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        process = Process(command, core=self._core, log=self._log, stdout=subprocess.PIPE)
        assert process.popen.stdout is not None
        line = process.popen.stdout.readline()
        if not line.startswith("listening "):
            process.stop()
            raise BenchError(f"the mock upstream did not start: {process.last_words()}")
        self.port = int(line.split()[1])
        return process

    def runs_for(self, seconds: float) -> bool:
        return self._process.runs_for(seconds)

    def set(self, **settings: int) -> None:
        """`chunks`, `pace_us`, `first_us`, `slow`: see bench/mock.c."""
        query = "&".join(f"{name}={value}" for name, value in settings.items())
        call(self.port, "POST", f"/settings?{query}")
        self._settings |= settings

    def stats(self) -> dict[str, int]:
        stats: dict[str, int] = json.loads(call(self.port, "GET", "/stats")[1])
        return stats

    def kill(self) -> None:
        """As a crash: no answer is ended, and nobody listens any more. Its counts are lost."""
        self._process.popen.send_signal(signal.SIGKILL)
        self._process.stop()

    def revive(self) -> None:
        """Listens again, at the same port, when this returns."""
        self._process = self._start()

    def __enter__(self) -> Mock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stop()
