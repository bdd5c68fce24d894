"""An upstream's Chat Completions stream, read into events."""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import override

from headgate.core.result import ChatResult
from headgate.dialects.chunk_template import CHAT_TEXT
from headgate.dialects.openai_chat.choice_decoder import ChoiceDecoder
from headgate.dialects.openai_chat.result_codec import decode_result
from headgate.dialects.openai_chat.vocabulary import NAME
from headgate.dialects.openai_chunks import ChunkDecoder


class StreamDecoder(ChunkDecoder):
    """The parts of each choice are told apart by `ChoiceDecoder`."""

    dialect: ClassVar[str] = NAME
    text = CHAT_TEXT

    @override
    def _open_choice(self, index: int) -> ChoiceDecoder:
        return ChoiceDecoder(index)

    @override
    def _whole(self, body: bytes) -> ChatResult:
        return decode_result(body)
