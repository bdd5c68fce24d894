"""Events, written as a `streamGenerateContent` answer for a caller."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from headgate.core.call import Usage
from headgate.core.errors import HeadgateError
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
from headgate.core.messages import Citation, Part, Reasoning, Refusal, Text
from headgate.dialects import sse
from headgate.dialects.answer_losses import note
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.gemini.citations import logprobs_to_wire
from headgate.dialects.gemini.errors import encode_error_body
from headgate.dialects.gemini.part_encoder import PartEncoder, Wire
from headgate.dialects.gemini.result_codec import CACHE_WRITES, finish_fields, object_of
from headgate.dialects.gemini.usage import usage_to_wire
from headgate.dialects.gemini.vocabulary import NAME, own, stream_json


@dataclass(slots=True)
class _OpenPart:
    """`ahead` and `behind` frame a text that goes out at once; without them the part waits for its end, and
    for those before it."""

    part: Part
    path: str
    ahead: bytes = b""
    behind: bytes = b""
    pieces: dict[str, list[str]] = field(default_factory=dict)
    texts: list[str] | None = None
    sent: bool = False
    ended: bool = False

    def complete(self) -> Part:
        grown: dict[str, Any] = {
            name: (getattr(self.part, name) or "") + "".join(pieces) for name, pieces in self.pieces.items()
        }
        return replace(self.part, **grown) if grown else self.part


@dataclass(slots=True)
class _Candidate:
    encoder: PartEncoder
    open: dict[int, _OpenPart] = field(default_factory=dict)
    """What is not written out yet, by index."""
    turn: int = 0
    """The index of the part that is to be written next."""
    texts: list[str] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    used: bool = False


class StreamEncoder:
    """A chunk for each piece of text and for each other part when it is whole; at the end one with the finish
    reasons and the usage.

    Tool calls go out whole, since this dialect has no pieces of arguments. If they are no JSON object the
    answer ends in an error, as it does after `Failed`: an error event, or the last element of the array.
    """

    def __init__(self, options: AnswerOptions) -> None:
        self.losses: list[Loss] = []
        self._options = options
        self._array = options.framing == "json_array"
        self._lead = b"[" if self._array else b"data: "
        self._end = b"" if self._array else b"\n\n"
        self._named: dict[str, str] = {}
        self._tail = b"}" + self._end
        self._parts: dict[tuple[int, int], _OpenPart] = {}
        self._candidates: dict[int, _Candidate] = {}
        self._usage: Usage | None = None
        self._counts: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}
        self._ended = False

    def encode(self, event: ChatEvent) -> bytes:
        if self._ended:
            return b""
        if isinstance(event, PartDelta):
            part = self._parts[event.choice, event.index]
            if part.ahead and event.field == "text" and event.logprobs is None:
                if part.texts is not None:
                    part.texts.append(event.delta)
                part.sent = True
                lead, self._lead = self._lead, b",\r\n" if self._array else b"data: "
                return b"%b%b%b%b" % (lead, part.ahead, stream_json(event.delta), part.behind)
        if not isinstance(event, PartDelta):
            note(event, NAME, self.losses)
        try:
            return self._encode(event)
        except HeadgateError as error:
            return self._fail(error)

    def _encode(self, event: ChatEvent) -> bytes:
        match event:
            case PartDelta():
                return self._delta(event)
            case PartStarted():
                return self._open(event)
            case PartEnded():
                return self._close(event)
            case PartCited():
                self._candidate(event.choice).citations.append(event.citation)
                return b""
            case Started():
                return self._start(event)
            case UsageReported():
                self._usage = event.usage if self._usage is None else self._usage.merged(event.usage)
                self._counts |= object_of(own(event.extensions).get("usageMetadata"))
                return b""
            case Finished():
                return self._finish(event)
            case Failed():
                return self._fail(event.error)
            case _:
                assert_never(event)

    def _start(self, event: Started) -> bytes:
        options = self._options
        self._named = {
            "modelVersion": event.model if options.model is None else options.model,
            "responseId": event.id if options.id is None else options.id,
        }
        self._extra |= own(event.extensions)
        if isinstance(moment := self._extra.pop("createTime", None), str):
            self._named["createTime"] = moment
        self._tail = b"," + stream_json(self._named)[1:] + self._end
        return b""

    def _candidate(self, choice: int) -> _Candidate:
        found = self._candidates.get(choice)
        if found is None:
            encoder = PartEncoder(self.losses, {}, for_caller=True)
            found = self._candidates[choice] = _Candidate(encoder)
        return found

    def _framed(self, body: bytes) -> bytes:
        lead, self._lead = self._lead, b",\r\n" if self._array else b"data: "
        return lead + body

    def _chunk(self, choice: int, parts: list[Wire], logprobs: list[Any] | None = None) -> bytes:
        if not parts and logprobs is None:
            return b""
        candidate: Wire = {"content": {"parts": parts, "role": "model"}, "index": choice}
        if logprobs is not None:
            candidate["logprobsResult"] = logprobs_to_wire(logprobs)
        return self._whole(b'{"candidates":[' + stream_json(candidate) + b"]" + self._tail)

    def _whole(self, body: bytes) -> bytes:
        """A chunk that may hold line ends: the JSON of a tool's arguments is as the model wrote it."""
        if not self._array and b"\n" in body[:-2]:
            return sse.encode(body[:-2])
        return self._framed(body)

    def _open(self, event: PartStarted) -> bytes:
        part, choice = event.part, event.choice
        candidate = self._candidate(choice)
        opened = _OpenPart(part, f"candidates[{choice}].content.parts[{event.index}]")
        self._parts[choice, event.index] = opened
        if isinstance(part, Text):
            candidate.citations += part.citations
            opened.texts = candidate.texts
        candidate.used = True
        streams = not candidate.open and self._streams(part, candidate)
        candidate.open[event.index] = opened
        if not streams:
            return b""
        mark = b',"thought":true' if isinstance(part, Reasoning) else b""
        opened.ahead = b'{"candidates":[{"content":{"parts":[{"text":'
        opened.behind = mark + b'}],"role":"model"},"index":%d}]%b' % (choice, self._tail)
        if isinstance(part, Refusal):
            candidate.encoder.encode(replace(part, text=""), opened.path)
        text: str = getattr(part, "text", "")
        return self.encode(PartDelta(event.index, text, choice)) if text else b""

    def _streams(self, part: Part, candidate: _Candidate) -> bool:
        """Can its text go out before the part is whole? Not if a signature or a field goes with it: this
        vendor's own thoughts have an origin if they are signed."""
        if not isinstance(part, Text | Reasoning | Refusal) or own(part.extensions):
            return False
        if isinstance(part, Reasoning):
            return part.origin != NAME and part.signature is None and part.data is None
        return candidate.encoder.signature is None

    def _delta(self, event: PartDelta) -> bytes:
        opened = self._parts[event.choice, event.index]
        if opened.ahead and event.field == "text":
            opened.sent = True
            if opened.texts is not None:
                opened.texts.append(event.delta)
            thought = {"thought": True} if isinstance(opened.part, Reasoning) else {}
            return self._chunk(event.choice, [{"text": event.delta, **thought}], event.logprobs)
        opened.pieces.setdefault(event.field, []).append(event.delta)
        if event.logprobs is not None:
            return self._chunk(event.choice, [], event.logprobs)
        return b""

    def _close(self, event: PartEnded) -> bytes:
        self._parts.pop((event.choice, event.index)).ended = True
        candidate = self._candidate(event.choice)
        out: list[bytes] = []
        while (opened := candidate.open.get(candidate.turn)) is not None and opened.ended:
            del candidate.open[candidate.turn]
            candidate.turn += 1
            out.append(self._write(event.choice, opened, candidate.encoder))
        return b"".join(out)

    def _write(self, choice: int, opened: _OpenPart, encoder: PartEncoder) -> bytes:
        """What a part that has ended still has to say."""
        part = opened.complete()
        if not opened.ahead:
            if opened.texts is not None and isinstance(part, Text):
                opened.texts.append(part.text)
            return self._chunk(choice, encoder.encode(part, opened.path))
        if not isinstance(part, Reasoning) or (part.signature is None and part.data is None):
            return b""
        if opened.sent:  # then what signs it comes behind it
            part = replace(part, text="", extensions={NAME: {"text": "", "thought": True}})
        wires = encoder.encode(part, opened.path)
        return self._chunk(choice, [wire for wire in wires if "thoughtSignature" in wire])

    def _finish(self, event: Finished) -> bytes:
        self._extra |= own(event.extensions)
        self._ended = True
        fields = object_of(self._extra.pop("candidates", None))
        out = [self._chunk(stop.choice, self._candidate(stop.choice).encoder.flush()) for stop in event.stops]
        wire: Wire = {}
        blocked = bool(object_of(self._extra.get("promptFeedback")).get("blockReason"))
        if not blocked or any(candidate.used for candidate in self._candidates.values()):
            wire["candidates"] = [
                self._last(stop, object_of(fields.get(str(stop.choice)))) for stop in event.stops
            ]
        if self._usage is not None:
            wire["usageMetadata"] = usage_to_wire(self._usage, self._counts)
            if self._usage.cache_write_tokens:
                self.losses.append(CACHE_WRITES)
        last = stream_json({**wire, **self._named, **self._extra}) + self._end
        return b"".join([*out, self._framed(last), b"]" if self._array else b""])

    def _last(self, stop: Stop, fields: Wire) -> Wire:
        """The end of a candidate. It holds a part, if an empty one: Google's SDK drops the turn else."""
        candidate = self._candidate(stop.choice)
        content: Wire = {"parts": [{"text": ""}], "role": "model"}
        text = "".join(candidate.texts)
        return {"content": content, **finish_fields(stop, candidate.citations, text, self.losses), **fields}

    def _fail(self, error: HeadgateError) -> bytes:
        self._ended = True
        body = self._framed(encode_error_body(error))
        return body + (b"]" if self._array else b"\n\n")
