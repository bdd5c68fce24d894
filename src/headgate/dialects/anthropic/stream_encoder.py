"""Events, written as a Messages stream for a caller."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
from headgate.core.messages import Citation, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.dialects.answer_losses import FREE_FORM, add, note, note_citation, note_stop
from headgate.dialects.anthropic.answer_blocks import NOT_REFUSED, UNSPANNED, opaque_text, opening_block
from headgate.dialects.anthropic.errors import encode_error_body
from headgate.dialects.anthropic.usage import usage_to_wire
from headgate.dialects.anthropic.vocabulary import (
    NAME,
    UNREADABLE_ARGUMENTS,
    citation_to_wire,
    input_from_arguments,
    own,
    stop_from_wire,
    stop_to_wire,
)
from headgate.dialects.dialect import AnswerOptions

_json = msgspec.json.encode
_LATE_FIELDS = frozenset({"usage", "stop_reason", "stop_details"})
"""Of this vendor's own fields, those that a stream tells at its end."""
_TOP_FIELDS = frozenset({"context_management", "input_transformations"})
"""Fields of `message_delta` beside its `delta`."""
_DELTAS: Mapping[type[Part], bytes] = {
    Text: b'{"type":"text_delta","text":',
    Refusal: b'{"type":"text_delta","text":',
    Reasoning: b'{"type":"thinking_delta","thinking":',
    ToolCall: b'{"type":"input_json_delta","partial_json":',
}


_DELTA_HEAD = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'


def _event(name: bytes, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, data)


@dataclass(slots=True)
class _Block:
    """A part on its way out. What it has to say waits in `held`, as delta objects, until its turn comes."""

    index: int
    part: Part
    head: bytes | None
    delta: bytes
    """How a delta object of its main text begins."""
    hot: bytes = b""
    """The same with the event around it; empty until the block has started on the wire."""
    number: int = -1
    held: list[bytes] = field(default_factory=list)
    late: dict[str, list[str]] = field(default_factory=dict)
    """Texts that go out in one piece as the block ends."""
    ended: bool = False


