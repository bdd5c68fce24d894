"""A call whose stream can be resumed: between the relay, which it is the client of, and the caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headgate.core.call import Call
from headgate.core.errors import Cancelled, HeadgateError
from headgate.dialects.sse import CONTENT_TYPE
from headgate.routing.route import Resume
from headgate.server.client import Client, Ongoing
from headgate.server.streams.book import StreamBook
from headgate.server.streams.kept import KeptStream, Listener, StreamHead

STREAM_HEADER = b"x-headgate-stream"

_KEPT_HEADERS = frozenset({b"content-type", b"content-language", b"x-headgate-target", b"x-headgate-loss"})
"""Of an answer, what those who resume it get too."""

_WITHOUT_IDS = frozenset({"gemini"})
"""Dialects whose clients take any line but `data:` for the answer's JSON, Google's own among them: their
events carry no ids, and are resumed by their number."""


class Source(Ongoing, Protocol):
    """The relay."""

    @property
    def call(self) -> Call: ...

    @property
    def done(self) -> bool: ...


class ResumableCall:
    """Until its stream begins, a call like any other; then its caller is the first of the stream's listeners.

    Args:
        name: another name of the stream (a response's id).
    """

    __slots__ = ("_book", "_client", "_full", "_listener", "_name", "_resume", "_source", "stream")

    def __init__(self, book: StreamBook, resume: Resume, client: Client, name: str | None = None) -> None:
        self._book = book
        self._resume = resume
        self._client: Client | None = client
        self._name = name
        self._listener: Listener | None = None
        self._full = False
        self._source: Source | None = None
        self.stream: KeptStream | None = None

    def bind(self, source: Source) -> None:
        """Say which relay it is the client of, before that starts."""
        self._source = source

    @property
    def call(self) -> Call:
        assert self._source is not None
        return self._source.call

    @property
    def done(self) -> bool:
        """Nothing is under way any more."""
        return self._source is None or self._source.done

    # From the relay.

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        assert self._client is not None
        if status == 200 and _streams(headers):  # held back until it was whole
            self.begin(status, headers, body)
            self.end()
        else:
            self._source = None
            self._client.respond(status, headers, body)

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        client, source = self._client, self._source
        assert client is not None
        assert source is not None
        stream = self._open(headers, source) if _streams(headers) else None
        if stream is None:
            client.begin(status, headers, data)
            return
        self.stream = stream
        self._client = None  # the listener has it: it goes when the caller does
        if self._name is not None:
            self._book.name(stream, self._name)
        stream.feed(data)
        self._listener = stream.attach(client, 0, [*headers, (STREAM_HEADER, stream.head.id.encode("ascii"))])

    def write(self, data: bytes) -> None:
        if self.stream is not None:
            self.stream.feed(data)
        elif self._client is not None:
            self._client.write(data)

    def end(self) -> None:
        self._source = None  # which holds this: without the circle both are freed at once
        if self.stream is not None:
            self.stream.end()
        elif self._client is not None:
            self._client.end()

    def abort(self) -> None:
        self._source = None
        if self.stream is not None:
            self.stream.abort()
        elif self._client is not None:
            self._client.abort()

    # From the caller.

    def pause(self) -> None:
        self._full = True
        if self._listener is not None:
            self._listener.pause()
        elif self.stream is None and self._source is not None:
            self._source.pause()

    def resume(self) -> None:
        self._full = False
        if self._listener is not None:
            self._listener.resume()
        elif self.stream is None and self._source is not None:
            self._source.resume()

    def cancel(self) -> None:
        """The caller has left; what has begun goes on for a while."""
        if self._listener is not None:
            self._listener.cancel()
            self._listener = None
        elif self.stream is None and self._source is not None:
            self._source.cancel()
            self._source = self._client = None

    def abandon(self, error: HeadgateError) -> None:
        if self._source is not None:
            self._source.abandon(error)

    def stop(self) -> None:
        """End the call, whoever listens."""
        if self.stream is not None:
            self.stream.stop(Cancelled("The stream was stopped by its owner", code="stream_stopped"))
        elif self._source is not None:
            self._source.cancel()

    def _open(self, headers: Sequence[tuple[bytes, bytes]], source: Source) -> KeptStream | None:
        call = source.call
        lifetime = call.deadline - call.started if call.deadline is not None else 3600.0
        identity = self._book.mint()
        kept = [field for field in headers if field[0] in _KEPT_HEADERS]
        kept.append((STREAM_HEADER, identity.encode("ascii")))
        head = StreamHead(
            *(identity, call.principal.name, call.model, call.dialect),
            *(call.dialect not in _WITHOUT_IDS, kept, self._resume, lifetime),
        )
        return self._book.open(head, source)


def _streams(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    kind = next((value for name, value in headers if name == b"content-type"), b"")
    return kind.lower().startswith(CONTENT_TYPE.encode("ascii"))
