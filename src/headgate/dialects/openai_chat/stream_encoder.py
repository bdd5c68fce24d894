"""Events, written as a Chat Completions stream for a caller."""

from __future__ import annotations

from collections.abc import Mapping
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
from headgate.core.messages import Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.dialects import sse
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_chat.message_encoder import encode_call
from headgate.dialects.openai_chat.reasoning import GEMINI, sign_call
from headgate.dialects.openai_chat.thought_encoder import Thought, ThoughtEncoder
from headgate.dialects.openai_chat.vocabulary import NAME, citation_to_wire, own, word_from_stop
from headgate.dialects.openai_errors import encode_error_body
from headgate.dialects.openai_usage import usage_to_wire

_DONE = sse.encode(b"[DONE]")
_TEXT_FIELDS: Mapping[type[Part], str] = {Text: "content", Refusal: "refusal"}
_json = msgspec.json.encode


class StreamEncoder:
    """One chunk for each event that says something; at the end a finish chunk for each choice, the usage
    chunk if asked for, and `[DONE]`. After a failure: an error event and no `[DONE]`."""

    def __init__(self, options: AnswerOptions) -> None:
        self.losses: list[Loss] = []
        self._options = options
        self._head = b""
        self._tail = b',"usage":null}\n\n' if options.include_usage else b"}\n\n"
        self._usage = Usage()
        self._usage_rest: object = None
        self._choice_fields: object = None
        self._roles: set[int] = set()
        self._calls: dict[int, int] = {}
        self._parts: dict[tuple[int, int], tuple[Part, int]] = {}
        self._thinking: dict[int, ThoughtEncoder] = {}
        self._thoughts: dict[tuple[int, int], Thought] = {}
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
                return self._chunk(event.choice, _json({"annotations": [citation_to_wire(event.citation)]}))
            case PartEnded():
                self._parts.pop((event.choice, event.index), None)
                return self._end_thought(event) if self._thoughts else b""
            case Started():
                return self._start(event)
            case UsageReported():
                self._usage = self._usage.merged(event.usage)
                self._usage_rest = own(event.extensions).get("usage", self._usage_rest)
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
        head = {
            "id": event.id if options.id is None else options.id,
            "object": "chat.completion.chunk",
            "created": event.created if options.created is None else options.created,
            "model": event.model if options.model is None else options.model,
        }
        extra = own(event.extensions)
        self._choice_fields = extra.pop("choices", None)
        self._usage_rest = extra.pop("usage", None)
        self._head = b"data: " + _json(head | extra)[:-1] + b',"choices":['
        return self._role(0)

    def _role(self, choice: int) -> bytes:
        if choice in self._roles:
            return b""
        self._roles.add(choice)
        return self._chunk(choice, b'{"role":"assistant","content":"","refusal":null}')

    def _chunk(self, choice: int, delta: bytes, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}]%b' % (
            self._head,
            choice,
            delta,
            logprobs,
            finish,
            self._tail,
        )

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
                    fields["annotations"] = [citation_to_wire(each) for each in citations]
            case Reasoning():
                return out + self._thought(event, part)
            case Refusal(text=text):
                fields = {"refusal": text} if text else {}
            case ToolCall():
                return out + self._call(event, part, signature)
            case Opaque(dialect=dialect, value=value) if dialect == NAME and isinstance(value, dict):
                fields = value
            case _:
                kind = type(part).__name__.lower()
                self._lose(event, f"the dialect's streams have no place for a {kind} part")
                fields = {}
        self._parts[choice, event.index] = (part, 0)
        return out + (self._chunk(choice, _json(fields)) if fields else b"")

    def _thought(self, event: PartStarted, part: Reasoning) -> bytes:
        encoder = self._thinking.setdefault(event.choice, ThoughtEncoder())
        thought, delta = encoder.start(part)
        self._thoughts[event.choice, event.index] = thought
        self._parts[event.choice, event.index] = (part, 0)
        return self._chunk(event.choice, delta) if delta else b""

    def _end_thought(self, event: PartEnded) -> bytes:
        thought = self._thoughts.pop((event.choice, event.index), None)
        if thought is None:
            return b""
        try:
            delta = self._thinking[event.choice].end(thought)
        except ValueError as reason:
            self._lose(event, str(reason))
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

    def _finish(self, event: Finished) -> bytes:
        self._ended = True
        found = own(event.extensions).get("choices", self._choice_fields)
        fields = found if isinstance(found, dict) else {}
        waiting = {choice: thinking.release()[1] for choice, thinking in self._thinking.items()}
        out = [self._chunk(choice, delta) for choice, delta in waiting.items() if delta]
        out += [self._role(stop.choice) + self._last(stop, fields) for stop in event.stops]
        if self._options.include_usage:
            out.append(
                b'%b],"usage":%b}\n\n' % (self._head, _json(usage_to_wire(self._usage, self._usage_rest)))
            )
        return b"".join([*out, _DONE])

    def _last(self, stop: Stop, fields: Mapping[str, Any]) -> bytes:
        finish = _json(word_from_stop(stop))
        extra = fields.get(str(stop.choice))
        if isinstance(extra, dict) and extra:
            finish += b"," + _json(extra)[1:-1]
        return self._chunk(stop.choice, b"{}", finish=finish)

    def _lose(self, event: PartStarted | PartEnded, reason: str) -> None:
        loss = Loss(f"choices[{event.choice}].parts[{event.index}]", reason)
        if loss not in self.losses:
            self.losses.append(loss)


def _arguments(part: ToolCall, number: int, text: bytes) -> bytes:
    """More of a call's arguments; `number` counts the choice's calls, -1 for a deprecated `function_call`."""
    if number < 0:
        return b'{"function_call":{"arguments":%b}}' % text
    kind, field = (b"custom", b"input") if part.kind == "custom" else (b"function", b"arguments")
    return b'{"tool_calls":[{"index":%d,"%b":{"%b":%b}}]}' % (number, kind, field, text)
