"""One accepted request for a hot route, as relay and lanes see it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from time import monotonic

from headgate.core.backend import RawHeaders
from headgate.core.call import Call
from headgate.core.errors import DeadlineExceeded
from headgate.core.messages import ChatRequest
from headgate.core.operations import EmbedRequest
from headgate.dialects.dialect import ChatDialect, Dialect, EmbedDialect
from headgate.dialects.envelope import Envelope
from headgate.routing.plan import Route, Target
from headgate.server.gateway import Gateway


class Intake:
    """One accepted request: its envelope is read, its payload is not, until a lane needs it."""

    def __init__(
        self,
        gateway: Gateway,
        call: Call,
        dialect: Dialect,
        route: Route,
        plan: Sequence[Target],
        envelope: Envelope,
        body: bytes,
        headers: RawHeaders,
    ) -> None:
        self.gateway = gateway
        self.call = call
        self.dialect = dialect
        self.route = route
        self.plan = plan
        self.envelope = envelope
        self._body = body
        self.upstream_headers = headers

    @cached_property
    def request(self) -> ChatRequest | EmbedRequest:
        """The whole request in neutral parts. Raises InvalidRequest."""
        assert isinstance(self.dialect, ChatDialect | EmbedDialect)
        return self.dialect.decode_request(self._body)

    def remaining(self) -> float:
        """Seconds until the call's deadline."""
        deadline = self.call.deadline
        return float("inf") if deadline is None else deadline - monotonic()

    def total_timeout(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"The call took longer than its {self.route.timeouts.total:g} s", code="total_timeout"
        )
