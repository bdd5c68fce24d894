"""Answers of the forms that give one text: whole and streamed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

import msgspec
from typing_extensions import override

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken
from headgate.core.events import (
    ChatEvent,
    Failed,
    Finished,
    PartCited,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.loss import Loss
from headgate.core.messages import Extensions, Part, Refusal, Text
from headgate.core.result import ChatResult, Choice
from headgate.dialects import sse
from headgate.dialects.answer_losses import note, note_all, note_sequence, note_stop
from headgate.dialects.bedrock.errors import encode_error_body, stream_error_type
from headgate.dialects.bedrock.heard import METRICS, Heard, error_within, metrics_of
from headgate.dialects.bedrock.prompt_forms import Form, Wire
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.sse_answers import SseAnswerDecoder

_json = msgspec.json.encode


def heard(data: bytes, form: Form) -> Heard:
    """What an answer or event says. Raises StreamBroken, or the error that it holds instead."""
    try:
        wire: Wire = form.wire.decode(data)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream sent an answer or event that is not of the model's form.") from None
    found = wire.heard()
    if found == (None, None, None) and (error := error_within(msgspec.json.decode(data))) is not None:
        raise error
    return found


def _rest(data: bytes, form: Form) -> Extensions:
    """Fields that nobody reads."""
    value: dict[str, Any] = msgspec.json.decode(data)
    known = {each.encode_name for each in msgspec.structs.fields(form.wire.type)}
    rest = {key: value[key] for key in value.keys() - known if value[key] is not None}
    return {form.name: rest} if rest else {}


def stop_from_word(word: str, form: Form) -> Stop:
    return Stop(form.reasons.get(word, "other"), native=word)


def word_from_stop(stop: Stop, form: Form) -> str:
    if stop.native is not None and form.reasons.get(stop.native) == stop.reason:
        return stop.native
    if stop.reason == "stop" and stop.sequence is not None and form.stop_word is not None:
        return form.stop_word
    reason = "length" if stop.reason == "context_length" else stop.reason
    return form.words.get("content_filter" if reason == "refusal" else reason, form.words["stop"])


def decode_result(body: bytes, *, form: Form) -> ChatResult:
    """An upstream's answer of status 200, which tells neither id, model nor time.

    Raises:
        StreamBroken: it is not an answer of this form.
        UpstreamError: it holds an error instead.
    """
    found = heard(body, form)
    if found.text is None:
        raise StreamBroken("The upstream's answer holds no text where the model's form has it.")
    parts = (Text(found.text),) if found.text else ()
    stop = stop_from_word(found.word, form) if found.word is not None else Stop("other")
    return ChatResult("", "", 0, (Choice(0, parts, stop),), found.usage, _rest(body, form))


def encode_result(result: ChatResult, options: AnswerOptions, *, form: Form) -> tuple[bytes, list[Loss]]:
    """The answer's body, and what of the answer has no place in it. Of several choices the first is told."""
    losses: list[Loss] = []
    note_all(result, form.name, losses)
    text, stop = "", Stop("other")
    for choice in result.choices:
        path = f"choices[{choice.index}]"
        if choice is not result.choices[0]:
            losses.append(Loss(path, "the dialect gives one answer"))
            continue
        stop = choice.stop
        for index, part in enumerate(choice.parts):
            losses += losses_of(part, f"{path}.parts[{index}]")
        text = "".join(part.text for part in choice.parts if isinstance(part, Text | Refusal))
        if choice.logprobs is not None:
            losses.append(Loss(f"{path}.logprobs", "the dialect has no log probabilities"))
    usage = result.usage or Usage()
    losses += usage_losses(usage)
    word = word_from_stop(stop, form)
    _note_end(stop, word, form, losses)
    wire = form.answer(text, word, usage)
    return _json(wire | dict(result.extensions.get(form.name, {}))), losses


def losses_of(part: Part, path: str) -> list[Loss]:
    """What a part of an answer loses where there is nothing but text."""
    if isinstance(part, Text):
        return [Loss(f"{path}.citations", "the dialect has no citations")] if part.citations else []
    if isinstance(part, Refusal):
        return [Loss(path, "a refusal is told as any other text")]
    return [Loss(path, f"a {type(part).__name__.lower()} part has no place in this dialect")]


def usage_losses(usage: Usage) -> list[Loss]:
    return [
        Loss(f"usage.{name}", "the dialect counts only what went in and came out")
        for name in ("cached_tokens", "cache_write_tokens", "reasoning_tokens")
        if getattr(usage, name)
    ]


def _note_end(stop: Stop, word: str, form: Form, losses: list[Loss]) -> None:
    note_sequence(stop, losses)
    note_stop(stop, word, stop_from_word(word, form).reason, losses)


