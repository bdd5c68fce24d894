"""Complete `generateContent` answers, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from headgate.core.errors import StreamBroken
from headgate.core.events import ChatEvent, Stop
from headgate.core.fold import fold
from headgate.core.loss import Loss
from headgate.core.messages import Citation, Text
from headgate.core.result import ChatResult, Choice
from headgate.dialects.answer_losses import note_all, note_citation, note_sequence, note_stop, untitled
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.gemini.citations import citations_to_wire, logprobs_to_wire
from headgate.dialects.gemini.errors import error_within
from headgate.dialects.gemini.part_encoder import PartEncoder
from headgate.dialects.gemini.stream_decoder import AnswerDecoder
from headgate.dialects.gemini.usage import usage_to_wire
from headgate.dialects.gemini.vocabulary import NAME, own, stop_from_word, word_from_stop

CACHE_WRITES = Loss("usage.cache_write_tokens", "the dialect does not count what was written to a cache")


def decode_result(body: bytes) -> ChatResult:
    """An upstream's answer of status 200.

    Raises:
        StreamBroken: it is not an answer to `generateContent`.
        UpstreamError: it holds an error instead.
    """
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream's answer is not JSON, or was cut.") from None
    if (error := error_within(value)) is not None:
        raise error
    if not isinstance(value, dict) or not (value.get("candidates") or value.get("promptFeedback")):
        raise StreamBroken("The upstream's answer has neither 'candidates' nor 'promptFeedback'.")
    events: list[ChatEvent] = []
    decoder = AnswerDecoder()
    decoder.take_object(value, events)
    decoder.finish(events, whole=True)
    return fold(events)


def encode_result(result: ChatResult, options: AnswerOptions) -> tuple[bytes, list[Loss]]:
    """The answer's body, and what of the answer has no place in it.

    Raises:
        StreamBroken: the model called a tool with arguments that are not a JSON object.
    """
    losses: list[Loss] = []
    note_all(result, NAME, losses)
    extra = own(result.extensions)
    fields, counts = object_of(extra.pop("candidates", None)), object_of(extra.pop("usageMetadata", None))
    blocked = bool(object_of(extra.get("promptFeedback")).get("blockReason"))
    wire: dict[str, Any] = {}
    if not blocked or any(choice.parts for choice in result.choices):
        wire["candidates"] = [
            _candidate(choice, object_of(fields.get(str(choice.index))), losses) for choice in result.choices
        ]
    if result.usage is not None:
        wire["usageMetadata"] = usage_to_wire(result.usage, counts)
        if result.usage.cache_write_tokens:
            losses.append(CACHE_WRITES)
    wire["modelVersion"] = result.model if options.model is None else options.model
    wire["responseId"] = result.id if options.id is None else options.id
    return msgspec.json.encode(wire | extra), losses


def _candidate(choice: Choice, fields: Mapping[str, Any], losses: list[Loss]) -> dict[str, Any]:
    encoder = PartEncoder(losses, {}, for_caller=True)
    path = f"candidates[{choice.index}]"
    parts = [
        wire
        for number, part in enumerate(choice.parts)
        for wire in encoder.encode(part, f"{path}.content.parts[{number}]")
    ]
    texts = [part for part in choice.parts if isinstance(part, Text)]
    return {
        "content": {"parts": [*parts, *encoder.flush()], "role": "model"},
        **finish_fields(
            choice.stop,
            [citation for part in texts for citation in part.citations],
            "".join(part.text for part in texts),
            losses,
        ),
        **_merged_logprobs(choice, fields),
    }


def finish_fields(stop: Stop, citations: Iterable[Citation], text: str, losses: list[Loss]) -> dict[str, Any]:
    """What ends a candidate: finish reason, index, and other vendors' citations of `text`."""
    note_sequence(stop, losses)
    word = word_from_stop(stop)
    note_stop(stop, word, stop_from_word(word, 0, stop.reason == "tool_calls").reason, losses)
    wire: dict[str, Any] = {"finishReason": word, "index": stop.choice}
    foreign = [each for each in citations if NAME not in each.extensions]
    for each in foreign:
        note_citation(each, NAME, f"candidates[{stop.choice}]", untitled(each), losses)
    if foreign:
        wire["citationMetadata"] = {"citations": citations_to_wire(foreign, text)}
    return wire


def _merged_logprobs(choice: Choice, fields: Mapping[str, Any]) -> dict[str, Any]:
    if choice.logprobs is None:
        return dict(fields)
    told = logprobs_to_wire(choice.logprobs) | object_of(fields.get("logprobsResult"))
    return {**fields, "logprobsResult": told}


def object_of(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
