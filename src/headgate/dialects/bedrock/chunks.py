"""How InvokeModel's streams travel: each event of a model's own stream, as base64, in an AWS frame.

A frame `chunk` holds `{"bytes": base64 of one event's JSON}`. The codec of a body form reads and writes the
same events as server-sent ones, which is how SAP AI Core sends them unless asked for frames.

Source: Amazon Bedrock API reference, "InvokeModelWithResponseStream".
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import a2b_base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import quote

import msgspec

from headgate.core.call import Operation, Usage
from headgate.core.errors import HeadgateError, StreamBroken
from headgate.core.events import ChatEvent, Failed
from headgate.core.loss import Loss
from headgate.core.result import ChatResult
from headgate.dialects import eventstream, sse
from headgate.dialects.bedrock.errors import (
    decode_error,
    encode_error,
    encode_error_body,
    exception_from_event,
    stream_error_type,
)
from headgate.dialects.bedrock.usage_headers import USAGE_HEADERS
from headgate.dialects.bedrock.wire_events import FrameReader, WireEvent, event_headers, whole_frame
from headgate.dialects.dialect import (
    AnswerOptions,
    ChatDialect,
    DecodeChatRequest,
    EncodeChatRequest,
    Observer,
    StreamDecoder,
    StreamEncoder,
)

_CHUNK_HEADERS = event_headers("chunk")
_DATA = b'{"bytes":"'
_DATA_START = len(_DATA)


@dataclass(frozen=True, slots=True)
class Deltas:
    """What is known of a form's usual event, as far as that saves time.

    Args:
        start: what stands before its JSON among server-sent events.
        json: how its JSON begins; with it an observer tells events that bring no news. Empty: any may be one.
    """

    start: bytes = b"data: "
    json: bytes = b""

    @property
    def payload(self) -> bytes:
        """How the payload of its frame begins."""
        return _DATA + b64encode(self.json[: len(self.json) // 3 * 3])


class FramedEncoder:
    """A stream's events, each in a frame. An error becomes an exception, as AWS sends it."""

    def __init__(self, inner: StreamEncoder, deltas: Deltas) -> None:
        self._inner = inner
        self._start = deltas.start
        self._sse = sse.Decoder()

    @property
    def losses(self) -> list[Loss]:
        return self._inner.losses

    def encode(self, event: ChatEvent) -> bytes:
        out = self._inner.encode(event)
        if not out:
            return out
        failed = isinstance(event, Failed)
        if out.startswith(self._start) and not failed and out.find(b"\n\n") == len(out) - 2:
            return _chunk(out[len(self._start) : -2])
        events = self._sse.feed(out)
        told = events[:-1] if failed else events  # an encoder's last words on a failure are the failure
        framed = [_chunk(each.data) for each in told if each.data != b"[DONE]"]
        if isinstance(event, Failed):
            headers = event_headers(stream_error_type(event.error), "exception")
            framed.append(eventstream.encode_frame(headers, encode_error_body(event.error)))
        return b"".join(framed)


def _chunk(data: bytes) -> bytes:
    return eventstream.encode_frame(_CHUNK_HEADERS, b'{"bytes":"%b"}' % b64encode(data))


class _Chunk(msgspec.Struct, gc=False):
    bytes: str


_CHUNK = msgspec.json.Decoder(_Chunk)


def _as_sse(event: WireEvent, deltas: Deltas) -> bytes:
    """The event that a frame holds, as a server-sent one. Raises the exception that it is, or StreamBroken; a
    frame of another kind is nothing."""
    if event.failed:
        raise exception_from_event(event.name, event.payload)
    if event.name != "chunk":
        return b""
    try:
        data = b64decode(_CHUNK.decode(event.payload).bytes, validate=True)
    except ValueError:
        raise StreamBroken("The upstream sent a garbled event (chunk).") from None
    if data.startswith(deltas.json) and b"\n" not in data and b"\r" not in data:
        return deltas.start + data + b"\n\n"
    return sse.encode(data)


class FramedDecoder:
    def __init__(self, inner: StreamDecoder, deltas: Deltas) -> None:
        self._inner = inner
        self._deltas = deltas
        self._payload = deltas.payload
        self._reader = FrameReader()
        self._failed = False

    def feed(self, data: bytes) -> list[ChatEvent]:
        events: list[ChatEvent] = []
        if self._failed:
            return events
        if self._reader.idle and (delta := _delta(data, self._payload)) is not None:
            return self._inner.feed(self._deltas.start + delta + b"\n\n")
        try:
            for event in self._reader.feed(data):
                events += self._inner.feed(_as_sse(event, self._deltas))
        except HeadgateError as error:
            self._failed = True
            if self._inner.end():  # nothing has ended the answer before
                events.append(Failed(error))
        return events

    def end(self) -> list[ChatEvent]:
        return [] if self._failed else self._inner.end()


