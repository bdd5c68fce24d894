"""What all readers of an upstream's server-sent answer have in common: framing, JSON, the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec

from headgate.core.errors import HeadgateError, StreamBroken
from headgate.core.events import ChatEvent, Failed
from headgate.core.fold import unfold
from headgate.core.result import ChatResult
from headgate.dialects import sse
from headgate.dialects.surrogates import Surrogates


class SseAnswerDecoder(ABC):
    """Bytes in at any split, events out; the last is Finished or Failed, and nothing follows it.

    A whole JSON answer where a stream was asked for is taken, because servers give one. A dialect says what
    its events mean (`_take`), reads whole answers (`_whole`), and sets `_ended` with the terminal event.
    """

    def __init__(self) -> None:
        self._sse = sse.Decoder()
        self._halves = Surrogates()
        self._json: bytearray | None = None
        self._fresh = True
        self._ended = False

    def feed(self, data: bytes) -> list[ChatEvent]:
        if self._ended:
            return []
        if self._fresh:
            self._look_at_start(data)
        if self._json is not None:
            return self._keep_json(self._json, data)
        events: list[ChatEvent] = []
        try:
            self._read(data, events)
        except HeadgateError as error:
            self._fail(error, events)
        return events

    def end(self) -> list[ChatEvent]:
        """The upstream's body is over. Gives the terminal event if it has not come yet."""
        events: list[ChatEvent] = []
        if self._ended:
            return events
        try:
            if self._json is not None:
                events = unfold(self._whole(bytes(self._json)))
                self._ended = True
                return events
            for event in self._sse.end():
                self._take(event, events)
            if not self._ended:
                self._run_out(events)
        except HeadgateError as error:
            self._fail(error, events)
        return events

    def _read(self, data: bytes, events: list[ChatEvent]) -> None:
        """Raises HeadgateError for what ends the answer early."""
        for event in self._sse.feed(data):
            self._take(event, events)

    @abstractmethod
    def _take(self, event: sse.ServerSentEvent, events: list[ChatEvent]) -> None:
        """One event; to be passed over after the end. Raises as `_read` does."""

    @abstractmethod
    def _whole(self, body: bytes) -> ChatResult:
        """A plain answer. Raises StreamBroken, UpstreamError."""

    def _run_out(self, events: list[ChatEvent]) -> None:
        """The stream is over, and no event said so."""
        raise StreamBroken(
            "The upstream's stream ended before the answer was complete.", code="upstream_stream_cut"
        )

    def _look_at_start(self, data: bytes) -> None:
        start = data.lstrip()
        if start:
            self._fresh = False
            if start.startswith((b"{", b"[")):
                self._json = bytearray()

    def _keep_json(self, kept: bytearray, data: bytes) -> list[ChatEvent]:
        kept += data
        events: list[ChatEvent] = []
        if len(kept) > self._sse.limit:
            message = f"The upstream's answer is longer than {self._sse.limit:,} bytes."
            self._fail(StreamBroken(message, code="upstream_event_too_large"), events)
        return events

    def _fail(self, error: HeadgateError, events: list[ChatEvent]) -> None:
        self._ended = True
        events.append(Failed(error))


def decode_event(data: bytes, halves: Surrogates) -> dict[str, Any]:
    """An event's JSON object. Raises StreamBroken for anything else.

    Args:
        halves: those of characters that the stream has cut in two.
    """
    try:
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        value = _decode_mended(halves.mend(data))
    if not isinstance(value, dict):
        raise StreamBroken("The upstream sent an event that is not a JSON object.")
    return value


def _decode_mended(data: bytes) -> object:
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream sent an event that is not JSON.") from None
