"""Streams of chunks, as Chat Completions and the legacy Completions have them, read and written.

Source: OpenAI API reference, "Streaming" of both: `data` lines only, each a chunk with `choices`; at the end,
if asked for, a chunk without choices that holds the usage; then `[DONE]`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, assert_never, cast

import msgspec
from typing_extensions import override

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken
from headgate.core.events import (
    ChatEvent,
    DeltaField,
    Failed,
    Finished,
    FinishReason,
    PartCited,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.loss import Loss
from headgate.core.messages import JSON, Extensions
from headgate.dialects import sse
from headgate.dialects.answer_losses import add, note, note_sequence, note_stop
from headgate.dialects.chunk_template import ChunkTemplate
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_errors import encode_error_body, error_within
from headgate.dialects.openai_shared import for_answer, of_answer
from headgate.dialects.openai_usage import usage_from_wire, usage_rest, usage_to_wire
from headgate.dialects.sse_answers import SseAnswerDecoder, decode_event

_LESSONS = 64
"""Attempts to learn the form of a chunk; a stream in which every chunk differs is not worth more."""
_DONE = sse.encode(b"[DONE]")
_CHOICES = b',"choices":['
_json = msgspec.json.encode

KNOWN_FIELDS = frozenset({"id", "object", "created", "model", "choices", "usage", "obfuscation"})
"""Fields of an answer and of its chunks that are read, or padding."""


class ChoiceDecoder(Protocol):
    """Reads the `choices[i]` objects of one index. `extra` holds their unknown fields."""

    index: int
    stop: Stop
    finished: bool
    extra: dict[str, JSON]

    def feed(self, choice: dict[str, Any], events: list[ChatEvent]) -> None: ...

    def end(self, events: list[ChatEvent]) -> None:
        """The answer is over: every open part ends."""
        ...


class ChunkDecoder(SseAnswerDecoder):
    """Tolerated, because vendors do it: a first chunk without choices, id and model (Azure); usage on every
    chunk; a finish reason given twice; no `[DONE]` after the last finish reason. Not tolerated: an end before
    every choice has its finish reason or `[DONE]` came.

    A chunk that differs from an earlier one only in its text is not parsed.
    """

    dialect: ClassVar[str]
    text: ClassVar[re.Pattern[bytes]]
    """Where a chunk has its text, as `ChunkTemplate.learn` wants it."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._early: dict[str, JSON] = {}
        self._late: dict[str, JSON] = {}
        self._usage = Usage()
        self._choices: dict[int, ChoiceDecoder] = {}
        self._template: ChunkTemplate | None = None
        self._between = b""
        self._quotes = 0
        self._repeated: tuple[int, int, DeltaField] = (0, 0, "text")
        self._lessons = _LESSONS

    @override
    def feed(self, data: bytes) -> list[ChatEvent]:
        template = self._template
        if template is not None and data.startswith(template.prefix) and data.endswith(template.suffix):
            repeated = self._repeats(data[len(template.prefix) : -len(template.suffix)])
            if repeated is not None:
                return repeated
        return super().feed(data)

    @override
    def end(self) -> list[ChatEvent]:
        self._template = None
        return super().end()

    @override
    def _read(self, data: bytes, events: list[ChatEvent]) -> None:
        template, self._template = self._template, None
        from_start = self._sse.idle
        framed = self._sse.feed(data)
        for event in framed:
            self._take(event, events)
        if not self._sse.idle or len(events) != len(framed):
            return
        if template is not None and self._go_on(events):
            self._template = template
        if from_start and len(events) == 1 and self._lessons:
            self._learn(data, events[0])

    def _repeats(self, texts: bytes) -> list[ChatEvent] | None:
        """The deltas of chunks like the last one, several in one read; None if a text needs a parser."""
        index, choice, field = self._repeated
        events: list[ChatEvent] = []
        pieces = texts.split(self._between)
        if b"\\" in texts or texts.count(b'"') != self._quotes * (len(pieces) - 1):
            return None
        for text in pieces:
            if not text:
                return None
            try:
                delta = text.decode()
            except UnicodeDecodeError:
                return None
            if not delta.isprintable():
                return None
            events.append(PartDelta(index, delta, choice, field))
        return events

    def _go_on(self, events: list[ChatEvent]) -> bool:
        """All are more of the part that the known form of chunk grows: that is still open."""
        index, choice, field = self._repeated
        for event in events:
            if not isinstance(event, PartDelta) or event.index != index:
                return False
            if event.choice != choice or event.field != field:
                return False
        return True

    def _learn(self, data: bytes, event: ChatEvent) -> None:
        """Remember the form of a chunk that was one delta and nothing else."""
        if not isinstance(event, PartDelta) or event.logprobs is not None:
            return
        self._lessons -= 1
        template = ChunkTemplate.learn(data, self.text)
        if template is None or data[len(template.prefix) : -len(template.suffix)] != event.delta.encode():
            return
        self._template = template
        self._between = template.suffix + template.prefix
        self._quotes = self._between.count(b'"')
        self._repeated = (event.index, event.choice, event.field)

    @override
    def _take(self, event: sse.ServerSentEvent, events: list[ChatEvent]) -> None:
        if self._ended:
            return
        try:
            chunk = decode_event(event.data, self._halves)
        except StreamBroken:
            if event.data.strip() != b"[DONE]":
                raise
            self._finish(events, done=True)
            return
        if chunk.get("error") or event.event == "error":
            raise error_within(chunk)
        self._chunk(chunk, events)

    @override
    def _run_out(self, events: list[ChatEvent]) -> None:
        self._finish(events, done=False)

    @abstractmethod
    def _open_choice(self, index: int) -> ChoiceDecoder:
        """The reader of a choice that is new."""

    def _chunk(self, chunk: dict[str, Any], events: list[ChatEvent]) -> None:
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            choices = []
        if len(chunk) > 5:
            self._note_rest(chunk)
        if not self._started and (choices or chunk.get("id")):
            self._started = True
            events.append(Started(*wire_head(chunk), of_answer(self.dialect, self._early)))
        for choice in choices:
            if isinstance(choice, dict):
                index = choice.get("index", 0)
                if not isinstance(index, int) or index < 0:
                    index = 0
                decoder = self._choices.get(index)
                if decoder is None:
                    decoder = self._choices[index] = self._open_choice(index)
                decoder.feed(choice, events)
        if chunk.get("usage") is not None:
            self._report(chunk["usage"], events)

    def _note_rest(self, chunk: dict[str, Any]) -> None:
        noted = self._late if self._started else self._early
        for key in chunk.keys() - KNOWN_FIELDS:
            if chunk[key] is not None and self._early.get(key) != chunk[key]:
                noted[key] = chunk[key]

    def _report(self, value: object, events: list[ChatEvent]) -> None:
        usage = usage_from_wire(value)
        if usage is None:
            return
        if (usage.output_tokens or 0) < (self._usage.output_tokens or 0):
            return  # some vendors count down to zero in a last, empty report
        merged = self._usage.merged(usage)
        if merged != self._usage and self._started:
            self._usage = merged
            events.append(usage_reported(self.dialect, value, merged))

    def _finish(self, events: list[ChatEvent], done: bool) -> None:
        """The stream is over: by `[DONE]`, or because nothing more comes."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not self._started or not (done or (choices and all(choice.finished for choice in choices))):
            super()._run_out(events)
        for choice in choices:
            choice.end(events)
        events.append(finished(self.dialect, choices, self._late))
        self._ended = True


class ChunkEncoder(ABC):
    """One chunk for each event that says something; at the end a finish chunk for each choice, the usage
    chunk if asked for, and `[DONE]`. After a failure: an error event and no `[DONE]`."""

    dialect: ClassVar[str]
    object: ClassVar[str]
    """What the chunks call themselves."""
    nothing: ClassVar[bytes]
    """The content of a finish chunk."""

    def __init__(self, options: AnswerOptions) -> None:
        self.losses: list[Loss] = []
        self._options = options
        self._head = b""
        self._tail = b',"usage":null}\n\n' if options.include_usage else b"}\n\n"
        self._usage = Usage()
        self._usage_rest: object = None
        self._choice_fields: object = None
        self._ended = False

    def encode(self, event: ChatEvent) -> bytes:
        if self._ended:
            return b""
        if isinstance(event, PartDelta):
            return self._delta(event)
        note(event, self.dialect, self.losses, keeps_thoughts=True)
        match event:
            case PartStarted():
                return self._part(event)
            case PartCited():
                return self._cite(event)
            case PartEnded():
                return self._end_part(event)
            case Started():
                return self._start(event)
            case UsageReported():
                self._usage = self._usage.merged(event.usage)
                self._take_fields(event.extensions)
                return b""
            case Finished():
                return self._finish(event)
            case Failed():
                self._ended = True
                return sse.encode(encode_error_body(event.error))
            case _:
                assert_never(event)

    @abstractmethod
    def _chunk(
        self, choice: int, content: bytes, logprobs: bytes = b"null", finish: bytes = b"null"
    ) -> bytes:
        """A framed chunk of one choice; all but `choice` is JSON text."""

    @abstractmethod
    def _delta(self, event: PartDelta) -> bytes: ...

    @abstractmethod
    def _part(self, event: PartStarted) -> bytes: ...

    @abstractmethod
    def _cite(self, event: PartCited) -> bytes: ...

    @abstractmethod
    def _end_part(self, event: PartEnded) -> bytes: ...

    @abstractmethod
    def _word(self, stop: Stop) -> str:
        """The finish reason."""

    @abstractmethod
    def _reason(self, word: str) -> FinishReason:
        """What a finish reason says."""

    def _take_fields(self, extensions: Extensions) -> dict[str, JSON]:
        """Keep what goes into the last chunks; the rest is returned: fields of the answer itself."""
        extra = for_answer(self.dialect, extensions)
        self._choice_fields = extra.pop("choices", self._choice_fields)
        self._usage_rest = extra.pop("usage", self._usage_rest)
        return extra

    def _start(self, event: Started) -> bytes:
        options = self._options
        head: dict[str, JSON] = {
            "id": event.id if options.id is None else options.id,
            "object": self.object,
            "created": event.created if options.created is None else options.created,
            "model": event.model if options.model is None else options.model,
        }
        self._head = b"data: " + _json(head | self._take_fields(event.extensions))[:-1] + _CHOICES
        return b""

    def _finish(self, event: Finished) -> bytes:
        self._ended = True
        late = self._take_fields(event.extensions)
        if late:
            self._head = self._head[: -len(_CHOICES)] + b"," + _json(late)[1:-1] + _CHOICES
        out = [self._last(stop) for stop in event.stops]
        if self._options.include_usage:
            usage = usage_to_wire(self._usage, self._usage_rest)
            out.append(b'%b],"usage":%b}\n\n' % (self._head, _json(usage)))
        return b"".join([*out, _DONE])

    def _last(self, stop: Stop) -> bytes:
        fields = self._choice_fields
        word = self._word(stop)
        note_sequence(stop, self.losses)
        note_stop(stop, word, self._reason(word), self.losses)
        finish = _json(word)
        extra = fields.get(str(stop.choice)) if isinstance(fields, dict) else None
        if isinstance(extra, dict) and extra:
            finish += b"," + _json(extra)[1:-1]
        return self._chunk(stop.choice, self.nothing, finish=finish)

    def _lose(self, loss: Loss) -> None:
        add([loss], self.losses)


def wire_head(wire: Mapping[str, Any]) -> tuple[str, str, int]:
    """Id, model and time of an answer; what the upstream leaves out or garbles is empty or 0."""
    identity, model, created = wire.get("id"), wire.get("model"), wire.get("created")
    return (
        identity if isinstance(identity, str) else "",
        model if isinstance(model, str) else "",
        int(created) if isinstance(created, int | float) else 0,
    )


def usage_reported(dialect: str, wire: object, usage: Usage) -> UsageReported:
    """A report of usage; what is in it beyond the neutral counts is kept under `usage`."""
    rest = usage_rest(wire, usage)
    return UsageReported(usage, {dialect: {"usage": rest}} if rest else {})


def finished(dialect: str, choices: Sequence[ChoiceDecoder], extra: Mapping[str, JSON]) -> Finished:
    """The end of an answer. Unknown fields of the choices are kept under `choices`, by index."""
    fields = {str(choice.index): choice.extra for choice in choices if choice.extra}
    kept = {**extra, "choices": cast(JSON, fields)} if fields else extra
    return Finished(tuple(choice.stop for choice in choices), of_answer(dialect, kept))