class StreamEncoder:
    """One event for each that says something, one block at a time: parts that are open together, as some
    vendors send parallel tool calls, are put in a row, and the later ones held back meanwhile.

    A signature goes out in one piece as its block ends, because clients replace it with each delta.
    """

    def __init__(self, options: AnswerOptions) -> None:
        self.losses: list[Loss] = []
        self._options = options
        self._usage = Usage()
        self._usage_form: dict[str, Any] = {}
        self._late: dict[str, Any] = {}
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._current: _Block | None = None
        self._written = 0
        self._called = False
        self._refusals: list[int] = []
        self._ended = False

    def encode(self, event: ChatEvent) -> bytes:
        if self._ended:
            return b""
        if not isinstance(event, PartDelta):
            note(event, NAME, self.losses)
        match event:
            case PartDelta():
                return self._delta(event)
            case PartStarted():
                return self._open(event)
            case PartCited():
                return self._cited(event)
            case PartEnded():
                return self._end(event)
            case Started():
                return self._start(event)
            case UsageReported():
                self._usage = self._usage.merged(event.usage)
                self._usage_form |= own(event.extensions).get("usage", {})
                return b""
            case Finished():
                return self._finish(event)
            case Failed():
                return self._fail(event)
            case _:
                assert_never(event)

    def _start(self, event: Started) -> bytes:
        options, extra = self._options, own(event.extensions)
        self._late = {key: extra.pop(key) for key in _LATE_FIELDS & extra.keys()}
        usage = self._late.pop("usage", None)
        self._usage_form = dict(usage) if isinstance(usage, dict) else {}
        message: dict[str, Any] = {
            "id": event.id if options.id is None else options.id,
            "type": "message",
            "role": "assistant",
            "model": event.model if options.model is None else options.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_to_wire(Usage(), {}) | self._usage_form,
        }
        return _event(b"message_start", _json({"type": "message_start", "message": message | extra}))

    def _open(self, event: PartStarted) -> bytes:
        if event.choice:
            self._lose(f"choices[{event.choice}]", "the dialect gives one answer to a request")
            return b""
        part = event.part
        self._called = self._called or isinstance(part, ToolCall)
        if isinstance(part, Refusal):
            self._refusals.append(event.index)
        block = _Block(event.index, part, self._head(event.index, part), _DELTAS.get(type(part), b""))
        self._blocks[event.index] = block
        if block.head is not None:
            self._fill(block)
        return self._begin(block) if self._current is None else b""

    def _head(self, index: int, part: Part) -> bytes | None:
        """The start of a block; None where all of it is known only when it ends, or where there is none."""
        if isinstance(part, Reasoning) and part.redacted:
            return None
        head, reason = opening_block(part)
        if head is None:
            self._lose(f"content[{index}]", reason or "")
            return None
        if isinstance(part, Opaque) and isinstance(head.get("input"), dict):
            head["input"] = {}
        return _json(head)

    def _fill(self, block: _Block) -> None:
        """What a part brings with it when it opens."""
        match block.part:
            case Text(text=text, citations=citations):
                self._hold_text(block, text)
                for citation in citations:
                    self._hold_citation(block, citation)
            case Refusal(text=text) | Reasoning(text=text):
                self._hold_text(block, text)
            case ToolCall(kind="function", arguments=arguments):
                self._hold_text(block, arguments)
            case ToolCall(arguments=arguments):
                self._lose(f"content[{block.index}]", FREE_FORM)
                block.late["input"] = [arguments]
            case Opaque(value={"input": dict(value)}):
                block.held.append(_DELTAS[ToolCall] + _json(_json(value).decode()) + b"}")

    def _hold_text(self, block: _Block, text: str) -> None:
        if text:
            block.held.append(block.delta + _json(text) + b"}")

    def _hold_citation(self, block: _Block, citation: Citation) -> None:
        form = citation_to_wire(citation)
        note_citation(citation, NAME, f"content[{block.index}]", ("source",), self.losses)
        if form is None:
            self._lose(f"content[{block.index}]", "a citation without an address has no form in this dialect")
            return
        if citation.start is not None or citation.end is not None:
            self._lose(f"content[{block.index}]", UNSPANNED)
        block.held.append(_json({"type": "citations_delta", "citation": form}))

    def _begin(self, block: _Block) -> bytes:
        """It is the block's turn: its start, and all that it has held back."""
        self._current = block
        if block.head is None:
            return b""
        block.number = self._written
        self._written += 1
        block.hot = _DELTA_HEAD % block.number + block.delta
        start = b'{"type":"content_block_start","index":%d,"content_block":%b}' % (block.number, block.head)
        return _event(b"content_block_start", start) + self._say(block)

    def _say(self, block: _Block) -> bytes:
        """What the block has held back, if it is its turn."""
        if block.number < 0:
            return b""
        said = b"".join([b"%b%b}\n\n" % (_DELTA_HEAD % block.number, delta) for delta in block.held])
        block.held.clear()
        return said

    def _delta(self, event: PartDelta) -> bytes:
        block = self._blocks.get(event.index)
        if event.choice or block is None:
            return b""
        if event.logprobs is not None:
            self._lose("choices[0].logprobs", "the dialect has no log probabilities")
        name = event.field
        if name == "signature" or name == "data":
            block.late.setdefault(name, []).append(event.delta)
        elif "input" in block.late:
            block.late["input"].append(event.delta)
        elif event.delta and block.hot:
            return block.hot + _json(event.delta) + b"}}\n\n"
        elif block.head is not None:
            self._hold_text(block, event.delta)
        elif event.delta:
            self._lose(f"content[{event.index}]", "a redacted thought shows no text")
        return b""

    def _cited(self, event: PartCited) -> bytes:
        block = self._blocks.get(event.index)
        if event.choice or block is None:
            return b""
        self._hold_citation(block, event.citation)
        return self._say(block)

    def _end(self, event: PartEnded) -> bytes:
        block = self._blocks.get(event.index)
        if event.choice or block is None:
            return b""
        block.ended = True
        out: list[bytes] = []
        while self._current is not None and self._current.ended:
            out.append(self._close(self._current))
            del self._blocks[self._current.index]
            self._current = None
            if self._blocks:
                out.append(self._begin(next(iter(self._blocks.values()))))
        return b"".join(out)

    def _close(self, block: _Block) -> bytes:
        """The last words of a block."""
        out = b""
        part = block.part
        if isinstance(part, Reasoning):
            out = self._close_reasoning(block, part)
        elif isinstance(part, ToolCall) and "input" in block.late:
            value, readable = input_from_arguments("".join(block.late["input"]))
            block.held.append(_DELTAS[ToolCall] + _json(_json(value).decode()) + b"}")
            if not readable:
                self._lose(f"content[{block.index}]", UNREADABLE_ARGUMENTS)
        out += self._say(block)
        if block.number >= 0:
            stop = b'{"type":"content_block_stop","index":%d}' % block.number
            out += _event(b"content_block_stop", stop)
        return out

    def _close_reasoning(self, block: _Block, part: Reasoning) -> bytes:
        late = {name: "".join(pieces) for name, pieces in block.late.items()}
        signature = (part.signature or "") + late.get("signature", "")
        data = (part.data or "") + late.get("data", "")
        opaque, reason = opaque_text(replace(part, signature=signature or None, data=data or None))
        if reason is not None:
            self._lose(f"content[{block.index}]", reason)
        if opaque is None:
            return b""
        if not part.redacted:
            block.held.append(_json({"type": "signature_delta", "signature": opaque}))
            return b""
        block.head = _json({"type": "redacted_thinking", "data": opaque, **own(part.extensions)})
        return self._begin(block)

    def _finish(self, event: Finished) -> bytes:
        self._ended = True
        extra = self._late | own(event.extensions)
        stop = event.stops[0] if event.stops else Stop("other")
        word = stop_to_wire(stop, called=self._called, refused=bool(self._refusals))
        for other in event.stops[1:]:
            self._lose(f"choices[{other.choice}]", "the dialect gives one answer to a request")
        for index in self._refusals if word != "refusal" else ():
            self._lose(f"content[{index}]", NOT_REFUSED)
        if "stop_reason" not in extra:
            note_stop(stop, word, stop_from_wire(word, None).reason, self.losses)
        top = {key: extra.pop(key) for key in _TOP_FIELDS & extra.keys()}
        last = {
            "type": "message_delta",
            "delta": {"stop_reason": word, "stop_sequence": stop.sequence} | extra,
            "usage": usage_to_wire(self._usage, self._usage_form),
        }
        return _event(b"message_delta", _json(last | top)) + _event(
            b"message_stop", b'{"type":"message_stop"}'
        )

    def _fail(self, event: Failed) -> bytes:
        """What is open is ended, so that clients hand it out; the error event says that it is not all."""
        self._ended = True
        out = b""
        if self._current is not None and self._current.number >= 0:
            stop = b'{"type":"content_block_stop","index":%d}' % self._current.number
            out = _event(b"content_block_stop", stop)
        return out + _event(b"error", encode_error_body(event.error))

    def _lose(self, path: str, reason: str) -> None:
        add([Loss(path, reason)], self.losses)
