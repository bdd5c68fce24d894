"""`contents` of a request, read into messages."""

from __future__ import annotations

from dataclasses import replace

from headgate.core.messages import Extensions, Message, Part, Reasoning, Role, Text, ToolResult
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
        parts, paths = decode_parts(fields, decoder)
        count += len(parts)
        if count > MAX_ITEMS:
            raise wrong_value(path, f"they have more than {MAX_ITEMS:,} parts in all")
        extensions = extended(fields.rest())
        if role != "model":
            messages += _user(parts, paths, extensions, fields.path)
        elif messages and messages[-1].role == "assistant" and not extensions:
            last = messages[-1]
            whole, places = (*last.parts, *parts), (*last.part_paths, *paths)
            messages[-1] = replace(last, parts=whole, part_paths=places)
        else:
            messages.append(
                Message(
                    "assistant",
                    tuple(parts),
                    extensions=extensions,
                    path=fields.path,
                    content="parts",
                    part_paths=tuple(paths),
                )
            )
    return [_joined(message) if message.role == "assistant" else message for message in messages]


def decode_parts(fields: ProtoFields, decoder: PartDecoder) -> tuple[list[Part], list[str]]:
    """Parts of one content, of which there must be some, and the path of each."""
    items = fields.repeated("parts")
    path = fields.param("parts")
    if items is None:
        raise missing(path)
    if not items:
        raise wrong_value(path, "the array must hold at least one part")
    parts: list[Part] = []
    paths: list[str] = []
    for number, item in enumerate(items):
        place = f"{path}[{number}]"
        for part in decoder.decode(item, place):
            parts.append(part)
            paths.append(place)
    return parts, paths


def _user(parts: list[Part], paths: list[str], extensions: Extensions, path: str) -> list[Message]:
    messages: list[Message] = []
    roles: tuple[Role, ...] = ("tool", "user")
    for role in roles:
        kept = [
            number for number, part in enumerate(parts) if isinstance(part, ToolResult) == (role == "tool")
        ]
        if not kept:
            continue
        messages.append(
            Message(
                role,
                tuple(parts[number] for number in kept),
                extensions={} if messages else extensions,
                path=path,
                content="functionResponse.parts" if role == "tool" else "parts",
                part_paths=tuple(paths[number] for number in kept),
            )
        )
    return messages


def _joined(message: Message) -> Message:
    """The pieces in which a model's text and thoughts were streamed, put together.

    Nothing is joined to what this vendor signed: a signature is good only where it stood. Another vendor's
    signature comes at the end of the thought that it signs, in a thought without text.
    """
    joined: list[Part] = []
    paths: list[str] = []
    growable = False
    for part, path in zip(message.parts, message.part_paths, strict=True):
        signed = bool(joined) and _signs_next(joined[-1])
        plain = isinstance(part, Text | Reasoning) and not part.extensions and not signed
        grown = _grown(joined[-1], part) if growable and plain else None
        if grown is not None:
            joined[-1] = grown
        elif not plain or not _empty(part):
            joined.append(part)
            paths.append(path)
            growable = plain
    return replace(message, parts=tuple(joined) or (Text(""),), part_paths=tuple(paths))


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
