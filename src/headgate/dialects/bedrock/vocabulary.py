"""Words and small objects that requests, answers and streams of Bedrock's Converse share.

Source: Amazon Bedrock API reference, "Converse" and "ConverseStream", as the service model of botocore 1.44
describes them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from headgate.core.call import Usage
from headgate.core.errors import InvalidRequest
from headgate.core.events import FinishReason, Stop
from headgate.core.loss import Loss
from headgate.core.messages import Extensions, Reasoning
from headgate.dialects import foreign
from headgate.dialects.json_bodies import wrong_value
from headgate.dialects.sealed import seal, unseal

NAME = "converse"

_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "model_context_window_exceeded": "context_length",
    "malformed_model_output": "other",
    "malformed_tool_use": "other",
}
_WORDS: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "content_filtered",
    "refusal": "content_filtered",
    "context_length": "model_context_window_exceeded",
    "pause": "end_turn",
    "other": "end_turn",
}


def stop_from_word(word: str) -> Stop:
    return Stop(_REASONS.get(word, "other"), native=word)


def word_from_stop(stop: Stop) -> str:
    """Converse has no word for a refusal or a pause: the nearest is sent."""
    if stop.native is not None and _REASONS.get(stop.native) == stop.reason:
        return stop.native
    if stop.reason == "stop" and stop.sequence is not None:
        return "stop_sequence"
    return _WORDS[stop.reason]


def own(extensions: Extensions) -> dict[str, Any]:
    """A copy of this dialect's share of the extensions."""
    return dict(extensions.get(NAME, {}))


def extended(values: Mapping[str, Any]) -> Extensions:
    return {NAME: dict(values)} if values else {}


def foreign_losses(extensions: Extensions, path: str) -> list[Loss]:
    """One loss for each field that belongs to another dialect."""
    return foreign.foreign_losses(extensions, path, NAME)


def merged(wire: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`wire` with unknown fields put back, at any depth; where both have a value, that of `extra` counts."""
    result = dict(wire)
    for key, value in extra.items():
        before = result.get(key)
        result[key] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result


_CHECKED_WHOLE = 1024 * 1024
"""Characters of base64 that are checked to the last."""


def check_base64(text: str, param: str) -> None:
    """Raises InvalidRequest unless `text` is base64 (RFC 4648, section 4) of at least one byte.

    Of a long text only the ends are looked at: the rest would hold up the event loop, and is the upstream's
    to judge.
    """
    ends = [text]
    if len(text) > _CHECKED_WHOLE and len(text) % 4 == 0 and text.isascii():
        ends = [text[:4096], text[-4096:]]
    try:
        decoded = [binascii.a2b_base64(end, strict_mode=True) for end in ends]
    except ValueError:  # binascii.Error, or not ASCII
        raise wrong_value(param, "it is not base64") from None
    if not decoded[0]:
        raise wrong_value(param, "it is empty")


def text_from_base64(data: str) -> str | None:
    """The UTF-8 text that `data` holds; None if it is not base64 or not text."""
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError:
        return None


def base64_from_text(text: str) -> str:
    try:
        return base64.b64encode(text.encode()).decode()
    except UnicodeEncodeError:
        raise InvalidRequest("The text of a document is not Unicode.", code="invalid_value") from None


# Opaque data of reasoning. A sealed text says in its origin which field the data stood in, because a
# block of Converse has but one place for it: `signature` beside a text, `redactedContent` without one.

_DATA = "/data"


def sealed_signature(part: Reasoning) -> str | None:
    """What a caller gets as `signature` of a reasoning text: raw from Bedrock, sealed from elsewhere."""
    if part.origin in (None, NAME):
        return part.signature
    if part.signature is not None:
        return seal(part.origin, part.signature)
    return None if part.data is None else seal(part.origin + _DATA, part.data)


def sealed_redaction(part: Reasoning) -> str:
    """What a caller gets as `redactedContent`: base64, as every blob in JSON."""
    data = part.data or ""
    return data if part.origin in (None, NAME) else base64_from_text(seal(part.origin, data))


def reasoning_from_text(text: str, signature: str | None, extensions: Extensions) -> Reasoning:
    opened = None if signature is None else unseal(signature)
    if opened is None:
        return Reasoning(text, signature, origin=NAME, extensions=extensions)
    origin, data = opened
    if origin.endswith(_DATA):
        return Reasoning(text, data=data, origin=origin.removesuffix(_DATA), extensions=extensions)
    return Reasoning(text, data, origin=origin, extensions=extensions)


def reasoning_from_redaction(data: str, extensions: Extensions) -> Reasoning:
    opened = unseal(text_from_base64(data) or "")
    if opened is None:
        return Reasoning(data=data, redacted=True, origin=NAME, extensions=extensions)
    return Reasoning(data=opened[1], redacted=True, origin=opened[0], extensions=extensions)


# Usage. Bedrock counts tokens read from and written to the cache beside `inputTokens`, not in it.


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def usage_from_wire(value: object) -> Usage | None:
    """Token counts, by Converse's names or, in Nova's own answers, Nova's; None where `value` holds none."""
    if not isinstance(value, dict):
        return None
    sent, received = _count(value.get("inputTokens")), _count(value.get("outputTokens"))
    read, written = (
        _count(value.get(name, value.get(novas)))
        for name, novas in zip(CACHE_FIELDS, NOVA_CACHE_FIELDS, strict=True)
    )
    if sent is None and received is None:
        return None
    if sent is not None:
        sent += (read or 0) + (written or 0)
    return Usage(sent, received, read, written)


def usage_rest(value: object) -> Extensions:
    """What of a usage has no neutral place (`cacheDetails`)."""
    if not isinstance(value, dict):
        return {}
    rest = {key: value[key] for key in value.keys() - _USAGE_FIELDS if value[key] is not None}
    return extended({"usage": rest} if rest else {})


CACHE_FIELDS = ("cacheReadInputTokens", "cacheWriteInputTokens")
NOVA_CACHE_FIELDS = ("cacheReadInputTokenCount", "cacheWriteInputTokenCount")
_USAGE_FIELDS = frozenset({"inputTokens", "outputTokens", "totalTokens", *CACHE_FIELDS, *NOVA_CACHE_FIELDS})


def usage_to_wire(usage: Usage, cache_fields: tuple[str, str] = CACHE_FIELDS) -> dict[str, Any]:
    """The three totals are required: what nobody counted is 0."""
    read, written = usage.cached_tokens, usage.cache_write_tokens
    wire = {
        "inputTokens": max(0, (usage.input_tokens or 0) - (read or 0) - (written or 0)),
        "outputTokens": usage.output_tokens or 0,
        "totalTokens": usage.total_tokens or 0,
    }
    cache = zip(cache_fields, (read, written), strict=True)
    return wire | {name: value for name, value in cache if value is not None}


def usage_losses(usage: Usage | None) -> list[Loss]:
    if usage is None or not usage.reasoning_tokens:
        return []
    return [Loss("usage.reasoning_tokens", "the dialect counts no reasoning apart from the output")]
