"""Messages and content parts of a Chat Completions request, read into neutral ones."""

from __future__ import annotations

import re
from dataclasses import replace

from headgate.core.messages import (
    Media,
    MediaKind,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from headgate.dialects.json_bodies import Fields, bounded, missing, wrong_type, wrong_value
from headgate.dialects.openai_chat.caching import hinted, take_hint
from headgate.dialects.openai_chat.payloads import check_base64, check_image
from headgate.dialects.openai_chat.reasoning import (
    GEMINI,
    CallSignatures,
    Detail,
    decode_details,
    plain_text,
    signature_of_call,
)
from headgate.dialects.openai_chat.vocabulary import NAME, extended

ROLES = ("developer", "system", "user", "assistant", "tool", "function")
AUDIO_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}

_DATA_URL = re.compile(r"data:([^;,\s]+);base64,", re.IGNORECASE)


class MessageDecoder:
    """Reads messages in order; remembers the ids that it gave to calls of deprecated `function_call`s."""

    def __init__(self) -> None:
        self._legacy_ids: dict[str, str] = {}

    def decode(self, value: object, index: int) -> Message:
        fields = Fields.of(value, f"messages[{index}]")
        role = fields.word("role", ROLES)
        match role:
            case "assistant":
                return self._assistant(fields, index)
            case "tool":
                return self._tool(fields)
            case "function":
                return self._function(fields)
            case "user":
                parts = _required_content(fields)
                name = fields.text("name")
                return Message("user", parts, name, extended(fields.rest()), fields.path)
            case _:
                parts = _required_content(fields)
                name = fields.text("name")
                asking: Role = "system" if role == "system" else "developer"
                return Message(asking, parts, name, extended(fields.rest()), fields.path)

    def _assistant(self, fields: Fields, index: int) -> Message:
        signatures = CallSignatures(
            decode_details(fields.items("reasoning_details") or [], fields.param("reasoning_details"))
        )
        calls: list[tuple[Part, str]] = []
        for number, call in enumerate(fields.items("tool_calls") or ()):
            body = Fields.of(call, f"{fields.param('tool_calls')}[{number}]")
            calls += [(part, body.path) for part in _signed_call(body, signatures)]
        placed = _thoughts(fields, signatures.rest())
        content = fields.take("content")
        if content is not None:
            path = fields.param("content")
            said = hinted(decode_content(content, path), fields)
            placed += [(part, f"{path}[{number}]") for number, part in enumerate(said)]
        refusal = fields.text("refusal")
        if refusal is not None:
            placed.append((Refusal(refusal), fields.param("refusal")))
        placed += calls
        function_call = fields.fields("function_call")
        if function_call is not None:
            placed.append((self._function_call(function_call, index), function_call.path))
        if not placed and fields.peek("audio") is None:
            raise missing(fields.param("content"))
        return Message(
            "assistant",
            tuple(part for part, _ in placed),
            fields.text("name"),
            extended(fields.rest()),
            fields.path,
            part_paths=tuple(path for _, path in placed),
        )

    def _function_call(self, fields: Fields, index: int) -> ToolCall:
        name = fields.required_text("name")
        self._legacy_ids[name] = f"function_call_{index}"
        arguments = fields.required_text("arguments")
        return ToolCall(
            self._legacy_ids[name], name, arguments, extensions=extended({"function_call": fields.rest()})
        )

    def _tool(self, fields: Fields) -> Message:
        call_id = fields.required_text("tool_call_id")
        parts = _result_parts(_required_content(fields))
        result, name, path = ToolResult(call_id, parts), fields.text("name"), fields.path
        return Message("tool", (result,), name, extended(fields.rest()), path, part_paths=(path,))

    def _function(self, fields: Fields) -> Message:
        name = fields.required_text("name")
        content = fields.take("content")
        parts = () if content is None else _result_parts(decode_content(content, fields.param("content")))
        result = ToolResult(self._legacy_ids.get(name, f"function_call_{name}"), parts)
        kept = extended({"role": "function", **fields.rest()})
        return Message("tool", (result,), name, kept, fields.path, part_paths=(fields.path,))


def _thoughts(fields: Fields, details: list[Detail]) -> list[tuple[Part, str]]:
    """Plain thoughts, under the one name or the other, or the details, which say the same and more; each with
    the path of its field.

    Objects under the plain names are none of ours. A plain text that differs from the details' stays an
    unknown field.
    """
    texts = {
        key: fields.required_text(key)
        for key in ("reasoning_content", "reasoning")
        if isinstance(fields.peek(key), str)
    }
    plain = next(iter(texts.values()), None)
    place = fields.param(next(iter(texts), ""))
    if not details:
        return [] if plain is None else [(Reasoning(plain), place)]
    path = fields.param("reasoning_details")
    parts: list[tuple[Part, str]] = [(detail.part, path) for detail in details]
    told = "".join(detail.part.text for detail in details)
    same = (told, plain_text(detail.part for detail in details))
    if plain and not told:
        if len(details) == 1 and details[0].part.signature is not None:
            return [(replace(details[0].part, text=plain), path)]
        return [(Reasoning(plain), place), *parts]
    fields.rest().update({key: text for key, text in texts.items() if text not in same})
    return parts


