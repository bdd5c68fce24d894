"""Content blocks of Converse messages, system prompts and tool results, read into parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from headgate.core.messages import CacheHint, Media, Opaque, Part, Text, ToolCall, ToolResult
from headgate.dialects.bedrock.citations import citation_from_wire
from headgate.dialects.bedrock.media import KINDS, decode_media
from headgate.dialects.bedrock.vocabulary import (
    NAME,
    check_base64,
    extended,
    merged,
    own,
    reasoning_from_redaction,
    reasoning_from_text,
)
from headgate.dialects.json_bodies import Fields, bounded, encode, missing, wrong_type, wrong_value

_HINTED = (Text, Media, ToolCall, ToolResult)


def decode_blocks(value: object, path: str, by_model: bool = False) -> tuple[list[Part], list[str]]:
    """The parts of a list of content blocks, and the path of each; a cache point becomes a hint on the part
    before it.

    In what the model said (`by_model`) a tool's result comes from a tool that Bedrock itself ran.

    Raises:
        InvalidRequest: with `param` naming the field ("messages[0].content[1].image.source.bytes").
    """
    if not isinstance(value, list):
        raise wrong_type(path, "an array of objects", value)
    parts: list[Part] = []
    paths: list[str] = []
    for number, item in enumerate(bounded(value, path)):
        fields = Fields.of(item, f"{path}[{number}]")
        if fields.peek("cachePoint") is not None:
            _cache_point(fields, item, parts)
        elif by_model and fields.peek("toolResult") is not None:
            parts.append(Opaque(NAME, item))
        else:
            parts.append(_block(fields))
        if len(parts) > len(paths):
            paths.append(fields.path)
    return parts, paths


def cache_hint(fields: Fields) -> CacheHint | None:
    """The hint that a block of nothing but a usual cache point gives; None for any other."""
    point = fields.required_fields("cachePoint")
    kind, ttl = point.required_text("type"), point.text("ttl")
    plain = kind == "default" and not point.rest() and not fields.rest()
    return CacheHint(ttl) if plain else None


def _cache_point(fields: Fields, item: dict[str, Any], parts: list[Part]) -> None:
    hint = cache_hint(fields)
    before = parts[-1] if parts else None
    if hint is not None and isinstance(before, _HINTED) and before.cache is None:
        parts[-1] = replace(before, cache=hint)
    else:
        parts.append(Opaque(NAME, item))


def _block(fields: Fields) -> Part:
    kind = next((key for key in _READERS if fields.peek(key) is not None), None)
    if kind is not None:
        part = _READERS[kind](fields, kind)
        if not isinstance(part, Opaque) and fields.rest():
            return replace(part, extensions=extended(merged(own(part.extensions), fields.rest())))
        return part
    value = fields.rest()
    if not any(each is not None for each in value.values()):
        raise wrong_value(fields.path, "a content block must hold one thing: a 'text', an 'image', …")
    return Opaque(NAME, value)


def _text(fields: Fields, kind: str) -> Text:
    return Text(fields.required_text("text"))


def _media(fields: Fields, kind: str) -> Media:
    return decode_media(kind, fields.required_fields(kind))


def _tool_use(fields: Fields, kind: str) -> Part:
    use = fields.required_fields(kind)
    if use.peek("type") is not None:  # a tool that Bedrock itself runs: no caller must take it for theirs
        return Opaque(NAME, {kind: use.rest(), **fields.rest()})
    call_id, name = use.required_text("toolUseId"), use.required_text("name")
    if "input" not in use.rest():
        raise missing(use.param("input"))
    arguments = encode(use.take("input")).decode()
    return ToolCall(call_id, name, arguments, extensions=_kept(kind, use.rest()))


def _tool_result(fields: Fields, kind: str) -> ToolResult:
    result = fields.required_fields(kind)
    call_id = result.required_text("toolUseId")
    status = result.text("status")
    if result.peek("content") is None:
        raise missing(result.param("content"))
    parts = _result_parts(result.take("content"), result.param("content"))
    rest = result.rest()
    if status not in (None, "error", "success"):  # success is what goes without saying
        rest = {"status": status, **rest}
    return ToolResult(call_id, parts, status == "error", extensions=_kept(kind, rest))


def _result_parts(value: object, path: str) -> tuple[Text | Media | Opaque, ...]:
    if not isinstance(value, list):
        raise wrong_type(path, "an array of objects", value)
    parts: list[Text | Media | Opaque] = []
    for number, item in enumerate(bounded(value, path)):
        fields = Fields.of(item, f"{path}[{number}]")
        if fields.peek("json") is not None:
            text = encode(fields.take("json")).decode()
            parts.append(Text(text, extensions=extended({"json": True, **fields.rest()})))
            continue
        part = _block(fields)
        parts.append(part if isinstance(part, Text | Media | Opaque) else Opaque(NAME, item))
    return tuple(parts)


def _guarded(fields: Fields, kind: str) -> Text | Media:
    guard = fields.required_fields(kind)
    if guard.peek("image") is not None:
        image = decode_media("image", guard.required_fields("image"))
        return replace(image, extensions=extended({**own(image.extensions), kind: guard.rest()}))
    body = guard.required_fields("text")
    text = body.required_text("text")
    inner = {"text": body.rest()} if body.rest() else {}
    return Text(text, extensions=extended({kind: {**inner, **guard.rest()}}))


def _reasoning(fields: Fields, kind: str) -> Part:
    block = fields.required_fields(kind)
    if (data := block.text("redactedContent")) is not None:
        check_base64(data, block.param("redactedContent"))
        return reasoning_from_redaction(data, _kept(kind, block.rest()))
    if block.peek("reasoningText") is None and block.rest():
        return Opaque(NAME, {kind: block.rest(), **fields.rest()})
    body = block.required_fields("reasoningText")
    text, signature = body.required_text("text"), body.text("signature")
    rest = {**block.rest(), **({"reasoningText": body.rest()} if body.rest() else {})}
    return reasoning_from_text(text, signature, _kept(kind, rest))


def _cited(fields: Fields, kind: str) -> Text:
    block = fields.required_fields(kind)
    content = block.items("content")
    cited = block.items("citations")
    texts = [
        Fields.of(each, f"{block.param('content')}[{number}]").required_text("text")
        for number, each in enumerate(content or ())
    ]
    citations = tuple(
        citation_from_wire(Fields.of(each, f"{block.param('citations')}[{number}]").rest())
        for number, each in enumerate(cited or ())
    )
    kept = block.rest()
    if content is None or [each.keys() for each in content] != [{"text"}]:
        kept = {**kept, "content": content}
    if cited == []:
        kept = {**kept, "citations": []}
    marked = {} if citations and not kept else {kind: kept}
    return Text("".join(texts), citations, extensions=extended(marked))


def _kept(kind: str, rest: Mapping[str, Any]) -> dict[str, Any]:
    return {NAME: {kind: dict(rest)}} if rest else {}


_READERS = {
    "text": _text,
    "toolUse": _tool_use,
    "toolResult": _tool_result,
    "reasoningContent": _reasoning,
    "citationsContent": _cited,
    "guardContent": _guarded,
    **dict.fromkeys(KINDS, _media),
}


def split_turn(parts: Sequence[Part]) -> list[tuple[bool, slice]]:
    """Runs of tool results and of anything else, in order; the flag says which."""
    runs: list[tuple[bool, slice]] = []
    for number, part in enumerate(parts):
        is_result = isinstance(part, ToolResult)
        if runs and runs[-1][0] == is_result:
            runs[-1] = (is_result, slice(runs[-1][1].start, number + 1))
        else:
            runs.append((is_result, slice(number, number + 1)))
    return runs
