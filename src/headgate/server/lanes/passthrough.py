"""Same dialect on both sides: the bytes go through, an observer reads along."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.core.backend import RawHeaders, Receiver, Wire
from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, UpstreamError
from headgate.core.events import Failed
from headgate.core.loss import Loss
from headgate.dialects.dialect import ChatDialect, Observer, UsageStripper
from headgate.server.intake import Intake
from headgate.server.lanes.lane import content_type


class PassThrough:
    """Same dialect on both sides: the bytes go through, an observer reads along."""

    __slots__ = (
        "_begun",
        "_dialect",
        "_exchange",
        "_intake",
        "_kind",
        "_observer",
        "_receiver",
        "_stream",
        "_stripper",
    )

    def __init__(self, wire: Wire, intake: Intake, receiver: Receiver) -> None:
        call = intake.call
        self._intake = intake
        self._dialect = intake.dialect
        self._stream = call.stream
        self._begun = False
        self._kind = ""
        self._receiver = receiver
        self._observer: Observer | None = None  # until the head says what it is to read
        self._stripper: UsageStripper | None = None
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
                self._stripper = dialect.strip_usage()
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
        return not self._stream or self._over

    @property
    def _over(self) -> bool:
        observer = self._observer
        return observer is not None and (observer.terminal or observer.failed)

    @property
    def failed(self) -> bool:
        return self._observer is not None and self._observer.failed

    def frame_error(self, error: HeadgateError) -> bytes:
        if not isinstance(self._dialect, ChatDialect) or self._over:
            return b""
        return self._dialect.stream_encoder(self._intake.options).encode(Failed(error))

    @property
    def streaming(self) -> bool:
        dialect = self._dialect
        return isinstance(dialect, ChatDialect) and any(
            self._kind.startswith(known.partition(";")[0]) for known in dialect.stream_types.values()
        )

    @property
    def losses(self) -> Sequence[Loss]:
        return ()

    def decode_error(self, status: int, headers: RawHeaders, body: bytes) -> HeadgateError:
        return self._dialect.decode_error(status, headers, body)

    def abort(self) -> None:
        self._exchange.abort()

    def pause(self) -> None:
        self._exchange.pause()

    def resume(self) -> None:
        self._exchange.resume()

    def on_head(self, status: int, headers: RawHeaders) -> None:
        self._kind = content_type(headers)
        self._observer = self._dialect.observer(self._stream, self._kind)
        self._receiver.on_head(status, headers)

    def on_data(self, data: bytes) -> None:
        observer = self._observer
        assert observer is not None
        observer.feed(data)
        if observer.failed and not self._begun:
            self._receiver.on_fail(self._first_error(data))
            return
        self._begun = True
        if self._stripper is not None:
            data = self._stripper.feed(data)
            if not data:
                return
        self._receiver.on_data(data)

    def on_end(self) -> None:
        assert self._observer is not None
        self._observer.end()
        if self._stripper is not None and (rest := self._stripper.end()):
            self._receiver.on_data(rest)
        self._receiver.on_end()

    def on_fail(self, error: HeadgateError) -> None:
        self._receiver.on_fail(error)

    def _first_error(self, data: bytes) -> HeadgateError:
        """The error with which a stream begins: nobody has been told 200 yet, another target may be tried."""
        if isinstance(self._dialect, ChatDialect):
            for event in self._dialect.stream_decoder(self._kind).feed(data):
                if isinstance(event, Failed):
                    return event.error
        return UpstreamError("the upstream's stream began with an error")
