"""Messages and content blocks of a Messages request, read into neutral ones."""

from __future__ import annotations

import binascii
from base64 import b64encode
from collections.abc import Iterable
from typing import Any

from headgate.core.messages import (
    CacheHint,
    Citation,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from headgate.dialects.anthropic.vocabulary import DIRECT, NAME, citation_from_wire, extended
from headgate.dialects.json_bodies import Fields, bounded, encode, missing, wrong_type, wrong_value
from headgate.dialects.sealed import unseal

SEALED_DATA = "~"
"""Begins sealed text that is the `data` of a neutral reasoning part, not its `signature`: no base64 does."""

_IMAGE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"RIFF")
_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_CHECKED_WHOLE = 1024 * 1024
"""Characters of base64 that are checked to the last; of a longer text the two ends are."""


def decode_message(value: object, path: str) -> list[Message]:
    """One wire message: several where tool results and the user's own words stand in one turn."""
    fields = Fields.of(value, path)
    role: Role
    match fields.word("role", ("user", "assistant", "system")):
        case "assistant":
            role = "assistant"
        case "system":
            role = "system"
        case _:
            role = "user"
    parts = decode_content(fields.take("content"), fields.param("content"))
    extensions = extended(fields.rest())
    if role != "user":
        return [Message(role, parts, extensions=extensions, path=path)]
    messages: list[Message] = []
    first = 0
    for kind, run in _runs(parts) or [("user", ())]:
        messages.append(Message(kind, run, extensions=extensions, path=path, first_part=first))
        extensions = {}
        first += len(run)
    return messages


def _runs(parts: Iterable[Part]) -> list[tuple[Role, tuple[Part, ...]]]:
    runs: list[tuple[Role, list[Part]]] = []
    for part in parts:
        role: Role = "tool" if isinstance(part, ToolResult) else "user"
        if not runs or runs[-1][0] != role:
            runs.append((role, []))
        runs[-1][1].append(part)
    return [(role, tuple(run)) for role, run in runs]


def decode_content(value: object, path: str) -> tuple[Part, ...]:
    """`content`: a string or a list of blocks."""
    if value is None:
        raise missing(path)
    if isinstance(value, str):
        return (Text(value),)
    if not isinstance(value, list):
        raise wrong_type(path, "a string or an array of objects", value)
    return tuple(_block(item, f"{path}[{number}]") for number, item in enumerate(bounded(value, path)))


def decode_cache(fields: Fields) -> tuple[CacheHint | None, dict[str, Any]]:
    """`cache_control`, and what it holds beside the type and the time to live."""
    control = fields.fields("cache_control")
    if control is None:
        return None, {}
    control.word("type", ("ephemeral",))
    return CacheHint(control.text("ttl")), control.rest()


def _block(value: object, path: str) -> Part:
    fields = Fields.of(value, path)
    kind = fields.required_text("type")
    match kind:
        case "text":
            return _text(fields)
        case "image" | "document":
            return _media(fields, kind)
        case "thinking":
            return _thinking(fields)
        case "redacted_thinking":
            origin, _, data = _unsealed(fields.required_text("data"))
            return Reasoning(data=data, redacted=True, origin=origin, extensions=extended(fields.rest()))
        case "tool_use":
            return _tool_use(fields)
        case "tool_result":
            return _tool_result(fields)
        case _:
            return Opaque(NAME, {"type": kind, **fields.rest()})


def _text(fields: Fields) -> Text:
    text = fields.required_text("text")
    citations = _citations(fields)
    cache, extra = decode_cache(fields)
    return Text(text, citations, cache, extended(fields.rest(), cache_control=extra))


def _citations(fields: Fields) -> tuple[Citation, ...]:
    path = fields.param("citations")
    found: list[Citation] = []
    for index, item in enumerate(fields.items("citations") or ()):
        if not isinstance(item, dict):
            raise wrong_type(f"{path}[{index}]", "an object", item)
        found.append(citation_from_wire(item))
    return tuple(found)


