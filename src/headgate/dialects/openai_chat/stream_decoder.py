"""An upstream's Chat Completions stream, read into events."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, StreamBroken
from headgate.core.events import ChatEvent, DeltaField, Failed, PartDelta
from headgate.core.fold import unfold
from headgate.dialects import sse
from headgate.dialects.chunk_template import ChunkTemplate
from headgate.dialects.openai_chat.choice_decoder import ChoiceDecoder
from headgate.dialects.openai_chat.result_codec import (
    KNOWN_FIELDS,
    decode_result,
    finished,
    reported,
    started,
)
from headgate.dialects.openai_chat.vocabulary import NAME
from headgate.dialects.openai_errors import error_from_value
from headgate.dialects.openai_usage import usage_from_wire

_LESSONS = 64
"""Attempts to learn the form of a chunk; a stream in which every chunk differs is not worth more."""


class StreamDecoder:
    """Bytes in at any split, events out; the last is Finished or Failed, and nothing follows it.

    Tolerated, because vendors do it: a first chunk without choices, id and model (Azure); usage on every
    chunk; a finish reason given twice; no `[DONE]` after the last finish reason; a whole JSON answer where
    a stream was asked for. Not tolerated: an end before every choice has its finish reason or `[DONE]` came.
    """

    def __init__(self) -> None:
        self._sse = sse.Decoder()
        self._json: bytearray | None = None
        self._fresh = True
        self._started = False
        self._ended = False
        self._early: dict[str, Any] = {}
        self._late: dict[str, Any] = {}
        self._usage = Usage()
        self._choices: dict[int, ChoiceDecoder] = {}
        self._template: ChunkTemplate | None = None
        self._between = b""
        self._repeated: tuple[int, int, DeltaField] = (0, 0, "text")
        self._lessons = _LESSONS

    def feed(self, data: bytes) -> list[ChatEvent]:
        template = self._template
        if template is not None and data.startswith(template.prefix) and data.endswith(template.suffix):
            repeated = self._repeats(data[len(template.prefix) : -len(template.suffix)])
            if repeated is not None:
                return repeated
        if self._ended:
            return []
        if self._fresh:
            self._look_at_start(data)
        if self._json is not None:
            return self._keep_json(data)
        events: list[ChatEvent] = []
        framed: list[sse.ServerSentEvent] = []
        from_start = self._sse.idle
        try:
            framed = self._sse.feed(data)
            for event in framed:
                self._take(event, events)
        except HeadgateError as error:
            self._fail(error, events)
        if not (self._sse.idle and len(events) == len(framed) and all(map(self._goes_on, events))):
            self._template = None
        if from_start and len(framed) == len(events) == 1 and self._sse.idle and self._lessons:
            self._learn(data, events[0])
        return events

    def _repeats(self, texts: bytes) -> list[ChatEvent] | None:
        """The deltas of chunks like the last one, several in one read; None if a text needs a parser."""
        index, choice, field = self._repeated
        events: list[ChatEvent] = []
        for text in texts.split(self._between):
            if b'"' in text or b"\\" in text or not text:
                return None
            try:
                delta = text.decode()
            except UnicodeDecodeError:
                return None
            if not delta.isprintable():
                return None
            events.append(PartDelta(index, delta, choice, field))
        return events

    def _goes_on(self, event: ChatEvent) -> bool:
        """The event is more of the part that the known form of chunk grows: that is still open."""
        return isinstance(event, PartDelta) and (event.index, event.choice, event.field) == self._repeated

    def _learn(self, data: bytes, event: ChatEvent) -> None:
        """Remember the form of a chunk that was one delta and nothing else."""
        if not isinstance(event, PartDelta) or event.logprobs is not None:
            return
        self._lessons -= 1
        template = ChunkTemplate.learn(data)
        if template is None or data[len(template.prefix) : -len(template.suffix)] != event.delta.encode():
            return
        self._template = template
        self._between = template.suffix + template.prefix
        self._repeated = (event.index, event.choice, event.field)

    def end(self) -> list[ChatEvent]:
        self._template = None
        if self._ended:
            return []
        events: list[ChatEvent] = []
        try:
            if self._json is not None:
                return self._end_json(bytes(self._json))
            for event in self._sse.end():
                self._take(event, events)
            if not self._ended:
                self._finish(events, done=False)
        except HeadgateError as error:
            self._fail(error, events)
        return events

    def _look_at_start(self, data: bytes) -> None:
        start = data.lstrip()
        if start:
            self._fresh = False
            if start.startswith((b"{", b"[")):
                self._json = bytearray()

    def _keep_json(self, data: bytes) -> list[ChatEvent]:
        assert self._json is not None
        self._json += data
        if len(self._json) <= self._sse.limit:
            return []
        self._ended = True
        return [Failed(StreamBroken(f"The upstream's answer is longer than {self._sse.limit:,} bytes."))]

    def _end_json(self, body: bytes) -> list[ChatEvent]:
        events = unfold(decode_result(body))
        self._ended = True
        return events

    def _take(self, event: sse.ServerSentEvent, events: list[ChatEvent]) -> None:
        if self._ended:
            return
        if event.data.strip() == b"[DONE]":
            self._finish(events, done=True)
            return
        try:
            chunk = msgspec.json.decode(event.data)
        except (ValueError, RecursionError):
            raise StreamBroken("The upstream sent an event that is not JSON.") from None
        if not isinstance(chunk, dict):
            raise StreamBroken("The upstream sent an event that is not a JSON object.")
        if chunk.get("error") or event.event == "error":
            raise error_from_value(chunk, _status(chunk.get("error")))
        self._chunk(chunk, events)

    def _chunk(self, chunk: dict[str, Any], events: list[ChatEvent]) -> None:
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            choices = []
        if len(chunk) > 5:
            self._note_rest(chunk)
        if not self._started and (choices or chunk.get("id")):
            self._start(chunk, events)
        for choice in choices:
            if isinstance(choice, dict):
                self._choice(choice, events)
        if chunk.get("usage") is not None:
            self._report(chunk["usage"], events)

    def _note_rest(self, chunk: dict[str, Any]) -> None:
        noted = self._late if self._started else self._early
        for key in chunk.keys() - KNOWN_FIELDS:
            if chunk[key] is not None and self._early.get(key) != chunk[key]:
                noted[key] = chunk[key]

    def _start(self, chunk: dict[str, Any], events: list[ChatEvent]) -> None:
        self._started = True
        events.append(started(chunk, {NAME: dict(self._early)} if self._early else {}))

    def _choice(self, choice: dict[str, Any], events: list[ChatEvent]) -> None:
        index = choice.get("index", 0)
        if not isinstance(index, int) or index < 0:
            index = 0
        decoder = self._choices.get(index)
        if decoder is None:
            decoder = self._choices[index] = ChoiceDecoder(index)
        decoder.feed(choice, events)

    def _report(self, value: object, events: list[ChatEvent]) -> None:
        usage = usage_from_wire(value)
        if usage is None:
            return
        if (usage.output_tokens or 0) < (self._usage.output_tokens or 0):
            return  # some vendors count down to zero in a last, empty report
        merged = self._usage.merged(usage)
        if merged != self._usage and self._started:
            self._usage = merged
            events.append(reported(value, merged))

    def _finish(self, events: list[ChatEvent], done: bool) -> None:
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not self._started or not (done or (choices and all(choice.finished for choice in choices))):
            raise StreamBroken(
                "The upstream's stream ended before the answer was complete.", code="upstream_stream_cut"
            )
        for choice in choices:
            choice.end(events)
        events.append(finished(choices, self._late))
        self._ended = True

    def _fail(self, error: HeadgateError, events: list[ChatEvent]) -> None:
        self._ended = True
        events.append(Failed(error))


def _status(error: object) -> int:
    """Some vendors put an HTTP status where others have a code."""
    if isinstance(error, dict):
        for key in ("status", "code", "status_code"):
            value = error.get(key)
            if isinstance(value, int) and 400 <= value <= 599:
                return value
    return 502