def _required_content(fields: Fields) -> tuple[Part, ...]:
    content = fields.take("content")
    if content is None:
        raise missing(fields.param("content"))
    return hinted(decode_content(content, fields.param("content")), fields)


def _result_parts(parts: tuple[Part, ...]) -> tuple[Text | Media | Opaque, ...]:
    return tuple(
        part if isinstance(part, Text | Media | Opaque) else Text(getattr(part, "text", "")) for part in parts
    )


def decode_content(value: object, path: str) -> tuple[Part, ...]:
    """`content`: a string or a list of parts."""
    if isinstance(value, str):
        return (Text(value),)
    if not isinstance(value, list):
        raise wrong_type(path, "a string or an array of objects", value)
    if not value:
        raise wrong_value(path, "the array must hold at least one part")
    return tuple(_part(item, f"{path}[{number}]") for number, item in enumerate(bounded(value, path)))


def _part(value: object, path: str) -> Part:
    fields = Fields.of(value, path)
    kind = fields.required_text("type")
    match kind:
        case "image_url" | "video_url" | "input_audio" | "file":
            hint = take_hint(fields)
            return replace(_media(fields, kind), cache=hint)
        case "text":
            hint = take_hint(fields)
            return Text(fields.required_text("text"), cache=hint, extensions=extended(fields.rest()))
        case "refusal":
            return Refusal(fields.required_text("refusal"), extensions=extended(fields.rest()))
        case _:
            return Opaque(NAME, {"type": kind, **fields.rest()})


def _media(fields: Fields, kind: str) -> Media:
    match kind:
        case "input_audio":
            return _audio(fields)
        case "file":
            return _file(fields)
        case _:
            return _linked(fields, kind)


def _linked(fields: Fields, kind: str) -> Media:
    link = fields.required_fields(kind)
    url = link.required_text("url")
    detail = link.text("detail")
    extensions = extended(fields.rest(), kind, link.rest())
    media: MediaKind = "image" if kind == "image_url" else "video"
    mime, data = split_data_url(url, link.param("url"))
    if data is None:
        return Media(media, url=url, detail=detail, extensions=extensions)
    if media == "image":
        check_image(mime, data, link.param("url"))
    return Media(media, mime, data, detail=detail, extensions=extensions)


def _audio(fields: Fields) -> Media:
    sound = fields.required_fields("input_audio")
    data = sound.required_text("data")
    check_base64(data, sound.param("data"))
    form = sound.required_text("format")
    mime = AUDIO_TYPES.get(form, f"audio/{form}")
    return Media("audio", mime, data, extensions=extended(fields.rest(), "input_audio", sound.rest()))


def _file(fields: Fields) -> Media:
    file = fields.required_fields("file")
    data, file_id, name = file.text("file_data"), file.text("file_id"), file.text("filename")
    if (data is None) == (file_id is None):
        raise wrong_value(file.path, "it must have either 'file_data' or 'file_id'")
    extensions = extended(fields.rest(), "file", file.rest())
    if data is None:
        return Media("file", file_id=file_id, name=name, extensions=extensions)
    mime, inner = split_data_url(data, file.param("file_data"))
    if inner is None:
        check_base64(data, file.param("file_data"))
    return Media("file", mime, data if inner is None else inner, name=name, extensions=extensions)


def split_data_url(url: str, param: str) -> tuple[str | None, str | None]:
    """MIME type and base64 text of a data URL (RFC 2397); (None, None) for any other URL.

    Raises:
        InvalidRequest: a data URL that is not base64.
    """
    if url[:5].lower() != "data:":
        return None, None
    found = _DATA_URL.match(url)
    if found is None:
        raise wrong_value(param, "a data URL must read 'data:<type>;base64,<data>'")
    data = url[found.end() :]
    check_base64(data, param)
    return found[1], data


def _signed_call(fields: Fields, signatures: CallSignatures) -> list[Part]:
    """A call, after the signature that it came with: in Google's place for it, or among the details."""
    rest = fields.rest()
    google = signature_of_call(rest)
    call = _tool_call(fields)
    signed = signatures.take(call.id)
    if google is not None:
        signed = Reasoning(signature=google, origin=GEMINI)
    return [call] if signed is None else [signed, call]


def _tool_call(fields: Fields) -> ToolCall:
    call_id = fields.required_text("id")
    kind = fields.text("type") or "function"
    match kind:
        case "function":
            body, arguments = fields.required_fields("function"), "arguments"
        case "custom":
            body, arguments = fields.required_fields("custom"), "input"
        case _:
            raise wrong_value(fields.param("type"), "supported values are 'function', 'custom'")
    name = body.required_text("name")
    text = body.required_text(arguments)
    hint = take_hint(fields)
    fields.rest().pop("index", None)  # its place in a stream, echoed by clients that put the stream together
    rest = extended(fields.rest(), kind, body.rest())
    return ToolCall(call_id, name, text, kind, cache=hint, extensions=rest)
