"""Events, written as a legacy Completions stream for a caller."""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from headgate.core.call import Usage
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
from headgate.core.messages import Refusal, Text
from headgate.dialects import sse
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_completions.logprobs import entries_to_wire
from headgate.dialects.openai_completions.request_codec import NAME
from headgate.dialects.openai_completions.result_codec import OBJECT, loss_of_part, word_from_stop
from headgate.dialects.openai_errors import encode_error_body
from headgate.dialects.openai_usage import usage_to_wire

_DONE = sse.encode(b"[DONE]")
_json = msgspec.json.encode


class StreamEncoder:
    """One chunk for each text; at the end a finish chunk for each choice, the usage chunk if asked for, and
    `[DONE]`. After a failure: an error event and no `[DONE]`."""

    def __init__(self, options: AnswerOptions) -> None:
        self.losses: list[Loss] = []
        self._options = options
        self._head = b""
        self._tail = b',"usage":null}\n\n' if options.include_usage else b"}\n\n"
        self._usage = Usage()
        self._extra: dict[str, Any] = {}
        self._texts: set[tuple[int, int]] = set()
        self._offsets: dict[int, int] = {}
        self._ended = False

    def encode(self, event: ChatEvent) -> bytes:
        if self._ended:
            return b""
        match event:
            case PartDelta():
                return self._delta(event)
            case PartStarted():
                return self._part(event)
            case PartCited():
                path = f"choices[{event.choice}].parts[{event.index}].citations"
                self._lose(Loss(path, "the dialect has no citations"))
                return b""
            case PartEnded():
                self._texts.discard((event.choice, event.index))
                return b""
            case Started():
                return self._start(event)
            case UsageReported():
                self._usage = self._usage.merged(event.usage)
                self._extra |= dict(event.extensions.get(NAME, {}))
                return b""
            case Finished():
                return self._finish(event)
            case Failed():
                self._ended = True
                return sse.encode(encode_error_body(event.error))
            case _:
                assert_never(event)

    def _start(self, event: Started) -> bytes:
        options = self._options
        head: dict[str, Any] = {
            "id": event.id if options.id is None else options.id,
            "object": OBJECT,
            "created": event.created if options.created is None else options.created,
            "model": event.model if options.model is None else options.model,
        }
        extra: dict[str, Any] = dict(event.extensions.get(NAME, {}))
        self._extra = {key: extra.pop(key) for key in ("choices", "usage") if key in extra}
        self._head = b"data: " + _json(head | extra)[:-1] + b',"choices":['
        return b""

    def _chunk(self, choice: int, text: bytes, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
        return b'%b{"text":%b,"index":%d,"logprobs":%b,"finish_reason":%b}]%b' % (
            self._head,
            text,
            choice,
            logprobs,
            finish,
            self._tail,
        )

    def _part(self, event: PartStarted) -> bytes:
        part = event.part
        loss = loss_of_part(part, f"choices[{event.choice}].parts[{event.index}]")
        if loss is not None:
            self._lose(loss)
        if not isinstance(part, Text | Refusal):
            return b""
        self._texts.add((event.choice, event.index))
        return self._chunk(event.choice, _json(part.text)) if part.text else b""

    def _delta(self, event: PartDelta) -> bytes:
        if (event.choice, event.index) not in self._texts:
            return b""
        logprobs = b"null"
        if event.logprobs is not None:
            offset = self._offsets.get(event.choice, 0)
            wire = entries_to_wire(event.logprobs, offset)
            self._offsets[event.choice] = offset + sum(map(len, wire["tokens"]))
            logprobs = _json(wire)
        return self._chunk(event.choice, _json(event.delta), logprobs)

    def _finish(self, event: Finished) -> bytes:
        self._ended = True
        self._extra |= dict(event.extensions.get(NAME, {}))
        fields = self._extra.get("choices")
        out = [self._last(stop, fields) for stop in event.stops]
        if self._options.include_usage:
            usage = usage_to_wire(self._usage, self._extra.get("usage"))
            out.append(b'%b],"usage":%b}\n\n' % (self._head, _json(usage)))
        return b"".join([*out, _DONE])

    def _last(self, stop: Stop, fields: object) -> bytes:
        finish = _json(word_from_stop(stop))
        extra = fields.get(str(stop.choice)) if isinstance(fields, dict) else None
        if isinstance(extra, dict) and extra:
            finish += b"," + _json(extra)[1:-1]
        return self._chunk(stop.choice, b'""', finish=finish)

    def _lose(self, loss: Loss) -> None:
        if loss not in self.losses:
            self.losses.append(loss)
