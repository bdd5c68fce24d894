"""Words and small objects that requests, answers and streams of the Responses API share.

Source: OpenAI API reference, "Responses" and "Streaming events", as the openai SDK 3.x types them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from headgate.core.call import Usage
from headgate.core.errors import ContextLengthExceeded, HeadgateError, UpstreamError
from headgate.core.events import FinishReason, Stop
from headgate.core.loss import Loss
from headgate.core.messages import Citation, Extensions, Reasoning
from headgate.dialects import foreign, openai_errors
from headgate.dialects.openai_shared import VENDOR
from headgate.dialects.sealed import seal, unseal

NAME = "openai_responses"

AUDIO_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}
ENCRYPTED = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"

_MINTED = re.compile(r"[a-z]+_hg\d+_")
_FIELDS = {"s": "signature", "d": "data", "r": "redacted"}


def mint_item_id(prefix: str, response_id: str, number: int) -> str:
    """An id for an output item that its upstream gave none: unique within all responses."""
    return f"{prefix}_hg{number}_{response_id.removeprefix('resp_')}"


def own_id(value: object) -> str | None:
    """An item's id worth keeping: one of the vendor's, not one that `mint_item_id` made."""
    return value if isinstance(value, str) and value and not _MINTED.match(value) else None


def own(extensions: Extensions) -> dict[str, Any]:
    """A copy of this dialect's share of the extensions."""
    return dict(extensions.get(NAME, {}))


def extended(values: Mapping[str, Any]) -> Extensions:
    return {NAME: values} if values else {}


def foreign_losses(extensions: Extensions, path: str) -> list[Loss]:
    """One loss for each field that belongs to another dialect."""
    return foreign.foreign_losses(extensions, path, NAME, VENDOR)


