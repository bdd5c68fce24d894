"""Content parts of the Responses API and neutral parts, both ways."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import CacheHint, Media, Opaque, Part, Refusal, Text, ToolResult
from headgate.dialects.json_bodies import Fields, bounded, wrong_type, wrong_value
from headgate.dialects.openai_chat.payloads import check_image
from headgate.dialects.openai_responses.vocabulary import (
    AUDIO_TYPES,
    NAME,
    citation_from_wire,
    citation_to_wire,
    extended,
    foreign_losses,
    own,
)

_DATA_URL = re.compile(r"data:([^;,\s]*)((?:;[^;,\s]+)*?);base64,", re.IGNORECASE)
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_\r\n"
LIFETIMES = ("30m", "12h")
"""Of a cached prefix, as the vendor names them."""
_AUDIO_FORMATS = {mime: form for form, mime in AUDIO_TYPES.items()}


# Wire to neutral.


def decode_content(value: object, path: str) -> tuple[Part, ...]:
    """`content` of a user's, system's or developer's message: a string or a list of input parts."""
    if isinstance(value, str):
        return (Text(value),)
    if not isinstance(value, list):
        raise wrong_type(path, "a string or an array of objects", value)
    return tuple(_input_part(item, f"{path}[{number}]") for number, item in enumerate(bounded(value, path)))


def decode_output(value: object, path: str) -> tuple[Text | Media | Opaque, ...]:
    """`output` of a tool call: a string or a list of input parts. An empty list is an empty text."""
    parts = decode_content("" if value == [] else value, path)
    return tuple(part for part in parts if isinstance(part, Text | Media | Opaque))


def _input_part(value: object, path: str) -> Part:
    fields = Fields.of(value, path)
    kind = fields.required_text("type")
    match kind:
        case "input_text":
            text, cache = fields.required_text("text"), _cache(fields)
            return Text(text, cache=cache, extensions=extended(fields.rest()))
        case "output_text":
            return output_text(fields)
        case "input_image":
            return _image(fields)
        case "input_file":
            return _file(fields)
        case "input_audio":
            return _audio(fields)
        case _:
            return Opaque(NAME, {"type": kind, **fields.rest()})


def output_text(fields: Fields) -> Text:
    """An `output_text` part, its `type` taken already."""
    text = fields.required_text("text")
    citations = []
    for number, item in enumerate(fields.items("annotations") or ()):
        Fields.of(item, f"{fields.param('annotations')}[{number}]").required_text("type")
        citations.append(citation_from_wire(item))
    logprobs = fields.items("logprobs")
    rest = fields.rest() | ({"logprobs": logprobs} if logprobs else {})
    return Text(text, tuple(citations), extensions=extended(rest))


def _cache(fields: Fields) -> CacheHint | None:
    mark = fields.fields("prompt_cache_breakpoint")
    if mark is None:
        return None
    mark.word("mode", ("explicit",))
    return CacheHint(None if mark.peek("ttl") is None else mark.word("ttl", LIFETIMES))


def _image(fields: Fields) -> Media:
    url, file_id, detail = fields.text("image_url"), fields.text("file_id"), fields.text("detail")
    if (url is None) == (file_id is None):
        raise wrong_value(fields.path, "it must have either 'image_url' or 'file_id'")
    cache = _cache(fields)
    extensions = extended(fields.rest())
    if url is None:
        return Media("image", file_id=file_id, detail=detail, cache=cache, extensions=extensions)
    param = fields.param("image_url")
    mime, data = split_data_url(url, param)
    if data is None:
        return Media("image", url=url, detail=detail, cache=cache, extensions=extensions)
    if mime is None or not mime.startswith("image/"):
        raise wrong_value(param, "the data URL must hold an image (its type must start with 'image/')")
    check_image(mime, data, param)
    return Media("image", mime, data, detail=detail, cache=cache, extensions=extensions)


def _file(fields: Fields) -> Media:
    data, file_id, url = (fields.text(key) for key in ("file_data", "file_id", "file_url"))
    if sum(value is not None for value in (data, file_id, url)) != 1:
        raise wrong_value(fields.path, "it must have one of 'file_data', 'file_id' and 'file_url'")
    name, detail, cache = fields.text("filename"), fields.text("detail"), _cache(fields)
    extensions = extended(fields.rest())
    if data is None:
        return Media(
            "file", url=url, file_id=file_id, name=name, detail=detail, cache=cache, extensions=extensions
        )
    param = fields.param("file_data")
    mime, inner = split_data_url(data, param)
    if inner is None:
        inner = data
        _check_base64(inner, param)
    return Media("file", mime, inner, name=name, detail=detail, cache=cache, extensions=extensions)


def _audio(fields: Fields) -> Media:
    sound = fields.required_fields("input_audio")
    data, form = sound.required_text("data"), sound.required_text("format")
    _check_base64(data, sound.param("data"))
    rest, inner = fields.rest(), sound.rest()
    extensions = extended({**rest, "input_audio": inner} if inner else rest)
    return Media("audio", AUDIO_TYPES.get(form, f"audio/{form}"), data, extensions=extensions)


