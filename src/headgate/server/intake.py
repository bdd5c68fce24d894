"""One accepted request for a hot route, as relay and lanes see it."""

from __future__ import annotations

import contextlib
from functools import cached_property
from time import monotonic

from headgate.core.backend import RawHeaders
from headgate.core.call import Call
from headgate.core.errors import DeadlineExceeded, InvalidRequest
from headgate.core.estimate import estimate_tokens
from headgate.core.messages import ChatRequest
from headgate.core.needs import needs_of
from headgate.core.operations import EmbedRequest, RerankRequest
from headgate.dialects.dialect import (
    AnswerOptions,
    ChatDialect,
    CountDialect,
    Dialect,
    EmbedDialect,
    RerankDialect,
)
from headgate.dialects.envelope import Envelope
from headgate.routing.route import Route
from headgate.server.affinity import affinity_of
from headgate.server.endpoints import Match
from headgate.server.gateway import Gateway


class Intake:
    """One accepted request: its envelope is read, its payload is not, until a lane needs it."""

    def __init__(
        self,
        gateway: Gateway,
        call: Call,
        match: Match,
        route: Route,
        envelope: Envelope,
        body: bytes,
        received: RawHeaders,
    ) -> None:
        self.gateway = gateway
        self.call = call
        self.dialect: Dialect = match.endpoint.dialect
        self.speaks = match.endpoint.speaks
        self.rewrites = False
        """The answer is written anew, even where the upstream speaks the caller's dialect."""
        self.framing = match.framing
        self.route = route
        self.envelope = envelope
        self._body = body
        self._received = received
        self.added: RawHeaders = ()
        """Header fields of ours that go upstream: the request's id, its trace."""

    @cached_property
    def request(self) -> ChatRequest | EmbedRequest | RerankRequest:
        """The whole request in neutral parts. Raises InvalidRequest."""
        dialect = self.dialect
        model = None if dialect.model_in_body else self.envelope.model
        if isinstance(dialect, ChatDialect | CountDialect):
            stream = None if dialect.model_in_body else self.call.stream
            return dialect.decode_request(self._body, model=model, stream=stream)
        if isinstance(dialect, EmbedDialect):
            return dialect.decode_request(self._body, model=model)
        assert isinstance(dialect, RerankDialect)
        return dialect.decode_request(self._body)

    def examine(self) -> None:
        """Note in the call what planning depends on.

        A request that can't be read needs nothing that is known: in its own dialect it is the upstream's to
        judge, in others it is refused where it is translated.
        """
        call, route = self.call, self.route
        if route.examines:
            with contextlib.suppress(InvalidRequest):
                request = self.request
                if isinstance(request, ChatRequest):
                    call.needs = needs_of(request)
                    call.size = estimate_tokens(request) + (request.sampling.max_tokens or 0)
        if route.affinity is not None:
            call.affinity = affinity_of(route.affinity, self.envelope, self._received)

    @property
    def resumes(self) -> bool:
        """The answer is a stream of the kind that can be resumed: server-sent events of a chat."""
        return self.call.stream and self.framing == "sse" and isinstance(self.dialect, ChatDialect)

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self._body)

    @property
    def decoded(self) -> bool:
        return "request" in self.__dict__

    @property
    def options(self) -> AnswerOptions:
        """How the answer is to look, as far as that is known without the payload."""
        return AnswerOptions(model=self.envelope.model, framing=self.framing)

    @property
    def strict(self) -> bool:
        """Nothing may get lost in translation: the operator says so for the model, or the caller here."""
        for name, value in self._received:
            if name == b"x-headgate-strict":
                return value.strip().lower() in (b"true", b"1", b"yes", b"on")
        return self.route.strict

    def headers_for(self, upstream: Dialect, *, same: bool) -> RawHeaders:
        """What goes with a request in the dialect `upstream`: ours, the caller's own where it speaks the same
        dialect, and the dialect's defaults for what neither has."""
        if not upstream.caller_headers and not upstream.headers:
            return self.added
        fields = list(self.added)
        if same:
            fields += [field for field in self._received if field[0] in upstream.caller_headers]
        said = {name for name, _ in fields}
        return fields + [field for field in upstream.headers if field[0] not in said]

    def remaining(self) -> float:
        """Seconds until the call's deadline."""
        deadline = self.call.deadline
        return float("inf") if deadline is None else deadline - monotonic()

    def total_timeout(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"The call took longer than its {self.route.timeouts.total:g} s", code="total_timeout"
        )
