"""The hot routes: paths whose requests are relayed, each with its operation and dialect."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from headgate.core.backend import RawHeaders
from headgate.core.call import Operation
from headgate.dialects.dialect import Dialect, Framing
from headgate.dialects.registry import dialect


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A hot route.

    Args:
        path: with `{model}` where the route names the model.
        stream: does the answer stream; None where the body says so.
        framing: reads the wanted framing of a stream from the query and the header fields.
    """

    path: str
    operation: Operation
    speaks: str
    stream: bool | None = None
    framing: Callable[[bytes, RawHeaders], Framing] | None = None

    @property
    def dialect(self) -> Dialect:
        """Imported when it is first asked for."""
        return dialect(self.speaks)


@dataclass(frozen=True, slots=True)
class Match:
    """A request's route, and what the route says besides."""

    endpoint: Endpoint
    model: str | None = None
    framing: Framing = "sse"


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
                return Match(endpoint, model, framing)
        return None


CHAT = Endpoint("/v1/chat/completions", Operation.CHAT, "openai_chat")
EMBEDDINGS = Endpoint("/v1/embeddings", Operation.EMBED, "openai_embeddings")

HOT_ENDPOINTS = (CHAT, EMBEDDINGS)
