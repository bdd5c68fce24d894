"""One candidate of an answer, chunk by chunk or whole, read into parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headgate.core.errors import InvalidRequest, StreamBroken
from headgate.core.events import ChatEvent, PartCited, PartDelta, PartEnded, PartStarted, Stop
from headgate.core.messages import JSON, Part, Reasoning, Text, ToolCall
from headgate.dialects.gemini.citations import citations_from_wire, logprobs_from_wire
from headgate.dialects.gemini.part_decoder import PartDecoder, ToolCalls
from headgate.dialects.gemini.vocabulary import stop_from_word

_FIELDS = frozenset({"content", "finishReason", "index", "logprobsResult"})
_CITING = ("citationMetadata", "groundingMetadata")


class CandidateDecoder:
    """Feeds on the `candidates[i]` objects of one index.

    Text and thoughts grow from chunk to chunk until another kind of part begins. What is signed is a part of
    its own. Citations come when the text ends, because only then their offsets can be told.
    """

    def __init__(self, index: int, answer_id: str) -> None:
        self.index = index
        self.finished = False
        self.extra: dict[str, Any] = {}
        """Fields without a neutral place, and those that callers of this dialect get whole."""
        self.open: tuple[type[Part], int] | None = None
        """The part that grows: what it is, and its index."""
        self.texts: list[str] = []
        self._word: str | None = None
        self._called = False
        self._parts = 0
        self._cited = 0
        self._decoder = PartDecoder(ToolCalls(f"{answer_id}/{index}"), checked=False)

    @property
    def stop(self) -> Stop:
        if self._word is None:
            return Stop("other", self.index)
        return stop_from_word(self._word, self.index, self._called)

    def feed(self, candidate: dict[str, Any], events: list[ChatEvent]) -> None:
        """Raises StreamBroken: a part that can't be read."""
        logprobs = logprobs_from_wire(candidate.get("logprobsResult")) or None
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        for number, item in enumerate(parts if isinstance(parts, list) else ()):
            if item in ({}, {"thought": False}):
                continue
            try:
                decoded = self._decoder.decode(item, f"candidates[{self.index}].content.parts[{number}]")
            except InvalidRequest as error:
                raise StreamBroken(f"The upstream's answer can't be read. {error.message}") from None
            if self._take(decoded, logprobs, events):
                logprobs = None
        if logprobs is not None:
            self._grow(Text(""), "", logprobs, events)
        self._add_up(candidate.get("logprobsResult"))
        word = candidate.get("finishReason")
        if isinstance(word, str) and word not in ("", "FINISH_REASON_UNSPECIFIED"):
            self.finished = True
            self._word = word
        if not candidate.keys() <= _FIELDS:
            self._note(candidate)

    def end(self, events: list[ChatEvent]) -> None:
        """The answer is over: citations that no open text can take get a text of their own."""
        if self._new_citations() and (self.open is None or self.open[0] is not Text):
            self._close(events)
            self.open = (Text, self._start(Text(""), events))
        self._close(events)

    def _take(self, parts: list[Part], logprobs: list[JSON] | None, events: list[ChatEvent]) -> bool:
        """Returns True when the log probabilities have found their text."""
        if len(parts) == 1:
            part = parts[0]
            if isinstance(part, Text) and not part.extensions:
                self._grow(Text(""), part.text, logprobs, events)
                return bool(part.text) or logprobs is not None
            if isinstance(part, Reasoning) and not (part.signature or part.data or part.extensions):
                self._grow(Reasoning(), part.text, None, events)
                return False
        placed = False
        for part in parts:
            self._close(events)
            placed = self._whole(part, logprobs, events) or placed
        return placed

    def _whole(self, part: Part, logprobs: list[JSON] | None, events: list[ChatEvent]) -> bool:
        """A part that comes in one piece."""
        choice = self.index
        match part:
            case Text(text=text, extensions=extensions):
                self.texts.append(text)
                index = self._start(Text("", extensions=extensions), events)
                events.append(PartDelta(index, text, choice, "text", logprobs))
                self.open = (Text, index)
                self._close(events)
                return True
            case Reasoning(text=text):
                opening = replace(part, text="")
                index = self._start(opening, events)
                if text:
                    events.append(PartDelta(index, text, choice))
            case ToolCall(arguments=arguments):
                self._called = True
                index = self._start(replace(part, arguments=""), events)
                events.append(PartDelta(index, arguments, choice, "arguments"))
            case _:
                index = self._start(part, events)
        events.append(PartEnded(index, choice))
        return False

    def _grow(self, part: Part, text: str, logprobs: list[JSON] | None, events: list[ChatEvent]) -> None:
        if not text and logprobs is None:
            return
        if self.open is None or self.open[0] is not type(part):
            self._close(events)
            self.open = (type(part), self._start(part, events))
        if isinstance(part, Text):
            self.texts.append(text)
        events.append(PartDelta(self.open[1], text, self.index, "text", logprobs))

    def _start(self, part: Part, events: list[ChatEvent]) -> int:
        index = self._parts
        self._parts += 1
        events.append(PartStarted(index, part, self.index))
        return index

    def _close(self, events: list[ChatEvent]) -> None:
        if self.open is None:
            return
        kind, index = self.open
        if kind is Text and self._new_citations():
            found = list(citations_from_wire(self.extra, "".join(self.texts)))
            events.extend(PartCited(index, citation, self.index) for citation in found[self._cited :])
            self._cited = max(self._cited, len(found))
        events.append(PartEnded(index, self.index))
        self.open = None

    def _new_citations(self) -> bool:
        if not any(key in self.extra for key in _CITING):
            return False
        return sum(1 for _ in citations_from_wire(self.extra, "")) > self._cited

    def _add_up(self, result: object) -> None:
        """The sum that the vendor gives with its log probabilities, of all chunks."""
        added = result.get("logProbabilitySum") if isinstance(result, dict) else None
        if isinstance(added, int | float):
            before = self.extra.get("logprobsResult", {}).get("logProbabilitySum", 0)
            self.extra["logprobsResult"] = {"logProbabilitySum": before + added}

    def _note(self, candidate: dict[str, Any]) -> None:
        """Keep other fields; lists of citations that come bit by bit grow, the rest is replaced."""
        for key in candidate.keys() - _FIELDS:
            value, before = candidate[key], self.extra.get(key)
            if value is None:
                continue
            if key in _CITING and isinstance(before, dict) and isinstance(value, dict):
                value = {**before, **{name: _longer(before.get(name), item) for name, item in value.items()}}
            self.extra[key] = value


def _longer(before: object, value: object) -> object:
    """Some servers repeat the list so far, others send what is new."""
    if not isinstance(before, list) or not isinstance(value, list) or value[: len(before)] == before:
        return value
    return before + [item for item in value if item not in before]


def candidate_fields(decoders: list[CandidateDecoder]) -> dict[str, Any]:
    """Extensions of the finish: other fields of the candidates, by index."""
    fields = {str(decoder.index): decoder.extra for decoder in decoders if decoder.extra}
    return {"candidates": fields} if fields else {}
