"""What calls that belong together have in common, as one number: the router never sees the payload."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from headgate.core.backend import RawHeaders
from headgate.dialects.envelope import Envelope
from headgate.routing.route import Affinity

_USERS = ("user", "safety_identifier", "prompt_cache_key")
_INSTRUCTIONS = ("system", "instructions", "systemInstruction", "system_instruction")
_TURNS = ("messages", "contents", "input", "prompt")
_MOST_TURNS = 16


class _Turn(msgspec.Struct):
    role: str | None = None


class _Metadata(msgspec.Struct):
    user_id: str | None = None


_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_TURN = msgspec.json.Decoder(_Turn)
_METADATA = msgspec.json.Decoder(_Metadata)


def affinity_of(affinity: Affinity, envelope: Envelope, headers: RawHeaders) -> int | None:
    """64 bits of what `affinity` asks for; None where the request has nothing of it."""
    if affinity.by == "header":
        found = [value for name, value in headers if name == affinity.header]
    elif affinity.by == "user":
        found = _user(envelope)
    else:
        found = list(_beginning(envelope))
    if not found:
        return None
    return int.from_bytes(blake2b(b"\0".join(found), digest_size=8).digest())


def _user(envelope: Envelope) -> list[bytes]:
    for name in _USERS:
        raw = envelope.fields.get(name)
        if raw is not None and bytes(raw) not in (b"null", b'""'):
            return [bytes(raw)]
    metadata = envelope.fields.get("metadata")
    if metadata is not None:
        try:
            user = _METADATA.decode(metadata).user_id
        except msgspec.MsgspecError:
            return []
        return [user.encode()] if user else []
    return []


def _beginning(envelope: Envelope) -> Iterator[bytes]:
    """The instructions and the turns up to the first of the user's: the same in every turn of a conversation,
    which is what a provider's prompt cache goes by."""
    for name in _INSTRUCTIONS:
        if name in envelope.fields:
            yield bytes(envelope.fields[name])
    for name in _TURNS:
        raw = envelope.fields.get(name)
        if raw is None:
            continue
        try:
            turns = _ITEMS.decode(raw)
        except msgspec.MsgspecError:
            yield bytes(raw)[:4096]  # plain text
            continue
        for turn in turns[:_MOST_TURNS]:
            yield bytes(turn)
            try:
                if _TURN.decode(turn).role == "user":
                    break
            except msgspec.MsgspecError:
                break
