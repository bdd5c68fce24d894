"""Reasoning with what makes it of use in the next turn: `reasoning_details`, and signatures of tool calls.

Sources: OpenRouter, "Reasoning Tokens" (`reasoning_details` in messages and deltas: `reasoning.text` with
`signature`, `reasoning.summary`, `reasoning.encrypted` with `data`, each with `id`, `format` and `index`);
Google, "OpenAI compatibility" of the Gemini API (`tool_calls[].extra_content.google.thought_signature`).

Details of this dialect's own vendors go back as they came: all but their content is kept in the part's
extensions, `type` always. Parts of another dialect's upstream have their opaque data sealed
(`headgate.dialects.sealed`) and their extensions beside it, with the name of the `origin`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from headgate.core.messages import Extensions, Part, Reasoning, ToolCall
from headgate.dialects.json_bodies import Fields
from headgate.dialects.openai_chat.vocabulary import NAME, own
from headgate.dialects.sealed import seal, unseal

TEXT, SUMMARY, ENCRYPTED = "reasoning.text", "reasoning.summary", "reasoning.encrypted"
GEMINI = "gemini"
NO_ORIGIN = "opaque reasoning of unknown origin can't be handed on"

Opaque: TypeAlias = Literal["signature", "data", "redacted"]

_KINDS = (TEXT, SUMMARY, ENCRYPTED)
_CONTENT = ("text", "summary", "signature", "data")
_LETTERS: Mapping[str, Opaque] = {"s": "signature", "d": "data", "r": "redacted"}
"""Sealed `data` says by its first letter what it holds: a call's signature may stand there, too."""


def signed_call(parts: Sequence[Part], index: int) -> ToolCall | None:
    """The call that the reasoning part at `index` does nothing but sign."""
    part, following = parts[index], parts[index + 1] if index + 1 < len(parts) else None
    if isinstance(part, Reasoning) and is_bare_signature(part) and isinstance(following, ToolCall):
        return following
    return None


def is_bare_signature(part: Reasoning) -> bool:
    return part.signature is not None and not part.text and part.data is None


def is_opaque(part: Reasoning) -> bool:
    return part.signature is not None or part.data is not None


def is_detailed(part: Reasoning) -> bool:
    """Whether the part is more than its text."""
    return part.origin is not None or NAME in part.extensions


def gap(before: str, part: Reasoning) -> str:
    """What stands between the plain text of earlier thoughts and the part's: a blank line where another
    dialect's thoughts are texts of their own (OpenAI's summaries); this dialect's are pieces of one text."""
    if not before or part.origin in (None, NAME) or before.endswith("\n\n"):
        return ""
    return "\n" if before.endswith("\n") else "\n\n"


def plain_text(parts: Iterable[Reasoning]) -> str:
    """All thoughts of a message as one text."""
    text = ""
    for part in parts:
        if part.text:
            text += gap(text[-2:], part) + part.text
    return text


def detail_head(part: Reasoning, kind: str, index: int) -> dict[str, Any]:
    """A detail without its content. Those of this dialect's own origin get back what they came with."""
    if part.origin in (None, NAME):
        return {"type": kind} | own(part.extensions)
    head = {"type": kind, "format": "unknown", "index": index, "origin": part.origin}
    kept = part.extensions.get(part.origin or "")
    return head | ({"extensions": dict(kept)} if kept else {})


def signature_to_wire(part: Reasoning, signature: str) -> str:
    return signature if part.origin in (None, NAME) else seal(part.origin, signature)


def data_to_wire(part: Reasoning, data: str, letter: str = "") -> str:
    if part.origin in (None, NAME):
        return data
    return seal(part.origin, f"{letter or ('r' if part.redacted else 'd')}:{data}")


def encode_details(part: Reasoning, index: int, call: ToolCall | None = None) -> list[dict[str, Any]]:
    """The entries of `reasoning_details` for one part, counted from `index`; none for bare text, or for
    opaque data of nobody knows whose making.

    Args:
        call: what the part signs: the entry's `id` names it.
    """
    if not is_detailed(part):
        return []
    kept = own(part.extensions)
    if "detail" in kept:
        return [kept["detail"]]
    if call is not None and part.signature is not None:
        head = detail_head(part, ENCRYPTED, index) | {"id": call.id}
        return [head | {"data": data_to_wire(part, part.signature, "s")}]
    if kept.get("type") == ENCRYPTED:
        opaque = part.signature if part.data is None else part.data
        return [detail_head(part, ENCRYPTED, index) | ({} if opaque is None else {"data": opaque})]
    entries: list[dict[str, Any]] = []
    if part.text or part.signature is not None or part.data is None:
        entry = detail_head(part, TEXT, index)
        entry["summary" if entry["type"] == SUMMARY else "text"] = part.text
        if part.signature is not None:
            entry["signature"] = signature_to_wire(part, part.signature)
        entries.append(entry)
    if part.data is not None:
        entries.append(data_entry(part, part.data, index + len(entries), alone=not entries))
    return entries


