"""Events, written as a ConverseStream for a caller."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, StreamBroken
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
from headgate.core.messages import Citation, Media, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.dialects import eventstream
from headgate.dialects.answer_losses import FREE_FORM, add, note, note_stop
from headgate.dialects.bedrock.citations import citation_to_wire
from headgate.dialects.bedrock.errors import encode_error_body, stream_error_type
from headgate.dialects.bedrock.media import format_of
from headgate.dialects.bedrock.vocabulary import (
    CACHE_FIELDS,
    NAME,
    merged,
    own,
    sealed_redaction,
    sealed_signature,
    stop_from_word,
    usage_losses,
    usage_to_wire,
    word_from_stop,
)
from headgate.dialects.bedrock.wire_events import DELTA_HEADERS, event_headers
from headgate.dialects.dialect import AnswerOptions

MAX_WAITING = 16 * 1024 * 1024
"""Characters of parts that wait for an earlier one to end."""

_json = msgspec.json.encode


_EVENTS: Mapping[str, bytes] = {
    name: event_headers(name)
    for name in (
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
    )
}


class StreamEncoder:
    """One block is open at a time: parts that begin before an earlier one has ended wait for it.

    A block begins with the first thing that it says. After a failure the open block ends and an exception
    follows, but no `messageStop`.

    Args:
        cache_fields: what the counts of tokens read from and written to the cache are called.
    """

    def __init__(self, options: AnswerOptions, *, cache_fields: tuple[str, str] = CACHE_FIELDS) -> None:
        self._cache_fields = cache_fields
        self.losses: list[Loss] = []
        self._frames = options.framing != "sse"
        self._ended = False
        self._usage = Usage()
        self._extra: dict[str, Any] = {}
        self._floor: int | None = None
        self._part: Part = Text("")
        self._signature: list[str] = []
        self._data: list[str] = []
        self._free: list[str] | None = None
        self._block: int | None = None
        self._blocks = 0
        self._text_prefix = b""
        self._waiting: OrderedDict[int, list[ChatEvent]] = OrderedDict()
        self._waiting_size = 0

    def encode(self, event: ChatEvent) -> bytes:
        if self._ended:
            return b""
        if not isinstance(event, PartDelta):
            note(event, NAME, self.losses)
        match event:
            case PartDelta() | PartStarted() | PartCited() | PartEnded():
                if event.choice:
                    self._lose(f"choices[{event.choice}]", "the dialect gives one answer")
                    return b""
                if event.index == self._floor and not isinstance(event, PartEnded):
                    return self._told(event)
                return self._step(event)
            case Started():
                self._extra |= own(event.extensions)
                return self._write("messageStart", b'{"role":"assistant"}')
            case UsageReported():
                self._usage = self._usage.merged(event.usage)
                self._extra |= own(event.extensions)
                return b""
            case Finished():
                return self._finish(event)
            case Failed():
                return self._fail(event.error)
            case _:
                assert_never(event)

    # Who has the floor.

    def _step(self, event: PartDelta | PartStarted | PartCited | PartEnded) -> bytes:
        if self._floor is not None and event.index != self._floor:
            return self._wait(event)
        self._floor = event.index
        out = [self._told(event)]
        while self._floor is None and self._waiting:
            self._floor, waiting = self._waiting.popitem(last=False)
            out += map(self._told, waiting)
        return b"".join(out)

    def _wait(self, event: PartDelta | PartStarted | PartCited | PartEnded) -> bytes:
        self._waiting.setdefault(event.index, []).append(event)
        self._waiting_size += len(event.delta) if isinstance(event, PartDelta) else 1
        if self._waiting_size > MAX_WAITING:
            return self._fail(StreamBroken("The upstream interleaved more than can be held back."))
        return b""

    def _told(self, event: ChatEvent) -> bytes:
        match event:
            case PartDelta():
                return self._delta(event)
            case PartStarted():
                return self._open(event.part)
            case PartCited():
                return self._cite(event.citation)
            case _:
                out = self._close()
                self._floor = None
                return out

    # The part that has it.

    def _open(self, part: Part) -> bytes:
        self._part = part
        self._signature, self._data, self._free = [], [], None
        path = self._path()
        match part:
            case Text() | Refusal():
                if isinstance(part, Refusal):
                    self._lose(path, "a refusal is told as plain text")
                out = self._block_delta(b'"text":' + _json(part.text)) if part.text else b""
                for citation in part.citations if isinstance(part, Text) else ():
                    out += self._cite(citation)
                return out
            case ToolCall():
                use = merged(
                    {"toolUse": {"name": part.name, "toolUseId": part.id}},
                    {"toolUse": own(part.extensions).get("toolUse") or {}},
                )
                if part.kind != "function":
                    self._lose(path, FREE_FORM)
                    self._free = []
                return self._begin(use) + (self._arguments(part.arguments) if part.arguments else b"")
            case Reasoning():
                return self._reasoning_text(part.text) if part.text else b""
            case Media(kind="image", data=str(data)) if word := format_of("image", part.mime):
                source = _json({"bytes": data})
                return self._begin({"image": {"format": word}}) + self._block_delta(
                    b'"image":{"source":' + source + b"}"
                )
            case Opaque(dialect=dialect, value=dict(value)) if dialect == NAME:
                return self._own_block(value, path)
            case Opaque():
                self._lose(path, f"a block that only {part.dialect} understands")
            case _:
                self._lose(path, f"the dialect's streams have no {type(part).__name__.lower()} of this kind")
        return b""

    def _own_block(self, value: Mapping[str, Any], path: str) -> bytes:
        """The call or the result of a tool that Bedrock itself ran."""
        match value:
            case {"toolUse": {"input": given, **use}}:
                text = given if isinstance(given, str) else _json(given).decode()
                return self._begin({"toolUse": use}) + self._arguments(text)
            case {"toolResult": {"content": list(content), **result}}:
                return self._begin({"toolResult": result}) + self._block_delta(
                    b'"toolResult":' + _json(content)
                )
            case _:
                self._lose(path, "the dialect's streams have no such block")
                return b""

    def _delta(self, event: PartDelta) -> bytes:
        if event.logprobs is not None:
            self._lose(f"{self._path()}.logprobs", "the dialect has no log probabilities")
        match self._part:
            case Text() | Refusal():
                if self._block is None:
                    return self._block_delta(b'"text":' + _json(event.delta)) if event.delta else b""
                return self._write_delta(self._text_prefix + _json(event.delta) + b"}}")
            case ToolCall():
                return self._arguments(event.delta)
            case Reasoning() if event.field == "text":
                return self._reasoning_text(event.delta)
            case Reasoning():
                (self._signature if event.field == "signature" else self._data).append(event.delta)
        return b""

    def _cite(self, citation: Citation) -> bytes:
        wire = citation_to_wire(citation, f"{self._path()}.citations", self.losses)
        return self._block_delta(b'"citation":' + _json(wire))

    def _arguments(self, text: str) -> bytes:
        if self._free is not None:  # a text that is no JSON becomes so when it is whole
            self._free.append(text)
            return b""
        return self._block_delta(b'"toolUse":{"input":' + _json(text) + b"}")

    def _reasoning_text(self, text: str) -> bytes:
        return self._block_delta(b'"reasoningContent":{"text":' + _json(text) + b"}")

    def _close(self) -> bytes:
        out = b""
        if isinstance(self._part, Reasoning):
            out = self._opaque(self._part)
        if self._free is not None:
            text, self._free = "".join(self._free), None
            out = self._arguments(_json({"input": text}).decode())
        if self._block is not None:
            out += self._write("contentBlockStop", b'{"contentBlockIndex":%d}' % self._block)
            self._block = None
        return out

    def _opaque(self, part: Reasoning) -> bytes:
        """Signature and sealed text come whole, because only then they can be sealed."""
        signature, data = "".join(self._signature), "".join(self._data)
        part = replace(
            part,
            signature=(part.signature or "") + signature or None,
            data=(part.data or "") + data or None,
        )
        if part.redacted and part.data is not None and self._block is None:
            return self._block_delta(
                b'"reasoningContent":{"redactedContent":' + _json(sealed_redaction(part)) + b"}"
            )
        sealed = sealed_signature(part)
        if sealed is None:
            return b""
        return self._block_delta(b'"reasoningContent":{"signature":' + _json(sealed) + b"}")

    def _path(self) -> str:
        return f"choices[0].parts[{self._floor}]"

    # Bytes.

    def _number(self) -> int:
        """The open block's; a new one where none is open."""
        if self._block is None:
            self._block = self._blocks
            self._blocks += 1
            self._text_prefix = b'{"contentBlockIndex":%d,"delta":{"text":' % self._block
        return self._block

    def _begin(self, start: Mapping[str, Any]) -> bytes:
        payload = b'{"contentBlockIndex":%d,"start":%b}' % (self._number(), _json(start))
        return self._write("contentBlockStart", payload)

    def _block_delta(self, delta: bytes) -> bytes:
        return self._write_delta(b'{"contentBlockIndex":%d,"delta":{%b}}' % (self._number(), delta))

    def _write_delta(self, payload: bytes) -> bytes:
        if self._frames:
            return eventstream.encode_frame(DELTA_HEADERS, payload)
        return b'data: {"contentBlockDelta":' + payload + b"}\n\n"

    def _write(self, name: str, payload: bytes) -> bytes:
        if self._frames:
            return eventstream.encode_frame(_EVENTS[name], payload)
        return b'data: {"%b":%b}\n\n' % (name.encode(), payload)

    # The end.

    def _finish(self, event: Finished) -> bytes:
        self._ended = True
        self._extra |= own(event.extensions)
        stop = event.stops[0] if event.stops else Stop("other")
        for other in event.stops[1:]:
            self._lose(f"choices[{other.choice}]", "the dialect gives one answer")
        if stop.sequence is not None:
            self._lose("choices[0].stop.sequence", "the dialect does not tell which sequence was hit")
        self.losses += usage_losses(self._usage)
        word = word_from_stop(stop)
        note_stop(stop, word, stop_from_word(word).reason, self.losses)
        last: dict[str, Any] = {"stopReason": word}
        if "additionalModelResponseFields" in self._extra:
            last["additionalModelResponseFields"] = self._extra.pop("additionalModelResponseFields")
        metadata = {"metrics": {"latencyMs": 0}, "usage": usage_to_wire(self._usage, self._cache_fields)}
        return self._write("messageStop", _json(last)) + self._write(
            "metadata", _json(merged(metadata, self._extra))
        )

    def _fail(self, error: HeadgateError) -> bytes:
        self._ended = True
        out = b""
        if self._block is not None:
            out = self._write("contentBlockStop", b'{"contentBlockIndex":%d}' % self._block)
        name, payload = stream_error_type(error), encode_error_body(error)
        if self._frames:
            return out + eventstream.encode_frame(event_headers(name, "exception"), payload)
        return out + b'data: {"%b":%b}\n\n' % (name.encode(), payload)

    def _lose(self, path: str, reason: str) -> None:
        add([Loss(path, reason)], self.losses)
