"""The one assembler: events in, a complete answer out; `unfold` is its inverse.

Besides the rules of `headgate.core.events` it holds two that follow from them: every part is ended
before the answer finishes, and the stops name each choice once, in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from headgate.core.call import Usage
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
from headgate.core.messages import JSON, Citation, Extensions, Part, Reasoning, Refusal, Text, ToolCall
from headgate.core.result import ChatResult, Choice

_DELTA_FIELDS: dict[type, frozenset[DeltaField]] = {
    Text: frozenset({"text"}),
    Refusal: frozenset({"text"}),
    Reasoning: frozenset({"text", "signature", "data"}),
    ToolCall: frozenset({"arguments"}),
}


class ProtocolViolation(ValueError):
    """A stream of events broke a rule: a defect in whoever made it. `rule` names the rule."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule


@dataclass(slots=True)
class _OpenPart:
    part: Part
    pieces: dict[DeltaField, list[str]] = field(default_factory=dict)
    cited: list[Citation] = field(default_factory=list)
    ended: bool = False

    def complete(self) -> Part:
        grown: dict[str, Any] = {
            name: (getattr(self.part, name) or "") + "".join(pieces) for name, pieces in self.pieces.items()
        }
        if self.cited and isinstance(self.part, Text):
            grown["citations"] = (*self.part.citations, *self.cited)
        return replace(self.part, **grown) if grown else self.part


@dataclass(slots=True)
class _OpenChoice:
    parts: list[_OpenPart] = field(default_factory=list)
    logprobs: list[JSON] | None = None


class Assembler:
    """Checks each event against the rules and puts the answer together.

    `feed` raises ProtocolViolation; after that the assembler is of no more use.
    """

    __slots__ = ("_choices", "_extensions", "_started", "_terminal", "_usage")

    def __init__(self) -> None:
        self._started: Started | None = None
        self._terminal: Finished | Failed | None = None
        self._choices: dict[int, _OpenChoice] = {}
        self._usage: Usage | None = None
        self._extensions: dict[str, dict[str, JSON]] = {}

    def feed(self, event: ChatEvent) -> None:
        if self._terminal is not None:
            raise ProtocolViolation("one terminal event", f"{type(event).__name__} after the end")
        if isinstance(event, Started):
            if self._started is not None:
                raise ProtocolViolation("one start", "Started twice")
            self._started = event
            self._extend(event.extensions)
            return
        if self._started is None and not isinstance(event, Failed):
            raise ProtocolViolation("Started first", f"{type(event).__name__} before Started")
        match event:
            case PartStarted():
                self._open(event)
            case PartDelta():
                self._append(event)
            case PartCited():
                self._cite(event)
            case PartEnded():
                self._part(event.choice, event.index).ended = True
            case UsageReported():
                self._report(event)
            case Finished():
                self._finish(event)
            case Failed():
                self._terminal = event
            case _:
                assert_never(event)

    def result(self) -> ChatResult:
        """The complete answer. Raises the error of `Failed`, or ProtocolViolation before the end."""
        if isinstance(self._terminal, Failed):
            raise self._terminal.error
        if self._terminal is None or self._started is None:
            raise ProtocolViolation("one terminal event", "the stream has not ended")
        return ChatResult(
            id=self._started.id,
            model=self._started.model,
            created=self._started.created,
            choices=tuple(self._complete(stop) for stop in self._terminal.stops),
            usage=self._usage,
            extensions=self._extensions,
        )

    def _complete(self, stop: Stop) -> Choice:
        choice = self._choices.get(stop.choice, _OpenChoice())
        return Choice(
            index=stop.choice,
            parts=tuple(part.complete() for part in choice.parts),
            stop=stop,
            logprobs=None if choice.logprobs is None else tuple(choice.logprobs),
        )

    def _open(self, event: PartStarted) -> None:
        if event.choice < 0:
            raise ProtocolViolation("choices count from 0", f"choice {event.choice}")
        parts = self._choices.setdefault(event.choice, _OpenChoice()).parts
        if event.index != len(parts):
            detail = f"choice {event.choice}: part {event.index} where {len(parts)} is next"
            raise ProtocolViolation("part indexes grow by one", detail)
        parts.append(_OpenPart(event.part))

    def _part(self, choice: int, index: int) -> _OpenPart:
        parts = self._choices[choice].parts if choice in self._choices else []
        if not 0 <= index < len(parts) or parts[index].ended:
            raise ProtocolViolation("only open parts", f"choice {choice}: part {index} is not open")
        return parts[index]

    def _append(self, event: PartDelta) -> None:
        part = self._part(event.choice, event.index)
        if event.field not in _DELTA_FIELDS.get(type(part.part), frozenset()):
            kind = type(part.part).__name__
            raise ProtocolViolation("deltas fit the part", f"a {kind} part has no {event.field!r} to grow")
        if event.delta:
            part.pieces.setdefault(event.field, []).append(event.delta)
        if event.logprobs is not None:
            choice = self._choices[event.choice]
            if choice.logprobs is None:
                choice.logprobs = []
            choice.logprobs += event.logprobs

    def _cite(self, event: PartCited) -> None:
        part = self._part(event.choice, event.index)
        if not isinstance(part.part, Text):
            kind = type(part.part).__name__
            raise ProtocolViolation("citations go to text", f"a {kind} part was cited")
        part.cited.append(event.citation)

    def _report(self, event: UsageReported) -> None:
        before, after = self._usage, event.usage
        if before is not None:
            after = before.merged(after)
            if (after.output_tokens or 0) < (before.output_tokens or 0):
                raise ProtocolViolation("usage is cumulative", "fewer output tokens than reported before")
        self._usage = after
        self._extend(event.extensions)

    def _finish(self, event: Finished) -> None:
        named = [stop.choice for stop in event.stops]
        if named != sorted(set(named)) or not set(named) >= self._choices.keys():
            raise ProtocolViolation(
                "one stop for each choice", f"stops {named}, seen {sorted(self._choices)}"
            )
        for index, choice in self._choices.items():
            if not all(part.ended for part in choice.parts):
                raise ProtocolViolation("parts end before the answer", f"choice {index} has an open part")
        self._terminal = event
        self._extend(event.extensions)

    def _extend(self, extensions: Extensions) -> None:
        for dialect, values in extensions.items():
            self._extensions.setdefault(dialect, {}).update(values)


