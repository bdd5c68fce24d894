"""Every hot endpoint before every kind of upstream: who asks how, and who answers in what words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from urllib.parse import quote

from headgate.backends.pools import Pools
from headgate.backends.registry import BuildContext, Registry
from headgate.core.backend import RawHeaders, Timeouts, Wire, WireBackend
from headgate.core.call import Operation, Usage
from headgate.core.errors import HeadgateError
from headgate.core.events import (
    ChatEvent,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.fold import fold
from headgate.core.messages import ChatRequest, Message, Sampling, Text
from headgate.core.operations import EmbedRequest, EmbedResult, Ranked, RerankRequest, RerankResult
from headgate.dialects.dialect import (
    AnswerOptions,
    ChatDialect,
    CountDialect,
    Dialect,
    EmbedDialect,
    Framing,
    RerankDialect,
)
from headgate.dialects.invoke_forms import CHAT_FORMS, EMBED_FORMS
from headgate.dialects.registry import dialect as find_dialect
from headgate.server.endpoints import HOT_ENDPOINTS, Endpoint

TEXT = ("Hel", "lo!")
GOOD: tuple[ChatEvent, ...] = (
    Started("answer-1", "upstream-model", 1),
    PartStarted(0, Text("")),
    *(PartDelta(0, piece) for piece in TEXT),
    PartEnded(0),
    UsageReported(Usage(5, 2)),
    Finished((Stop("stop"),)),
)
_EMBED = EmbedRequest(model="m", inputs=("x",))
_RERANK = RerankRequest(model="m", query="q", documents=("a", "b"))

BACKENDS: dict[str, dict[str, Any]] = {
    "openai-compatible": {},
    "openai": {"dialects": ["openai_responses"]},
    "anthropic": {},
    "gemini": {},
    "bedrock": {"region": "eu-central-1"},
    "cohere": {},
    "tei": {},
    "scripted": {},
}
"""Settings besides the address and a key."""
_ALL_KINDS = ("openai-compatible", "anthropic", "gemini", "bedrock", "scripted")
_MORE_KINDS: dict[Operation, tuple[str, ...]] = {
    Operation.EMBED: ("cohere", "tei"),
    Operation.RERANK: ("cohere", "tei"),
}


@dataclass(frozen=True)
class Form:
    """One way of asking an endpoint: streamed or not, in which framing, and what the request says for that.

    `kept`: the answer is to be kept, where the endpoint keeps answers.
    """

    endpoint: Endpoint
    stream: bool
    framing: Framing = "sse"
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    kept: bool = False

    @property
    def dialect(self) -> Dialect:
        return self.endpoint.dialect

    @property
    def id(self) -> str:
        route = self.endpoint.speaks if self.endpoint.form is not None else self.endpoint.path
        return f"{route}-{self.framing if self.stream else 'plain'}{'-kept' * self.kept}"

    def path(self, model: str) -> str:
        query = f"?{self.query.decode()}" if self.query else ""
        return self.endpoint.path.replace("{model}", quote(model, safe="")) + query

    def body(self, model: str) -> bytes:
        """The smallest request, in the words of the caller's own dialect."""
        dialect = self.dialect
        if isinstance(dialect, EmbedDialect):
            return dialect.encode_request(_EMBED, model=model)[0]
        if isinstance(dialect, RerankDialect):
            return dialect.encode_request(_RERANK, model=model)[0]
        assert isinstance(dialect, ChatDialect | CountDialect)
        ask = ChatRequest(
            model=model,
            messages=(Message("user", (Text("Hi"),)),),
            sampling=Sampling(max_tokens=50),
            stream=self.stream,
        )
        body = dialect.encode_request(ask)[0]
        return json.dumps(json.loads(body) | {"store": True}).encode() if self.kept else body


_WISHES: Sequence[tuple[bytes, tuple[tuple[bytes, bytes], ...]]] = (
    (b"", ()),
    (b"alt=sse", ()),
    (b"", ((b"accept", b"text/event-stream"),)),
)
"""Ways to ask for a framing: whichever an endpoint understands."""


def _forms(endpoint: Endpoint) -> list[Form]:
    dialect = endpoint.dialect
    streams = (False, True) if endpoint.stream is None else (endpoint.stream,)
    if not isinstance(dialect, ChatDialect):
        streams = (False,)  # whatever the body says: nothing else streams
    found: list[Form] = []
    for stream in streams:
        if not stream or endpoint.framing is None:
            found.append(Form(endpoint, stream))
            continue
        assert isinstance(dialect, ChatDialect)
        wishes = {endpoint.framing(query, headers): (query, headers) for query, headers in reversed(_WISHES)}
        assert wishes.keys() == dialect.stream_types.keys()
        found += [Form(endpoint, True, framing, *wish) for framing, wish in wishes.items()]
    return [*found, *(replace(form, kept=True) for form in found if endpoint.stateful)]


