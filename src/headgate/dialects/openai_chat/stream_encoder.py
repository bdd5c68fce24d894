"""Events, written as a Chat Completions stream for a caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from typing_extensions import override

from headgate.core.events import (
    Finished,
    FinishReason,
    PartCited,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
)
from headgate.core.loss import Loss
from headgate.core.messages import Citation, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.dialects.answer_losses import note_citation, unplaced, untitled
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_chat.message_encoder import encode_call
from headgate.dialects.openai_chat.reasoning import GEMINI, sign_call
from headgate.dialects.openai_chat.thought_encoder import Thought, ThoughtEncoder
from headgate.dialects.openai_chat.vocabulary import (
    NAME,
    citation_to_wire,
    own,
    stop_from_word,
    word_from_stop,
)
from headgate.dialects.openai_chunks import ChunkEncoder

_TEXT_FIELDS: Mapping[type[Part], str] = {Text: "content", Refusal: "refusal"}
_json = msgspec.json.encode


class StreamEncoder(ChunkEncoder):
    """Each choice begins with a chunk that says its role."""

    dialect: ClassVar[str] = NAME
    object: ClassVar[str] = "chat.completion.chunk"
    nothing: ClassVar[bytes] = b"{}"

    def __init__(self, options: AnswerOptions) -> None:
        super().__init__(options)
        self._roles: set[int] = set()
        self._calls: dict[int, int] = {}
        self._parts: dict[tuple[int, int], tuple[Part, int]] = {}
        self._thinking: dict[int, ThoughtEncoder] = {}
        self._thoughts: dict[tuple[int, int], Thought] = {}

    @override
    def _start(self, event: Started) -> bytes:
        return super()._start(event) + self._role(0)

    def _role(self, choice: int) -> bytes:
        if choice in self._roles:
            return b""
        self._roles.add(choice)
        return self._chunk(choice, b'{"role":"assistant","content":"","refusal":null}')

    @override
    def _chunk(
        self, choice: int, content: bytes, logprobs: bytes = b"null", finish: bytes = b"null"
    ) -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}]%b' % (
            self._head,
            choice,
            content,
            logprobs,
            finish,
            self._tail,
        )

    @override
    def _part(self, event: PartStarted) -> bytes:
        part, choice = event.part, event.choice
        out = self._role(choice)
        signature = None
        if choice in self._thinking:
            signature, delta = self._thinking[choice].release(part if isinstance(part, ToolCall) else None)
            out += self._chunk(choice, delta) if delta else b""
        match part:
            case Text(text=text, citations=citations):
                fields: dict[str, Any] = {"content": text} if text else {}
                if citations:
                    fields["annotations"] = [self._annotation(event, each) for each in citations]
            case Reasoning():
                return out + self._thought(event, part)
            case Refusal(text=text):
                fields = {"refusal": text} if text else {}
            case ToolCall():
                return out + self._call(event, part, signature)
            case Opaque(dialect=dialect, value=value) if dialect == NAME and isinstance(value, dict):
                fields = value
            case _:
                self._lose(_loss(event, unplaced(part)))
                fields = {}
        self._parts[choice, event.index] = (part, 0)
        return out + (self._chunk(choice, _json(fields)) if fields else b"")

    def _thought(self, event: PartStarted, part: Reasoning) -> bytes:
        encoder = self._thinking.setdefault(event.choice, ThoughtEncoder())
        thought, delta = encoder.start(part)
        self._thoughts[event.choice, event.index] = thought
        self._parts[event.choice, event.index] = (part, 0)
        return self._chunk(event.choice, delta) if delta else b""

    @override
    def _cite(self, event: PartCited) -> bytes:
        return self._chunk(event.choice, _json({"annotations": [self._annotation(event, event.citation)]}))

    def _annotation(self, event: PartStarted | PartCited, citation: Citation) -> dict[str, Any]:
        path = f"choices[{event.choice}].parts[{event.index}]"
        note_citation(citation, NAME, path, untitled(citation), self.losses)
        return citation_to_wire(citation)

    @override
    def _end_part(self, event: PartEnded) -> bytes:
        self._parts.pop((event.choice, event.index), None)
        thought = self._thoughts.pop((event.choice, event.index), None)
        if thought is None:
            return b""
        try:
            delta = self._thinking[event.choice].end(thought)
        except ValueError as reason:
            self._lose(_loss(event, str(reason)))
            return b""
        return self._chunk(event.choice, delta) if delta else b""

    def _call(self, event: PartStarted, part: ToolCall, signature: Reasoning | None) -> bytes:
        if "function_call" in own(part.extensions):
            self._parts[event.choice, event.index] = (part, -1)
            delta: dict[str, Any] = {"function_call": {"name": part.name, "arguments": part.arguments}}
            return self._chunk(event.choice, _json(delta))
        number = self._calls.get(event.choice, 0)
        self._calls[event.choice] = number + 1
        self._parts[event.choice, event.index] = (part, number)
        call = {"index": number} | encode_call(part)
        if signature is not None and signature.signature and signature.origin == GEMINI:
            call = sign_call(call, signature.signature)
        return self._chunk(event.choice, _json({"tool_calls": [call]}))

    @override
    def _delta(self, event: PartDelta) -> bytes:
        part, number = self._parts[event.choice, event.index]
        if isinstance(part, ToolCall):
            return self._chunk(event.choice, _arguments(part, number, _json(event.delta)))
        if isinstance(part, Reasoning):
            return self._think(event)
        name = _TEXT_FIELDS.get(type(part))
        if name is None or event.field != "text":
            return b""
        logprobs = b"null"
        if event.logprobs is not None:
            other = "refusal" if name == "content" else "content"
            logprobs = _json({name: event.logprobs, other: None})
        return self._chunk(event.choice, b'{"%b":%b}' % (name.encode(), _json(event.delta)), logprobs)

    def _think(self, event: PartDelta) -> bytes:
        thought = self._thoughts[event.choice, event.index]
        if event.field == "text":
            return self._chunk(event.choice, self._thinking[event.choice].text(thought, event.delta))
        (thought.signature if event.field == "signature" else thought.data).append(event.delta)
        return b""

    @override
    def _finish(self, event: Finished) -> bytes:
        waiting = {choice: thinking.release()[1] for choice, thinking in self._thinking.items()}
        out = [self._chunk(choice, delta) for choice, delta in waiting.items() if delta]
        out += [self._role(stop.choice) for stop in event.stops]
        return b"".join([*out, super()._finish(event)])

    @override
    def _word(self, stop: Stop) -> str:
        return word_from_stop(stop)

    @override
    def _reason(self, word: str) -> FinishReason:
        return stop_from_word(word, 0).reason


def _loss(event: PartStarted | PartEnded, reason: str) -> Loss:
    return Loss(f"choices[{event.choice}].parts[{event.index}]", reason)


def _arguments(part: ToolCall, number: int, text: bytes) -> bytes:
    """More of a call's arguments; `number` counts the choice's calls, -1 for a deprecated `function_call`."""
    if number < 0:
        return b'{"function_call":{"arguments":%b}}' % text
    kind, field = (b"custom", b"input") if part.kind == "custom" else (b"function", b"arguments")
    return b'{"tool_calls":[{"index":%d,"%b":{"%b":%b}}]}' % (number, kind, field, text)
