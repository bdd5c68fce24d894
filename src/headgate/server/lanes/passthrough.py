"""Same dialect on both sides: the bytes go through, an observer reads along."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.core.backend import RawHeaders, Receiver, Wire
from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, StreamBroken, UpstreamError
from headgate.core.events import Failed
from headgate.core.loss import Loss
from headgate.dialects.dialect import ChatDialect, Framing, Observer, UsageStripper
from headgate.server.intake import Intake
from headgate.server.lanes.framing import Reframer, WholeFrames, framing_of
from headgate.server.lanes.lane import content_type


class PassThrough:
    """Same dialect on both sides: the bytes go through, an observer reads along."""

    __slots__ = (
        "_dialect",
        "_exchange",
        "_filter",
        "_framing",
        "_intake",
        "_kind",
        "_last",
        "_observer",
        "_receiver",
        "_status",
        "_stream",
    )

    def __init__(self, wire: Wire, intake: Intake, receiver: Receiver) -> None:
        call = intake.call
        self._intake = intake
        self._dialect = intake.dialect
        self._stream = call.stream
        self._status = 0
        self._kind = ""
        self._framing: Framing | None = None  # of a stream that has begun
        self._last = b""
        self._receiver = receiver
        self._observer: Observer | None = None  # until the head says what it is to read
        self._filter: UsageStripper | Reframer | WholeFrames | None = None
        body = self._body(wire, intake)
        headers = intake.headers_for(self._dialect, same=True)
        self._exchange = wire.send(body, headers, call.deadline, self, stream=call.stream)

    def _body(self, wire: Wire, intake: Intake) -> bytes:
        """The caller's own fields; in a stream with the wish for usage where the caller has none."""
        dialect = self._dialect
        model = wire.model if dialect.model_in_body else None
        if self._stream and wire.reports_usage_when_asked and isinstance(dialect, ChatDialect):
            wish = dialect.ask_for_usage(intake.envelope.fields) if dialect.ask_for_usage else None
            if wish is not None and dialect.strip_usage is not None:
                self._filter = dialect.strip_usage()
                return intake.envelope.body(model, (dialect.usage_field, wish))
        return intake.envelope.body(model)

    @property
    def usage(self) -> Usage | None:
        return self._observer.usage if self._observer is not None else None

    @property
    def finish_reason(self) -> str | None:
        return self._observer.finish_reason if self._observer is not None else None

    @property
    def complete(self) -> bool:
        """The stream's own end was seen, or the whole JSON of a plain answer."""
        observer = self._observer
        return observer is not None and (observer.terminal or self.failed)

    @property
    def failed(self) -> bool:
        if isinstance(self._filter, Reframer) and self._filter.failed:
            return True
        return self._observer is not None and self._observer.failed

    def frame_error(self, error: HeadgateError) -> bytes:
        if isinstance(self._filter, Reframer):
            return self._filter.fail(error)
        if not isinstance(self._dialect, ChatDialect) or self.complete:
            return b""
        # Server-sent events may have been cut anywhere; a blank line too many says nothing.
        cut = self._framing == "sse" and not self._last.endswith((b"\n\n", b"\r\n\r\n"))
        framed = self._dialect.stream_encoder(self._intake.options).encode(Failed(error))
        return b"\n\n" + framed if cut and self._last else framed

    @property
    def streaming(self) -> bool:
        return self._framing is not None

    @property
    def losses(self) -> Sequence[Loss]:
        return ()

    def decode_error(self, status: int, headers: RawHeaders, body: bytes) -> HeadgateError:
        return self._dialect.decode_error(status, headers, body)

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
        self._kind = content_type(headers)
        self._observer = self._dialect.observer(self._stream, self._kind)
        if self._stream and status < 300:
            headers = self._frame(headers)
        self._receiver.on_head(status, headers)

    def _frame(self, headers: RawHeaders) -> RawHeaders:
        """See how the stream is cut into events; where the caller wants that otherwise, have it changed."""
        dialect, wanted = self._dialect, self._intake.framing
        if not isinstance(dialect, ChatDialect):
            return headers
        self._framing = framing_of(dialect, self._kind)
        if self._framing is None:
            if wanted != next(iter(dialect.stream_types)):  # a stream of no known type would not be as wanted
                self._observer = dialect.observer(False, self._kind)
            return headers
        if self._framing != wanted or wanted == "json_array":  # nobody else can go on with an array
            self._filter = Reframer(dialect, self._kind, wanted)
            own = dialect.stream_types[wanted].encode("ascii")
            return [(b"content-type", own), *(field for field in headers if field[0] != b"content-type")]
        if wanted == "eventstream":
            self._filter = WholeFrames()
        return headers

    def on_data(self, data: bytes) -> None:
        observer = self._observer
        assert observer is not None
        observer.feed(data)
        if observer.failed and not self._last:
            self._receiver.on_fail(self._first_error(data))
            return
        self._last = data
        if self._filter is not None and self._status < 300:
            data = self._filter.feed(data)
            if not data:
                return
        self._receiver.on_data(data)

    def on_end(self) -> None:
        if self._status >= 300:
            self._receiver.on_end()
            return
        self._end()
        if self.complete or self.streaming:
            self._receiver.on_end()
        else:
            kind = self._kind or "no content type"
            self._receiver.on_fail(StreamBroken(f"The upstream's answer ({kind[:80]}) is not whole"))

    def _end(self) -> None:
        """Nothing more comes: is that the answer's end?"""
        assert self._observer is not None
        self._observer.end()
        if self.complete and self._filter is not None and (rest := self._filter.end()):
            self._receiver.on_data(rest)

    def on_fail(self, error: HeadgateError) -> None:
        if self.streaming and self._last and not self.complete:
            self._end()  # some dialects have no mark of the end but that nothing is missing
        self._receiver.on_fail(error)

    def _first_error(self, data: bytes) -> HeadgateError:
        """The error with which a stream begins: nobody has been told 200 yet, another target may be tried."""
        if isinstance(self._dialect, ChatDialect):
            for event in self._dialect.stream_decoder(self._kind).feed(data):
                if isinstance(event, Failed):
                    return event.error
        return UpstreamError("the upstream's stream began with an error")
