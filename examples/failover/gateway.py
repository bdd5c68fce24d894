"""Headgate as a user starts it, and its own account of what it did."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from examples.failover.clients import MODEL
from examples.failover.dialects import Tokens
from prometheus_client.parser import text_string_to_metric_families

CONFIG = Path(__file__).parent / "headgate.yaml"
READY_WITHIN = 30.0


@dataclass
class TargetAccount:
    """What the metrics say of one target.

    Args:
        outcomes: of its attempts.
        errors: of its attempts, by type; "" for none.
        tokens: that it told of.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    tokens: Tokens = field(default_factory=Tokens)

    @property
    def attempts(self) -> int:
        return self.outcomes.total()


@dataclass
class Account:
    """What the metrics say.

    Args:
        calls: by outcome.
        call_tokens: of the answers that the callers got.
        targets: by provider, which tells the three apart here.
    """

    calls: Counter[str] = field(default_factory=Counter)
    call_tokens: Tokens = field(default_factory=Tokens)
    targets: dict[str, TargetAccount] = field(default_factory=dict)


def read(page: str, providers: Mapping[str, str]) -> Account:
    """Args: page: of GET /metrics. providers: of each target."""
    account = Account(targets={provider: TargetAccount() for provider in providers.values()})
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels, count = sample.labels, round(sample.value)
            if sample.name == "headgate_requests_total":
                account.calls[labels["outcome"]] += count
            elif sample.name == "headgate_upstream_attempts_total":
                account.targets[providers[labels["target"]]].outcomes[labels["outcome"]] += count
            elif sample.name == "headgate_upstream_tokens_total":
                account.targets[providers[labels["target"]]].tokens += _tokens(labels["type"], count)
            elif sample.name == "gen_ai_client_operation_duration_seconds_count":
                account.targets[labels["gen_ai_provider_name"]].errors[labels["error_type"]] += count
            elif sample.name == "gen_ai_client_token_usage_sum":
                account.call_tokens += _tokens(labels["gen_ai_token_type"], count)
    return account


def _tokens(kind: str, count: int) -> Tokens:
    return Tokens(input=count) if kind == "input" else Tokens(output=count) if kind == "output" else Tokens()


class Gateway:
    """`headgate serve headgate.yaml`. A context manager: leaving it ends the server.

    Args:
        upstreams: environment variables of the configuration.
    """

    def __init__(self, upstreams: Mapping[str, str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADGATE_")}
        self._environment = {**kept, **upstreams, "HEADGATE_PORT": str(self._port)}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def ready(self) -> None:
        """Raises RuntimeError with the log when it ends, or says nothing for long."""
        until = asyncio.get_running_loop().time() + READY_WITHIN
        while asyncio.get_running_loop().time() < until and self._process.poll() is None:
            try:
                await self._get("/readyz")
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return
        raise RuntimeError(f"headgate did not start:\n{self.log}")

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    async def providers(self) -> dict[str, str]:
        return {each["target"]: each["provider"] for each in await self.explain()}

    async def explain(self) -> list[dict[str, Any]]:
        """Where it would send a request now, and why nowhere else."""
        answer = await self._get("/v1/explain", json.dumps({"model": MODEL}).encode())
        found: list[dict[str, Any]] = json.loads(answer)["targets"]
        return found

    async def account(self, providers: Mapping[str, str]) -> Account:
        return read((await self._get("/metrics")).decode(), providers)

    async def _get(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, body, {"content-type": "application/json"})

        def fetch() -> bytes:
            with urllib.request.urlopen(request, timeout=10) as answer:
                content: bytes = answer.read()
                return content

        return await asyncio.to_thread(fetch)

    def __enter__(self) -> Gateway:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "headgate.cli.main", "serve", str(CONFIG)],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
