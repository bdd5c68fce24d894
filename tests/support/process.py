"""`headgate serve` as a process of its own: what a user would start, seen from outside."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.client import Answer, request

DEADLINE = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """A started `headgate`. Standard error goes to a file, so that a full pipe can't stop it."""

    def __init__(
        self, folder: Path, *arguments: str, port: int | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.port = port if port is not None else free_port()
        self._log = folder / f"stderr-{self.port}.txt"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
        with self._log.open("wb") as stderr:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "headgate.cli.main", *arguments],
                cwd=folder,
                env={**environment, "HEADGATE_PORT": str(self.port), **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                # A shell that runs tests in the background has them ignore SIGINT: children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its log, one JSON object in each line."""
        return [json.loads(line) for line in self.stderr.splitlines()]

    def wait(self, timeout: float = DEADLINE) -> int:
        """The exit code."""
        return self.popen.wait(timeout)

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def ready(self) -> Answer:
        """Wait until it answers; what `/readyz` says then."""
        until = time.monotonic() + DEADLINE
        while True:
            with contextlib.suppress(OSError):
                return request(self.port, "GET", "/readyz")
            assert self.popen.poll() is None, f"it ended with {self.popen.returncode}: {self.stderr}"
            assert time.monotonic() < until, "it does not listen"
            select.select([], [], [], 0.02)

    def refuses_connections(self) -> None:
        """Wait until nobody listens any more."""
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except ConnectionRefusedError:
                return
            select.select([], [], [], 0.02)
        raise AssertionError("it still accepts connections")

    def logged(self, text: str) -> None:
        """Wait until its log holds `text`."""
        until = time.monotonic() + DEADLINE
        while text not in self.stderr:
            assert self.popen.poll() is None, self.stderr
            assert time.monotonic() < until, f"no {text!r} in {self.stderr}"
            select.select([], [], [], 0.02)

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(DEADLINE)
        if self.popen.stdout is not None:
            self.popen.stdout.close()


@contextlib.contextmanager
def started(folder: Path, *arguments: str, **options: Any) -> Iterator[Process]:
    process = Process(folder, *arguments, **options)
    try:
        yield process
    finally:
        process.end()


def write_config(folder: Path, content: dict[str, Any] | str) -> str:
    path = folder / "headgate.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)
