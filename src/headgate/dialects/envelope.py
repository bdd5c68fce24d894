"""The outer object of a JSON request, for the lane in which the rest passes through untouched."""

from __future__ import annotations

from typing import Self

import msgspec

from headgate.dialects.json_bodies import missing, refuse_body, wrong_type, wrong_value

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
_encode = msgspec.json.encode

_TYPE_BY_FIRST_BYTE = {
    b"{": {},
    b"[": [],
    b'"': "",
    b"t": True,
    b"f": False,
    b"n": None,
}


class Envelope:
    """Top-level fields as raw JSON, with the two that routing reads.

    The bytes of a field's value are kept as they came. What is sent on is written anew from the fields, so
    that of a key given twice only the last goes out, the one that was read here: two parsers that
    disagree can't make one request mean two models.
    """

    __slots__ = ("fields", "model", "stream")

    def __init__(self, model: str, stream: bool, fields: dict[str, msgspec.Raw]) -> None:
        self.model = model
        self.stream = stream
        self.fields = fields

    @classmethod
    def read(cls, body: bytes, *, model: str | None = None, stream: bool | None = None) -> Self:
        """Read a body; `model` and `stream` are given where the route says them, not the body.

        Raises InvalidRequest: not one JSON object in UTF-8, nested too deeply, no model, wrong types.

        Values are skipped, not decoded: msgspec checks their JSON grammar but not their UTF-8, so that is
        checked over the whole body. Escapes and number ranges inside are the upstream's to judge.
        """
        try:
            fields = _FIELDS.decode(body)
            if not body.isascii():
                body.decode()
        except (ValueError, RecursionError) as error:
            refuse_body(error)
        if stream is None:
            asked = fields.get("stream")
            stream = asked is not None and _boolean(asked, "stream")
        return cls(_model(fields.get("model")) if model is None else model, stream, fields)

    def body(self, model: str | None, added: tuple[str, bytes] | None = None) -> bytes:
        """The request for an upstream.

        Args:
            model: what the upstream calls the model; None where its route says so.
            added: one more field, or another value for it, as JSON text.
        """
        if added is None:
            if model is not None:
                self.fields["model"] = msgspec.Raw(_encode(model))
            return _encode(self.fields)
        fields = {**self.fields, added[0]: msgspec.Raw(added[1])}
        if model is not None:
            fields["model"] = msgspec.Raw(_encode(model))
        return _encode(fields)


def _model(raw: msgspec.Raw | None) -> str:
    if raw is None:
        raise missing("model")
    try:
        model = _STRING.decode(raw)
    except msgspec.ValidationError:
        raise wrong_type("model", "a string", _sample(raw)) from None
    if not model:
        raise wrong_value("model", "it must not be empty")
    return model


def _boolean(raw: msgspec.Raw, param: str) -> bool:
    text = bytes(raw)
    if text == b"true":
        return True
    if text in (b"false", b"null"):
        return False
    raise wrong_type(param, "a boolean", _sample(raw))


def _sample(raw: msgspec.Raw) -> object:
    """Some value of the JSON type that `raw` has: enough to name the type."""
    return _TYPE_BY_FIRST_BYTE.get(bytes(raw)[:1], 0)