def settled(item: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth keeping of an item's unknown fields: no minted id, no status that says nothing."""
    kept = dict(item)
    named = own_id(kept.get("id")) is not None
    if not named and isinstance(kept.get("id"), str | None):
        kept.pop("id", None)
    if kept.get("status") in ("completed", "in_progress", None, *(() if named else ("incomplete",))):
        kept.pop("status", None)
    return kept


# Why an answer ended.


def stop_from_wire(status: object, details: object, called: bool) -> Stop:
    """`status` and `incomplete_details` of a response; `called`: it holds calls of the caller's tools."""
    if status == "incomplete":
        reason = details.get("reason") if isinstance(details, dict) else None
        word = reason if isinstance(reason, str) else "incomplete"
        reasons: Mapping[str, FinishReason] = {
            "max_output_tokens": "length",
            "content_filter": "content_filter",
        }
        return Stop(reasons.get(word, "other"), native=word)
    return Stop("tool_calls" if called else "stop", native="completed")


def incomplete_reason(stop: Stop, refused: bool) -> str | None:
    """`incomplete_details.reason`, None for a complete answer. `refused`: the answer says so in a part."""
    match stop.reason:
        case "length" | "context_length":
            return "max_output_tokens"
        case "content_filter":
            return "content_filter"
        case "refusal" if not refused:
            return "content_filter"
        case _:
            return None


# Usage.


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def usage_from_wire(value: object) -> Usage | None:
    """Token counts; None where `value` holds none."""
    if not isinstance(value, dict):
        return None
    sent, received = _count(value.get("input_tokens")), _count(value.get("output_tokens"))
    if sent is None and received is None:
        return None
    cached = write = thought = None
    details, more = value.get("input_tokens_details"), value.get("output_tokens_details")
    if isinstance(details, dict):
        cached, write = _count(details.get("cached_tokens")), _count(details.get("cache_write_tokens"))
    if isinstance(more, dict):
        thought = _count(more.get("reasoning_tokens"))
    return Usage(sent, received, cached, write, thought)


_DETAILS: Mapping[str, frozenset[str]] = {
    "input_tokens_details": frozenset({"cached_tokens", "cache_write_tokens"}),
    "output_tokens_details": frozenset({"reasoning_tokens"}),
}


def usage_rest(value: object) -> dict[str, Any]:
    """What `usage_from_wire` left out of a report: unknown fields of both levels."""
    known = ("input_tokens", "output_tokens", "total_tokens")
    fields: dict[str, Any] = value if isinstance(value, dict) else {}
    rest = {key: item for key, item in fields.items() if key not in known and item is not None}
    for key, counted in _DETAILS.items():
        if isinstance(details := rest.pop(key, None), dict):
            more = {name: n for name, n in details.items() if name not in counted and n is not None}
            rest |= {key: more} if more else {}
    return rest


def usage_to_wire(usage: Usage, rest: Mapping[str, Any]) -> dict[str, Any]:
    """All counts are numbers in this dialect: what nobody counted is 0. `rest` is what `usage_rest` gave."""
    wire: dict[str, Any] = {
        "input_tokens": usage.input_tokens or 0,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": usage.output_tokens or 0,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.total_tokens or 0,
    }
    details = {key: wire[key] | more for key in _DETAILS if isinstance(more := rest.get(key), dict)}
    return {**rest, **wire, **details}


# Citations.


def citation_from_wire(item: dict[str, Any]) -> Citation:
    """An annotation of an output text; its own form is kept for callers of this dialect."""
    kind = item.get("type")
    start, end = _count(item.get("start_index")), _count(item.get("end_index"))
    url, title = item.get("url"), item.get("title") or item.get("filename")
    return Citation(
        "url" if kind == "url_citation" else "file" if isinstance(item.get("file_id"), str) else "other",
        url=url if isinstance(url, str) else None,
        title=title if isinstance(title, str) else None,
        start=start,
        end=end,
        extensions={NAME: item},
    )


def citation_to_wire(citation: Citation) -> dict[str, Any]:
    """Any citation as an annotation: what has no address is told by its title and quote."""
    if own_form := citation.extensions.get(NAME):
        return dict(own_form)
    return {
        "type": "url_citation",
        "url": citation.url or "",
        "title": citation.title or citation.quote or "",
        "start_index": citation.start or 0,
        "end_index": citation.end or 0,
    }


# Reasoning of other vendors, carried in `encrypted_content`.


def seal_reasoning(part: Reasoning) -> str | None:
    """What stands in `encrypted_content` for a caller; None for nothing.

    Raises:
        ValueError: the part is opaque and does not say whose.
    """
    opaque = part.signature or part.data
    if opaque is None:
        return None
    if part.origin == NAME:
        return opaque
    if part.origin is None:
        raise ValueError("opaque reasoning of unknown origin")
    letter = "s" if part.signature else "r" if part.redacted else "d"
    return seal(part.origin, f"{letter}:{opaque}")


def unseal_reasoning(text: str) -> dict[str, Any]:
    """Fields of `Reasoning` from `encrypted_content`."""
    unsealed = unseal(text)
    if unsealed is None:
        return {"data": text, "origin": NAME}
    origin, inner = unsealed
    letter, _, opaque = inner.partition(":")
    match _FIELDS.get(letter):
        case "signature":
            return {"signature": opaque, "origin": origin}
        case "redacted":
            return {"data": opaque, "origin": origin, "redacted": True}
        case _:
            return {"data": opaque if letter == "d" else inner, "origin": origin}


# Errors within an answer.


def error_within(value: object) -> HeadgateError:
    """The error that an `error` event, or a failed response, holds; its status by its own words."""
    detail: Mapping[str, Any] = value if isinstance(value, dict) else {}
    inner = detail.get("error")
    if isinstance(inner, dict):
        detail = inner
    elif detail.get("type") == "error":
        detail = {key: item for key, item in detail.items() if key != "type"}
    if not detail:
        return UpstreamError("The upstream's answer failed, and it gave no reason.")
    return openai_errors.error_within({"error": detail})


def error_to_wire(error: HeadgateError) -> dict[str, Any]:
    """The `error` of a failed response: an upstream's own code, else one of the vendor's two general ones."""
    code = "rate_limit_exceeded" if error.status == 429 else "server_error"
    named = isinstance(error, UpstreamError | ContextLengthExceeded)
    if named and error.code and error.code != UpstreamError.default_code:
        code = error.code
    return {"code": code, "message": error.message}
