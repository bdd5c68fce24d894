"""Streams of the caller's own dialect that can't go through as they are: cut into events in another way than
the caller wants, or so that an error could not follow them; begun with an error; or no stream at all."""

from __future__ import annotations

from headgate.core.errors import HeadgateError, StreamBroken
from headgate.core.events import ChatEvent, Failed
from headgate.core.fold import unfold
from headgate.dialects import eventstream, sse
from headgate.dialects.dialect import AnswerOptions, ChatDialect, Framing

MAX_PEEK = 64 * 1024
"""Bytes of a stream's start that wait for its first event to be whole."""
MAX_WHOLE = 16 * 1024 * 1024
"""Bytes of a plain answer that is made into a stream: those of the longest event of one."""

_PRELUDE = 12
"""Bytes of a frame that tell its length, checksum included."""


def framing_of(dialect: ChatDialect, kind: str) -> Framing | None:
    """How a stream of the content type `kind` is cut into events; None where it is none of the dialect's."""
    for framing, known in dialect.stream_types.items():
        if kind.startswith(known.partition(";")[0]):
            return framing
    return None


class Reframer:
    """Reads a stream in one framing and writes it in another."""

    def __init__(self, dialect: ChatDialect, kind: str, framing: Framing) -> None:
        self.failed = False
        """The stream told an error, or could not be read; the caller knows."""
        self._decoder = dialect.stream_decoder(kind)
        self._encoder = dialect.stream_encoder(AnswerOptions(include_usage=True, framing=framing))

    def feed(self, data: bytes) -> bytes:
        return self._written(self._decoder.feed(data))

    def end(self) -> bytes:
        return self._written(self._decoder.end())

    def fail(self, error: HeadgateError) -> bytes:
        return self._encoder.encode(Failed(error))

    def _written(self, events: list[ChatEvent]) -> bytes:
        self.failed = self.failed or any(isinstance(event, Failed) for event in events)
        return b"".join([self._encoder.encode(event) for event in events])


class WholeFrames:
    """Holds back a frame of AWS's until it is whole, so that another one may follow at any time.

    Bytes that are no frames pass as they are, once there was a frame. Raises StreamBroken before.
    """

    def __init__(self) -> None:
        self._held = b""
        self._begun = self._blind = False

    def feed(self, data: bytes) -> bytes:
        if self._held:
            data, self._held = self._held + data, b""
        start, size = 0, len(data)
        while size - start >= _PRELUDE and not self._blind:
            try:
                total = eventstream.frame_length(data, start)
            except StreamBroken:
                if not self._begun:
                    raise
                self._blind = True
                break
            if size - start < total:
                break
            self._begun = True
            start += total
        if start == size or self._blind:
            return data
        self._held = data[start:]
        return data[:start]

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return held


class Peek:
    """Holds back the start of server-sent events until the first one is whole: is it an error?

    Comments are no events. What is longer than MAX_PEEK goes on as it is.
    """

    def __init__(self) -> None:
        self._sse = sse.Decoder(MAX_PEEK)
        self._held = bytearray()
        self._over = False

    def feed(self, data: bytes) -> bytes:
        if self._over:
            return data
        try:
            self._over = bool(self._sse.feed(data))
        except StreamBroken:
            self._over = True
        if self._over and not self._held:  # nearly always: the first read holds an event
            return data
        self._held += data
        return self.end() if self._over or len(self._held) > MAX_PEEK else b""

    def end(self) -> bytes:
        """What is held back. Whatever follows goes on as it comes."""
        self._over = True
        held = bytes(self._held)
        self._held.clear()
        return held


class Unfolder:
    """Makes a stream of a plain answer. Raises the error that the answer is, or StreamBroken."""

    def __init__(self, dialect: ChatDialect, options: AnswerOptions) -> None:
        self._dialect = dialect
        self._options = options
        self._body = bytearray()

    def feed(self, data: bytes) -> bytes:
        self._body += data
        if len(self._body) > MAX_WHOLE:
            raise StreamBroken(f"The upstream's answer is longer than {MAX_WHOLE:,} bytes.")
        return b""

    def end(self) -> bytes:
        encoder = self._dialect.stream_encoder(self._options)
        result = self._dialect.decode_result(bytes(self._body))
        return b"".join([encoder.encode(event) for event in unfold(result)])