class StreamDecoder(SseAnswerDecoder):
    """An upstream's events. The answer is whole with the word for its end, over with the counts beside it or
    behind it, if there are any."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._form = form
        self._started = self._opened = False
        self._stop: Stop | None = None
        self._usage: Usage | None = None
        self._extensions: Extensions = {}

    @override
    def _whole(self, body: bytes) -> ChatResult:
        return decode_result(body, form=self._form)

    @override
    def _take(self, event: sse.ServerSentEvent, events: list[ChatEvent]) -> None:
        if self._ended or event.data == b"[DONE]":
            return
        found = heard(event.data, self._form)
        if found.text is not None:
            self._say(found.text, events)
        if found.usage is not None:
            self._count(found.usage, events)
        if found.word is not None:
            self._stop = stop_from_word(found.word, self._form)
            self._extensions = _rest(event.data, self._form)
        if self._stop is not None and found.usage is not None:
            self._run_out(events)

    def _say(self, text: str, events: list[ChatEvent]) -> None:
        if not self._started:
            self._started = True
            events.append(Started("", "", 0))
        if not text:
            return
        if not self._opened:
            self._opened = True
            events.append(PartStarted(0, Text("")))
        events.append(PartDelta(0, text))

    def _count(self, usage: Usage, events: list[ChatEvent]) -> None:
        """Told at once for what went in, at the end for what came out, which grows with every event."""
        if self._usage is None and self._started:
            events.append(UsageReported(usage))
        before = self._usage
        if before is not None and (usage.output_tokens or 0) < (before.output_tokens or 0):
            usage = replace(usage, output_tokens=None)  # cumulative counts don't shrink
        self._usage = usage if before is None else before.merged(usage)

    @override
    def _run_out(self, events: list[ChatEvent]) -> None:
        if self._stop is None or not self._started:
            super()._run_out(events)
            return
        if self._opened:
            events.append(PartEnded(0))
        if self._usage is not None:
            events.append(UsageReported(self._usage))
        events.append(Finished((self._stop,), self._extensions))
        self._ended = True


class StreamEncoder:
    """An event for each text, and one for the end. After a failure: an exception, and no word for the end."""

    def __init__(self, options: AnswerOptions, *, form: Form) -> None:
        self.losses: list[Loss] = []
        self._form = form
        self._opens = b"data: " + form.opens
        self._closes = form.closes + b"\n\n"
        self._texts: set[int] = set()
        self._usage = Usage()
        self._extra: dict[str, Any] = {}
        self._ended = False

    def encode(self, event: ChatEvent) -> bytes:
        if self._ended:
            return b""
        if not isinstance(event, PartDelta):
            note(event, self._form.name, self.losses)
        match event:
            case PartDelta():
                return self._delta(event)
            case PartStarted():
                return self._part(event)
            case PartCited():
                path = f"choices[{event.choice}].parts[{event.index}].citations"
                self._lose([Loss(path, "the dialect has no citations")])
            case PartEnded():
                if not event.choice:
                    self._texts.discard(event.index)
            case Started():
                self._extra |= dict(event.extensions.get(self._form.name, {}))
            case UsageReported():
                self._usage = self._usage.merged(event.usage)
            case Finished():
                return self._finish(event)
            case Failed():
                self._ended = True
                name, payload = stream_error_type(event.error), encode_error_body(event.error)
                return b'data: {"%b":%b}\n\n' % (name.encode(), payload)
            case _:
                assert_never(event)
        return b""

    def _part(self, event: PartStarted) -> bytes:
        path = f"choices[{event.choice}]"
        if event.choice:
            self._lose([Loss(path, "the dialect gives one answer")])
            return b""
        self._lose(losses_of(event.part, f"{path}.parts[{event.index}]"))
        if not isinstance(event.part, Text | Refusal):
            return b""
        self._texts.add(event.index)
        return self._opens + _json(event.part.text) + self._closes if event.part.text else b""

    def _delta(self, event: PartDelta) -> bytes:
        if event.choice or event.index not in self._texts:
            return b""
        if event.logprobs is not None:
            self._lose([Loss("choices[0].logprobs", "the dialect has no log probabilities")])
        return self._opens + _json(event.delta) + self._closes

    def _finish(self, event: Finished) -> bytes:
        self._ended = True
        self._extra |= dict(event.extensions.get(self._form.name, {}))
        stop = event.stops[0] if event.stops else Stop("other")
        self._lose(usage_losses(self._usage))
        word = word_from_stop(stop, self._form)
        _note_end(stop, word, self._form, self.losses)
        wire = self._form.last("", word, self._usage)
        return sse.encode(_json(wire | self._extra | {METRICS: metrics_of(self._usage)}))

    def _lose(self, losses: list[Loss]) -> None:
        self.losses += [loss for loss in losses if loss not in self.losses]
