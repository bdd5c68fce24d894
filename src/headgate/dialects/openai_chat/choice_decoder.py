"""One choice of a Chat Completions stream: deltas without part boundaries, read into parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from headgate.core.events import ChatEvent, DeltaField, PartCited, PartDelta, PartEnded, PartStarted, Stop
from headgate.core.messages import JSON, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.dialects.openai_chat.reasoning import GEMINI, DetailTracker, signature_of_call
from headgate.dialects.openai_chat.vocabulary import NAME, citation_from_wire, extended, own, stop_from_word

_DELTA_FIELDS = frozenset(
    {
        "role",
        "content",
        "refusal",
        "reasoning_content",
        "reasoning",
        "reasoning_details",
        "tool_calls",
        "function_call",
        "annotations",
    }
)
_CALL_FIELDS = frozenset({"index", "id", "type", "function", "custom"})
_BODY_FIELDS = frozenset({"name", "arguments", "input"})
_TEXT, _REFUSAL, _REASONING = Text(""), Refusal(""), Reasoning()
"""Parts as they open: nothing of them is known but their kind."""
_CHOICE_FIELDS = frozenset({"index", "delta", "finish_reason", "logprobs", "message"})


@dataclass(slots=True)
class _Call:
    """A tool call as its deltas come in; it becomes a part when its name is known."""

    id: str = ""
    name: str = ""
    kind: str = "function"
    legacy: bool = False
    signature: str | None = None
    rest: dict[str, Any] = field(default_factory=dict)
    part: int | None = None
    waiting: list[str] = field(default_factory=list)


class ChoiceDecoder:
    """Feeds on the `choices[i]` objects of one index.

    A text, refusal or reasoning part ends when another kind of content begins. Tool calls stay open until
    the answer ends, because vendors interleave the arguments of parallel calls.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.stop = Stop("other", index)
        self.finished = False
        self.extra: dict[str, Any] = {}
        self._parts = 0
        self._open: tuple[type[Part], int] | None = None
        self._calls: list[_Call] = []
        self._calls_by_id: dict[str, _Call] = {}
        self._calls_by_key: dict[int, _Call] = {}
        self._started_calls = 0
        self._details = DetailTracker()

    def feed(self, choice: dict[str, Any], events: list[ChatEvent]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._delta(delta, choice.get("logprobs"), events)
        word = choice.get("finish_reason")
        if isinstance(word, str) and word:
            self.finished = True
            self.stop = stop_from_word(word, self.index)
        if not choice.keys() <= _CHOICE_FIELDS:
            rest = choice.keys() - _CHOICE_FIELDS
            self.extra |= {key: choice[key] for key in rest if choice[key] is not None}

    def end(self, events: list[ChatEvent]) -> None:
        """The answer is over: calls that never got a name come out now, and every open part ends."""
        for call in self._calls:
            if call.part is None:
                self._start_call(call, events)
        self._close(events)
        parts = sorted(call.part for call in self._calls if call.part is not None)
        events.extend(PartEnded(part, self.index) for part in parts)

    def _delta(self, delta: dict[str, Any], logprobs: object, events: list[ChatEvent]) -> None:
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        thought = thought if isinstance(thought, str) else ""
        details = delta.get("reasoning_details")
        if details and isinstance(details, list):
            self._detailed(thought, [entry for entry in details if isinstance(entry, dict)], events)
        elif thought:
            self._grow(_REASONING, thought, None, events)
        entries = logprobs if isinstance(logprobs, dict) else {}
        content = delta.get("content")
        if isinstance(content, list):
            self._items(content, events)
        else:
            self._text(_TEXT, content, entries.get("content"), events)
        if delta.get("annotations"):
            self._annotate(delta["annotations"], events)
        self._text(_REFUSAL, delta.get("refusal"), entries.get("refusal"), events)
        function_call = delta.get("function_call")
        if isinstance(function_call, dict):
            self._legacy_call(function_call, events)
        calls = delta.get("tool_calls")
        if isinstance(calls, list):
            for call in calls:
                if isinstance(call, dict):
                    self._call(call, events)
        if not delta.keys() <= _DELTA_FIELDS:
            self._unknown(delta, events)

    def _text(self, part: Text | Refusal, delta: object, logprobs: object, events: list[ChatEvent]) -> None:
        entries = logprobs if isinstance(logprobs, list) and logprobs else None
        text = delta if isinstance(delta, str) else ""
        if text or entries is not None:
            self._grow(part, text, entries, events)

    def _detailed(self, thought: str, entries: list[dict[str, Any]], events: list[ChatEvent]) -> None:
        """Thoughts with their signatures. The plain text beside them says the same once more, but for a gap
        before it; where it differs it is taken in place of the text of a lone detail, as it is where a chunk
        like the one before is not parsed."""
        texts = [entry for entry in entries if entry.get("text") or entry.get("summary")]
        if thought and not texts:
            self._grow(_REASONING, thought, None, events)
        for entry in entries:
            if not self._details.continues(entry) or self._open is None:
                self._close(events)
                part = self._details.begin(entry)
                self._open = (Reasoning, self._start(part, events))
                if "detail" in own(part.extensions):
                    continue
            text = entry.get("text") or entry.get("summary")
            if len(texts) == 1 and entry is texts[0] and thought.removesuffix(str(text)).strip("\n"):
                text = thought
            grown: tuple[tuple[DeltaField, object], ...] = (
                ("text", text),
                ("signature", entry.get("signature")),
                ("data", entry.get("data")),
            )
            events.extend(
                PartDelta(self._open[1], delta, self.index, name)
                for name, delta in grown
                if isinstance(delta, str) and delta
            )

    def _items(self, items: list[Any], events: list[ChatEvent]) -> None:
        """Content as a list of chunks, thoughts among them (Mistral)."""
        for item in items:
            if not isinstance(item, dict):
                continue
            if item.get("type") == "thinking":
                thoughts = item.get("thinking")
                for thought in thoughts if isinstance(thoughts, list) else ():
                    if isinstance(thought, dict) and isinstance(thought.get("text"), str):
                        self._grow(_REASONING, thought["text"], None, events)
            else:
                self._text(_TEXT, item.get("text"), None, events)

    def _grow(self, part: Part, delta: str, logprobs: list[JSON] | None, events: list[ChatEvent]) -> None:
        if self._open is None or self._open[0] is not type(part):
            self._close(events)
            self._open = (type(part), self._start(part, events))
        events.append(PartDelta(self._open[1], delta, self.index, "text", logprobs))

    def _start(self, part: Part, events: list[ChatEvent]) -> int:
        index = self._parts
        self._parts += 1
        events.append(PartStarted(index, part, self.index))
        return index

    def _close(self, events: list[ChatEvent]) -> None:
        if self._open is not None:
            events.append(PartEnded(self._open[1], self.index))
            self._open = None
            self._details.close()

    def _annotate(self, annotations: object, events: list[ChatEvent]) -> None:
        for item in annotations if isinstance(annotations, list) else ():
            if isinstance(item, dict):
                if self._open is None or self._open[0] is not Text:
                    self._close(events)
                    self._open = (Text, self._start(Text(""), events))
                events.append(PartCited(self._open[1], citation_from_wire(item), self.index))

    def _unknown(self, delta: dict[str, Any], events: list[ChatEvent]) -> None:
        rest = {key: delta[key] for key in delta.keys() - _DELTA_FIELDS if delta[key] is not None}
        if rest:
            self._close(events)
            events.append(PartEnded(self._start(Opaque(NAME, rest), events), self.index))

    def _legacy_call(self, delta: dict[str, Any], events: list[ChatEvent]) -> None:
        call = next((call for call in self._calls if call.legacy), None)
        if call is None:
            call = _Call(f"function_call_{self.index}", legacy=True)
            self._calls.append(call)
        self._grow_call(call, delta.get("name"), delta.get("arguments"), events)

    def _call(self, delta: dict[str, Any], events: list[ChatEvent]) -> None:
        call = self._find_call(delta)
        if delta.get("type") == "custom" or isinstance(delta.get("custom"), dict):
            call.kind = "custom"
        body = delta.get(call.kind)
        if not isinstance(body, dict):
            body = {}
        if call.part is None:
            self._note_rest(call, delta, body)
        arguments = body.get("input") if call.kind == "custom" else body.get("arguments")
        self._grow_call(call, body.get("name"), arguments, events)

    def _note_rest(self, call: _Call, delta: dict[str, Any], body: dict[str, Any]) -> None:
        """What else a call comes with: a signature, unknown fields of either level."""
        rest = {key: value for key, value in delta.items() if key not in _CALL_FIELDS and value is not None}
        if rest:
            call.signature = signature_of_call(rest) or call.signature
            call.rest |= rest
        inner = {key: value for key, value in body.items() if key not in _BODY_FIELDS and value is not None}
        if inner:
            call.rest[call.kind] = inner

    def _find_call(self, delta: dict[str, Any]) -> _Call:
        """The call that a delta belongs to; a new one if there is none.

        By index and id, else by id alone, else by index: unless the id is new, because some vendors give
        every parallel call the index 0. An index that is new begins a call, because some give two calls one
        id. With neither index nor id it is the latest call.
        """
        index, given = delta.get("index"), delta.get("id")
        call_id: str = given if isinstance(given, str) else ""
        if isinstance(index, int):
            call = self._calls_by_key.get(index)
            known = None if call is None else self._calls_by_id.get(call_id)
        else:
            index, call = len(self._calls), self._calls[-1] if self._calls else None
            known = self._calls_by_id.get(call_id)
        if known is not None and (call is None or call.id != call_id):
            return known
        if call is None or (call_id and call.id != call_id and (call.id or call.part is not None)):
            call = _Call()
            self._calls.append(call)
            self._calls_by_key[index] = call
        if call_id:
            call.id = call_id
            self._calls_by_id[call_id] = call
        return call

    def _grow_call(self, call: _Call, name: object, arguments: object, events: list[ChatEvent]) -> None:
        text = arguments if isinstance(arguments, str) else ""
        if isinstance(arguments, dict | list):
            text = msgspec.json.encode(arguments).decode()
        if text:
            call.waiting.append(text)
        if call.part is None and isinstance(name, str) and name:
            call.name = name
            self._start_call(call, events)
        elif call.part is not None and call.waiting:
            events.append(PartDelta(call.part, "".join(call.waiting), self.index, "arguments"))
            call.waiting.clear()

    def _start_call(self, call: _Call, events: list[ChatEvent]) -> None:
        self._close(events)
        call.id = call.id or f"call_{self.index}_{self._started_calls}"
        self._started_calls += 1
        if call.signature is not None:
            signed = self._start(Reasoning(origin=GEMINI), events)
            events.append(PartDelta(signed, call.signature, self.index, "signature"))
            events.append(PartEnded(signed, self.index))
        marks = extended({"function_call": {}} if call.legacy else call.rest)
        call.part = self._start(ToolCall(call.id, call.name, "", call.kind, extensions=marks), events)
        if call.waiting:
            events.append(PartDelta(call.part, "".join(call.waiting), self.index, "arguments"))
            call.waiting.clear()
