"""Complete legacy Completions answers, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.errors import StreamBroken
from headgate.core.events import FinishReason, Stop
from headgate.core.loss import Loss
from headgate.core.messages import Part, Refusal, Text
from headgate.core.result import ChatResult, Choice
from headgate.dialects.answer_losses import note_all, note_sequence, note_stop, unplaced
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_chunks import KNOWN_FIELDS, wire_head
from headgate.dialects.openai_completions.logprobs import entries_from_wire, entries_to_wire, losses_of
from headgate.dialects.openai_completions.request_codec import NAME
from headgate.dialects.openai_errors import error_within
from headgate.dialects.openai_usage import usage_from_wire, usage_rest, usage_to_wire

OBJECT = "text_completion"
CHOICE_FIELDS = frozenset({"text", "index", "logprobs", "finish_reason"})

_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
}
_WORDS: Mapping[FinishReason, str] = {
    "length": "length",
    "context_length": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
}


def stop_from_word(word: object, choice: int) -> Stop:
    if not isinstance(word, str):
        return Stop("other", choice)
    return Stop(_REASONS.get(word, "other"), choice, native=word)


def word_from_stop(stop: Stop) -> str:
    return _WORDS.get(stop.reason, "stop")


def loss_of_part(part: Part, path: str) -> Loss | None:
    """What a part of an answer loses here, where there is nothing but text."""
    if isinstance(part, Text):
        return Loss(f"{path}.citations", "the dialect has no citations") if part.citations else None
    if isinstance(part, Refusal):
        return Loss(path, "a refusal is told as any other text")
    return Loss(path, unplaced(part))


def decode_result(body: bytes) -> ChatResult:
    """An upstream's answer of status 200.

    Raises:
        StreamBroken: it is not a completion.
        UpstreamError: it holds an error instead.
    """
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream's answer is not JSON, or was cut.") from None
    if isinstance(value, dict) and value.get("error"):
        raise error_within(value)
    if not isinstance(value, dict) or not isinstance(value.get("choices"), list):
        raise StreamBroken("The upstream's answer is not a completion: it has no 'choices'.")
    found = [choice for choice in value["choices"] if isinstance(choice, dict)]
    usage = usage_from_wire(value.get("usage"))
    extra: dict[str, Any] = {key: value[key] for key in value.keys() - KNOWN_FIELDS if value[key] is not None}
    if rest := {str(number): more for number, choice in enumerate(found) if (more := choice_rest(choice))}:
        extra["choices"] = rest
    if usage is not None and (more_usage := usage_rest(value["usage"], usage)):
        extra["usage"] = more_usage
    identity, model, created = wire_head(value)
    return ChatResult(
        identity,
        model,
        created,
        tuple(_decode_choice(choice, number) for number, choice in enumerate(found)),
        usage,
        {NAME: extra} if extra else {},
    )


def choice_rest(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {key: choice[key] for key in choice.keys() - CHOICE_FIELDS if choice[key] is not None}


def _decode_choice(choice: dict[str, Any], number: int) -> Choice:
    text, entries = choice.get("text"), entries_from_wire(choice.get("logprobs"))
    parts = (Text(text),) if isinstance(text, str) and text else ()
    if entries is not None and not parts:
        parts = (Text(""),)
    stop = stop_from_word(choice.get("finish_reason"), number)
    return Choice(number, parts, stop, None if entries is None else tuple(entries))


def encode_result(result: ChatResult, options: AnswerOptions) -> tuple[bytes, list[Loss]]:
    """The answer's body, and what of the answer has no place in it."""
    extra: dict[str, Any] = dict(result.extensions.get(NAME, {}))
    fields, usage_fields = extra.pop("choices", None), extra.pop("usage", None)
    losses: list[Loss] = []
    note_all(result, NAME, losses)
    wire: dict[str, Any] = {
        "id": result.id if options.id is None else options.id,
        "object": OBJECT,
        "created": result.created if options.created is None else options.created,
        "model": result.model if options.model is None else options.model,
        "choices": [_encode_choice(choice, losses) | _own(fields, choice.index) for choice in result.choices],
    }
    if result.usage is not None:
        wire["usage"] = usage_to_wire(result.usage, usage_fields)
    return msgspec.json.encode(wire | extra), losses


def _own(fields: object, index: int) -> dict[str, Any]:
    found = fields.get(str(index)) if isinstance(fields, dict) else None
    return found if isinstance(found, dict) else {}


def _encode_choice(choice: Choice, losses: list[Loss]) -> dict[str, Any]:
    for index, part in enumerate(choice.parts):
        loss = loss_of_part(part, f"choices[{choice.index}].parts[{index}]")
        losses += [loss] if loss else []
    losses += losses_of(choice.logprobs or (), choice.index)
    word = word_from_stop(choice.stop)
    note_sequence(choice.stop, losses)
    note_stop(choice.stop, word, stop_from_word(word, 0).reason, losses)
    return {
        "text": "".join(part.text for part in choice.parts if isinstance(part, Text | Refusal)),
        "index": choice.index,
        "logprobs": None if choice.logprobs is None else entries_to_wire(choice.logprobs),
        "finish_reason": word,
    }
