"""Different dialects on the two sides: decoded and encoded by way of neutral parts, callback to callback."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TypeAlias

from typing_extensions import override

from headgate.core.backend import Exchange, RawHeaders, Receiver, Wire
from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, InvalidRequest, StreamBroken
from headgate.core.events import ChatEvent, Failed, Finished, PartDelta, Started, UsageReported
from headgate.core.fold import unfold
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest
from headgate.core.operations import EmbedRequest, RerankRequest
from headgate.dialects.answer_losses import note_fields
from headgate.dialects.dialect import (
    ChatDialect,
    CountDialect,
    Dialect,
    EmbedDialect,
    RerankDialect,
    StreamDecoder,
)
from headgate.dialects.terms import in_callers_terms, param_in_callers_terms
from headgate.server.intake import Intake
from headgate.server.lanes.lane import JSON_HEAD, LossRefused, content_type

Asked: TypeAlias = ChatRequest | EmbedRequest | RerankRequest


class _Translated:
    """What both kinds share: the request goes out in the upstream's dialect."""

    def __init__(self, wire: Wire, upstream: Dialect, intake: Intake, receiver: Receiver) -> None:
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.complete = False
        self.failed = False
        self.streaming = False
        self._upstream = upstream
        self._receiver = receiver
        self._status = 0
        self._head_usage: Usage | None = None
        try:
            body, lost = wire.encode(_metered(intake.request))
        except InvalidRequest as refused:
            refused.param = param_in_callers_terms(refused.param, intake.dialect.name)
            raise
        losses = in_callers_terms(lost, intake.dialect.name) if lost else lost
        self.losses: list[Loss] = losses
        if losses and intake.strict:
            raise LossRefused(losses)
        self._exchange: Exchange = wire.send(
            body,
            intake.headers_for(upstream, same=False),
            intake.call.deadline,
            self,
            stream=intake.call.stream,
        )

    def frame_error(self, error: HeadgateError) -> bytes:
        return b""

    def decode_error(self, status: int, headers: RawHeaders, body: bytes) -> HeadgateError:
        return self._upstream.decode_error(status, headers, body)

    @property
    def connected(self) -> float | None:
        return self._exchange.connected

    def abort(self) -> None:
        self._exchange.abort()

    def pause(self) -> None:
        self._exchange.pause()

    def resume(self) -> None:
        self._exchange.resume()

    def on_head(self, status: int, headers: RawHeaders) -> None:
        self._status = status
        if self._upstream.usage_headers is not None:
            self._head_usage = self._upstream.usage_headers.read(headers)
        if status >= 300:
            self._receiver.on_head(status, headers)

    def on_data(self, data: bytes) -> None:
        raise NotImplementedError

    def on_end(self) -> None:
        raise NotImplementedError

    def on_fail(self, error: HeadgateError) -> None:
        self._receiver.on_fail(error)


def _metered(request: Asked) -> Asked:
    """Usage of a stream is ours to know, whether or not the caller wants it too."""
    if isinstance(request, ChatRequest) and request.stream and not request.include_usage:
        return replace(request, include_usage=True)
    return request


def _too_deep() -> StreamBroken:
    """For JSON that could just be read, but is written from deeper within the program."""
    return StreamBroken("The upstream's answer is nested too deeply to be translated.")


