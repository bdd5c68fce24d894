"""InvokeModel with bodies of Anthropic's Messages API: that dialect, but for its outside.

The route holds the model and whether to stream; the body says `anthropic_version` and no field that Bedrock
does not know; a stream's events travel as base64 in AWS frames. Signatures and vendor fields are
Anthropic's own, so that their `extensions` and origins are those of the dialect `anthropic`.

Source: Amazon Bedrock user guide, "Anthropic Claude Messages API"; API reference,
"InvokeModelWithResponseStream".
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import a2b_base64
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, InvalidRequest, StreamBroken
from headgate.core.events import ChatEvent, Failed
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest
from headgate.dialects import anthropic, eventstream, sse
from headgate.dialects.anthropic.stream_decoder import DELTA_START
from headgate.dialects.bedrock.errors import encode_error_body, exception_from_event, stream_error_type
from headgate.dialects.bedrock.wire_events import FrameReader, WireEvent, event_headers, whole_frame
from headgate.dialects.dialect import AnswerOptions, Observer, StreamDecoder, StreamEncoder
from headgate.dialects.json_bodies import missing, wrong_type

NAME = "invoke_anthropic"
VERSION = "bedrock-2023-05-31"

_TAKEN = frozenset(
    {
        "anthropic_beta",
        "anthropic_version",
        "context_management",
        "max_tokens",
        "messages",
        "metadata",
        "output_config",
        "stop_sequences",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
"""Fields that Bedrock knows; it refuses a body with any other."""

_OUTER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VERSION = msgspec.Raw(msgspec.json.encode(VERSION))


def invoke_path(model: str, stream: bool) -> str:
    return f"/model/{quote(model, safe='')}/{'invoke-with-response-stream' if stream else 'invoke'}"


def decode_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
    """Read a request body. `anthropic_beta` goes to `extensions["invoke_anthropic"]`.

    Raises:
        InvalidRequest: as `headgate.dialects.anthropic` does, and for a body without `anthropic_version`.
    """
    request = anthropic.decode_request(body, model=model, stream=bool(stream))
    extensions = {name: dict(values) for name, values in request.extensions.items()}
    inner = extensions.get(anthropic.ANTHROPIC.name, {})
    version = inner.pop("anthropic_version", None)
    if version is None:
        raise missing("anthropic_version")
    if not isinstance(version, str):
        raise wrong_type("anthropic_version", "a string", version)
    beta = inner.pop("anthropic_beta", None)
    if beta is not None and not isinstance(beta, list):
        raise wrong_type("anthropic_beta", "an array of strings", beta)
    if beta:
        extensions[NAME] = {"anthropic_beta": beta}
    return replace(request, extensions={name: values for name, values in extensions.items() if values})


def encode_request(request: ChatRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """The request body, and what had no place in it.

    Raises:
        InvalidRequest: as `headgate.dialects.anthropic` does.
    """
    ours = request.extensions.get(NAME, {})
    others = {name: values for name, values in request.extensions.items() if name != NAME}
    body, losses = anthropic.encode_request(replace(request, extensions=others), model=model)
    fields: dict[str, Any] = {"anthropic_version": _VERSION, **ours}
    for key, value in _OUTER.decode(body).items():
        if key in _TAKEN:
            fields[key] = value
        elif key not in ("model", "stream"):
            losses.append(Loss(key, "Bedrock refuses fields that it does not know"))
    try:
        return msgspec.json.encode(fields), losses
    except RecursionError:
        raise InvalidRequest("The request is nested too deeply.", code="invalid_json") from None


# Streams. A frame `chunk` holds {"bytes": base64 of one event's JSON}.

_CHUNK_HEADERS = event_headers("chunk")
_DELTA_JSON = b'{"type":"content_block_delta"'


class _FramedEncoder:
    """Anthropic's stream, each of its events in a frame; its error event becomes an exception."""

    def __init__(self, options: AnswerOptions) -> None:
        self._inner = anthropic.StreamEncoder(options)
        self._sse = sse.Decoder()

    @property
    def losses(self) -> list[Loss]:
        return self._inner.losses

    def encode(self, event: ChatEvent) -> bytes:
        out = self._inner.encode(event)
        if not out:
            return out
        if out.startswith(DELTA_START) and out.find(b"\n\n") == len(out) - 2:
            return _chunk(out[len(DELTA_START) : -2])
        framed: list[bytes] = []
        for each in self._sse.feed(out):
            if each.event == "error" and isinstance(event, Failed):
                headers = event_headers(stream_error_type(event.error), "exception")
                framed.append(eventstream.encode_frame(headers, encode_error_body(event.error)))
            else:
                framed.append(_chunk(each.data))
        return b"".join(framed)


