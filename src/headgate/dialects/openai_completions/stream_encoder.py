"""Events, written as a legacy Completions stream for a caller."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from typing_extensions import override

from headgate.core.events import FinishReason, PartCited, PartDelta, PartEnded, PartStarted, Stop
from headgate.core.loss import Loss
from headgate.core.messages import Refusal, Text
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_chunks import ChunkEncoder
from headgate.dialects.openai_completions.logprobs import entries_to_wire, losses_of
from headgate.dialects.openai_completions.request_codec import NAME
from headgate.dialects.openai_completions.result_codec import (
    OBJECT,
    loss_of_part,
    stop_from_word,
    word_from_stop,
)

_json = msgspec.json.encode


class StreamEncoder(ChunkEncoder):
    """Texts are all that is written; what else an answer has is lost."""

    dialect: ClassVar[str] = NAME
    object: ClassVar[str] = OBJECT
    nothing: ClassVar[bytes] = b'""'

    def __init__(self, options: AnswerOptions) -> None:
        super().__init__(options)
        self._texts: set[tuple[int, int]] = set()
        self._offsets: dict[int, int] = {}

    @override
    def _chunk(
        self, choice: int, content: bytes, logprobs: bytes = b"null", finish: bytes = b"null"
    ) -> bytes:
        return b'%b{"text":%b,"index":%d,"logprobs":%b,"finish_reason":%b}]%b' % (
            self._head,
            content,
            choice,
            logprobs,
            finish,
            self._tail,
        )

    @override
    def _part(self, event: PartStarted) -> bytes:
        part = event.part
        loss = loss_of_part(part, f"choices[{event.choice}].parts[{event.index}]")
        if loss is not None:
            self._lose(loss)
        if not isinstance(part, Text | Refusal):
            return b""
        self._texts.add((event.choice, event.index))
        return self._chunk(event.choice, _json(part.text)) if part.text else b""

    @override
    def _delta(self, event: PartDelta) -> bytes:
        if (event.choice, event.index) not in self._texts:
            return b""
        logprobs = b"null"
        if event.logprobs is not None:
            offset = self._offsets.get(event.choice, 0)
            wire = entries_to_wire(event.logprobs, offset)
            self._offsets[event.choice] = offset + sum(map(len, wire["tokens"]))
            logprobs = _json(wire)
            for loss in losses_of(event.logprobs, event.choice):
                self._lose(loss)
        return self._chunk(event.choice, _json(event.delta), logprobs)

    @override
    def _cite(self, event: PartCited) -> bytes:
        path = f"choices[{event.choice}].parts[{event.index}].citations"
        self._lose(Loss(path, "the dialect has no citations"))
        return b""

    @override
    def _end_part(self, event: PartEnded) -> bytes:
        self._texts.discard((event.choice, event.index))
        return b""

    @override
    def _word(self, stop: Stop) -> str:
        return word_from_stop(stop)

    @override
    def _reason(self, word: str) -> FinishReason:
        return stop_from_word(word, 0).reason
