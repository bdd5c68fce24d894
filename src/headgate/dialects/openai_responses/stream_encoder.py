"""Events, written as a Responses stream for a caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

import msgspec

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
from headgate.core.messages import Extensions, Media, Opaque, Reasoning, Refusal, Text, ToolCall
from headgate.dialects.answer_losses import (
    add,
    note,
    note_citation,
    note_sequence,
    note_stop,
    unplaced,
    untitled,
)
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_responses.output_writer import (
    CallWriter,
    Frames,
    Item,
    PartWriter,
    ReasoningWriter,
    TextWriter,
    call_item,
    image_item,
    message_item,
    reasoning_item,
)
from headgate.dialects.openai_responses.vocabulary import (
    NAME,
    error_to_wire,
    incomplete_reason,
    mint_item_id,
    own,
    stop_from_wire,
    usage_to_wire,
)
from headgate.dialects.openai_shared import for_answer

_json = msgspec.json.encode

_ECHOED: Mapping[str, Any] = {
    "background": False,
    "conversation": None,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "auto",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""Fields of a request that its response repeats, with what stands there if the request had none."""

_TOOL_ECHOED: dict[str, Any] = {"description": None, "parameters": None, "strict": None}


def echo_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a response repeats of its request's JSON object, whose values may be raw JSON."""
    echo = {key: default if _is_null(request.get(key)) else request[key] for key, default in _ECHOED.items()}
    tools = echo["tools"]
    if isinstance(tools, msgspec.Raw):
        tools = msgspec.json.decode(tools)
    if isinstance(tools, list):
        echo["tools"] = [_TOOL_ECHOED | tool if _is_function(tool) else tool for tool in tools]
    return echo


def _is_null(value: object) -> bool:
    return value is None or (isinstance(value, msgspec.Raw) and bytes(value) == b"null")


def _is_function(tool: object) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "function"