def data_entry(part: Reasoning, data: str, index: int, alone: bool) -> dict[str, Any]:
    """The encrypted detail of a part; where the part's text has an entry of its own, that one names the
    origin, by which the two are put together again."""
    head = detail_head(part, ENCRYPTED, index)
    if not alone:
        head.pop("origin", None)
        head.pop("extensions", None)
    return head | {"data": data_to_wire(part, data)}


def signature_of_call(call: dict[str, Any]) -> str | None:
    """Gemini's signature on an entry of `tool_calls`; it is taken out of the entry."""
    content = call.get("extra_content")
    google = content.get("google") if isinstance(content, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    if not isinstance(content, dict) or not isinstance(google, dict) or not isinstance(signature, str):
        return None
    rest = {key: value for key, value in google.items() if key != "thought_signature"}
    others = {key: value for key, value in content.items() if key != "google"}
    call.pop("extra_content")
    if rest or others:
        call["extra_content"] = others | ({"google": rest} if rest else {})
    return signature


def sign_call(call: dict[str, Any], signature: str) -> dict[str, Any]:
    """The entry of `tool_calls` with Gemini's signature in Google's place."""
    content = call.get("extra_content")
    kept = content if isinstance(content, dict) else {}
    google = kept.get("google")
    signed = {**(google if isinstance(google, dict) else {}), "thought_signature": signature}
    return {**call, "extra_content": {**kept, "google": signed}}


@dataclass(slots=True)
class Detail:
    """One entry of a caller's `reasoning_details`, fragments of a stream put together."""

    part: Reasoning
    kind: str
    id: str | None = None
    index: int | None = None
    begins: bool = True
    """False: sealed data without the name of its origin goes with the text before it."""
    more: list[Reasoning] = field(default_factory=list)
    """The next fragments, until `settle()`."""
    signed: bool = False

    def continues(self, other: Detail) -> bool:
        """Whether this is the next fragment of `other`: clients that only collect deltas send them so."""
        return (
            self.kind == other.kind
            and self.kind in (TEXT, SUMMARY)
            and self.index is not None
            and self.index == other.index
            and self.id in (None, other.id)
            and not (other.signed and self.part.text)
        )

    def completes(self, other: Detail) -> bool:
        return not self.begins and other.kind in (TEXT, SUMMARY) and other.part.signature is None

    def add(self, fragment: Detail) -> None:
        self.more.append(fragment.part)
        self.signed = self.signed or fragment.signed

    def settle(self) -> None:
        """Put the fragments together: texts and signatures in a row, of other fields the first."""
        first, fragments = self.part, [self.part, *self.more]
        origin, extensions = first.origin, first.extensions
        kept: dict[str, Any] | None = None
        for fragment in self.more:
            before, origin = origin, fragment.origin or origin
            if origin in (None, NAME):
                kept = own(extensions) if kept is None else kept
                for key, value in fragment.extensions.get(NAME, {}).items():
                    kept.setdefault(key, value)
            elif origin != before:
                extensions, kept = fragment.extensions, None
        self.part = replace(
            first,
            text="".join([each.text for each in fragments]),
            signature="".join([each.signature or "" for each in fragments]) or None,
            origin=origin,
            extensions=extensions if kept is None else {NAME: kept},
        )
        self.more = []


def decode_details(items: list[Any], path: str) -> list[Detail]:
    """The entries of a caller's message. Raises InvalidRequest naming the field."""
    details: list[Detail] = []
    for number, item in enumerate(items):
        detail = _detail(Fields.of(item, f"{path}[{number}]"), item)
        detail.signed = bool(detail.part.signature)
        last = details[-1] if details else None
        if last is not None and detail.continues(last):
            last.add(detail)
            continue
        if last is not None and last.more:
            last.settle()
        if last is not None and detail.completes(last):
            whole = replace(detail.part, text=last.part.text, redacted=False)
            if last.part.origin == whole.origin:
                whole = replace(whole, extensions=last.part.extensions)
            details[-1] = replace(last, part=whole, signed=detail.signed)
        else:
            details.append(detail)
    if details and details[-1].more:
        details[-1].settle()
    return details


def _detail(fields: Fields, item: dict[str, Any]) -> Detail:
    kind = fields.required_text("type")
    if kind not in _KINDS:
        return Detail(Reasoning(extensions={NAME: {"detail": item}}), kind)
    text = "" if kind == ENCRYPTED else fields.text("summary" if kind == SUMMARY else "text") or ""
    opaque = fields.text("data" if kind == ENCRYPTED else "signature") or None
    number, identity = fields.peek("index"), fields.peek("id")
    detail = Detail(
        Reasoning(text),
        kind,
        identity if isinstance(identity, str) else None,
        number if isinstance(number, int) else None,
    )
    sealed = None if opaque is None else unseal(opaque)
    origin = fields.peek("origin")
    if sealed is None and (opaque is not None or not isinstance(origin, str) or origin == NAME):
        kept = {NAME: {"type": kind, **fields.rest()}}
        detail.part = _with_opaque(detail.part, kind, opaque, None if opaque is None else NAME, kept)
        return detail
    detail.begins = kind != ENCRYPTED or isinstance(origin, str)
    maker, content = (origin, None) if sealed is None else sealed
    marks = fields.peek("extensions")
    extensions = {maker: marks} if isinstance(marks, dict) and marks else {}
    detail.part = _with_opaque(detail.part, kind, content, maker, extensions)
    return detail


def _with_opaque(
    part: Reasoning, kind: str, opaque: str | None, origin: str | None, extensions: Extensions
) -> Reasoning:
    part = replace(part, origin=origin, extensions=extensions)
    if kind != ENCRYPTED:
        return replace(part, signature=opaque)
    what: Opaque = "redacted"
    if origin != NAME and opaque is not None and opaque[1:2] == ":":
        what, opaque = _LETTERS.get(opaque[0], "redacted"), opaque[2:]
    if what == "signature":
        return replace(part, signature=opaque)
    return replace(part, data=opaque, redacted=what == "redacted")


class CallSignatures:
    """The details of a message of which some sign its calls."""

    def __init__(self, details: list[Detail]) -> None:
        self._details = details
        self._by_id: dict[str, deque[int]] = {}
        self._taken: set[int] = set()
        for number, detail in enumerate(details):
            if detail.kind == ENCRYPTED and detail.id is not None and is_opaque(detail.part):
                self._by_id.setdefault(detail.id, deque()).append(number)

    def take(self, call_id: str) -> Reasoning | None:
        """The part that signs the call, if there is one; it signs no other."""
        numbers = self._by_id.get(call_id)
        if not numbers:
            return None
        number = numbers.popleft()
        self._taken.add(number)
        part = self._details[number].part
        return replace(part, signature=part.signature or part.data, data=None, redacted=False)

    def rest(self) -> list[Detail]:
        """The details that sign no call."""
        return [detail for number, detail in enumerate(self._details) if number not in self._taken]


class DetailTracker:
    """Tells, of the deltas of an upstream's stream, which details go on and which begin a part."""

    def __init__(self) -> None:
        self._open: tuple[object, object] | None = None
        self._signed = False

    def continues(self, entry: dict[str, Any]) -> bool:
        """Whether the entry is the next fragment of the detail that is open."""
        kind = entry.get("type")
        text = entry.get("summary") if kind == SUMMARY else entry.get("text")
        goes_on = (
            kind in (TEXT, SUMMARY)
            and self._open == (kind, entry.get("index"))
            and not (self._signed and text)
        )
        self._signed = self._signed or bool(entry.get("signature"))
        return goes_on

    def begin(self, entry: dict[str, Any]) -> Reasoning:
        """The part that opens with the entry."""
        kind = entry.get("type")
        if kind not in _KINDS:
            return Reasoning(extensions={NAME: {"detail": entry}})
        self._open = (kind, entry.get("index"))
        self._signed = bool(entry.get("signature"))
        kept = {key: value for key, value in entry.items() if key not in _CONTENT and value is not None}
        return Reasoning(redacted=kind == ENCRYPTED, origin=NAME, extensions={NAME: kept})

    def close(self) -> None:
        self._open = None
