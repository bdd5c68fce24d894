"""An upstream's legacy Completions stream, read into events."""

from __future__ import annotations

from typing import Any, ClassVar

from typing_extensions import override

from headgate.core.events import ChatEvent, PartDelta, PartEnded, PartStarted, Stop
from headgate.core.messages import JSON, Text
from headgate.core.result import ChatResult
from headgate.dialects.chunk_template import COMPLETION_TEXT
from headgate.dialects.openai_chunks import ChunkDecoder
from headgate.dialects.openai_completions.logprobs import entries_from_wire
from headgate.dialects.openai_completions.request_codec import NAME
from headgate.dialects.openai_completions.result_codec import choice_rest, decode_result, stop_from_word


class StreamDecoder(ChunkDecoder):
    """One text part for each choice."""

    dialect: ClassVar[str] = NAME
    text = COMPLETION_TEXT

    @override
    def _open_choice(self, index: int) -> _Choice:
        return _Choice(index)

    @override
    def _whole(self, body: bytes) -> ChatResult:
        return decode_result(body)


class _Choice:
    def __init__(self, index: int) -> None:
        self.index = index
        self.stop = Stop("other", index)
        self.finished = False
        self.extra: dict[str, JSON] = {}
        self._opened = False

    def feed(self, choice: dict[str, Any], events: list[ChatEvent]) -> None:
        text, entries = choice.get("text"), entries_from_wire(choice.get("logprobs"))
        delta = text if isinstance(text, str) else ""
        if delta or entries is not None:
            if not self._opened:
                self._opened = True
                events.append(PartStarted(0, Text(""), self.index))
            events.append(PartDelta(0, delta, self.index, "text", entries))
        word = choice.get("finish_reason")
        if isinstance(word, str) and word:
            self.finished = True
            self.stop = stop_from_word(word, self.index)
        if len(choice) > 4:
            self.extra |= choice_rest(choice)

    def end(self, events: list[ChatEvent]) -> None:
        if self._opened:
            events.append(PartEnded(0, self.index))
