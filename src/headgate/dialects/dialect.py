"""What a dialect is to the rest of the server: a record of sans-IO functions, one for each wire format.

Routes, translators and backends are written once against these records. A codec never opens a
connection, never waits and never logs. Client mistakes raise `InvalidRequest` (with `param`), an
upstream's garble `StreamBroken`, an upstream's own error `UpstreamError`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from headgate.core.backend import RawHeaders
from headgate.core.call import Operation, Usage
from headgate.core.errors import HeadgateError
from headgate.core.events import ChatEvent
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest
from headgate.core.operations import EmbedRequest, EmbedResult
from headgate.core.result import ChatResult


@dataclass(frozen=True, slots=True)
class WireError:
    """An error as an HTTP answer in the caller's dialect. `headers` hold the content type."""

    status: int
    headers: RawHeaders
    body: bytes


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a caller's stream is to look. What is None comes from the `Started` event.

    `model` is the public name that the caller asked for; `created` Unix seconds.
    """

    include_usage: bool = False
    id: str | None = None
    created: int | None = None
    model: str | None = None


class StreamEncoder(Protocol):
    """Events to the caller's bytes. One for each answer."""

    @property
    def losses(self) -> list[Loss]:
        """What the dialect had no place for, so far."""
        ...

    def encode(self, event: ChatEvent) -> bytes:
        """The bytes of one event, often none. After the terminal event: nothing more."""
        ...


class StreamDecoder(Protocol):
    """An upstream's bytes to events. One for each answer; total: trouble comes as `Failed`, never raised."""

    def feed(self, data: bytes) -> list[ChatEvent]: ...

    def end(self) -> list[ChatEvent]:
        """The upstream's body is over. Gives the terminal event if it has not come yet."""
        ...


class Observer(Protocol):
    """Reads along as an upstream's answer passes by untouched. Never raises."""

    @property
    def usage(self) -> Usage | None: ...

    @property
    def finish_reason(self) -> str | None:
        """The wire's own word."""
        ...

    @property
    def terminal(self) -> bool:
        """The answer is whole: its end was seen. Certain after `end()`."""
        ...

    @property
    def failed(self) -> bool:
        """The upstream reported an error within the answer."""
        ...

    def feed(self, data: bytes) -> None: ...

    def end(self) -> None: ...


class DecodeChatRequest(Protocol):
    def __call__(self, body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
        """`model` and `stream` are given by dialects whose route holds them (Gemini, Converse)."""
        ...


class EncodeChatRequest(Protocol):
    def __call__(self, request: ChatRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
        """`model`: the upstream's name for it, where it differs from the request's."""
        ...


class EncodeEmbedRequest(Protocol):
    def __call__(self, request: EmbedRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What all dialects have. `path(model, stream)` is the route below an upstream's base URL."""

    name: str
    operation: Operation
    path: Callable[[str, bool], str]
    encode_error: Callable[[HeadgateError], WireError]
    decode_error: Callable[[int, RawHeaders, bytes], HeadgateError]
    observer: Callable[[bool], Observer]
    """For one answer; the argument says whether it is a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDialect(Dialect):
    stream_content_type: str
    decode_request: DecodeChatRequest
    encode_request: EncodeChatRequest
    stream_encoder: Callable[[StreamOptions], StreamEncoder]
    stream_decoder: Callable[[], StreamDecoder]
    encode_result: Callable[[ChatResult], bytes]
    decode_result: Callable[[bytes], ChatResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedDialect(Dialect):
    decode_request: Callable[[bytes], EmbedRequest]
    encode_request: EncodeEmbedRequest
    encode_result: Callable[[EmbedRequest, EmbedResult], bytes]
    """The request says in what form the caller wants the vectors."""
    decode_result: Callable[[bytes], EmbedResult]
