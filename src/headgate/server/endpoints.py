"""The hot routes: paths whose requests are relayed, each with its operation and dialect."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote, unquote_to_bytes

from msgspec import Raw

from headgate.core.backend import RawHeaders
from headgate.core.call import Operation
from headgate.dialects.dialect import Dialect, Framing
from headgate.dialects.invoke_forms import form_of
from headgate.dialects.registry import dialect


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A hot route.

    Args:
        path: with `{model}` where the route names the model.
        stream: does the answer stream; None where the body says so.
        stateful: answers are kept, so that requests wait for a store: not for the fast lane.
        framing: reads the wanted framing of a stream from the query and the header fields.
        form: tells the dialect of a body, where bodies of several come on one route: by the model's name, the
            body's fields, what the model does, and whether the answer is to stream. Raises InvalidRequest.
    """

    path: str
    operation: Operation
    speaks: str
    stream: bool | None = None
    stateful: bool = False
    framing: Callable[[bytes, RawHeaders], Framing] | None = None
    form: Callable[[str, Mapping[str, Raw], Collection[Operation], bool], str] | None = None

    @property
    def dialect(self) -> Dialect:
        """Imported when it is first asked for."""
        return dialect(self.speaks)

    def of_form(self, speaks: str) -> Endpoint:
        """This route, for bodies in the dialect `speaks`."""
        return replace(self, speaks=speaks, operation=dialect(speaks).operation)


@dataclass(frozen=True, slots=True)
class Match:
    """A request's route, and what the route says besides."""

    endpoint: Endpoint
    model: str | None = None
    framing: Framing = "sse"
    key: bytes | None = None
    """A key in the query, as Gemini's clients may send it."""


def query_key(query: bytes) -> bytes | None:
    """The value of `key` in a query string."""
    for field in query.split(b"&"):
        name, _, value = field.partition(b"=")
        if name == b"key" and value:
            return unquote_to_bytes(value)
    return None


class Endpoints:
    """Finds the hot route of a request target (path and query, as they came)."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.all = tuple(endpoints)
        self._exact: dict[bytes, Match] = {}
        self._patterns: list[tuple[re.Pattern[bytes], Endpoint]] = []
        for endpoint in self.all:
            path = endpoint.path.encode("ascii")
            if b"{model}" in path:
                before, _, after = path.partition(b"{model}")
                pattern = re.compile(re.escape(before) + rb"([^/?]+)" + re.escape(after))
                self._patterns.append((pattern, endpoint))
            else:
                self._exact[path] = Match(endpoint)

    def match(self, target: bytes, headers: RawHeaders) -> Match | None:
        """None where `target` is no hot route."""
        found = self._exact.get(target)
        if found is not None:
            return found
        path, _, query = target.partition(b"?")
        found = self._exact.get(path)
        if found is not None:
            return found
        for pattern, endpoint in self._patterns:
            if named := pattern.fullmatch(path):
                model = unquote(named[1].decode("ascii", "replace"))
                framing = endpoint.framing(query, headers) if endpoint.framing is not None else "sse"
                key = query_key(query) if endpoint.speaks.startswith("gemini") else None
                return Match(endpoint, model, framing, key)
        return None


def _gemini_framing(query: bytes, headers: RawHeaders) -> Framing:
    return "sse" if b"alt=sse" in query.split(b"&") else "json_array"


def _bedrock_framing(query: bytes, headers: RawHeaders) -> Framing:
    """AWS's own frames, unless server-sent events are asked for."""
    accepted = next((value for name, value in headers if name == b"accept"), b"")
    return "sse" if b"text/event-stream" in accepted else "eventstream"


def _gemini(version: str) -> tuple[Endpoint, ...]:
    models = f"/{version}/models/{{model}}"
    return (
        Endpoint(f"{models}:generateContent", Operation.CHAT, "gemini", stream=False),
        Endpoint(
            f"{models}:streamGenerateContent", Operation.CHAT, "gemini", stream=True, framing=_gemini_framing
        ),
        Endpoint(f"{models}:countTokens", Operation.COUNT_TOKENS, "gemini_count", stream=False),
        Endpoint(f"{models}:embedContent", Operation.EMBED, "gemini_embed", stream=False),
        Endpoint(f"{models}:batchEmbedContents", Operation.EMBED, "gemini_embed_batch", stream=False),
    )


HOT_ENDPOINTS = (
    Endpoint("/v1/chat/completions", Operation.CHAT, "openai_chat"),
    Endpoint("/v1/responses", Operation.CHAT, "openai_responses", stateful=True),
    Endpoint("/v1/completions", Operation.CHAT, "openai_completions"),
    Endpoint("/v1/embeddings", Operation.EMBED, "openai_embeddings"),
    Endpoint("/v2/embed", Operation.EMBED, "cohere_embed", stream=False),
    Endpoint("/tei/{model}/embed", Operation.EMBED, "tei_embed", stream=False),
    Endpoint("/v1/rerank", Operation.RERANK, "jina_rerank", stream=False),
    Endpoint("/rerank", Operation.RERANK, "jina_rerank", stream=False),
    Endpoint("/v2/rerank", Operation.RERANK, "cohere_rerank", stream=False),
    Endpoint("/tei/{model}/rerank", Operation.RERANK, "tei_rerank", stream=False),
    Endpoint("/v1/messages", Operation.CHAT, "anthropic"),
    Endpoint("/v1/messages/count_tokens", Operation.COUNT_TOKENS, "anthropic_count", stream=False),
    *_gemini("v1beta"),
    *_gemini("v1"),
    Endpoint("/model/{model}/converse", Operation.CHAT, "converse", stream=False),
    Endpoint(
        "/model/{model}/converse-stream", Operation.CHAT, "converse", stream=True, framing=_bedrock_framing
    ),
    Endpoint("/model/{model}/invoke", Operation.CHAT, "invoke_anthropic", stream=False, form=form_of),
    Endpoint(
        "/model/{model}/invoke-with-response-stream",
        Operation.CHAT,
        "invoke_anthropic",
        stream=True,
        framing=_bedrock_framing,
        form=form_of,
    ),
)
