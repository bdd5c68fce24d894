"""What a dialect is to the rest of the server: a record of sans-IO functions, one for each wire format.

Routes, translators and backends are written once against these records. A codec never opens a
connection, never waits and never logs. Client mistakes raise `InvalidRequest` (with `param`), an
upstream's garble `StreamBroken`, an upstream's own error `UpstreamError`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeAlias

from msgspec import Raw

from headgate.core.backend import RawHeaders
from headgate.core.call import Operation, Usage
from headgate.core.errors import HeadgateError
from headgate.core.events import ChatEvent
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest
from headgate.core.operations import EmbedRequest, EmbedResult, RerankRequest, RerankResult
from headgate.core.record import record
from headgate.core.result import ChatResult


@record(frozen=True, slots=True)
class WireError:
    """An error as an HTTP answer in the caller's dialect. `headers` hold the content type."""

    status: int
    headers: RawHeaders
    body: bytes


Framing: TypeAlias = Literal["sse", "json_array", "eventstream"]
"""How a stream is cut into events: server-sent events, one JSON array (Gemini), AWS event-stream frames."""


@record(frozen=True, slots=True)
class AnswerOptions:
    """How a caller's answer is to look. What is None comes from the answer itself.

    `model` is the public name that the caller asked for; `created` Unix seconds; `framing` is for streams;
    `now` is the clock, in Unix seconds, for dialects that tell when an answer was complete.
    """

    include_usage: bool = False
    id: str | None = None
    created: int | None = None
    model: str | None = None
    framing: Framing = "sse"
    now: Callable[[], float] = time.time


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


@record(frozen=True, slots=True)
class UsageHeaders:
    """How the usage of a whole answer is told in header fields. `read` gives None where it is not."""

    read: Callable[[RawHeaders], Usage | None]
    write: Callable[[Usage], RawHeaders]


class UsageStripper(Protocol):
    """One for each stream. Bytes of the upstream's stream in, the caller's out; whole events only."""

    def feed(self, data: bytes) -> bytes: ...

    def end(self) -> bytes: ...


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


class DecodeEmbedRequest(Protocol):
    def __call__(self, body: bytes, *, model: str | None = None) -> EmbedRequest: ...


class EncodeRerankRequest(Protocol):
    def __call__(self, request: RerankRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]: ...


@record(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What all dialects have.

    `path(model, stream)` is the route below an upstream's base URL, query included.
    """

    name: str
    operation: Operation
    path: Callable[[str, bool], str]
    encode_error: Callable[[HeadgateError], WireError]
    decode_error: Callable[[int, RawHeaders, bytes], HeadgateError]
    observer: Callable[[bool, str], Observer]
    """For one answer: is it a stream, and of what content type."""
    caller_headers: frozenset[bytes] = frozenset()
    """Header fields of a caller that an upstream of the same dialect gets (lower case)."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """Header fields that a request in this dialect needs, unless the caller sent its own."""
    model_in_body: bool = True
    """False: the route names the model (and says whether the answer streams), the body does not."""
    usage_headers: UsageHeaders | None = None


@record(frozen=True, slots=True, kw_only=True)
class ChatDialect(Dialect):
    stream_types: Mapping[Framing, str]
    """Content type of each framing that streams may have; the first is the usual one."""
    decode_request: DecodeChatRequest
    encode_request: EncodeChatRequest
    stream_encoder: Callable[[AnswerOptions], StreamEncoder]
    stream_decoder: Callable[[str], StreamDecoder]
    """For an upstream's stream of the given content type."""
    encode_result: Callable[[ChatResult, AnswerOptions], tuple[bytes, list[Loss]]]
    decode_result: Callable[[bytes], ChatResult]
    ask_for_usage: Callable[[Mapping[str, Raw]], bytes | None] | None = None
    """For upstreams that report usage of a stream only when asked: given a request's top-level fields as raw
    JSON, the value for the field `usage_field` that asks for it, or None when the caller did already."""
    usage_field: str = ""
    strip_usage: Callable[[], UsageStripper] | None = None
    """Takes out of a stream what came only because we asked for usage."""


@record(frozen=True, slots=True, kw_only=True)
class EmbedDialect(Dialect):
    decode_request: DecodeEmbedRequest
    encode_request: EncodeEmbedRequest
    encode_result: Callable[[EmbedRequest, EmbedResult], bytes]
    """The request says in what form the caller wants the vectors."""
    decode_result: Callable[[bytes], EmbedResult]


@record(frozen=True, slots=True, kw_only=True)
class RerankDialect(Dialect):
    decode_request: Callable[[bytes], RerankRequest]
    encode_request: EncodeRerankRequest
    encode_result: Callable[[RerankRequest, RerankResult], bytes]
    decode_result: Callable[[bytes], RerankResult]


@record(frozen=True, slots=True, kw_only=True)
class CountDialect(Dialect):
    """Counting a prompt's tokens: the request is a chat request that is not answered."""

    decode_request: DecodeChatRequest
    encode_request: EncodeChatRequest
    encode_result: Callable[[int], bytes]
    decode_result: Callable[[bytes], int]