def split_data_url(url: str, param: str) -> tuple[str | None, str | None]:
    """MIME type and base64 text of a data URL (RFC 2397); (None, None) for any other URL."""
    if url[:5].lower() != "data:":
        return None, None
    found = _DATA_URL.match(url)
    if found is None:
        raise wrong_value(param, "a data URL must read 'data:<type>;base64,<data>'")
    data = url[found.end() :]
    _check_base64(data, param)
    return found[1].lower() or None, data


def _check_base64(data: str, param: str) -> None:
    if not data or not data.isascii() or data.encode("ascii").translate(None, _BASE64):
        raise wrong_value(param, "it is not base64")


# Neutral to wire.


class ContentEncoder:
    """Writes content parts and notes what is lost.

    Args:
        losses: added to.
        breakpoints: the target takes marks for its prompt cache.
    """

    def __init__(self, losses: list[Loss], breakpoints: bool) -> None:
        self._losses = losses
        self._breakpoints = breakpoints

    def lose(self, path: str, reason: str) -> None:
        self._losses.append(Loss(path, reason))

    def inputs(self, parts: Iterable[tuple[Part, str]]) -> str | list[dict[str, Any]]:
        """Of parts with their paths: a string for a single plain text, a list otherwise, an empty one for
        nothing."""
        written = [wire for part, path in parts if (wire := self._input(part, path)) is not None]
        if len(written) == 1 and written[0].keys() == {"type", "text"}:
            text = written[0]["text"]
            assert isinstance(text, str)
            return text
        return written

    def _input(self, part: Part, path: str) -> dict[str, Any] | None:
        match part:
            case Text():
                self.foreign(part, path)
                if part.citations:
                    self.lose(f"{path}.citations", "input texts have no annotations")
                return (
                    {"type": "input_text", "text": part.text} | self._mark(part, path) | own(part.extensions)
                )
            case Media():
                self.foreign(part, path)
                wire = self._media(part, path)
                if wire is None:
                    self.lose(path, f"the dialect takes no such {part.kind} in this form")
                return wire
            case Opaque(dialect=dialect, value=value) if dialect == NAME and isinstance(value, dict):
                return value
            case Opaque():
                self.lose(path, f"a block that only {part.dialect} understands")
            case _:
                self.lose(path, f"a {type(part).__name__.lower()} part has no place in this message")
        return None

    def output(self, part: Text | Refusal, path: str) -> dict[str, Any]:
        """A part of an assistant's message, but for the item's own fields under `item`."""
        self.foreign(part, path)
        extra = own(part.extensions)
        extra.pop("item", None)
        if isinstance(part, Refusal):
            return {"type": "refusal", "refusal": part.text} | extra
        if part.cache is not None:
            self.lose(f"{path}.cache_control", "only input parts can be marked for the cache")
        annotations = [citation_to_wire(each) for each in part.citations]
        return {"type": "output_text", "text": part.text, "annotations": annotations} | extra

    def _mark(self, part: Text | Media, path: str) -> dict[str, Any]:
        """A cache hint in the words of this dialect, which knows two lifetimes of its own."""
        if part.cache is None:
            return {}
        if not self._breakpoints:
            self.lose(f"{path}.cache_control", "the target decides for itself what it caches")
            return {}
        mark = {"mode": "explicit"}
        if part.cache.ttl in LIFETIMES:
            mark["ttl"] = part.cache.ttl
        elif part.cache.ttl is not None:
            self.lose(f"{path}.cache_control.ttl", "the dialect's lifetimes are '30m' and '12h'")
        return {"prompt_cache_breakpoint": mark}

    def foreign(self, part: Text | Media | Refusal | ToolResult, path: str) -> None:
        self._losses += foreign_losses(part.extensions, path)

    def _media(self, part: Media, path: str) -> dict[str, Any] | None:
        wire: dict[str, Any]
        match part.kind:
            case "image":
                if part.file_id is not None:
                    wire = {"type": "input_image", "file_id": part.file_id}
                else:
                    wire = {"type": "input_image", "image_url": part.url or _data_url(part, "image/png")}
                if part.detail is not None:
                    wire["detail"] = part.detail
            case "file":
                wire = _file_to_wire(part)
            case "audio" if part.data is not None:
                mime = part.mime or "audio/wav"
                form = _AUDIO_FORMATS.get(mime, mime.removeprefix("audio/"))
                wire = {"type": "input_audio", "input_audio": {"data": part.data, "format": form}}
                extra = own(part.extensions)
                wire["input_audio"] |= extra.pop("input_audio", {})
                return wire | extra
            case _:
                return None
        return wire | self._mark(part, path) | own(part.extensions)


def _file_to_wire(part: Media) -> dict[str, Any]:
    wire: dict[str, Any] = {"type": "input_file"}
    if part.file_id is not None:
        wire["file_id"] = part.file_id
    elif part.url is not None:
        wire["file_url"] = part.url
    else:
        wire["file_data"] = part.data if part.mime is None else _data_url(part, part.mime)
        if part.name is None:
            wire["filename"] = "file.pdf" if part.mime == "application/pdf" else "file"
    named = {"filename": part.name, "detail": part.detail}
    return wire | {key: value for key, value in named.items() if value is not None}


def _data_url(part: Media, default: str) -> str:
    return f"data:{part.mime or default};base64,{part.data}"
