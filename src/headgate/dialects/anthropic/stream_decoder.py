"""An upstream's Messages stream, read into events."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec
from typing_extensions import override

from headgate.core.errors import StreamBroken
from headgate.core.events import (
    ChatEvent,
    DeltaField,
    Finished,
    PartCited,
    PartDelta,
    PartEnded,
    PartStarted,
    Stop,
    UsageReported,
)
from headgate.core.messages import Opaque, Part, Reasoning, Text, ToolCall
from headgate.core.result import ChatResult
from headgate.dialects import sse
from headgate.dialects.anthropic.answer_blocks import part_from_block
from headgate.dialects.anthropic.errors import error_from_value
from headgate.dialects.anthropic.result_codec import decode_result, started
from headgate.dialects.anthropic.usage import usage_from_wire
from headgate.dialects.anthropic.vocabulary import NAME, citation_from_wire, stop_from_wire, unknown_word
from headgate.dialects.sse_answers import SseAnswerDecoder, decode_event

DELTA_START = b"event: content_block_delta\ndata: "
"""How nearly every event of a stream begins."""

_HEAD = len(DELTA_START)
_EMPTY: Mapping[str, dict[str, Any]] = {"text": {"text": ""}, "thinking": {"thinking": ""}}
"""What servers leave out of a block that starts empty."""


class _TextDelta(msgspec.Struct, tag="text_delta", gc=False):
    text: str
    field: ClassVar[DeltaField] = "text"


class _InputDelta(msgspec.Struct, tag="input_json_delta", gc=False, rename={"text": "partial_json"}):
    text: str
    field: ClassVar[DeltaField] = "arguments"


class _ThinkingDelta(msgspec.Struct, tag="thinking_delta", gc=False, rename={"text": "thinking"}):
    text: str
    field: ClassVar[DeltaField] = "text"


class _BlockDelta(msgspec.Struct, tag="content_block_delta", gc=False):
    index: int
    delta: _TextDelta | _InputDelta | _ThinkingDelta


_BLOCK_DELTA = msgspec.json.Decoder(_BlockDelta)
_FIELDS: dict[type[Part], tuple[type[msgspec.Struct], ...]] = {
    Text: (_TextDelta,),
    Reasoning: (_ThinkingDelta,),
    ToolCall: (_InputDelta,),
}


@dataclass(slots=True)
class _Block:
    """A block that is open. Of one without a part of its own (`part` is -1) the deltas gather here."""

    part: int
    kinds: tuple[type[msgspec.Struct], ...]
    wire: dict[str, Any]
    input: list[str] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)
    whole_input: str = ""


class StreamDecoder(SseAnswerDecoder):
    """Tolerated, because servers that call themselves compatible do it: several blocks open at once; no
    `event` lines; the input of a tool call whole in its first event. Not tolerated: an end before
    `message_stop`.
    """

    def __init__(self, content_type: str = sse.CONTENT_TYPE) -> None:
        super().__init__()
        if content_type.startswith("application/json"):
            self._json = bytearray()
        self._blocks: dict[int, _Block] = {}
        self._parts = 0
        self._started = False
        self._stop = Stop("other")
        self._usage: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}

    @override
    def _read(self, data: bytes, events: list[ChatEvent]) -> None:
        if not self._sse.idle or not data.endswith(b"\n\n") or b"\r" in data:
            super()._read(data, events)
            return
        for block in data[:-2].split(b"\n\n"):
            if block.startswith(DELTA_START) and self._quick(block[_HEAD:], events):
                continue
            if block:
                super()._read(block + b"\n\n", events)

    @override
    def _whole(self, body: bytes) -> ChatResult:
        return decode_result(body)

    def _quick(self, data: bytes, events: list[ChatEvent]) -> bool:
        """Read the most frequent event. False if it is not what it seems, or not for an open part."""
        if self._ended:
            return True
        try:
            event = _BLOCK_DELTA.decode(data)
        except (ValueError, RecursionError):
            return False
        return self._more(event, events)

    def _more(self, event: _BlockDelta, events: list[ChatEvent]) -> bool:
        delta = event.delta
        block = self._blocks.get(event.index)
        if block is None or type(delta) not in block.kinds:
            return False
        if delta.text:
            events.append(PartDelta(block.part, delta.text, 0, delta.field))
            if block.whole_input:
                block.whole_input = ""
        return True

    @override
    def _take(self, event: sse.ServerSentEvent, events: list[ChatEvent]) -> None:
        if self._ended:
            return
        if self._quick(event.data, events):
            return
        value = decode_event(event.data, self._halves)
        kind = value.get("type")
        if kind == "error" or event.event == "error":
            raise error_from_value(value)
        if kind == "message_start":
            self._start(value, events)
        elif not isinstance(kind, str) or kind not in _STEPS:
            return  # a ping, or an event that is newer than this module
        elif not self._started:
            raise StreamBroken("The upstream's stream does not begin with 'message_start'.")
        else:
            _STEPS[kind](self, value, events)

    def _start(self, value: dict[str, Any], events: list[ChatEvent]) -> None:
        message = value.get("message")
        if self._started or not isinstance(message, dict):
            raise StreamBroken("The upstream sent a garbled or a second 'message_start'.")
        self._started = True
        events.append(started(message))
        usage = message.get("usage")
        if isinstance(usage, dict):
            # Its output tokens are a guess at the first few; the true count comes with `message_delta`.
            self._report({**usage, "output_tokens": None}, events, usage)

    def _report(self, counts: dict[str, Any], events: list[ChatEvent], form: dict[str, Any]) -> None:
        before = self._usage.get("output_tokens")
        told = {key: value for key, value in counts.items() if value is not None}
        now = told.get("output_tokens")
        if isinstance(before, int) and isinstance(now, int) and now < before:
            told["output_tokens"] = before  # cumulative counts don't shrink
        self._usage |= told
        usage = usage_from_wire(self._usage)
        if usage is not None:
            events.append(UsageReported(usage, {NAME: {"usage": {**form, **self._usage}}}))

    def _open(self, value: dict[str, Any], events: list[ChatEvent]) -> None:
        wire, index = value.get("content_block"), value.get("index")
        if not isinstance(wire, dict) or not isinstance(index, int) or index in self._blocks:
            raise StreamBroken("The upstream sent a garbled 'content_block_start'.")
        kind = wire.get("type")
        if isinstance(kind, str):
            wire = _EMPTY.get(kind, {}) | wire
        part = part_from_block(wire)
        if isinstance(part, Opaque):
            self._blocks[index] = _Block(-1, (), dict(wire))
            return
        block = _Block(self._parts, _FIELDS[type(part)], wire)
        if isinstance(part, ToolCall):
            block.whole_input = part.arguments
            part = ToolCall(part.id, part.name, "", extensions=part.extensions)
        self._blocks[index] = block
        self._parts += 1
        events.append(PartStarted(block.part, part))

    def _delta(self, value: dict[str, Any], events: list[ChatEvent]) -> None:
        """Deltas that are no plain text, or hold a cut character: `_quick` has read the others."""
        with contextlib.suppress(msgspec.ValidationError):
            if self._more(msgspec.convert(value, _BlockDelta), events):
                return
        index, delta = value.get("index"), value.get("delta")
        block = self._blocks.get(index) if isinstance(index, int) else None
        if block is None or not isinstance(delta, dict):
            raise StreamBroken("The upstream sent a delta of a block that is not open.")
        kind = delta.get("type")
        if block.part < 0:
            _grow(block, kind, delta)
        elif kind == "signature_delta" and isinstance(delta.get("signature"), str):
            if _ThinkingDelta in block.kinds and delta["signature"]:
                events.append(PartDelta(block.part, delta["signature"], 0, "signature"))
        elif (
            kind == "citations_delta"
            and isinstance(delta.get("citation"), dict)
            and _TextDelta in block.kinds
        ):
            events.append(PartCited(block.part, citation_from_wire(delta["citation"])))

    def _close(self, value: dict[str, Any], events: list[ChatEvent]) -> None:
        index = value.get("index")
        block = self._blocks.pop(index, None) if isinstance(index, int) else None
        if block is None:
            raise StreamBroken("The upstream ended a block that is not open.")
        self._end_block(block, events)

    def _end_block(self, block: _Block, events: list[ChatEvent]) -> None:
        if block.part < 0:
            block.part = self._parts
            self._parts += 1
            events.append(PartStarted(block.part, Opaque(NAME, _grown(block))))
        elif block.whole_input:
            events.append(PartDelta(block.part, block.whole_input, 0, "arguments"))
        events.append(PartEnded(block.part))

    def _message_delta(self, value: dict[str, Any], events: list[ChatEvent]) -> None:
        delta, usage = value.get("delta"), value.get("usage")
        if isinstance(delta, dict):
            if isinstance(delta.get("stop_reason"), str):
                self._stop = stop_from_wire(delta["stop_reason"], delta.get("stop_sequence"))
            self._note(delta, ("stop_reason", "stop_sequence"))
        self._note(value, ("type", "delta", "usage"))
        if isinstance(usage, dict):
            self._report(usage, events, {})

    def _note(self, value: dict[str, Any], known: tuple[str, ...]) -> None:
        self._extra |= {key: item for key, item in value.items() if key not in known and item is not None}

    def _finish(self, value: dict[str, Any], events: list[ChatEvent]) -> None:
        for block in self._blocks.values():
            self._end_block(block, events)
        self._blocks.clear()
        extra = self._extra | unknown_word(self._stop)
        events.append(Finished((self._stop,), {NAME: extra} if extra else {}))
        self._ended = True


_STEPS = {
    "content_block_start": StreamDecoder._open,
    "content_block_delta": StreamDecoder._delta,
    "content_block_stop": StreamDecoder._close,
    "message_delta": StreamDecoder._message_delta,
    "message_stop": StreamDecoder._finish,
}


def _grow(block: _Block, kind: object, delta: dict[str, Any]) -> None:
    """More of a block that only this vendor understands."""
    if kind == "input_json_delta" and isinstance(delta.get("partial_json"), str):
        block.input.append(delta["partial_json"])
        return
    for key, value in delta.items():
        if key == "type" or value is None:
            continue
        before = block.wire.get(key)
        if isinstance(before, str) and isinstance(value, str):
            block.texts.setdefault(key, [before]).append(value)
        else:
            block.wire[key] = value
            block.texts.pop(key, None)


def _grown(block: _Block) -> dict[str, Any]:
    wire = block.wire | {key: "".join(pieces) for key, pieces in block.texts.items()}
    text = "".join(block.input)
    if not text:
        return wire
    try:
        return {**wire, "input": msgspec.json.decode(text)}
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream sent the input of a tool that is not JSON.") from None
