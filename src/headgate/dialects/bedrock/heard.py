"""What answers of InvokeModel say beside their text, and reading along for it.

Each body form tells how one answer or event of its own is read; the watching is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, StreamBroken
from headgate.dialects import sse
from headgate.dialects.bedrock.errors import exception_from_event
from headgate.dialects.dialect import Observer
from headgate.dialects.held_body import HeldBody

METRICS = "amazon-bedrock-invocationMetrics"
"""Field that Bedrock adds to the last event of a stream."""


class Heard(NamedTuple):
    """What an answer, or one event of a stream, says. `word` is the wire's own reason for the end."""

    text: str | None = None
    word: str | None = None
    usage: Usage | None = None


Read: TypeAlias = Callable[[bytes], Heard]
"""Reads one answer or event. Raises StreamBroken, or the error that is in place of it."""


class Metrics(msgspec.Struct, gc=False):
    inputTokenCount: int | None = None
    outputTokenCount: int | None = None


def counted(sent: int | None, received: int | None, metrics: Metrics | None) -> Usage | None:
    """Bedrock's own counts stand in where the model gives none."""
    if metrics is not None:
        sent = metrics.inputTokenCount if sent is None else sent
        received = metrics.outputTokenCount if received is None else received
    sent, received = (None if count is None or count < 0 else count for count in (sent, received))
    return None if sent is None and received is None else Usage(sent, received)


def metrics_of(usage: Usage) -> dict[str, int]:
    return {"inputTokenCount": usage.input_tokens or 0, "outputTokenCount": usage.output_tokens or 0}


def error_within(value: object) -> HeadgateError | None:
    """The error that an event, or an answer of status 200, is; None where it is none."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("message"), str) or value.get("error"):
        return exception_from_event("error", msgspec.json.encode(value))
    found: dict[str, Any] = {name: inner for name, inner in value.items() if name.endswith("Exception")}
    for name, inner in found.items():
        return exception_from_event(name, msgspec.json.encode(inner))
    return None


class _Notes:
    """What both observers hold."""

    def __init__(self, read: Read) -> None:
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.terminal = False
        self.failed = False
        self._heard = read

    def _note(self, data: bytes) -> bool:
        """Read one JSON text; False where it is not of the form."""
        try:
            found = self._heard(data)
        except StreamBroken:
            return False
        except HeadgateError:
            self.failed = True
            return True
        self.finish_reason = found.word or self.finish_reason
        if found.usage is not None:
            self.usage = found.usage if self.usage is None else self.usage.merged(found.usage)
        return True


class StreamObserver(_Notes):
    """For a stream. `terminal`: the word for its end came, and nothing failed."""

    def __init__(self, read: Read) -> None:
        super().__init__(read)
        self._sse: sse.Decoder | None = sse.Decoder()

    def feed(self, data: bytes) -> None:
        if self._sse is not None:
            try:
                self._read(self._sse.feed(data))
            except StreamBroken:  # longer than any event that is parsed; the bytes pass by all the same
                self._sse = None

    def _read(self, events: list[sse.ServerSentEvent]) -> None:
        for event in events:
            self._note(event.data)
        self.terminal = self.finish_reason is not None and not self.failed

    def end(self) -> None:
        if self._sse is not None:
            self._read(self._sse.end())
            self._sse = None


class BodyObserver(_Notes):
    """For a plain answer. `terminal`, after `end()`: the JSON is complete; of an answer above MAX_BODY, that
    it ends in a brace. Nothing else is read of such a one."""

    def __init__(self, read: Read) -> None:
        super().__init__(read)
        self._held = HeldBody()

    def feed(self, data: bytes) -> None:
        self._held.feed(data)

    def end(self) -> None:
        body, whole = self._held.take()
        self.terminal = self._note(body) if whole else body.rstrip().endswith(b"}")


def observer(stream: bool, content_type: str, *, read: Read) -> Observer:
    """A stream that was asked for may still be answered by one plain body."""
    if not stream or content_type.startswith("application/json"):
        return BodyObserver(read)
    return StreamObserver(read)