class TranslatedChat(_Translated):
    """A chat answer, streamed or whole."""

    def __init__(
        self, wire: Wire, upstream: ChatDialect, caller: ChatDialect, intake: Intake, receiver: Receiver
    ) -> None:
        request = intake.request
        assert isinstance(request, ChatRequest)
        self._caller = caller
        self._chat = upstream
        self._id = intake.call.id  # names the answer where the upstream gives it no name
        self._stream = intake.call.stream
        self._options = replace(intake.options, include_usage=request.include_usage, created=int(time.time()))
        self._encoder = caller.stream_encoder(self._options)
        self._decoder: StreamDecoder | None = None
        self._parts: list[bytes] = []
        self._begun = False
        super().__init__(wire, upstream, intake, receiver)

    @override
    def on_head(self, status: int, headers: RawHeaders) -> None:
        super().on_head(status, headers)
        kind = content_type(headers)
        if status < 300 and self._stream and self._streams(kind):
            self._decoder = self._chat.stream_decoder(kind)
            own = self._caller.stream_types[self._options.framing].encode("ascii")
            kept = [field for field in headers if field[0] != b"content-type"]
            self.streaming = True
            self._receiver.on_head(status, [(b"content-type", own), *kept])

    def _streams(self, kind: str) -> bool:
        return any(kind.startswith(known.partition(";")[0]) for known in self._chat.stream_types.values())

    @override
    def on_data(self, data: bytes) -> None:
        if self._decoder is None or self._status >= 300:
            if self._status >= 300:
                self._receiver.on_data(data)
            else:
                self._parts.append(data)
            return
        self._pass(self._decoder.feed(data))

    def _pass(self, events: list[ChatEvent]) -> bool:
        """False: the answer has failed, and the receiver knows."""
        out: list[bytes] = []
        for event in events:
            if not self._begun:
                if isinstance(event, Failed):
                    self._receiver.on_fail(event.error)
                    return False
                if isinstance(event, Started) and not event.id:
                    event = replace(event, id=self._id)
            try:
                out.append(self._encoder.encode(event))
            except RecursionError:
                self._send(out)
                self._receiver.on_fail(_too_deep())
                return False
            if not isinstance(event, PartDelta):  # nearly all are
                self._note(event)
        self._send(out)
        return True

    def _send(self, out: list[bytes]) -> None:
        data = out[0] if len(out) == 1 else b"".join(out)
        if data:
            self._begun = True
            self._receiver.on_data(data)

    def _note(self, event: ChatEvent) -> None:
        if isinstance(event, UsageReported):
            self.usage = event.usage if self.usage is None else self.usage.merged(event.usage)
        elif isinstance(event, Finished):
            self.complete = True
            self.finish_reason = event.stops[0].reason if event.stops else None
        elif isinstance(event, Failed):
            self.complete = self.failed = True

    @override
    def on_end(self) -> None:
        if self._status >= 300:
            self._receiver.on_end()
        elif self._decoder is not None:
            passed = self._pass(self._decoder.end())
            self.losses += self._encoder.losses
            if passed:
                self._receiver.on_end()
        else:
            self._whole()

    @override
    def on_fail(self, error: HeadgateError) -> None:
        if self._decoder is not None and self._begun and not self.complete:
            rest = self._decoder.end()
            if any(isinstance(event, Finished) for event in rest):
                # Some dialects have no mark of the end but that nothing is missing.
                if not self._pass(rest):
                    return
                self.losses += self._encoder.losses
            else:
                self._meter(rest)
        super().on_fail(error)

    @override
    def abort(self) -> None:
        super().abort()
        if self._decoder is not None and not self.complete:
            self._meter(self._decoder.end())

    def _meter(self, rest: list[ChatEvent]) -> None:
        """What was told before a stream stopped short: some decoders look at usage only now and then."""
        for event in rest:
            if isinstance(event, UsageReported):
                self._note(event)

    def _whole(self) -> None:
        """A plain answer, or one that comes whole although a stream was asked for."""
        try:
            result = self._chat.decode_result(b"".join(self._parts))
            result = result if result.id else replace(result, id=self._id)
            result = result if result.usage else replace(result, usage=self._head_usage)
            if self._stream:
                kind = self._caller.stream_types[self._options.framing].encode("ascii")
                body = b"".join([self._encoder.encode(event) for event in unfold(result)])
                self.losses += self._encoder.losses
            else:
                kind = b"application/json"
                body, losses = self._caller.encode_result(result, self._options)
                self.losses += losses
        except HeadgateError as error:
            self._receiver.on_fail(error)
            return
        except RecursionError:
            self._receiver.on_fail(_too_deep())
            return
        self.usage = result.usage
        self.complete = True
        self.finish_reason = result.choices[0].stop.reason if result.choices else None
        self._receiver.on_head(self._status, [(b"content-type", kind)])
        self._receiver.on_data(body)
        self._receiver.on_end()

    @override
    def frame_error(self, error: HeadgateError) -> bytes:
        return self._encoder.encode(Failed(error))


class TranslatedResult(_Translated):
    """An answer that is one body: vectors, a ranking, a count."""

    def __init__(
        self, wire: Wire, upstream: Dialect, caller: Dialect, intake: Intake, receiver: Receiver
    ) -> None:
        self._caller = caller
        self._request = intake.request
        self._parts: list[bytes] = []
        super().__init__(wire, upstream, intake, receiver)

    @override
    def on_data(self, data: bytes) -> None:
        if self._status >= 300:
            self._receiver.on_data(data)
        else:
            self._parts.append(data)

    @override
    def on_end(self) -> None:
        if self._status >= 300:
            self._receiver.on_end()
            return
        try:
            body = self._translated(b"".join(self._parts))
        except HeadgateError as error:
            self._receiver.on_fail(error)
            return
        except RecursionError:
            self._receiver.on_fail(_too_deep())
            return
        self.complete = True
        self._receiver.on_head(self._status, JSON_HEAD)
        self._receiver.on_data(body)
        self._receiver.on_end()

    def _translated(self, body: bytes) -> bytes:
        caller, upstream, request = self._caller, self._upstream, self._request
        if isinstance(caller, EmbedDialect):
            assert isinstance(upstream, EmbedDialect)
            assert isinstance(request, EmbedRequest)
            vectors = upstream.decode_result(body)
            usage = (self._head_usage or Usage()).merged(vectors.usage)
            vectors = replace(vectors, model=request.model, usage=usage)
            self.usage = usage
            note_fields(vectors.extensions, caller.name, self.losses)
            return caller.encode_result(request, vectors)
        if isinstance(caller, RerankDialect):
            assert isinstance(upstream, RerankDialect)
            assert isinstance(request, RerankRequest)
            ranking = replace(upstream.decode_result(body), model=request.model)
            self.usage = ranking.usage
            note_fields(ranking.extensions, caller.name, self.losses)
            return caller.encode_result(request, ranking)
        assert isinstance(caller, CountDialect)
        assert isinstance(upstream, CountDialect)
        return caller.encode_result(upstream.decode_result(body))
