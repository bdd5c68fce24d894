"""Words and small objects that requests, answers and streams of the Gemini API share.

Source: Gemini API reference, "Generating content", as the google-genai SDK 3.x types it. The wire is
protobuf's JSON: camelCase, but readers take snake_case too, and a lone object where a list belongs.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from typing_extensions import override

from headgate.core.events import FinishReason, Stop
from headgate.core.loss import Loss
from headgate.core.messages import Extensions, Part, Reasoning
from headgate.dialects import foreign
from headgate.dialects.json_bodies import Fields, bounded, join, wrong_type, wrong_value
from headgate.dialects.sealed import seal, unseal

NAME = "gemini"

_REASONS: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "CONTINUATION": "pause",
}
_WORDS: Mapping[FinishReason, str] = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "context_length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
    "pause": "OTHER",
    "other": "OTHER",
}
_WORD = re.compile(r"[A-Z][A-Z0-9_]{1,63}")


def stop_from_word(word: str, choice: int, called: bool) -> Stop:
    """`called`: the answer holds tool calls. This dialect has no finish reason of its own for them."""
    reason = _REASONS.get(word, "other")
    return Stop("tool_calls" if called and reason == "stop" else reason, choice, native=word)


def word_from_stop(stop: Stop) -> str:
    """A reason of this dialect's own goes back as it came; else the nearest that clients know."""
    if stop.native is not None and _WORD.fullmatch(stop.native):
        reason = _REASONS.get(stop.native, "other")
        if reason == stop.reason or (reason, stop.reason) == ("stop", "tool_calls"):
            return stop.native
    return _WORDS[stop.reason]


# Fields of a message in protobuf's JSON.


def _camel(key: str) -> str:
    head, *words = key.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in words) if head else key


class ProtoFields(Fields):
    """One object of the wire. Its own field names become camelCase; values are left as they are."""

    __slots__ = ()

    def __init__(self, value: Mapping[str, Any], path: str = "") -> None:
        renamed: dict[str, Any] = {}
        for key, item in value.items():
            name = _camel(key) if "_" in key else key
            if name in renamed:
                raise wrong_value(
                    join(path, name), "the field is given twice, in camelCase and in snake_case"
                )
            renamed[name] = item
        super().__init__(renamed, path)

    @override
    @classmethod
    def of(cls, value: object, path: str) -> ProtoFields:
        if not isinstance(value, dict):
            raise wrong_type(path, "an object", value)
        return cls(value, path)

    @override
    def fields(self, key: str) -> ProtoFields | None:
        value = self.take(key)
        return None if value is None else ProtoFields.of(value, self.param(key))

    def repeated(self, key: str) -> list[Any] | None:
        """A list; a lone object is a list of one."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, dict):
            return [value]
        if not isinstance(value, list):
            raise wrong_type(self.param(key), "an array", value)
        return bounded(value, self.param(key))


# Extensions and losses.


def own(extensions: Extensions) -> dict[str, Any]:
    """A copy of this dialect's share of the extensions."""
    return dict(extensions.get(NAME, {}))


def own_object(extensions: Extensions, key: str) -> dict[str, Any]:
    """The object under `key` of this dialect's share; empty where there is none."""
    value = extensions.get(NAME, {}).get(key)
    return dict(value) if isinstance(value, dict) else {}


def extended(rest: Mapping[str, Any], **nested: Mapping[str, Any] | None) -> Extensions:
    """Extensions from unknown fields; those of nested objects stay under the object's name."""
    values = {**rest, **{key: dict(inner) for key, inner in nested.items() if inner}}
    return {NAME: values} if values else {}


def foreign_losses(extensions: Extensions, path: str) -> list[Loss]:
    """One loss for each field that belongs to another dialect."""
    return foreign.foreign_losses(extensions, path, NAME)


def kind_of(part: Part) -> str:
    return type(part).__name__.lower()


# Base64, in both alphabets.

_STANDARD = str.maketrans("-_", "+/")


def standard_base64(text: str) -> tuple[str, bytes] | None:
    """The text in the standard alphabet with padding, and its bytes; None if it is no base64."""
    if "-" in text or "_" in text:
        text = text.translate(_STANDARD)
    text = text.rstrip("=")
    text += "=" * (-len(text) % 4)
    try:
        return text, binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None


# Opaque reasoning: `thoughtSignature` is bytes, so that what is sealed goes in base64.

_SEALED_HEAD = "aGdzMS"
"""How base64 of sealed text begins (`headgate.dialects.sealed`)."""


def opaque_from_signature(signature: str) -> dict[str, Any]:
    """Fields of `Reasoning`: the vendor's own signature, or what another vendor's was sealed into."""
    decoded = standard_base64(signature) if signature.startswith(_SEALED_HEAD) else None
    unsealed = unseal(decoded[1].decode("utf-8", "replace")) if decoded is not None else None
    if unsealed is None:
        return {"signature": signature, "origin": NAME}
    origin, inner = unsealed
    letter, _, opaque = inner.partition(":")
    if letter == "s":
        return {"signature": opaque, "origin": origin}
    return {"data": opaque, "origin": origin, "redacted": letter == "r"}


def sealed_signature(part: Reasoning) -> str | None:
    """A `thoughtSignature` for a caller; None where nothing opaque can be handed out."""
    opaque = part.signature if part.signature is not None else part.data
    if opaque is None or part.origin is None:
        return None
    if part.origin == NAME:
        return opaque
    letter = "s" if part.signature is not None else "r" if part.redacted else "d"
    return base64.b64encode(seal(part.origin, f"{letter}:{opaque}").encode()).decode()


# Ids of tool calls. Older models and many servers give none; callers of other dialects need one.

_MADE = re.compile(r"hgc_[0-9a-f]{20}")


def made_id(*seeds: object) -> str:
    """The same for the same seeds, and alike to no vendor's own."""
    text = "\0".join(map(str, seeds)).encode("utf-8", "replace")
    return "hgc_" + blake2b(text, digest_size=10).hexdigest()


def is_made(call_id: str) -> bool:
    return _MADE.fullmatch(call_id) is not None


# Arguments and results of tools, which are JSON objects on the wire and JSON text within.

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def raw_object(text: str) -> msgspec.Raw | None:
    """JSON text of an object, to be written as it is; None for anything else."""
    try:
        _OBJECT.decode(text)
        return msgspec.Raw(text.encode())
    except (ValueError, RecursionError):
        return None


_LINE_ENDS = re.compile(b"\xe2\x80[\xa8\xa9]|\xc2\x85")
_ESCAPED = {b"\xe2\x80\xa8": rb"\u2028", b"\xe2\x80\xa9": rb"\u2029", b"\xc2\x85": rb"\u0085"}


def stream_json(value: object) -> bytes:
    """JSON text on one line even for readers that split at Unicode's line ends, as Google's own SDK does."""
    text = msgspec.json.encode(value)
    return text if text.isascii() else _LINE_ENDS.sub(lambda found: _ESCAPED[found[0]], text)