def _chunk(data: bytes) -> bytes:
    return eventstream.encode_frame(_CHUNK_HEADERS, b'{"bytes":"%b"}' % b64encode(data))


class _Chunk(msgspec.Struct, gc=False):
    bytes: str


_CHUNK = msgspec.json.Decoder(_Chunk)


def _as_sse(event: WireEvent) -> bytes:
    """The event that a frame holds, in Anthropic's own framing. Raises the exception that it is, or
    StreamBroken; a frame of another kind is nothing."""
    if event.failed:
        raise exception_from_event(event.name, event.payload)
    if event.name != "chunk":
        return b""
    try:
        data = b64decode(_CHUNK.decode(event.payload).bytes, validate=True)
    except ValueError:
        raise StreamBroken("The upstream sent a garbled event (chunk).") from None
    if data.startswith(_DELTA_JSON) and b"\n" not in data and b"\r" not in data:
        return DELTA_START + data + b"\n\n"
    return sse.encode(data)


class _FramedDecoder:
    def __init__(self) -> None:
        self._inner = anthropic.StreamDecoder()
        self._reader = FrameReader()
        self._failed = False

    def feed(self, data: bytes) -> list[ChatEvent]:
        events: list[ChatEvent] = []
        if self._failed:
            return events
        if self._reader.idle and (delta := _delta(data)) is not None:
            return self._inner.feed(DELTA_START + delta + b"\n\n")
        try:
            for event in self._reader.feed(data):
                events += self._inner.feed(_as_sse(event))
        except HeadgateError as error:
            self._failed = True
            if self._inner.end():  # nothing has ended the answer before
                events.append(Failed(error))
        return events

    def end(self) -> list[ChatEvent]:
        return [] if self._failed else self._inner.end()


class _FramedObserver:
    """Reads along; deltas, nearly all of a stream, are told by how their base64 begins."""

    def __init__(self) -> None:
        self._inner = anthropic.StreamObserver()
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
        if reader is None or (reader.idle and _is_delta(data)):
            return
        try:
            for event in reader.feed(data):
                if event.failed or not event.payload.startswith(_DELTA_PAYLOAD):
                    self._inner.feed(_as_sse(event))
        except HeadgateError as error:  # nothing more can be told; the bytes pass by all the same
            self._failed = not isinstance(error, StreamBroken)
            self._reader = None

    def end(self) -> None:
        self._inner.end()


_DATA_START = len(b'{"bytes":"')
_DELTA_PAYLOAD = b'{"bytes":"' + b64encode(_DELTA_JSON[: len(_DELTA_JSON) // 3 * 3])


def _is_delta(data: bytes) -> bool:
    """One whole frame that holds a delta, and nothing more."""
    payload = whole_frame(data, _CHUNK_HEADERS)
    return payload is not None and payload.startswith(_DELTA_PAYLOAD)


def _delta(data: bytes) -> bytes | None:
    """The JSON of a delta, if `data` is one whole frame of the usual form. None says nothing."""
    payload = whole_frame(data, _CHUNK_HEADERS)
    if payload is None or not payload.startswith(_DELTA_PAYLOAD):
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


def stream_encoder(options: AnswerOptions) -> StreamEncoder:
    return anthropic.StreamEncoder(options) if options.framing == "sse" else _FramedEncoder(options)


def stream_decoder(content_type: str) -> StreamDecoder:
    if content_type.startswith(eventstream.CONTENT_TYPE):
        return _FramedDecoder()
    return anthropic.StreamDecoder(content_type)


def observer(stream: bool, content_type: str) -> Observer:
    if stream and content_type.startswith(eventstream.CONTENT_TYPE):
        return _FramedObserver()
    return anthropic.observer(stream, content_type)
