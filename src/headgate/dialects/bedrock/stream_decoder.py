"""An upstream's ConverseStream, read into events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from headgate.core.errors import HeadgateError, StreamBroken
from headgate.core.events import (
    ChatEvent,
    DeltaField,
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
from headgate.core.fold import unfold
from headgate.core.messages import Part, Reasoning, Text, ToolCall
from headgate.dialects import eventstream, sse
from headgate.dialects.bedrock.blocks_in_stream import CollectedBlock
from headgate.dialects.bedrock.citations import citation_from_wire
from headgate.dialects.bedrock.errors import exception_from_event
from headgate.dialects.bedrock.result_codec import decode_result
from headgate.dialects.bedrock.vocabulary import (
    NAME,
    extended,
    stop_from_word,
    usage_from_wire,
    usage_rest,
)
from headgate.dialects.bedrock.wire_events import FrameReader, Reader, SseReader, WireEvent


class _Delta(msgspec.Struct, gc=False):
    text: str | None = None
    toolUse: dict[str, Any] | None = None
    reasoningContent: dict[str, Any] | None = None
    citation: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    toolResult: list[Any] | None = None


class _DeltaEvent(msgspec.Struct, gc=False):
    delta: _Delta
    contentBlockIndex: int = 0


class _StartEvent(msgspec.Struct):
    start: dict[str, Any] = {}
    contentBlockIndex: int = 0


_DELTA = msgspec.json.Decoder(_DeltaEvent)
_START = msgspec.json.Decoder(_StartEvent)
_OBJECT = msgspec.json.Decoder(dict[str, Any])


@dataclass(slots=True)
class _Block:
    """An open block: a part that grows, or one that is collected."""

    kind: type[Part] | None = None
    index: int = -1
    collected: CollectedBlock | None = None


class StreamDecoder:
    """Bytes in at any split, events out; the last is Finished or Failed, and nothing follows it.

    The answer is whole with `messageStop`; `metadata`, which holds the usage, follows it, and a stream that
    ends without it is whole all the same.
    """

    def __init__(self, content_type: str = eventstream.CONTENT_TYPE) -> None:
        is_frames = content_type.startswith(eventstream.CONTENT_TYPE)
        self._reader: Reader = FrameReader() if is_frames else SseReader()
        self._json = bytearray() if content_type.startswith("application/json") else None
        self._started = False
        self._ended = False
        self._stop: Stop | None = None
        self._extra: dict[str, Any] = {}
        self._blocks: dict[int, _Block] = {}
        self._parts = 0

    def feed(self, data: bytes) -> list[ChatEvent]:
        if self._ended:
            return []
        if self._json is None and self._reader.idle and (delta := self._text_delta(data)) is not None:
            return [delta]
        events: list[ChatEvent] = []
        try:
            if self._json is not None:
                self._json += data
                if len(self._json) > sse.MAX_EVENT:
                    raise StreamBroken(f"The upstream's answer is longer than {sse.MAX_EVENT:,} bytes.")
                return events
            for event in self._reader.feed(data):
                self._take(event, events)
        except HeadgateError as error:
            self._fail(error, events)
        return events

    def _text_delta(self, data: bytes) -> PartDelta | None:
        """The event of a read that is more text for an open part and nothing else."""
        payload = self._reader.delta(data)
        if payload is None:
            return None
        try:
            event = _DELTA.decode(payload)
        except (ValueError, RecursionError):
            return None
        block = self._blocks.get(event.contentBlockIndex)
        text = event.delta.text
        return PartDelta(block.index, text) if text and block is not None and block.kind is Text else None

    def end(self) -> list[ChatEvent]:
        if self._ended:
            return []
        events: list[ChatEvent] = []
        try:
            if self._json is not None:
                events = unfold(decode_result(bytes(self._json)))
                self._ended = True
                return events
            for event in self._reader.end():
                self._take(event, events)
            if not self._ended:
                self._finish(events)
        except HeadgateError as error:
            self._fail(error, events)
        return events

    def _take(self, event: WireEvent, events: list[ChatEvent]) -> None:
        if self._ended:
            return
        if event.failed:
            raise exception_from_event(event.name, event.payload)
        try:
            match event.name:
                case "contentBlockDelta":
                    self._delta(_DELTA.decode(event.payload), event.payload, events)
                case "contentBlockStart":
                    self._open(_START.decode(event.payload), events)
                case "contentBlockStop":
                    index = _START.decode(event.payload).contentBlockIndex
                    self._close(self._blocks.pop(index, None), events)
                case "messageStart":
                    self._start(events)
                case "messageStop":
                    self._message_stop(_OBJECT.decode(event.payload), events)
                case "metadata":
                    self._metadata(_OBJECT.decode(event.payload), events)
                case _:
                    pass  # an event of a later version
        except (ValueError, RecursionError):
            raise StreamBroken(f"The upstream sent a garbled event ({event.name}).") from None

    def _start(self, events: list[ChatEvent]) -> None:
        if not self._started:
            self._started = True
            events.append(Started("", "", 0))

    def _open(self, event: _StartEvent, events: list[ChatEvent]) -> None:
        self._close(self._blocks.pop(event.contentBlockIndex, None), events)
        use = event.start.get("toolUse")
        if isinstance(use, dict) and use.get("type") is None:
            rest = {key: use[key] for key in use.keys() - {"toolUseId", "name", "type"}}
            extensions = extended({"toolUse": rest} if rest else {})
            call = ToolCall(_text(use.get("toolUseId")), _text(use.get("name")), "", extensions=extensions)
            self._blocks[event.contentBlockIndex] = self._begin(call, events)
        elif event.start:
            block = _Block(collected=CollectedBlock(event.start))
            self._blocks[event.contentBlockIndex] = block

    def _delta(self, event: _DeltaEvent, payload: bytes, events: list[ChatEvent]) -> None:
        block = self._blocks.get(event.contentBlockIndex)
        delta = event.delta
        if block is not None and block.collected is not None:
            block.collected.add(msgspec.structs.asdict(delta), len(payload))
        elif delta.text is not None:
            self._grow(event.contentBlockIndex, block, Text(""), delta.text, events)
        elif delta.toolUse is not None:
            if block is not None and block.kind is ToolCall and (text := _text(delta.toolUse.get("input"))):
                events.append(PartDelta(block.index, text, field="arguments"))
        elif delta.reasoningContent is not None:
            self._reason(event.contentBlockIndex, block, delta, payload, events)
        elif delta.citation is not None:
            block = self._grow(event.contentBlockIndex, block, Text(""), "", events)
            events.append(PartCited(block.index, citation_from_wire(delta.citation)))

    def _reason(
        self, index: int, block: _Block | None, delta: _Delta, payload: bytes, events: list[ChatEvent]
    ) -> None:
        fields = delta.reasoningContent or {}
        if "redactedContent" in fields:
            self._close(block, events)
            block = self._blocks[index] = _Block(collected=CollectedBlock({}))
            assert block.collected is not None
            block.collected.add(msgspec.structs.asdict(delta), len(payload))
            return
        part = Reasoning(origin=NAME)
        block = self._grow(index, block, part, _text(fields.get("text")), events)
        if signature := _text(fields.get("signature")):
            events.append(PartDelta(block.index, signature, field="signature"))

    def _grow(
        self, index: int, block: _Block | None, part: Part, delta: str, events: list[ChatEvent]
    ) -> _Block:
        """More text of the block; of one of another kind, or none, a new part."""
        if block is None or block.kind is not type(part):
            self._close(block, events)
            block = self._blocks[index] = self._begin(part, events)
        if delta:
            events.append(PartDelta(block.index, delta))
        return block

    def _begin(self, part: Part, events: list[ChatEvent]) -> _Block:
        self._start(events)
        index = self._parts
        self._parts += 1
        events.append(PartStarted(index, part))
        return _Block(type(part), index)

    def _close(self, block: _Block | None, events: list[ChatEvent]) -> None:
        if block is None:
            return
        if block.collected is not None:
            part = block.collected.part()
            data = part.data if isinstance(part, Reasoning) else None
            block = self._begin(Reasoning(redacted=True, origin=NAME) if data else part, events)
            if data:
                field: DeltaField = "data"
                events.append(PartDelta(block.index, data, field=field))
        events.append(PartEnded(block.index))

    def _message_stop(self, fields: dict[str, Any], events: list[ChatEvent]) -> None:
        self._start(events)
        self._stop = stop_from_word(_text(fields.get("stopReason")))
        self._note(fields, "stopReason")

    def _metadata(self, fields: dict[str, Any], events: list[ChatEvent]) -> None:
        self._start(events)
        usage = usage_from_wire(fields.get("usage"))
        if usage is not None:
            events.append(UsageReported(usage, usage_rest(fields.get("usage"))))
        self._note(fields, "usage")
        if self._stop is not None:
            self._finish(events)

    def _note(self, fields: dict[str, Any], known: str) -> None:
        """Keep unknown fields; `p` only pads the event, so that its length tells nothing."""
        self._extra |= {
            key: value for key, value in fields.items() if value is not None and key not in (known, "p")
        }

    def _finish(self, events: list[ChatEvent]) -> None:
        if self._stop is None:
            raise StreamBroken(
                "The upstream's stream ended before the answer was complete.", code="upstream_stream_cut"
            )
        for index in sorted(self._blocks):
            self._close(self._blocks.pop(index), events)
        events.append(Finished((self._stop,), extended(self._extra)))
        self._ended = True

    def _fail(self, error: HeadgateError, events: list[ChatEvent]) -> None:
        self._ended = True
        events.append(Failed(error))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