def spoken(endpoint: Endpoint) -> list[Endpoint]:
    """The route for each dialect whose bodies come on it."""
    if endpoint.form is None:
        return [endpoint]
    names = CHAT_FORMS if endpoint.stream else {**CHAT_FORMS, **EMBED_FORMS}
    return [endpoint.of_form(name) for name in names]


ENDPOINTS = [each for endpoint in HOT_ENDPOINTS for each in spoken(endpoint)]
FORMS = [form for endpoint in ENDPOINTS for form in _forms(endpoint)]


@cache
def wire_of(backend: str, operation: Operation, speaks: str) -> Wire | None:
    """What the gateway speaks with such an upstream for a caller of the dialect `speaks`."""
    row = Registry().row(backend)
    options = {"base_url": "http://127.0.0.1:9", "api_key": "k", **BACKENDS[backend]}
    settings = row.settings.model_validate({"backend": backend, **options})
    built = row.build(settings, BuildContext("m", "m", Timeouts(), Pools()))
    return built.wire(operation, speaks) if isinstance(built, WireBackend) else None


@dataclass(frozen=True)
class Pair:
    """A form and the kind of upstream it meets. `spoken` is the upstream's dialect; None: no wire."""

    form: Form
    backend: str
    spoken: Dialect | None

    @property
    def id(self) -> str:
        return f"{self.form.id}-{self.backend}"

    @property
    def repeats(self) -> bool:
        """Another route with the same words has come before: its codecs need no second test."""
        form = self.form
        return any(
            other.endpoint is not form.endpoint and replace(other, endpoint=form.endpoint) == form
            for other in FORMS[: FORMS.index(form)]
            if other.endpoint.speaks == form.endpoint.speaks
        )

    @property
    def passes(self) -> bool:
        """The upstream speaks the caller's dialect."""
        return self.spoken is not None and self.spoken.name == self.form.endpoint.speaks

    def settings(self, port: int) -> dict[str, Any]:
        if self.backend == "scripted":
            return {"backend": "scripted", "reply": "".join(TEXT), "pieces": len(TEXT)}
        return {
            "backend": self.backend,
            "base_url": f"http://127.0.0.1:{port}",
            "model": "upstream-model",
            "api_key": "upstream-key",
            **BACKENDS[self.backend],
        }


def _pairs() -> list[Pair]:
    found: list[Pair] = []
    for form in FORMS:
        operation, speaks = form.endpoint.operation, form.endpoint.speaks
        kinds = _ALL_KINDS + _MORE_KINDS.get(operation, ())
        kinds += ("openai",) if form.endpoint.stateful else ()
        for backend in kinds:
            if backend == "scripted":
                if operation is not Operation.COUNT_TOKENS:  # which is estimated, and so can't fail
                    found.append(Pair(form, backend, None))
            elif wire := wire_of(backend, operation, speaks):
                found.append(Pair(form, backend, find_dialect(wire.dialect)))
    return found


PAIRS = _pairs()


# What upstreams say.


def stream_of(upstream: ChatDialect, events: Sequence[ChatEvent]) -> list[bytes]:
    """The bytes of each event as the upstream sends them; the framing is its usual one."""
    encoder = upstream.stream_encoder(AnswerOptions(include_usage=True, framing=framing_of(upstream)))
    return [encoder.encode(event) for event in events]


def framing_of(upstream: ChatDialect) -> Framing:
    return next(iter(upstream.stream_types))


def whole_of(upstream: Dialect) -> bytes:
    """A plain answer."""
    if isinstance(upstream, EmbedDialect):
        result = EmbedResult("upstream-model", (b"\0\0\0\x3f\0\0\0\x3f",), Usage(2, 0))
        return upstream.encode_result(_EMBED, result)
    if isinstance(upstream, RerankDialect):
        return upstream.encode_result(
            _RERANK, RerankResult("upstream-model", (Ranked(1, 0.5), Ranked(0, 0.25)))
        )
    if isinstance(upstream, CountDialect):
        return upstream.encode_result(5)
    assert isinstance(upstream, ChatDialect)
    return upstream.encode_result(fold(list(GOOD)), AnswerOptions())[0]


def refusal_of(upstream: Dialect, error: HeadgateError) -> tuple[int, RawHeaders, bytes]:
    wire = upstream.encode_error(error)
    return wire.status, wire.headers, wire.body