class StreamEncoder:
    """The vendor's own event sequence; `sequence_number` counts from 0.

    Parallel calls that arrive interleaved are written interleaved: each event names its item. After a
    failure: what is open ends as `incomplete`, then `error` and `response.failed`.

    Args:
        options: how the answer is to look.
        echo: what the response repeats of its request (`echo_of`); the vendor's defaults if None.
    """

    def __init__(self, options: AnswerOptions, echo: Mapping[str, Any] | None = None) -> None:
        self.losses: list[Loss] = []
        self.response: dict[str, Any] | None = None
        """The response object as it was last sent; complete after the terminal event."""
        self._options = options
        self._echo = echo_of({}) if echo is None else dict(echo)
        self._frames = Frames()
        self._usage = Usage()
        self._usage_rest: dict[str, Any] = {}
        self._counted = False
        self._items: list[Item] = []
        self._parts: dict[int, PartWriter] = {}
        self._plain: dict[int, PartWriter] = {}
        self._tail: Item | None = None
        self._refused = False
        self._extra: dict[str, Any] = {}
        self._ended = False

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def sequence(self) -> int:
        """The number that the next event will have."""
        return self._frames.sequence

    def encode(self, event: ChatEvent) -> bytes:
        if isinstance(event, PartDelta) and event.logprobs is None and event.field in ("text", "arguments"):
            writer = None if event.choice else self._plain.get(event.index)
            if writer is not None and not self._ended:
                frames = self._frames
                number = frames.sequence
                frames.sequence = number + 1
                writer.pieces.append(event.delta)
                return writer.template % (number, _json(event.delta))
        if self._ended:
            return b""
        if not isinstance(event, PartDelta):
            note(event, NAME, self.losses)
        return self._other(event)

    def begin(self, identity: str, model: str, created: int, queued: bool = False) -> bytes:
        """`response.created`, and `response.queued` for an answer whose turn has yet to come.

        Called by whoever knows the answer's id before its upstream does; `Started` then says no more than
        that the answer is in progress.
        """
        status = "queued" if queued else "in_progress"
        self._frames.response_id = identity
        self.response = {
            "id": identity,
            "object": "response",
            "created_at": created,
            "completed_at": None,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": model,
            "output": [],
            "usage": None,
        }
        self.response |= self._echo
        created_event = self._lifecycle("response.created")
        return created_event + (self._lifecycle("response.queued") if queued else b"")

    def _other(self, event: ChatEvent) -> bytes:
        match event:
            case PartStarted(choice=0):
                return self._open(event)
            case PartDelta(choice=0):
                return self._delta(event)
            case PartCited(choice=0):
                return self._cite(event)
            case PartEnded(choice=0):
                return self._close(event.index)
            case PartStarted() | PartDelta() | PartCited() | PartEnded():
                self._lose(f"choices[{event.choice}]", "the dialect gives one answer")
                return b""
            case Started():
                return self._start(event)
            case UsageReported():
                self._usage = self._usage.merged(event.usage)
                self._counted = True
                self._extra |= self._own(event.extensions)
                return b""
            case Finished():
                return self._finish(event)
            case Failed():
                return self._fail(event.error)
            case _:
                assert_never(event)

    def _lifecycle(self, kind: str) -> bytes:
        return self._frames.frame(kind, {"response": self.response})

    def _start(self, event: Started) -> bytes:
        options = self._options
        out = b""
        if self.response is None:
            out = self.begin(
                event.id if options.id is None else options.id,
                event.model if options.model is None else options.model,
                event.created if options.created is None else options.created,
            )
        assert self.response is not None
        self.response |= self._own(event.extensions) | {"status": "in_progress"}
        return out + self._lifecycle("response.in_progress")

    def _own(self, extensions: Extensions) -> dict[str, Any]:
        """This dialect's fields of the answer; those of its usage are kept until that is written."""
        fields = for_answer(NAME, extensions)
        rest = fields.pop("usage", None)
        self._usage_rest |= rest if isinstance(rest, dict) else {}
        return fields

    def _open(self, event: PartStarted) -> bytes:
        part, index = event.part, event.index
        match part:
            case Text() | Refusal():
                self._refused = self._refused or isinstance(part, Refusal)
                return self._open_text(part, index)
            case Reasoning():
                return self._open_reasoning(part, index)
            case ToolCall():
                item, out = self._add(call_item(part, *self._next()), sealed=True)
                call = CallWriter(item, part.kind == "custom")
                self._parts[index] = self._plain[index] = call
                return out + (call.grow(part.arguments) if part.arguments else b"")
            case Media(kind="image", data=str()):
                item, out = self._add(image_item(part, *self._next()), sealed=True)
                self._parts[index] = PartWriter(item)
                return out
            case Opaque(dialect=dialect, value=value) if dialect == NAME and isinstance(value, dict):
                wire = {"id": mint_item_id("item", *self._next()), **value}
                item, out = self._add(wire, sealed=True)
                self._parts[index] = PartWriter(item)
                return out
            case _:
                self._lose(f"choices[0].parts[{index}]", unplaced(part))
                return b""

    def _next(self) -> tuple[str, int]:
        return self._frames.response_id, len(self._items)

    def _add(self, wire: dict[str, Any], sealed: bool) -> tuple[Item, bytes]:
        out = self._seal_tail()
        item = Item(self._frames, len(self._items), wire, sealed)
        self._items.append(item)
        if not sealed:
            self._tail = item
        return item, out + item.added()

    def _seal_tail(self, status: str = "completed") -> bytes:
        tail, self._tail = self._tail, None
        if tail is None:
            return b""
        tail.sealed = True
        return tail.settle(status)

    def _open_text(self, part: Text | Refusal, index: int) -> bytes:
        item, out = self._tail, b""
        if item is None or item.wire["type"] != "message" or "item" in own(part.extensions):
            item, out = self._add(message_item(part, *self._next()), sealed=False)
        writer = TextWriter(item, part)
        self._parts[index] = self._plain[index] = writer
        out += writer.open()
        if part.text:
            out += writer.grow(part.text)
        if isinstance(part, Text):
            for citation in part.citations:
                out += self._cite(PartCited(index, citation))
        return out

    def _open_reasoning(self, part: Reasoning, index: int) -> bytes:
        item, out = self._tail, b""
        continued = own(part.extensions).get("continued")
        if item is None or item.wire["type"] != "reasoning" or not continued:
            item, out = self._add(reasoning_item(part, *self._next()), sealed=False)
        writer = ReasoningWriter(item, part)
        self._parts[index] = writer
        return out + (writer.grow(part.text) if part.text or continued else b"")

    def _delta(self, event: PartDelta) -> bytes:
        writer = self._parts.get(event.index)
        if writer is None:
            return b""
        if event.logprobs is not None and not writer.weighs:
            self._lose(f"choices[0].parts[{event.index}].logprobs", "only texts have log probabilities")
        out = writer.delta(event)
        if out and event.field == "text":
            self._plain[event.index] = writer
        return out

    def _cite(self, event: PartCited) -> bytes:
        writer = self._parts.get(event.index)
        cited = None if writer is None else writer.cite(event.citation)
        path, names = f"choices[0].parts[{event.index}]", untitled(event.citation)
        note_citation(event.citation, NAME, path, names, self.losses)
        if cited is None:
            self._lose(f"choices[0].parts[{event.index}].citations", "only texts have annotations")
        return cited or b""

    def _close(self, index: int, status: str = "completed") -> bytes:
        writer = self._parts.pop(index, None)
        self._plain.pop(index, None)
        if writer is None:
            return b""
        out = writer.close()
        if isinstance(writer, ReasoningWriter) and writer.unsealable:
            self._lose(
                f"choices[0].parts[{index}].signature",
                "opaque reasoning of unknown origin can't be handed on",
            )
        return out + writer.item.settle(status)

    def _close_all(self, status: str) -> bytes:
        out = [self._close(index, status) for index in sorted(self._parts)]
        return b"".join([*out, self._seal_tail(status)])

    def _finish(self, event: Finished) -> bytes:
        stop = next((stop for stop in event.stops if stop.choice == 0), Stop("other"))
        for other in event.stops:
            if other.choice:
                self._lose(f"choices[{other.choice}]", "the dialect gives one answer")
        reason = incomplete_reason(stop, self._refused)
        self._note_end(stop, reason)
        out = self._close_all("completed" if reason is None else "incomplete")
        self._extra |= self._own(event.extensions)
        details = {} if reason is None else {"incomplete_details": {"reason": reason}}
        return out + self._end("completed" if reason is None else "incomplete", details)

    def _note_end(self, stop: Stop, reason: str | None) -> None:
        note_sequence(stop, self.losses)
        if stop.reason == "refusal" and self._refused:
            return  # a part of the answer says so
        status = "completed" if reason is None else "incomplete"
        read = stop_from_wire(status, {"reason": reason}, stop.reason == "tool_calls")
        note_stop(stop, reason or status, read.reason, self.losses)

    def _fail(self, error: HeadgateError) -> bytes:
        """The error twice: within `error` clients' libraries raise it, flat is how the API documents it."""
        out = self._close_all("incomplete")
        told = {"code": error.code, "message": error.message, "param": error.param}
        out += self._frames.frame("error", told | {"error": {"type": error.type, **told}})
        if self.response is None:
            self._ended = True
            return out
        return out + self._end("failed", {"error": error_to_wire(error)})

    def cancel(self) -> bytes:
        """End as cancelled: the vendor has no event for it, so that what is open is all that is written."""
        out = self._close_all("incomplete")
        self._settle("cancelled", {})
        return out

    def _end(self, status: str, details: Mapping[str, Any]) -> bytes:
        self._settle(status, details)
        return self._lifecycle(f"response.{status}")

    def _settle(self, status: str, details: Mapping[str, Any]) -> None:
        self._ended = True
        assert self.response is not None
        output = [item.wire for item in self._items]
        usage = usage_to_wire(self._usage, self._usage_rest) if self._counted else None
        self.response |= self._extra
        self.response |= {"status": status, "output": output, "usage": usage, **details}
        if status == "completed":
            self.response["completed_at"] = max(int(self._options.now()), self.response["created_at"])

    def _lose(self, path: str, reason: str) -> None:
        add([Loss(path, reason)], self.losses)
