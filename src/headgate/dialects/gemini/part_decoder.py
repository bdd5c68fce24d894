"""Content parts, of requests and answers alike, read into neutral ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from headgate.core.messages import (
    Extensions,
    Media,
    MediaKind,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from headgate.dialects.gemini.vocabulary import (
    NAME,
    ProtoFields,
    extended,
    made_id,
    opaque_from_signature,
    standard_base64,
)
from headgate.dialects.json_bodies import wrong_value

_DATA_FIELDS = (
    *("text", "inlineData", "fileData", "functionCall", "functionResponse"),
    *("executableCode", "codeExecutionResult", "toolCall", "toolResponse", "audioTranscription"),
)
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_IMAGE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"RIFF")


@dataclass(slots=True)
class _Call:
    id: str
    name: str
    answered: bool = False


class ToolCalls:
    """The tool calls of one conversation, or of one answer: gives ids, and finds the call of a result.

    Args:
        seed: what the ids that are made depend on besides the call and its number.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._count = 0
        self._in_order: deque[_Call] = deque()
        self._by_id: dict[str, deque[_Call]] = {}
        self._by_name: dict[str, deque[_Call]] = {}

    def given(self, call_id: str | None, name: str, arguments: str) -> str:
        """The id of the next call: its own, or one that is made."""
        self._count += 1
        if not call_id:
            call_id = made_id(self._seed, self._count, name, arguments)
        call = _Call(call_id, name)
        self._in_order.append(call)
        self._by_id.setdefault(call_id, deque()).append(call)
        self._by_name.setdefault(name, deque()).append(call)
        return call_id

    def answered(self, call_id: str | None, name: str | None) -> tuple[str, str | None]:
        """Id and name of the call that a result belongs to: by id, else the first unanswered of its name.

        The name is None where no call fits: the id is then the result's own, or one that is made.
        """
        if call_id:
            row = self._by_id.get(call_id)
        else:
            row = self._in_order if name is None else self._by_name.get(name)
        while row:
            call = row.popleft()
            if not call.answered:
                call.answered = True
                return call.id, call.name
        self._count += 1
        return call_id or made_id(self._seed, self._count, name), None


class PartDecoder:
    """One for each conversation, or for each candidate of an answer.

    Args:
        calls: those of the conversation, or of the candidate.
        checked: images must begin as images do. What an upstream sends is the caller's to judge.
    """

    def __init__(self, calls: ToolCalls, *, checked: bool = True) -> None:
        self._calls = calls
        self._checked = checked

    def decode(self, value: object, path: str) -> list[Part]:
        """The neutral parts of one part: a signature comes out as a reasoning part before what it signs.

        Raises:
            InvalidRequest: with `param` below `path`.
        """
        fields = ProtoFields.of(value, path)
        signature = fields.text("thoughtSignature")
        if signature is not None and standard_base64(signature) is None:
            raise wrong_value(fields.param("thoughtSignature"), "it is not base64")
        kinds = [key for key in _DATA_FIELDS if fields.peek(key) is not None]
        if len(kinds) > 1:
            raise wrong_value(
                path, f"it has both '{kinds[0]}' and '{kinds[1]}' where a part holds one of them"
            )
        kind = kinds[0] if kinds else ""
        if kind == "text":
            return _text(fields, signature)
        if kind in ("inlineData", "fileData", "functionCall", "functionResponse"):
            part = self._typed(kind, fields)
            return [part] if signature is None else [Reasoning(**opaque_from_signature(signature)), part]
        return _other(fields, signature)

    def _typed(self, kind: str, fields: ProtoFields) -> Part:
        match kind:
            case "functionCall":
                return self._call(fields)
            case "functionResponse":
                return self._response(fields)
            case _:
                return _media(fields, kind, self._checked)

    def _call(self, fields: ProtoFields) -> ToolCall:
        body = ProtoFields.of(fields.take("functionCall"), fields.param("functionCall"))
        name, own_id = body.required_text("name"), body.text("id")
        arguments = msgspec.json.encode(body.mapping("args") or {}).decode()
        call_id = self._calls.given(own_id, name, arguments)
        extensions = extended(fields.rest(), functionCall=body.rest())
        return ToolCall(call_id, name, arguments, extensions=extensions)

    def _response(self, fields: ProtoFields) -> ToolResult:
        body = ProtoFields.of(fields.take("functionResponse"), fields.param("functionResponse"))
        own_id, name = body.text("id"), body.text("name")
        call_id, known = self._calls.answered(own_id, name)
        if not own_id and not name and known is None:
            raise wrong_value(body.path, "it needs a 'name', for no function call waits for a response")
        response = body.mapping("response") or {}
        parts, is_error = _outcome(response)
        for number, item in enumerate(body.repeated("parts") or ()):
            inner = ProtoFields.of(item, f"{body.param('parts')}[{number}]")
            kind = next((key for key in ("inlineData", "fileData") if inner.peek(key) is not None), None)
            part = Opaque(NAME, inner.rest()) if kind is None else _media(inner, kind, self._checked)
            parts.append(part)
        rest = body.rest()
        if name is not None and name != known:
            rest["name"] = name
        return ToolResult(
            call_id, tuple(parts), is_error, extensions=extended(fields.rest(), functionResponse=rest)
        )


