"""Answers, written for callers of Cohere's Command R models, whole and streamed.

Source: Amazon Bedrock user guide, "Cohere Command R and Command R+ models"; Cohere API reference, "Chat" (v1)
and "Chat with streaming" (v1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

import msgspec

from headgate.core.call import Usage
from headgate.core.events import (
    ChatEvent,
    Failed,
    Finished,
    FinishReason,
    PartCited,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.loss import Loss
from headgate.core.messages import Citation, Part, Refusal, Text, ToolCall
from headgate.core.result import ChatResult
from headgate.dialects import sse
from headgate.dialects.answer_losses import FREE_FORM, note, note_all, note_sequence, note_stop
from headgate.dialects.bedrock.command_r_answers import stop_from_word
from headgate.dialects.bedrock.command_r_requests import NAME
from headgate.dialects.bedrock.errors import encode_error_body, stream_error_type
from headgate.dialects.bedrock.heard import METRICS, metrics_of
from headgate.dialects.bedrock.prompt_answers import usage_losses
from headgate.dialects.dialect import AnswerOptions

_json = msgspec.json.encode

_WORDS: Mapping[FinishReason, str] = {
    "length": "MAX_TOKENS",
    "context_length": "ERROR_LIMIT",
    "content_filter": "ERROR_TOXIC",
    "refusal": "ERROR_TOXIC",
}
MAX_TEXT = 16 * 1024 * 1024
"""Characters of a stream that are told again at its end."""


def encode_result(result: ChatResult, options: AnswerOptions) -> tuple[bytes, list[Loss]]:
    """The answer's body, and what of the answer has no place in it. Of several choices the first is told.

    `chat_history`, which repeats the request, is not written.
    """
    losses: list[Loss] = []
    note_all(result, NAME, losses)
    text, citations, calls, stop = "", list[dict[str, Any]](), list[dict[str, Any]](), Stop("other")
    for choice in result.choices:
        path = f"choices[{choice.index}]"
        if choice is not result.choices[0]:
            losses.append(Loss(path, "the dialect gives one answer"))
            continue
        stop = choice.stop
        for index, part in enumerate(choice.parts):
            where = f"{path}.parts[{index}]"
            _lose(losses, _loss_of(part, where))
            if isinstance(part, ToolCall):
                calls.append(_written(part, where, losses))
            elif isinstance(part, Text | Refusal):
                text += part.text
                for citation in part.citations if isinstance(part, Text) else ():
                    citations += _cited(citation, text, where, losses)
        if choice.logprobs is not None:
            losses.append(Loss(f"{path}.logprobs", "the dialect has no log probabilities"))
    usage = result.usage or Usage()
    losses += usage_losses(usage)
    wire = _final(options.id or result.id, text, citations, calls, stop, usage, losses)
    return _json(wire | dict(result.extensions.get(NAME, {}))), losses


def _final(
    identity: str,
    text: str,
    citations: list[dict[str, Any]],
    calls: list[dict[str, Any]],
    stop: Stop,
    usage: Usage,
    losses: list[Loss],
) -> dict[str, Any]:
    word = _WORDS.get(stop.reason, "COMPLETE")
    note_sequence(stop, losses)
    note_stop(stop, word, stop_from_word(word, bool(calls)).reason, losses)
    units = {"input_tokens": usage.input_tokens or 0, "output_tokens": usage.output_tokens or 0}
    wire: dict[str, Any] = {"response_id": identity, "text": text, "generation_id": identity}
    wire["finish_reason"] = word
    wire["meta"] = {"api_version": {"version": "1"}, "billed_units": units}
    if citations:
        wire["citations"] = citations
    if calls:
        wire["tool_calls"] = calls
    return wire


def _loss_of(part: Part, path: str) -> Loss | None:
    if isinstance(part, Refusal):
        return Loss(path, "a refusal is told as any other text")
    if isinstance(part, Text | ToolCall):
        return None
    return Loss(path, f"a {type(part).__name__.lower()} part has no place in this dialect")


def _written(part: ToolCall, path: str, losses: list[Loss]) -> dict[str, Any]:
    if NAME not in part.extensions:
        _lose(losses, Loss(f"{path}.id", "calls have no ids in the dialect"))
    if part.kind != "function":
        _lose(losses, Loss(path, FREE_FORM))
    try:
        parameters = msgspec.json.decode(part.arguments or "{}")
    except (ValueError, RecursionError):
        parameters = None
    if not isinstance(parameters, dict):
        _lose(losses, Loss(f"{path}.arguments", "they are no JSON object: told under the name 'input'"))
        parameters = {"input": part.arguments}
    return {"name": part.name, "parameters": parameters}


def _cited(citation: Citation, text: str, path: str, losses: list[Loss]) -> list[dict[str, Any]]:
    """Cohere's own form whole; of another its place in the answer's text."""
    if (own := citation.extensions.get(NAME)) is not None:
        return [dict(own)]
    if citation.start is None or citation.end is None:
        _lose(losses, Loss(f"{path}.citations", "citations without a place in the text have none here"))
        return []
    for name in ("url", "title", "quote", "source"):
        if getattr(citation, name) is not None:
            _lose(losses, Loss(f"{path}.citations.{name}", "citations of the dialect have no such field"))
    start, end = citation.start, citation.end
    return [{"start": start, "end": end, "text": text[start:end], "document_ids": []}]


def _lose(losses: list[Loss], loss: Loss | None) -> None:
    if loss is not None and loss not in losses:
        losses.append(loss)


class StreamEncoder:
    """Texts as they come, behind each what it rests on; calls when they are whole; at the end all again.

    After a failure: an exception, and no `stream-end`.
    """

    def __init__(self, options: AnswerOptions) -> None:
        self.losses: list[Loss] = []
        self._options = options
        self._id = ""
        self._usage = Usage()
        self._extra: dict[str, Any] = {}
        self._parts: dict[int, Part] = {}
        self._told: list[str] = []
        self._length = 0
        self._rests_on: dict[int, list[Citation]] = {}
        self._arguments: dict[int, list[str]] = {}
        self._citations: list[dict[str, Any]] = []
        self._ended = False

    def encode(self, event: ChatEvent) -> bytes:
        if self._ended:
            return b""
        if not isinstance(event, PartDelta):
            note(event, NAME, self.losses)
        match event:
            case PartDelta() | PartStarted() | PartCited() | PartEnded() if event.choice:
                _lose(self.losses, Loss(f"choices[{event.choice}]", "the dialect gives one answer"))
            case PartDelta():
                return self._delta(event)
            case PartStarted():
                return self._part(event)
            case PartCited():
                self._rests_on.setdefault(event.index, []).append(event.citation)
            case PartEnded():
                return self._cite(event.index)
            case Started():
                self._id = self._options.id or event.id
                self._extra |= dict(event.extensions.get(NAME, {}))
                return self._event("stream-start", {"generation_id": self._id})
            case UsageReported():
                self._usage = self._usage.merged(event.usage)
            case Finished():
                return self._finish(event)
            case Failed():
                self._ended = True
                name, payload = stream_error_type(event.error), encode_error_body(event.error)
                return b'data: {"%b":%b}\n\n' % (name.encode(), payload)
            case _:
                assert_never(event)
        return b""

    def _event(self, kind: str, fields: dict[str, Any], finished: bool = False) -> bytes:
        return sse.encode(_json({"is_finished": finished, "event_type": kind, **fields}))

    def _part(self, event: PartStarted) -> bytes:
        part, path = event.part, f"choices[0].parts[{event.index}]"
        _lose(self.losses, _loss_of(part, path))
        if isinstance(part, ToolCall):
            self._parts[event.index] = part
            self._arguments[event.index] = [part.arguments]
        if not isinstance(part, Text | Refusal):
            return b""
        self._parts[event.index] = part
        if isinstance(part, Text) and part.citations:
            self._rests_on[event.index] = list(part.citations)
        return self._say(part.text) if part.text else b""

    def _delta(self, event: PartDelta) -> bytes:
        if event.logprobs is not None:
            _lose(self.losses, Loss("choices[0].logprobs", "the dialect has no log probabilities"))
        part = self._parts.get(event.index)
        if isinstance(part, ToolCall):
            self._arguments[event.index].append(event.delta)
            return b""
        return b"" if part is None else self._say(event.delta)

    def _say(self, text: str) -> bytes:
        self._length += len(text)
        if self._length <= MAX_TEXT:
            self._told.append(text)
        return b'data: {"is_finished":false,"event_type":"text-generation","text":%b}\n\n' % _json(text)

    def _cite(self, index: int) -> bytes:
        citations = self._rests_on.pop(index, [])
        if not citations:
            return b""
        text, path = "".join(self._told), f"choices[0].parts[{index}]"
        found = [each for one in citations for each in _cited(one, text, path, self.losses)]
        self._citations += found
        return self._event("citation-generation", {"citations": found}) if found else b""

    def _finish(self, event: Finished) -> bytes:
        self._ended = True
        self._extra |= dict(event.extensions.get(NAME, {}))
        calls = [
            _written(
                replace(part, arguments="".join(self._arguments[index])),
                f"choices[0].parts[{index}]",
                self.losses,
            )
            for index, part in self._parts.items()
            if isinstance(part, ToolCall)
        ]
        text = "".join(self._told)
        stop = event.stops[0] if event.stops else Stop("other")
        self.losses += [loss for loss in usage_losses(self._usage) if loss not in self.losses]
        whole = _final(self._id, text, self._citations, calls, stop, self._usage, self.losses)
        out = self._event("tool-calls-generation", {"text": text, "tool_calls": calls}) if calls else b""
        last = {
            "finish_reason": whole["finish_reason"],
            "response": whole | self._extra,
            METRICS: metrics_of(self._usage),
        }
        return out + self._event("stream-end", last, finished=True)
