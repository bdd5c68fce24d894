"""`contents` of a request, read into messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from headgate.core.messages import Extensions, Message, Part, Reasoning, Text, ToolResult
from headgate.dialects.gemini.part_decoder import PartDecoder, ToolCalls
from headgate.dialects.gemini.vocabulary import NAME, ProtoFields, extended
from headgate.dialects.json_bodies import MAX_ITEMS, missing, wrong_value

_ROLES = ("user", "model", "function")


def decode_contents(items: list[object], path: str) -> list[Message]:
    """Messages of the conversation.

    Contents of the model that follow each other are one message, because clients keep a streamed answer chunk
    by chunk. Function responses become a tool message, and the rest of their content a user message behind
    it.

    Raises:
        InvalidRequest: with `param` below `path`.
    """
    decoder = PartDecoder(ToolCalls("request"))
    messages: list[Message] = []
    count = 0
    for index, item in enumerate(items):
        fields = ProtoFields.of(item, f"{path}[{index}]")
        role = "user" if fields.peek("role") is None else fields.word("role", _ROLES)
        fields.take("role")
        parts = decode_parts(fields, decoder)
        count += len(parts)
        if count > MAX_ITEMS:
            raise wrong_value(path, f"they have more than {MAX_ITEMS:,} parts in all")
        extensions = extended(fields.rest())
        if role != "model":
            messages += _user(parts, extensions, fields.path)
        elif messages and messages[-1].role == "assistant" and not extensions:
            messages[-1] = replace(messages[-1], parts=(*messages[-1].parts, *parts))
        else:
            messages.append(Message("assistant", tuple(parts), extensions=extensions, path=fields.path))
    return [
        replace(message, parts=_joined(message.parts)) if message.role == "assistant" else message
        for message in messages
    ]


def decode_parts(fields: ProtoFields, decoder: PartDecoder) -> list[Part]:
    """Parts of one content; there must be some."""
    items = fields.repeated("parts")
    path = fields.param("parts")
    if items is None:
        raise missing(path)
    if not items:
        raise wrong_value(path, "the array must hold at least one part")
    return [part for number, item in enumerate(items) for part in decoder.decode(item, f"{path}[{number}]")]


def _user(parts: list[Part], extensions: Extensions, path: str) -> list[Message]:
    results = tuple(part for part in parts if isinstance(part, ToolResult))
    others = tuple(part for part in parts if not isinstance(part, ToolResult))
    messages = [Message("tool", results, extensions=extensions, path=path)] if results else []
    if others:
        rest = {} if results else extensions
        messages.append(Message("user", others, extensions=rest, path=path, first_part=len(results)))
    return messages


def _joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The pieces in which a model's text and thoughts were streamed, put together.

    Nothing is joined to what this vendor signed: a signature is good only where it stood. Another vendor's
    signature comes at the end of the thought that it signs, in a thought without text.
    """
    joined: list[Part] = []
    growable = False
    for part in parts:
        signed = bool(joined) and _signs_next(joined[-1])
        plain = isinstance(part, Text | Reasoning) and not part.extensions and not signed
        grown = _grown(joined[-1], part) if growable and plain else None
        if grown is not None:
            joined[-1] = grown
        elif not plain or not _empty(part):
            joined.append(part)
            growable = plain
    return tuple(joined) or (Text(""),)


def _signs_next(part: Part) -> bool:
    return isinstance(part, Reasoning) and part.origin == NAME and not part.text and not part.extensions


def _empty(part: Part) -> bool:
    return isinstance(part, Text | Reasoning) and not part.text and getattr(part, "origin", None) is None


def _grown(before: Part, part: Part) -> Part | None:
    """Both as one; None where they are two."""
    if isinstance(before, Text) and isinstance(part, Text):
        return Text(before.text + part.text)
    if not isinstance(before, Reasoning) or not isinstance(part, Reasoning) or before.origin is not None:
        return None
    if part.origin is None or (part.origin != NAME and not part.text and not part.redacted):
        return replace(part, text=before.text + part.text)
    return None
