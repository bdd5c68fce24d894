"""Complete Messages answers, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken
from headgate.core.events import Started
from headgate.core.loss import Loss
from headgate.core.messages import Part, Reasoning, Refusal, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects.answer_losses import FREE_FORM, note_all, note_citation, note_stop
from headgate.dialects.anthropic.answer_blocks import (
    NOT_REFUSED,
    citation_forms,
    opaque_text,
    opening_block,
    part_from_block,
)
from headgate.dialects.anthropic.errors import error_from_value
from headgate.dialects.anthropic.usage import usage_from_wire, usage_to_wire
from headgate.dialects.anthropic.vocabulary import (
    DIRECT,
    NAME,
    UNREADABLE_ARGUMENTS,
    input_from_arguments,
    own,
    stop_from_wire,
    stop_to_wire,
    unknown_word,
)
from headgate.dialects.dialect import AnswerOptions

_KNOWN_FIELDS = frozenset({"id", "type", "role", "content", "model", "stop_reason", "stop_sequence"})


def decode_result(body: bytes) -> ChatResult:
    """An upstream's answer of status 200.

    Raises:
        StreamBroken: it is not a message.
        UpstreamError: it holds an error instead.
    """
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream's answer is not JSON, or was cut.") from None
    if isinstance(value, dict) and (value.get("type") == "error" or value.get("error")):
        raise error_from_value(value)
    if not isinstance(value, dict) or not isinstance(value.get("content"), list):
        raise StreamBroken("The upstream's answer is not a message: it has no 'content'.")
    head = started(value)
    stop = stop_from_wire(value.get("stop_reason"), value.get("stop_sequence"))
    parts = tuple(part_from_block(block) for block in value["content"] if isinstance(block, dict))
    extra = own(head.extensions) | unknown_word(stop)
    return ChatResult(
        head.id,
        head.model,
        head.created,
        (Choice(0, parts, stop),),
        usage_from_wire(value.get("usage")),
        {NAME: extra} if extra else {},
    )


def started(message: Mapping[str, Any]) -> Started:
    """The beginning of an answer; its other fields, usage included, are kept as this dialect's own.

    What the upstream leaves out or garbles is empty. The dialect has no time of creation.
    """
    identity, model = message.get("id"), message.get("model")
    extra = {key: message[key] for key in message.keys() - _KNOWN_FIELDS if message[key] is not None}
    if isinstance(usage := extra.get("usage"), dict):
        extra["usage"] = {key: count for key, count in usage.items() if count is not None}
    return Started(
        identity if isinstance(identity, str) else "",
        model if isinstance(model, str) else "",
        0,
        {NAME: extra} if extra else {},
    )


_USAGE: Mapping[str, Any] = dict.fromkeys(
    ("cache_creation", "inference_geo", "output_tokens_details", "server_tool_use", "service_tier")
)
_REQUIRED: Mapping[str, dict[str, Any]] = {
    "text": {"citations": None},
    "tool_use": {"caller": DIRECT},
}
"""What a whole answer always has by the vendor's OpenAPI description, and what it says by default."""


def encode_result(result: ChatResult, options: AnswerOptions) -> tuple[bytes, list[Loss]]:
    """The answer's body, and what of the answer has no place in it. Of several choices the first is sent."""
    losses = [
        Loss(f"choices[{choice.index}]", "the dialect gives one answer to a request")
        for choice in result.choices[1:]
    ]
    note_all(result, NAME, losses)
    extra = own(result.extensions)
    usage_form = extra.pop("usage", None)
    wire: dict[str, Any] = {
        "id": result.id if options.id is None else options.id,
        "type": "message",
        "role": "assistant",
        "model": result.model if options.model is None else options.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
    }
    if result.choices:
        choice = result.choices[0]
        wire["content"] = _content(choice, losses)
        wire["stop_reason"] = word = stop_to_wire(
            choice.stop,
            called=any(isinstance(part, ToolCall) for part in choice.parts),
            refused=any(isinstance(part, Refusal) for part in choice.parts),
        )
        if word != "refusal":
            refusals = [number for number, part in enumerate(choice.parts) if isinstance(part, Refusal)]
            losses += [Loss(f"content[{number}]", NOT_REFUSED) for number in refusals]
        if "stop_reason" not in extra:
            note_stop(choice.stop, word, stop_from_wire(word, None).reason, losses)
        wire["stop_sequence"] = choice.stop.sequence
    form = usage_form if isinstance(usage_form, dict) else {}
    wire["usage"] = {**_USAGE, **usage_to_wire(result.usage or Usage(), form)}
    return msgspec.json.encode(wire | extra), losses


def _content(choice: Choice, losses: list[Loss]) -> list[dict[str, Any]]:
    if choice.logprobs is not None:
        losses.append(Loss("choices[0].logprobs", "the dialect has no log probabilities"))
    blocks = []
    for index, part in enumerate(choice.parts):
        block, reasons = _block(part)
        losses += [Loss(f"content[{index}]", reason) for reason in reasons]
        for citation in part.citations if isinstance(part, Text) else ():
            note_citation(citation, NAME, f"content[{index}]", ("source",), losses)
        if block is not None:
            kind = block.get("type")
            required = _REQUIRED.get(kind, {}) if isinstance(kind, str) else {}
            blocks.append({**required, **block})
    return blocks


def _block(part: Part) -> tuple[dict[str, Any] | None, list[str]]:
    if isinstance(part, Reasoning) and part.redacted:
        data, reason = opaque_text(part)
        if data is None:
            return None, [reason or "a redacted thought without its data"]
        shown = ["a redacted thought shows no text"] if part.text else []
        return {"type": "redacted_thinking", "data": data, **own(part.extensions)}, shown
    block, reason = opening_block(part)
    if block is None:
        return None, [reason or ""]
    match part:
        case Text():
            block["text"] = part.text
            forms, reason = citation_forms(part)
            if forms:
                block["citations"] = forms
        case Refusal():
            block["text"] = part.text
        case Reasoning():
            block["thinking"] = part.text
            signature, reason = opaque_text(part)
            block["signature"] = signature or ""
        case ToolCall():
            block["input"], readable = input_from_arguments(part.arguments)
            reason = None if readable else UNREADABLE_ARGUMENTS
            if part.kind != "function":
                return block, [FREE_FORM, *([reason] if reason else [])]
    return block, [reason] if reason else []
