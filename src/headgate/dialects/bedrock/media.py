"""Images, documents, video and sound of Converse, both ways.

A block names a format ("jpeg"), neutral parts a MIME type. Where a format can't be told from its type the
word itself is kept for this dialect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import Media, MediaKind
from headgate.dialects.bedrock.vocabulary import (
    base64_from_text,
    check_base64,
    extended,
    merged,
    own,
    text_from_base64,
)
from headgate.dialects.json_bodies import Fields, missing, wrong_type, wrong_value

KINDS: Mapping[str, MediaKind] = {"image": "image", "document": "file", "video": "video", "audio": "audio"}
_BLOCKS = {kind: block for block, kind in KINDS.items()}

_TYPES: Mapping[str, Mapping[str, str]] = {
    "image": {name: f"image/{name}" for name in ("png", "jpeg", "gif", "webp")},
    "document": {
        "pdf": "application/pdf",
        "csv": "text/csv",
        "doc": "application/msword",
        "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls": "application/vnd.ms-excel",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "html": "text/html",
        "txt": "text/plain",
        "md": "text/markdown",
    },
    "video": {
        "mp4": "video/mp4",
        "mov": "video/quicktime",
        "mkv": "video/x-matroska",
        "webm": "video/webm",
        "flv": "video/x-flv",
        "mpeg": "video/mpeg",
        "wmv": "video/x-ms-wmv",
        "three_gp": "video/3gpp",
    },
    "audio": {
        "mp3": "audio/mpeg",
        "opus": "audio/opus",
        "wav": "audio/wav",
        "aac": "audio/aac",
        "flac": "audio/flac",
        "mp4": "audio/mp4",
        "ogg": "audio/ogg",
        "mka": "audio/x-matroska",
        "pcm": "audio/pcm",
        "webm": "audio/webm",
    },
}
_FORMATS = {
    block: {mime: name for name, mime in types.items()} | {"image/jpg": "jpeg", "audio/mp3": "mp3"}
    for block, types in _TYPES.items()
}
_FORMAT = re.compile(r"[a-z0-9_-]{1,32}")
_TEXTUAL = re.compile(r"text/|application/(json|xml|yaml|x-yaml|javascript|toml)\b|.*\+(json|xml)$")
_IMAGES = ("iVBORw", "/9j/", "R0lGOD", "UklGR")
"""How PNG, JPEG, GIF and WebP begin, in base64."""
_PDF = "JVBERi"  # "%PDF" in base64


def decode_media(block: str, fields: Fields) -> Media:
    """The part of the object under `image`, `document`, `video` or `audio`.

    Raises:
        InvalidRequest: no source, a source that is not base64, a format that is no word.
    """
    extra: dict[str, Any] = {}
    word = fields.text("format")
    if word is None and block != "document":
        raise missing(fields.param("format"))
    if word is not None and not _FORMAT.fullmatch(word):
        names = ", ".join(f"'{name}'" for name in _TYPES[block])
        raise wrong_value(fields.param("format"), f"supported values are {names}")
    mime = None if word is None else _TYPES[block].get(word, f"{block}/{word}")
    if word is not None and format_of(block, mime) != word:
        extra["format"] = word
    name = fields.required_text("name") if block == "document" else None
    data, url = _source(fields.required_fields("source"), block, extra)
    if mime in _FORMATS["image"] and data is not None and not data.startswith(_IMAGES):
        raise wrong_value(fields.param("source.bytes"), "it holds no PNG, JPEG, GIF or WebP image")
    if mime is None and "told" in extra:
        mime, extra["format"] = "text/plain", None
    extra |= fields.rest()
    return Media(
        KINDS[block], mime, data, url, name=name, extensions=extended({block: extra} if extra else {})
    )


def _source(source: Fields, block: str, extra: dict[str, Any]) -> tuple[str | None, str | None]:
    """Data or address, one of them None. What is told otherwise than as bytes is noted in `extra`."""
    data, location = source.text("bytes"), source.fields("s3Location")
    text = source.text("text") if block == "document" else None
    pieces = source.items("content") if block == "document" else None
    if [data, location, text, pieces].count(None) != 3:
        raise wrong_value(source.path, "it must have exactly one of 'bytes' and 's3Location'")
    rest: dict[str, Any] = dict(source.rest())
    url = None
    if data is not None:
        check_base64(data, source.param("bytes"))
    elif location is not None:
        url = location.required_text("uri")
        if location.rest():
            rest["s3Location"] = location.rest()
    elif text is not None:
        data, extra["told"] = base64_from_text(text), "text"
    elif pieces is not None:
        data, rest["content"] = base64_from_text(_joined(pieces, source.param("content"))), pieces
        extra["told"] = "content"
    if rest:
        extra["source"] = rest
    return data, url


def _joined(pieces: list[Any], path: str) -> str:
    texts: list[str] = []
    for index, piece in enumerate(pieces):
        text = piece.get("text") if isinstance(piece, dict) else None
        if not isinstance(text, str):
            raise wrong_type(f"{path}[{index}]", "an object with a 'text'", piece)
        texts.append(text)
    return "\n".join(texts)


def format_of(block: str, mime: str | None) -> str | None:
    """The word for a MIME type; None where there is none."""
    if mime is None:
        return None
    mime = mime.partition(";")[0].strip().lower()
    return _FORMATS[block].get(mime, mime.removeprefix(f"{block}/") if mime.startswith(f"{block}/") else None)


def media_block(part: Media, path: str, names: DocumentNames, losses: list[Loss]) -> dict[str, Any] | None:
    """The content block of a part; None, and a loss, where the dialect has no form for it."""
    block = _BLOCKS[part.kind]
    extra = dict(own(part.extensions).get(block) or {})
    told = extra.pop("told", None)
    source = _encode_source(part, told)
    if source is None:
        how = "file id" if part.file_id is not None else "URL other than s3://"
        losses.append(Loss(path, f"the dialect takes no {part.kind} by {how}"))
        return None
    known = "format" in extra
    word = extra.pop("format", None) if known else format_of(block, part.mime)
    if word is None and block == "document" and not known:
        word = _document_format(part, path, losses)
    if word is None and not known and (block != "document" or part.mime is not None):
        losses.append(Loss(path, f"the dialect takes no {part.kind} of this type"))
        return None
    if part.detail not in (None, "auto"):
        losses.append(Loss(f"{path}.detail", "the dialect has no such setting"))
    wire: dict[str, Any] = {} if word is None else {"format": word}
    if block == "document":
        wire["name"] = names.valid(part.name, word, path, losses)
    elif part.name is not None:
        losses.append(Loss(f"{path}.name", f"{part.kind}s have no name in this dialect"))
    return {block: merged({**wire, "source": source}, extra)}


def _encode_source(part: Media, told: object) -> dict[str, Any] | None:
    if part.data is not None:
        text = text_from_base64(part.data) if told == "text" else None
        if told == "content":
            return {}  # its pieces are among the unknown fields
        return {"bytes": part.data} if text is None else {"text": text}
    if part.url is not None and part.url.startswith("s3://"):
        return {"s3Location": {"uri": part.url}}
    return None


def _document_format(part: Media, path: str, losses: list[Loss]) -> str | None:
    """The format of a document whose MIME type does not tell: by its name, its first bytes, or as text."""
    ending = (part.name or "").rpartition(".")[2].lower()
    if part.mime in (None, "application/octet-stream", "binary/octet-stream"):
        if ending in _TYPES["document"]:
            return ending
        return "pdf" if (part.data or "").startswith(_PDF) else None
    if _TEXTUAL.match(part.mime):
        losses.append(Loss(f"{path}.mime", "sent as plain text, the nearest that the dialect has"))
        return "txt"
    return None


class DocumentNames:
    """Names as Bedrock takes them, each once in a request.

    Letters, digits, single spaces, hyphens, parentheses and square brackets; 1 to 200 characters.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def valid(self, name: str | None, word: str | None, path: str, losses: list[Loss]) -> str:
        """A name for the document. An ending that only repeats the format goes without a loss."""
        wanted = name or ""
        stem, dot, ending = wanted.rpartition(".")
        if dot and stem and format_of_ending(ending) == word:
            wanted = stem
        usable = _SPACES.sub(" ", _UNUSABLE.sub("-", wanted))[:_LONGEST_NAME]
        if usable != wanted:
            losses.append(
                Loss(f"{path}.name", "characters that the dialect's names can't have were replaced")
            )
        usable = usable.strip() or "document"
        unique, number = usable, self._numbers.get(usable, 1)
        while unique in self._taken:
            number += 1
            unique = f"{usable[: _LONGEST_NAME - 10]} ({number})"
        self._numbers[usable] = number
        if name and number > 1:
            losses.append(Loss(f"{path}.name", "another document has this name: a number was added"))
        self._taken.add(unique)
        return unique


_LONGEST_NAME = 200
_UNUSABLE = re.compile(r"[^A-Za-z0-9\s\-()\[\]]")
_SPACES = re.compile(r"\s+")


def format_of_ending(ending: str) -> str | None:
    ending = ending.lower()
    return {"htm": "html", "markdown": "md", "text": "txt"}.get(ending, ending)
