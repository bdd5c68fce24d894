"""A Responses request as it came in, and as it goes on to a stateless upstream."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from headgate.core.backend import Kept
from headgate.core.errors import InvalidRequest, NotFound, UnsupportedParameter
from headgate.core.loss import Loss
from headgate.core.result import ChatResult
from headgate.dialects.dialect import AnswerOptions, ChatDialect
from headgate.dialects.json_bodies import decode_object, missing, wrong_type, wrong_value
from headgate.dialects.openai_responses import OPENAI_RESPONSES, StreamEncoder, echo_of, encode_result
from headgate.dialects.openai_responses.vocabulary import mint_item_id

RawFields = Mapping[str, msgspec.Raw]

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}
_MINTED = re.compile(r"[a-z]+_hg\d+_(\w+)")
_OURS = frozenset({"background", "conversation", "input", "previous_response_id", "store"})
"""Fields that are dealt with here; an upstream does not see them as they came."""


_INPUT_IDS = 100_000
"""Minted ids of input items count from here, those of output items from 0."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One request whose answer may be kept.

    Args:
        id: of the response to be.
        created: Unix seconds.
        owner: the principal whose response it is.
        background: it is answered without its caller.
        stream: the caller wants events.
        body: the request for the upstream: stateless, history expanded, streamed if in the background.
        items: the whole input, history included, each item JSON with an id.
        echo: what the response repeats of its request.
    """

    id: str
    model: str
    created: int
    owner: str
    store: bool
    background: bool
    stream: bool
    body: bytes
    items: tuple[bytes, ...]
    echo: Mapping[str, Any]

    @property
    def dialect(self) -> ChatDialect:
        """The dialect for this one answer."""
        return replace(OPENAI_RESPONSES, stream_encoder=self._encoder, encode_result=self._encode)

    def opening(self) -> tuple[bytes, dict[str, Any]]:
        """The events with which an answer in the background begins, and the response object as it is then."""
        encoder = StreamEncoder(AnswerOptions(), self.echo)
        events = encoder.begin(self.id, self.model, self.created, queued=True)
        assert encoder.response is not None
        return events, encoder.response

    def _options(self, options: AnswerOptions) -> AnswerOptions:
        return replace(options, id=self.id, created=self.created, model=options.model or self.model)

    def _encoder(self, options: AnswerOptions) -> StreamEncoder:
        encoder = StreamEncoder(self._options(options), self.echo)
        if self.background:
            encoder.begin(self.id, self.model, self.created, queued=True)
        return encoder

    def _encode(self, result: ChatResult, options: AnswerOptions) -> tuple[bytes, list[Loss]]:
        return encode_result(result, self._options(options), self.echo)


class Asked:
    """The fields of a request body that say what is to be kept and continued. The rest stays unread.

    Raises:
        InvalidRequest: the body is no JSON object, or one of these fields is not what it must be.
    """

    def __init__(self, body: bytes) -> None:
        try:
            fields = _FIELDS.decode(body)
        except (ValueError, RecursionError):
            fields = {key: msgspec.Raw(msgspec.json.encode(v)) for key, v in decode_object(body).items()}
        self.fields = {key: value for key, value in fields.items() if bytes(value) != b"null"}
        self.store = self._flag("store", True)
        self.background = self._flag("background", False)
        self.stream = self._flag("stream", False)
        self.model = self._text("model") or ""
        self.previous = self._text("previous_response_id")
        self.conversation = self._conversation()
        if not self.model:
            raise missing("model")

    @property
    def stateless(self) -> bool:
        """Nothing is to be kept, and nothing that was kept is meant."""
        return not (
            self.store
            or self.background
            or self.previous is not None
            or self.conversation is not None
            or self.refers_here()
        )

    @property
    def needs(self) -> frozenset[Kept]:
        """What an upstream must keep so that it can answer this as it is."""
        wants: dict[Kept, bool] = {
            "background": self.background,
            "conversation": self.conversation is not None,
        }
        return frozenset(name for name, wanted in wants.items() if wanted) or frozenset({"store"})

    def refers_here(self) -> bool:
        """The input names items that were written by Headgate: no upstream knows them."""
        if b"_hg" not in bytes(self.fields.get("input", b"")):
            return False
        return any(item_referred_to(item) is not None for item in self.input_items() or ())

    def check_emulated(self) -> None:
        """Refuse what there is no emulation of.

        Raises:
            UnsupportedParameter: `conversation`, which there is no place for.
            InvalidRequest: in the background, and not to be kept.
        """
        if self.conversation is not None:
            raise UnsupportedParameter(
                f"Conversations are not kept here, nor by the upstream of {self.model!r}: leave out "
                "'conversation' and continue a response with 'previous_response_id'.",
                param="conversation",
            )
        if self.background and not self.store:
            raise wrong_value("store", "a response in the background is kept until it is fetched")

    def input_items(self) -> list[bytes] | None:
        """The new items as they came; None where `input` is none, which the dialect's decoder refuses."""
        raw = self.fields.get("input")
        if raw is None:
            return []
        text = bytes(raw)
        if text.startswith(b'"'):
            return [b'{"type":"message","role":"user","content":%b}' % text]
        return [bytes(item) for item in _ITEMS.decode(text)] if text.startswith(b"[") else None

    def body(self, items: Sequence[bytes] | None) -> bytes:
        """The request with `items` for its input."""
        fields = {key: value for key, value in self.fields.items() if key not in _OURS}
        if items is None:
            fields["input"] = self.fields["input"]
        elif items or "input" in self.fields:
            fields["input"] = msgspec.Raw(b"[" + b",".join(items) + b"]")
        if self.background:
            fields["stream"] = msgspec.Raw(b"true")
        return msgspec.json.encode(fields)

    def echo(self) -> dict[str, Any]:
        return echo_of(self.fields)

    def _conversation(self) -> str | None:
        """Its id; the field holds that, or an object with it."""
        value = self._value("conversation")
        if isinstance(value, dict):
            value = value.get("id")
        if value is None and "conversation" not in self.fields:
            return None
        if not isinstance(value, str):
            raise wrong_type("conversation", "an id, or an object with one", value)
        return value

    def _flag(self, name: str, default: bool) -> bool:
        value = self._value(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        raise wrong_type(name, "a boolean", value)

    def _text(self, name: str) -> str | None:
        value = self._value(name)
        if value is None or isinstance(value, str):
            return value
        raise wrong_type(name, "a string", value)

    def _value(self, name: str) -> object:
        raw = self.fields.get(name)
        return None if raw is None else msgspec.json.decode(raw)


def named_items(items: Sequence[bytes], response_id: str) -> tuple[bytes, ...]:
    """Items as `input_items` lists them: typed, with an id, contents of messages as lists of parts."""
    return tuple(_named(item, response_id, _INPUT_IDS + number) for number, item in enumerate(items))


def _named(item: bytes, response_id: str, number: int) -> bytes:
    try:
        fields = _FIELDS.decode(item)
    except ValueError:
        return item
    text = fields.get("type")
    kind = "message" if text is None else bytes(text).strip(b'"').decode("utf-8", "replace")
    fields["type"] = msgspec.Raw(msgspec.json.encode(kind))
    if bytes(fields.get("id", b"null")) == b"null":
        prefix = _PREFIXES.get(kind, "item")
        fields["id"] = msgspec.Raw(msgspec.json.encode(mint_item_id(prefix, response_id, number)))
    content = bytes(fields.get("content", b""))
    if kind == "message" and content.startswith(b'"'):
        answer = bytes(fields.get("role", b"")) == b'"assistant"'
        form = b'[{"type":"output_text","text":%b,"annotations":[]}]' if answer else _INPUT_TEXT
        fields["content"] = msgspec.Raw(form % content)
    if kind != "reasoning":
        fields.setdefault("status", msgspec.Raw(b'"completed"'))
    return msgspec.json.encode(fields)


_INPUT_TEXT = b'[{"type":"input_text","text":%b}]'


class _Reference(msgspec.Struct):
    type: str | None = None
    id: str | None = None
    role: Any = None


_REFERENCE = msgspec.json.Decoder(_Reference)


def id_of(item: bytes) -> str | None:
    return _REFERENCE.decode(item).id


def item_referred_to(item: bytes) -> tuple[str, str] | None:
    """Ids of the response and the item that an `item_reference` means, where that item was written here."""
    if len(item) > 1000:
        return None
    try:
        told = _REFERENCE.decode(item)
    except ValueError:
        return None
    if told.type not in ("item_reference", None) or told.role is not None or told.id is None:
        return None
    minted = _MINTED.fullmatch(told.id)
    return None if minted is None else (f"resp_{minted[1]}", told.id)


def refuse_previous(identity: str) -> InvalidRequest:
    """As OpenAI words it."""
    return InvalidRequest(
        f"Previous response with id '{shown(identity)}' not found.",
        param="previous_response_id",
        code="previous_response_not_found",
        status=404,
    )


def unknown(identity: str, what: str = "Response") -> NotFound:
    """As OpenAI words it."""
    return NotFound(f"{what} with id '{shown(identity)}' not found.")


def shown(identity: str) -> str:
    """A caller's id for a message: as it is if it looks like one."""
    plain = identity.replace("_", "").replace("-", "")
    return identity if len(identity) <= 128 and plain.isascii() and plain.isalnum() else "…"
