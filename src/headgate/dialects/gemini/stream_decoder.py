"""An upstream's `streamGenerateContent` answer, read into events."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any, Literal

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, StreamBroken
from headgate.core.events import (
    ChatEvent,
    Failed,
    Finished,
    PartDelta,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.messages import Extensions, Text
from headgate.dialects import sse
from headgate.dialects.gemini.candidate_decoder import CandidateDecoder, candidate_fields
from headgate.dialects.gemini.errors import error_within
from headgate.dialects.gemini.json_array import ArrayDecoder
from headgate.dialects.gemini.usage import usage_from_wire
from headgate.dialects.gemini.vocabulary import NAME
from headgate.dialects.sse_answers import decode_event
from headgate.dialects.surrogates import Surrogates

REPORT_EVERY = 32
"""Every so many chunks of plain text their usage is reported; it is in each, and at the end in any case."""

_KNOWN = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId", "createTime"})


_NO_COUNTS = msgspec.Raw()


class _Part(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str
    thought: bool = False


class _Content(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    parts: tuple[_Part]
    role: Literal["model"] = "model"


class _Candidate(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: _Content
    index: int = 0


class _Chunk(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A chunk that brings more text and nothing else but counts."""

    candidates: tuple[_Candidate]
    usageMetadata: msgspec.Raw = _NO_COUNTS
    modelVersion: str = ""
    responseId: str = ""
    createTime: str = ""


_CHUNK = msgspec.json.Decoder(_Chunk)
_decode = msgspec.json.decode


class AnswerDecoder:
    """Whole `GenerateContentResponse` objects to events; of a plain answer there is one."""

    def __init__(self) -> None:
        self.started = False
        self._candidates: dict[int, CandidateDecoder] = {}
        self._blocked: str | None = None
        self._rest: dict[str, Any] = {}
        self._usage = Usage()
        self._waiting: msgspec.Raw | None = None
        self._plain = 0
        self._answer_id = ""
        self._halves = Surrogates()

    def take(self, data: bytes, events: list[ChatEvent]) -> None:
        """One object as JSON. Raises StreamBroken, or the error that it holds."""
        growing = self._candidates.get(0)
        if growing is not None and growing.open is not None:
            try:
                chunk = _CHUNK.decode(data)
            except (ValueError, RecursionError):
                pass
            else:
                if self._grow(growing, chunk, events):
                    return
        if data != b"[DONE]":  # not this vendor's, but some gateways send it
            self.take_object(decode_event(data, self._halves), events)

    def _grow(self, growing: CandidateDecoder, chunk: _Chunk, events: list[ChatEvent]) -> bool:
        candidate = chunk.candidates[0]
        part = candidate.content.parts[0]
        assert growing.open is not None
        kind, index = growing.open
        if candidate.index or not part.text or (kind is Text) is part.thought:
            return False
        events.append(PartDelta(index, part.text))
        if kind is Text:
            growing.texts.append(part.text)
        if chunk.usageMetadata is not _NO_COUNTS:
            self._waiting = chunk.usageMetadata
            self._plain += 1
            if self._plain >= REPORT_EVERY:
                self.report(events)
        return True

    def take_object(self, value: dict[str, Any], events: list[ChatEvent]) -> None:
        """One decoded object. Raises the error that it holds."""
        if (error := error_within(value)) is not None:
            raise error
        self._waiting = None if value.get("usageMetadata") is not None else self._waiting
        candidates = value.get("candidates")
        feedback = value.get("promptFeedback")
        if not self.started and (candidates or feedback or value.get("responseId")):
            self._start(value, events)
        for number, candidate in enumerate(candidates if isinstance(candidates, list) else ()):
            if isinstance(candidate, dict):
                self._candidate(number, candidate).feed(candidate, events)
        reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
        if isinstance(reason, str) and reason:
            self._blocked = reason
        if not value.keys() <= _KNOWN:
            self._rest |= {key: value[key] for key in value.keys() - _KNOWN if value[key] is not None}
        self._report(value.get("usageMetadata"), events)

    def _start(self, value: dict[str, Any], events: list[ChatEvent]) -> None:
        self.started = True
        answer_id, model, moment = (value.get(key) for key in ("responseId", "modelVersion", "createTime"))
        self._answer_id = answer_id if isinstance(answer_id, str) else ""
        extensions: Extensions = {NAME: {"createTime": moment}} if isinstance(moment, str) else {}
        name = model if isinstance(model, str) else ""
        events.append(Started(self._answer_id, name, _seconds(moment), extensions))

    def _candidate(self, number: int, candidate: dict[str, Any]) -> CandidateDecoder:
        index = candidate.get("index", number)
        if type(index) is not int or index < 0:
            index = number
        decoder = self._candidates.get(index)
        if decoder is None:
            decoder = self._candidates[index] = CandidateDecoder(index, self._answer_id)
        return decoder

    def report(self, events: list[ChatEvent]) -> None:
        """The usage of chunks whose counts were not looked at."""
        self._plain = 0
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            with contextlib.suppress(ValueError, RecursionError):
                self._report(_decode(waiting), events)

    def _report(self, value: object, events: list[ChatEvent]) -> None:
        counted = usage_from_wire(value)
        if counted is None or not self.started:
            return
        usage, rest = counted
        if (usage.output_tokens or 0) < (self._usage.output_tokens or 0):
            return
        merged = self._usage.merged(usage)
        if merged != self._usage:
            self._usage = merged
            events.append(UsageReported(merged, {NAME: {"usageMetadata": rest}} if rest else {}))

    def finish(self, events: list[ChatEvent], *, whole: bool = False) -> None:
        """The upstream is done. Raises StreamBroken: it was not when it stopped.

        Args:
            events: added to.
            whole: the answer is known to be complete, finish reasons or not.
        """
        decoders = [self._candidates[index] for index in sorted(self._candidates)]
        finished = all(decoder.finished or whole for decoder in decoders)
        if not self.started or not finished or (not decoders and self._blocked is None):
            raise StreamBroken(
                "The upstream's stream ended before the answer was complete.", code="upstream_stream_cut"
            )
        self.report(events)
        for decoder in decoders:
            decoder.end(events)
        stops = tuple(decoder.stop for decoder in decoders)
        if not stops:
            stops = (Stop("content_filter", 0, native=self._blocked),)
        rest = {**self._rest, **candidate_fields(decoders)}
        events.append(Finished(stops, {NAME: rest} if rest else {}))


