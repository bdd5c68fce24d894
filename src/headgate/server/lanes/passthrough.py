"""Same dialect on both sides: the bytes go through, an observer reads along."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Sequence

from headgate.core.backend import RawHeaders, Receiver, Wire
from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, StreamBroken, UpstreamError
from headgate.core.events import Failed
from headgate.core.loss import Loss
from headgate.dialects.dialect import AnswerOptions, ChatDialect, Framing, Observer, UsageStripper
from headgate.server.intake import Intake
from headgate.server.lanes.framing import Peek, Reframer, Unfolder, WholeFrames, framing_of
from headgate.server.lanes.lane import content_type

JSON = "application/json"
PEEK_SECONDS = 2.0
"""For how long a stream's start is held back: below what clients and proxies take for silence."""


class PassThrough:
    """Same dialect on both sides: the bytes go through, an observer reads along."""

    __slots__ = (
        "_begun",
        "_dialect",
        "_exchange",
        "_filter",
        "_framing",
        "_head_usage",
        "_held",
        "_intake",
        "_kind",
        "_last",
        "_observer",
        "_peek",
        "_receiver",
        "_status",
        "_stream",
        "_text",
        "_timer",
    )

    def __init__(self, wire: Wire, intake: Intake, receiver: Receiver) -> None:
        call = intake.call
        self._intake = intake
        self._dialect = intake.dialect
        self._stream = call.stream
        self._status = 0
        self._kind = ""
        self._framing: Framing | None = None  # of a stream that has begun
        self._begun = False
        self._held: list[bytes] = []  # what came before anything was passed on
        self._last = b""
        self._receiver = receiver
        self._head_usage: Usage | None = None
        self._observer: Observer | None = None  # until the head says what it is to read
        self._peek: Peek | None = None
        self._text: codecs.IncrementalDecoder | None = None  # from the first byte on that is not ASCII
        self._timer: asyncio.TimerHandle | None = None
        self._filter: UsageStripper | Reframer | WholeFrames | Unfolder | None = None
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
        read = self._observer.usage if self._observer is not None else None
        return read or self._head_usage

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
        self._stop_waiting()
        self._exchange.abort()

    def pause(self) -> None:
        self._exchange.pause()

    def resume(self) -> None:
        self._exchange.resume()

    def on_head(self, status: int, headers: RawHeaders) -> None:
        self._status = status
        self._kind = content_type(headers)
        self._observer = self._dialect.observer(self._stream, self._kind)
        if self._dialect.usage_headers is not None:
            self._head_usage = self._dialect.usage_headers.read(headers)
        if status >= 300:
            self._filter = None
        elif self._stream and isinstance(self._dialect, ChatDialect):
            headers = self._frame(self._dialect, headers)
        self._receiver.on_head(status, headers)

    def _frame(self, dialect: ChatDialect, headers: RawHeaders) -> RawHeaders:
        """See how the stream is cut into events; where the caller wants that otherwise, have it changed."""
        wanted = self._intake.framing
        framing = self._framing = framing_of(dialect, self._kind)
        if framing is None and self._kind.startswith(JSON):
            self._framing = wanted
            self._filter = Unfolder(dialect, self._as_passed(wanted))
        elif framing is None and wanted != next(iter(dialect.stream_types)):
            self._observer = dialect.observer(False, self._kind)  # the stream would not be as wanted
            return headers
        elif framing is not None and (framing != wanted or wanted == "json_array"):
            self._filter = Reframer(dialect, self._kind, wanted)  # nobody else can go on with an array
        else:
            if wanted == "eventstream":
                self._filter = WholeFrames()
            else:
                self._peek = Peek()
            return headers
        own = dialect.stream_types[wanted].encode("ascii")
        return [(b"content-type", own), *(field for field in headers if field[0] != b"content-type")]

    def _as_passed(self, framing: Framing) -> AnswerOptions:
        """How a stream looks that passes: the upstream's own names, no usage that nobody asked for."""
        dialect = self._dialect
        assert isinstance(dialect, ChatDialect)
        wish = dialect.ask_for_usage(self._intake.envelope.fields) if dialect.ask_for_usage else None
        return AnswerOptions(include_usage=wish is None, framing=framing)

    def on_data(self, data: bytes) -> None:
        observer = self._observer
        assert observer is not None
        if not (data.isascii() and self._text is None) and not self._is_text(data):
            self._receiver.on_fail(StreamBroken("The upstream's answer is not UTF-8"))
            return
        observer.feed(data)
        if not self._begun:
            self._begin(data)
            return
        self._last = data
        if self._filter is not None:
            data = self._filter.feed(data)
            if not data:
                return
        self._receiver.on_data(data)

    def _is_text(self, data: bytes) -> bool:
        """What is no UTF-8 is no JSON: a caller can't read it, so it is not passed as an answer."""
        if self._framing == "eventstream" or self._status >= 300:
            return True
        if self._text is None:
            self._text = codecs.getincrementaldecoder("utf-8")()
        try:
            self._text.decode(data)
        except UnicodeDecodeError:
            return False
        return True

    def _begin(self, data: bytes) -> None:
        """Nothing was passed on: as long as that is so, another target may be tried."""
        self._held.append(data)
        if self._peek is not None:
            data = self._peek.feed(data)
            if not data and self._timer is None and not self.failed:
                self._timer = self._intake.gateway.loop.call_later(PEEK_SECONDS, self._let_go)
        try:
            if data and self._filter is not None:
                data = self._filter.feed(data)
        except HeadgateError as error:
            self._receiver.on_fail(error)
            return
        if self.failed:
            self._receiver.on_fail(self._first_error())
        elif data:
            self._pass_first(data)

    def _let_go(self) -> None:
        """An upstream that says by comments that it is alive is alive for the caller as well."""
        self._timer = None
        assert self._peek is not None
        data = self._peek.end()
        if self._filter is not None:
            data = self._filter.feed(data)
        if data:
            self._pass_first(data)

    def _pass_first(self, data: bytes) -> None:
        self._stop_waiting()
        self._begun = True
        self._last = self._held[-1]
        self._held = []
        self._receiver.on_data(data)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_end(self) -> None:
        self._stop_waiting()
        if self._status >= 300:
            self._receiver.on_end()
            return
        try:
            rest = self._end()
        except HeadgateError as error:
            self._receiver.on_fail(error)
            return
        if not self._begun and self.failed:
            self._receiver.on_fail(self._first_error())
            return
        if rest:
            self._receiver.on_data(rest)
        if self.complete or self.streaming:
            self._receiver.on_end()
        else:
            kind = self._kind or "no content type"
            self._receiver.on_fail(StreamBroken(f"The upstream's answer ({kind[:80]}) is not whole"))

    def _end(self) -> bytes:
        """Nothing more comes: is that the answer's end? What was held back of it."""
        assert self._observer is not None
        self._observer.end()
        if not self.complete:
            return b""
        rest = self._peek.end() if self._peek is not None else b""
        if self._filter is not None:
            rest = (self._filter.feed(rest) if rest else b"") + self._filter.end()
        return rest

    def on_fail(self, error: HeadgateError) -> None:
        self._stop_waiting()
        # Some dialects have no mark of the end but that nothing is missing.
        if self.streaming and self._begun and not self.complete and (rest := self._end()):
            self._receiver.on_data(rest)
        self._receiver.on_fail(error)

    def _first_error(self) -> HeadgateError:
        """The error with which a stream begins: nobody has been told 200 yet."""
        if isinstance(self._dialect, ChatDialect):
            decoder = self._dialect.stream_decoder(self._kind)
            for event in [*decoder.feed(b"".join(self._held)), *decoder.end()]:
                if isinstance(event, Failed):
                    return event.error
        return UpstreamError("the upstream's stream began with an error")