def _text(fields: ProtoFields, signature: str | None) -> list[Part]:
    """Text or a thought. A signed empty one is nothing but its signature: the mark keeps its place."""
    text = fields.required_text("text")
    thought = fields.boolean("thought")
    rest = fields.rest()
    if signature is None:
        extensions = extended(rest)
        return [Reasoning(text, extensions=extensions) if thought else Text(text, extensions=extensions)]
    opaque = opaque_from_signature(signature)
    if not text and opaque["origin"] == NAME:
        rest = {"text": "", "thought": True, **rest} if thought else {"text": "", **rest}
        return [Reasoning(extensions=extended(rest), **opaque)]
    if thought or not text:
        return [Reasoning(text, extensions=extended(rest), **opaque)]
    return [Reasoning(**opaque), Text(text, extensions=extended(rest))]


def _other(fields: ProtoFields, signature: str | None) -> list[Part]:
    """A kind that has no neutral form, or none that we know: kept whole. Or a signature alone."""
    rest = fields.rest()
    if signature is None:
        if not rest.keys() - {"thought"}:
            raise wrong_value(fields.path, f"it is empty; it must have one of {', '.join(_DATA_FIELDS)}")
        return [Opaque(NAME, rest)]
    if not rest.keys() - {"thought"}:
        opaque = opaque_from_signature(signature)
        mark = extended({"text": "", **rest}) if opaque["origin"] == NAME else {}
        return [Reasoning(extensions=mark, **opaque)]
    return [Opaque(NAME, {**rest, "thoughtSignature": signature})]


def _media(fields: ProtoFields, kind: str, checked: bool) -> Media:
    """The part whose `kind` is `inlineData` or `fileData`."""
    body = ProtoFields.of(fields.take(kind), fields.param(kind))
    name = body.text("displayName")
    if kind == "fileData":
        mime, url = body.text("mimeType"), body.required_text("fileUri")
        return Media(_media_kind(mime), mime, url=url, name=name, extensions=_media_rest(fields, kind, body))
    mime = body.required_text("mimeType")
    if "/" not in mime:
        raise wrong_value(body.param("mimeType"), "it must be a MIME type such as 'image/png'")
    decoded = standard_base64(body.required_text("data"))
    if decoded is None or not decoded[1]:
        raise wrong_value(body.param("data"), "it must be base64 of at least one byte")
    if checked and mime.lower() in _IMAGES and not decoded[1].startswith(_IMAGE_STARTS):
        raise wrong_value(body.param("data"), "the bytes are no PNG, JPEG, GIF or WebP image")
    return Media(_media_kind(mime), mime, decoded[0], name=name, extensions=_media_rest(fields, kind, body))


def _media_rest(fields: ProtoFields, kind: str, body: ProtoFields) -> Extensions:
    return extended(fields.rest(), **{kind: body.rest()})


def _media_kind(mime: str | None) -> MediaKind:
    family = (mime or "").partition("/")[0].lower()
    match family:
        case "image" | "audio" | "video":
            return family
        case _:
            return "file"


def _outcome(response: Mapping[str, Any]) -> tuple[list[Text | Media | Opaque], bool]:
    """Text of a function's `response`: its `output` or `error` where that is all there is, else its JSON."""
    if len(response) == 1:
        for key in ("output", "error"):
            if isinstance(text := response.get(key), str) and not _is_object(text):
                return [Text(text)], key == "error"
    return ([Text(msgspec.json.encode(response).decode())] if response else []), False


def _is_object(text: str) -> bool:
    """Such text is written as the response itself, so that it must not be unwrapped."""
    return text.lstrip()[:1] == "{"