def _delta(data: bytes, begins: bytes) -> bytes | None:
    """The JSON of a delta, if `data` is one whole frame of the usual form. None says nothing."""
    payload = whole_frame(data, _CHUNK_HEADERS)
    if payload is None or not payload.startswith(begins):
        return None
    end = payload.find(b'"', _DATA_START)
    padding = payload[end:]  # `","p":"abc"}`, where it is there
    if padding != b'"}' and not (padding.startswith(b'","p":"') and padding.count(b'"') == 5):
        return None
    try:
        delta = a2b_base64(payload[_DATA_START:end], strict_mode=True)
    except ValueError:
        return None
    return None if b"\n" in delta or b"\r" in delta else delta


class FramedObserver:
    """Reads along; where the form's deltas are known by how they begin, they are not opened."""

    def __init__(self, inner: Observer, deltas: Deltas) -> None:
        self._inner = inner
        self._deltas = deltas
        self._payload = deltas.payload
        self._skips = bool(deltas.json)
        self._reader: FrameReader | None = FrameReader()
        self._failed = False

    @property
    def usage(self) -> Usage | None:
        return self._inner.usage

    @property
    def finish_reason(self) -> str | None:
        return self._inner.finish_reason

    @property
    def terminal(self) -> bool:
        return self._inner.terminal and not self._failed

    @property
    def failed(self) -> bool:
        return self._failed or self._inner.failed

    def feed(self, data: bytes) -> None:
        reader = self._reader
        if reader is None or (reader.idle and self._is_delta(data)):
            return
        try:
            for event in reader.feed(data):
                if event.failed or not self._skips or not event.payload.startswith(self._payload):
                    self._inner.feed(_as_sse(event, self._deltas))
        except HeadgateError as error:  # nothing more can be told; the bytes pass by all the same
            self._failed = not isinstance(error, StreamBroken)
            self._reader = None

    def _is_delta(self, data: bytes) -> bool:
        """One whole frame that holds a delta, and nothing more; what it may say has been read."""
        if self._skips:
            payload = whole_frame(data, _CHUNK_HEADERS)
            return payload is not None and payload.startswith(self._payload)
        delta = _delta(data, self._payload)
        if delta is not None:
            self._inner.feed(self._deltas.start + delta + b"\n\n")
        return delta is not None

    def end(self) -> None:
        self._inner.end()


def invoke_path(model: str, stream: bool) -> str:
    return f"/model/{quote(model, safe='')}/{'invoke-with-response-stream' if stream else 'invoke'}"


def invoke_dialect(
    name: str,
    *,
    decode_request: DecodeChatRequest,
    encode_request: EncodeChatRequest,
    stream_encoder: Callable[[AnswerOptions], StreamEncoder],
    stream_decoder: Callable[[str], StreamDecoder],
    encode_result: Callable[[ChatResult, AnswerOptions], tuple[bytes, list[Loss]]],
    decode_result: Callable[[bytes], ChatResult],
    observer: Callable[[bool, str], Observer],
    deltas: Deltas,
) -> ChatDialect:
    """The record of a body form. Its stream codecs know server-sent events only; frames are seen to here."""

    def encoder(options: AnswerOptions) -> StreamEncoder:
        inner = stream_encoder(replace(options, framing="sse"))
        return inner if options.framing == "sse" else FramedEncoder(inner, deltas)

    def decoder(content_type: str) -> StreamDecoder:
        if content_type.startswith(eventstream.CONTENT_TYPE):
            return FramedDecoder(stream_decoder(sse.CONTENT_TYPE), deltas)
        return stream_decoder(content_type)

    def observing(stream: bool, content_type: str) -> Observer:
        if stream and content_type.startswith(eventstream.CONTENT_TYPE):
            return FramedObserver(observer(True, sse.CONTENT_TYPE), deltas)
        return observer(stream, content_type)

    return ChatDialect(
        name=name,
        operation=Operation.CHAT,
        path=invoke_path,
        stream_types={"eventstream": eventstream.CONTENT_TYPE, "sse": sse.CONTENT_TYPE},
        decode_request=decode_request,
        encode_request=encode_request,
        stream_encoder=encoder,
        stream_decoder=decoder,
        encode_result=encode_result,
        decode_result=decode_result,
        encode_error=encode_error,
        decode_error=decode_error,
        observer=observing,
        model_in_body=False,
        usage_headers=USAGE_HEADERS,
    )
