"""Checks of what callers put into a request whole: base64, images, JSON schemas."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

from headgate.dialects.json_bodies import join, wrong_type, wrong_value

_CHECKED_WHOLE = 1024 * 1024
"""Characters of base64 that are checked to the last. Of more, the ends: the whole would hold up the event
loop, and is the upstream's to judge."""
_END = 4096

_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp"})
_IMAGE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"RIFF")
_SCHEMA_OBJECTS = ("properties", "patternProperties", "$defs", "definitions")


def check_base64(text: str, param: str) -> bytes:
    """The first bytes. Raises InvalidRequest for what is not base64 (RFC 4648, section 4), or is empty."""
    ends = [text]
    if len(text) > _CHECKED_WHOLE and len(text) % 4 == 0 and text.isascii():
        ends = [text[:_END], text[-_END:]]
    try:
        decoded = [binascii.a2b_base64(end, strict_mode=True) for end in ends]
    except ValueError:
        raise wrong_value(param, "it must be base64 text, padded, without line breaks") from None
    if not decoded[0]:
        raise wrong_value(param, "it must not be empty")
    return decoded[0][:16]


def check_image(mime: str | None, text: str, param: str) -> None:
    """Raises InvalidRequest where the bytes are no image. One of another type than it says is the upstream's
    to judge: clients often get that wrong."""
    start = check_base64(text, param)
    if mime is not None and not mime.startswith("image/"):
        raise wrong_value(param, "its type must be an image's, such as 'image/png'")
    if mime in _IMAGE_TYPES and not start.startswith(_IMAGE_STARTS):
        raise wrong_value(param, "the bytes are no PNG, JPEG, GIF or WebP image")


def check_schema(schema: Mapping[str, Any] | None, param: str) -> None:
    """Raises InvalidRequest for an object that can't be a JSON schema; what is nested in it is the upstream's
    to judge."""
    if schema is None:
        return
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if kind is not None and not all(isinstance(each, str) for each in kinds):
        raise wrong_type(join(param, "type"), "a string or an array of strings", kind)
    for key in _SCHEMA_OBJECTS:
        value = schema.get(key)
        if value is not None and not isinstance(value, dict):
            raise wrong_type(join(param, key), "an object", value)
    required = schema.get("required")
    if required is not None and not isinstance(required, list):
        raise wrong_type(join(param, "required"), "an array of strings", required)
