"""Content blocks of an answer, both ways: what whole answers and streams share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.messages import Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.dialects.answer_losses import unplaced
from headgate.dialects.anthropic.message_decoder import SEALED_DATA
from headgate.dialects.anthropic.vocabulary import (
    DIRECT,
    NAME,
    citation_from_wire,
    citation_to_wire,
    extended,
    own,
)
from headgate.dialects.sealed import seal

NOT_REFUSED = "sent as plain text: the dialect tells a refusal by the stop reason, which is another here"
UNSPANNED = "citations of this dialect have no place in the answer's text: they belong to the whole block"


def part_from_block(block: Mapping[str, Any]) -> Part:
    """A block as a part. Never fails: what is garbled or unknown stays as it is."""
    rest = dict(block)
    kind = rest.pop("type", None)
    match kind:
        case "text" if isinstance(rest.get("text"), str):
            text, cited = rest.pop("text"), rest.pop("citations", None)
            items = [item for item in cited if isinstance(item, dict)] if isinstance(cited, list) else []
            return Text(text, tuple(citation_from_wire(item) for item in items), extensions=extended(rest))
        case "thinking" if isinstance(rest.get("thinking"), str):
            text, signature = rest.pop("thinking"), rest.pop("signature", None)
            known = signature if isinstance(signature, str) and signature else None
            return Reasoning(text, known, origin=NAME, extensions=extended(rest))
        case "redacted_thinking" if isinstance(rest.get("data"), str):
            data = rest.pop("data")
            return Reasoning(data=data, redacted=True, origin=NAME, extensions=extended(rest))
        case "tool_use" if isinstance(rest.get("id"), str) and isinstance(rest.get("name"), str):
            call_id, name, value = rest.pop("id"), rest.pop("name"), rest.pop("input", None)
            try:
                arguments = msgspec.json.encode({} if value is None else value).decode()
            except RecursionError:  # nested more deeply than anyone means
                return Opaque(NAME, dict(block))
            if rest.get("caller") == DIRECT:
                del rest["caller"]
            return ToolCall(call_id, name, arguments, extensions=extended(rest))
        case _:
            return Opaque(NAME, dict(block))


def opaque_text(part: Reasoning) -> tuple[str | None, str | None]:
    """What a caller of this dialect gets as the signature or the data of a reasoning block, and what is lost.

    Text of this vendor goes out as it is, that of others sealed with their name.
    """
    if part.signature is None and part.data is None:
        return None, None
    if part.origin is None:
        return None, "opaque text of nobody knows which vendor could not be sent back to it"
    if part.origin == NAME:
        return (part.data if part.redacted else part.signature), None
    if part.data is None or (part.redacted and part.signature is None):
        return seal(part.origin, part.signature or part.data or ""), None
    both = "of a signature and sealed text only the latter fits in one block" if part.signature else None
    return seal(part.origin, SEALED_DATA + part.data), both


def opening_block(part: Part) -> tuple[dict[str, Any] | None, str | None]:
    """A block as it starts in a stream, before its deltas; None and a reason if the dialect has none."""
    match part:
        case Text():
            return {"type": "text", "text": "", **own(part.extensions)}, None
        case Refusal():
            return {"type": "text", "text": ""}, None
        case Reasoning(redacted=False):
            return {"type": "thinking", "thinking": "", "signature": "", **own(part.extensions)}, None
        case ToolCall():
            head = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
            return head | own(part.extensions), None
        case Opaque(dialect=dialect, value=value) if dialect == NAME and isinstance(value, dict):
            return dict(value), None
        case _:
            return None, unplaced(part)


def citation_forms(part: Text) -> tuple[list[dict[str, Any]], str | None]:
    """The citations of a text block, and why some of what they say is lost."""
    forms = [form for each in part.citations if (form := citation_to_wire(each)) is not None]
    if len(forms) < len(part.citations):
        return forms, "a citation without an address has no form in this dialect"
    spanned = any(each.start is not None or each.end is not None for each in part.citations)
    return forms, UNSPANNED if spanned else None