def _media(fields: Fields, kind: str) -> Media | Opaque:
    source = fields.required_fields("source")
    form = source.required_text("type")
    whole = {"type": kind, "source": {"type": form, **source.rest()}, **fields.rest()}
    found: dict[str, Any]
    match form:
        case "base64":
            found = _base64(source, kind)
        case "url":
            found = {"url": source.required_text("url")}
            if kind == "document":
                found["mime"] = "application/pdf"
        case "file":
            found = {"file_id": source.required_text("file_id")}
        case "text" if kind == "document":
            source.word("media_type", ("text/plain",))
            text = source.required_text("data")
            found = {"mime": "text/plain", "data": b64encode(text.encode()).decode("ascii")}
        case _:  # a document made of blocks, or a source that is newer than this module
            return Opaque(NAME, whole)
    name = fields.text("title") if kind == "document" else None
    cache, extra = decode_cache(fields)
    extensions = extended(fields.rest(), source=source.rest(), cache_control=extra)
    return Media(
        "image" if kind == "image" else "file", name=name, cache=cache, extensions=extensions, **found
    )


def _base64(source: Fields, kind: str) -> dict[str, Any]:
    mime, data = source.required_text("media_type"), source.required_text("data")
    start = _checked(data, source.param("data"))
    if kind == "image":
        if not mime.startswith("image/"):
            raise wrong_value(source.param("media_type"), "it must name an image type, such as 'image/png'")
        if mime in _IMAGE_TYPES and not start.startswith(_IMAGE_STARTS):
            raise wrong_value(source.param("data"), "the bytes are no PNG, JPEG, GIF or WebP image")
    return {"mime": mime, "data": data}


def _checked(data: str, param: str) -> bytes:
    """The first bytes. Raises InvalidRequest for what is not base64 (RFC 4648, section 4)."""
    if len(data) > _CHECKED_WHOLE and len(data) % 4 == 0 and data.isascii():
        samples = [data[:4096], data[-4096:]]
    else:
        samples = [data]
    try:
        decoded = [binascii.a2b_base64(sample, strict_mode=True) for sample in samples]
    except ValueError:
        raise wrong_value(param, "it must be base64 text, padded, without line breaks") from None
    if not decoded[0]:
        raise wrong_value(param, "it must not be empty")
    return decoded[0][:16]


def _thinking(fields: Fields) -> Reasoning:
    text, signature = fields.required_text("thinking"), fields.text("signature")
    rest = extended(fields.rest())
    if not signature:
        return Reasoning(text, extensions=rest)
    origin, is_data, opaque = _unsealed(signature)
    if is_data:
        return Reasoning(text, data=opaque, origin=origin, extensions=rest)
    return Reasoning(text, opaque, origin=origin, extensions=rest)


def _unsealed(text: str) -> tuple[str, bool, str]:
    """Where opaque text comes from, whether it is marked as a part's `data`, and the text."""
    sealed = unseal(text)
    if sealed is None:
        return NAME, False, text
    origin, opaque = sealed
    is_data = opaque.startswith(SEALED_DATA)
    return origin, is_data, opaque.removeprefix(SEALED_DATA)


def _tool_use(fields: Fields) -> ToolCall:
    call_id, name = fields.required_text("id"), fields.required_text("name")
    value = fields.mapping("input")
    if value is None:
        raise missing(fields.param("input"))
    cache, extra = decode_cache(fields)
    if fields.rest().get("caller") == DIRECT:
        del fields.rest()["caller"]
    arguments = encode(value).decode()
    return ToolCall(
        call_id, name, arguments, cache=cache, extensions=extended(fields.rest(), cache_control=extra)
    )


def _tool_result(fields: Fields) -> ToolResult:
    call_id = fields.required_text("tool_use_id")
    content, path = fields.take("content"), fields.param("content")
    decoded = () if content is None else decode_content(content, path)
    parts: list[Text | Media | Opaque] = []
    for index, part in enumerate(decoded):
        if not isinstance(part, Text | Media | Opaque):
            raise wrong_value(f"{path}[{index}].type", "a tool result holds no block of this type")
        parts.append(part)
    is_error = fields.boolean("is_error") or False
    cache, extra = decode_cache(fields)
    extensions = extended(fields.rest(), cache_control=extra)
    return ToolResult(call_id, tuple(parts), is_error, cache, extensions)