def fold(events: list[ChatEvent]) -> ChatResult:
    """The complete answer of a complete stream. Raises as `Assembler` does."""
    assembler = Assembler()
    for event in events:
        assembler.feed(event)
    return assembler.result()


def unfold(result: ChatResult) -> list[ChatEvent]:
    """The shortest stream that folds to `result`: one delta for each text of each part."""
    events: list[ChatEvent] = [Started(result.id, result.model, result.created, result.extensions)]
    for choice in result.choices:
        events.extend(_unfold_choice(choice))
    if result.usage is not None:
        events.append(UsageReported(result.usage))
    events.append(Finished(tuple(choice.stop for choice in result.choices)))
    return events


def _unfold_choice(choice: Choice) -> list[ChatEvent]:
    events: list[ChatEvent] = []
    logprobs = None if choice.logprobs is None else list(choice.logprobs)
    for index, part in enumerate(choice.parts):
        opening, deltas = _emptied(part)
        events.append(PartStarted(index, opening, choice.index))
        if logprobs is not None and isinstance(part, Text | Refusal):
            deltas = deltas or {"text": ""}
            events.append(PartDelta(index, deltas.pop("text", ""), choice.index, "text", logprobs))
            logprobs = None
        events.extend(
            PartDelta(index, delta, choice.index, field_name) for field_name, delta in deltas.items()
        )
        events.append(PartEnded(index, choice.index))
    return events


def _emptied(part: Part) -> tuple[Part, dict[DeltaField, str]]:
    """A part as it opens, and what is to be appended to it."""
    match part:
        case Text() | Refusal():
            return replace(part, text=""), {"text": part.text} if part.text else {}
        case ToolCall():
            return replace(part, arguments=""), {"arguments": part.arguments} if part.arguments else {}
        case Reasoning():
            grown: Mapping[DeltaField, str | None] = {
                "text": part.text,
                "signature": part.signature,
                "data": part.data,
            }
            deltas = {name: value for name, value in grown.items() if value}
            emptied = replace(
                part,
                text="",
                signature=None if part.signature else part.signature,
                data=None if part.data else part.data,
            )
            return emptied, deltas
        case _:
            return part, {}
