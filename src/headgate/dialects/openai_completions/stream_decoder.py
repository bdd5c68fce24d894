"""An upstream's legacy Completions stream, read into events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, StreamBroken
from headgate.core.events import (
    ChatEvent,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.fold import unfold
from headgate.core.messages import Text
from headgate.dialects import sse
from headgate.dialects.chunk_template import COMPLETION_TEXT, ChunkTemplate
from headgate.dialects.openai_completions.logprobs import entries_from_wire
from headgate.dialects.openai_completions.request_codec import NAME
from headgate.dialects.openai_completions.result_codec import (
    KNOWN_FIELDS,
    choice_rest,
    decode_result,
    stop_from_word,
    wire_head,
)
from headgate.dialects.openai_errors import error_from_value
from headgate.dialects.openai_usage import usage_from_wire, usage_rest

_LESSONS = 64
"""Attempts to learn the form of a chunk; a stream in which every chunk differs is not worth more."""


@dataclass(slots=True)
class _Choice:
    stop: Stop
    opened: bool = False
    finished: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


class StreamDecoder:
    """Bytes in at any split, events out; the last is Finished or Failed, and nothing follows it.

    One text part for each choice. An end before every choice has its finish reason or `[DONE]` came is a
    failure; a whole JSON answer where a stream was asked for is taken.
    """

    def __init__(self) -> None:
        self._sse = sse.Decoder()
        self._json: bytearray | None = None
        self._fresh = True
        self._started = False
        self._ended = False
        self._usage = Usage()
        self._noted: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._template: ChunkTemplate | None = None
        self._repeated = 0
        self._lessons = _LESSONS

    def feed(self, data: bytes) -> list[ChatEvent]:
        template = self._template
        if template is not None and data.startswith(template.prefix) and data.endswith(template.suffix):
            repeated = self._repeat(data[len(template.prefix) : -len(template.suffix)])
            if repeated is not None:
                return [repeated]
        if self._ended:
            return []
        if self._fresh and (start := data.lstrip()):
            self._fresh = False
            self._json = bytearray() if start.startswith((b"{", b"[")) else None
        if self._json is not None:
            return self._keep(data)
        events: list[ChatEvent] = []
        framed: list[sse.ServerSentEvent] = []
        from_start = self._sse.idle
        self._template = None
        try:
            framed = self._sse.feed(data)
            for event in framed:
                self._take(event, events)
        except HeadgateError as error:
            self._fail(error, events)
        if from_start and len(framed) == len(events) == 1 and self._sse.idle and self._lessons:
            self._learn(data, events[0])
        return events

    def end(self) -> list[ChatEvent]:
        self._template = None
        if self._ended:
            return []
        events: list[ChatEvent] = []
        try:
            if self._json is not None:
                events = unfold(decode_result(bytes(self._json)))
                self._ended = True
                return events
            for event in self._sse.end():
                self._take(event, events)
            if not self._ended:
                self._finish(events, done=False)
        except HeadgateError as error:
            self._fail(error, events)
        return events

    def _repeat(self, text: bytes) -> PartDelta | None:
        """The delta of a chunk like the last one; None if its text needs a parser."""
        if b'"' in text or b"\\" in text or not text:
            return None
        try:
            delta = text.decode()
        except UnicodeDecodeError:
            return None
        return PartDelta(0, delta, self._repeated) if delta.isprintable() else None

    def _learn(self, data: bytes, event: ChatEvent) -> None:
        if not isinstance(event, PartDelta) or event.logprobs is not None:
            return
        self._lessons -= 1
        template = ChunkTemplate.learn(data, COMPLETION_TEXT)
        if template is None or data[len(template.prefix) : -len(template.suffix)] != event.delta.encode():
            return
        self._template = template
        self._repeated = event.choice

    def _keep(self, data: bytes) -> list[ChatEvent]:
        assert self._json is not None
        self._json += data
        if len(self._json) <= self._sse.limit:
            return []
        self._ended = True
        return [Failed(StreamBroken(f"The upstream's answer is longer than {self._sse.limit:,} bytes."))]

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
            raise error_from_value(chunk)
        self._chunk(chunk, events)

    def _chunk(self, chunk: dict[str, Any], events: list[ChatEvent]) -> None:
        choices = chunk.get("choices")
        if len(chunk) > 5:
            rest = {key: chunk[key] for key in chunk.keys() - KNOWN_FIELDS if chunk[key] is not None}
            self._noted |= rest
        if not self._started and (choices or chunk.get("id")):
            self._started = True
            identity, model, created = wire_head(chunk)
            events.append(Started(identity, model, created))
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._choice(choice, events)
        if chunk.get("usage") is not None:
            self._report(chunk["usage"], events)

    def _choice(self, wire: dict[str, Any], events: list[ChatEvent]) -> None:
        given = wire.get("index", 0)
        index = given if isinstance(given, int) and given >= 0 else 0
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(Stop("other", index))
        text, entries = wire.get("text"), entries_from_wire(wire.get("logprobs"))
        delta = text if isinstance(text, str) else ""
        if delta or entries is not None:
            if not choice.opened:
                choice.opened = True
                events.append(PartStarted(0, Text(""), index))
            events.append(PartDelta(0, delta, index, "text", entries))
        word = wire.get("finish_reason")
        if isinstance(word, str) and word:
            choice.finished = True
            choice.stop = stop_from_word(word, index)
        if len(wire) > 4:
            choice.extra |= choice_rest(wire)

    def _report(self, value: object, events: list[ChatEvent]) -> None:
        usage = usage_from_wire(value)
        if usage is None or (usage.output_tokens or 0) < (self._usage.output_tokens or 0):
            return
        merged = self._usage.merged(usage)
        if merged != self._usage and self._started:
            self._usage = merged
            rest = usage_rest(value, merged)
            events.append(UsageReported(merged, {NAME: {"usage": rest}} if rest else {}))

    def _finish(self, events: list[ChatEvent], done: bool) -> None:
        choices = sorted(self._choices.items())
        if not self._started or not (done or (choices and all(choice.finished for _, choice in choices))):
            raise StreamBroken(
                "The upstream's stream ended before the answer was complete.", code="upstream_stream_cut"
            )
        events.extend(PartEnded(0, index) for index, choice in choices if choice.opened)
        extra = dict(self._noted)
        if fields := {str(index): choice.extra for index, choice in choices if choice.extra}:
            extra["choices"] = fields
        events.append(Finished(tuple(choice.stop for _, choice in choices), {NAME: extra} if extra else {}))
        self._ended = True

    def _fail(self, error: HeadgateError, events: list[ChatEvent]) -> None:
        self._ended = True
        events.append(Failed(error))