def _seconds(moment: object) -> int:
    """Unix seconds of a time in RFC 3339; 0 where there is none."""
    if not isinstance(moment, str):
        return 0
    try:
        return int(_decode(msgspec.json.encode(moment), type=datetime).timestamp())
    except (ValueError, OverflowError, OSError):
        return 0


class StreamDecoder:
    """Bytes in at any split, events out; the last is Finished or Failed, and nothing follows it.

    Server-sent events or a JSON array: the first byte tells. This dialect has no terminal event. An answer is
    whole when every candidate has its finish reason, or the prompt was blocked, and the upstream closed the
    stream (of an array: the array, too). More text after a finish reason is taken, since gateways write such
    streams.
    """

    def __init__(self) -> None:
        self._sse = sse.Decoder()
        self._array: ArrayDecoder | None = None
        self._fresh = True
        self._ended = False
        self._answer = AnswerDecoder()

    def feed(self, data: bytes) -> list[ChatEvent]:
        if self._ended:
            return []
        events: list[ChatEvent] = []
        try:
            if self._fresh:
                data = self._look_at_start(data)
            if self._array is None:
                for event in self._sse.feed(data):
                    self._answer.take(event.data, events)
            else:
                for element in self._array.feed(data):
                    self._answer.take(element, events)
        except HeadgateError as error:
            self._fail(error, events)
        return events

    def end(self) -> list[ChatEvent]:
        if self._ended:
            return []
        events: list[ChatEvent] = []
        try:
            for event in self._sse.end():
                self._answer.take(event.data, events)
            if self._array is not None and not self._array.complete:
                raise StreamBroken(
                    "The upstream's stream ended within its JSON array.", code="upstream_stream_cut"
                )
            self._answer.finish(events)
            self._ended = True
        except HeadgateError as error:
            self._fail(error, events)
        return events

    def _look_at_start(self, data: bytes) -> bytes:
        data = data.lstrip(b" \t\r\n")
        if data:
            self._fresh = False
            if data[:1] in (b"[", b"{"):
                self._array = ArrayDecoder()
        return data

    def _fail(self, error: HeadgateError, events: list[ChatEvent]) -> None:
        self._ended = True
        self._answer.report(events)
        events.append(Failed(error))
