"""The reasoning of earlier turns, written back into an assistant message for an upstream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import Part, Reasoning
from headgate.dialects.openai_chat.profile import Profile
from headgate.dialects.openai_chat.reasoning import (
    GEMINI,
    NO_ORIGIN,
    encode_details,
    is_detailed,
    is_opaque,
    plain_text,
    sign_call,
    signed_call,
)
from headgate.dialects.openai_chat.vocabulary import NAME


class ThinkingEncoder:
    """For one message of `parts`. Opaque data goes back only to the kind of upstream that made it: what came
    from this dialect, as details; Gemini's signatures of tool calls, in Google's place for them."""

    def __init__(self, parts: Sequence[Part], profile: Profile) -> None:
        self._parts = parts
        self._profile = profile
        self._thoughts: list[Reasoning] = []
        self._details: list[dict[str, Any]] = []
        self._signature: str | None = None

    def add(self, index: int, path: str) -> list[Loss]:
        """Take the reasoning part at `index`; what of it can't go back."""
        part = self._parts[index]
        assert isinstance(part, Reasoning)
        call = signed_call(self._parts, index)
        losses: list[Loss] = []
        if part.text:
            self._thoughts.append(part)
            if self._profile.reasoning_field is None:
                losses.append(Loss(path, "the target takes no reasoning back"))
        if part.origin == GEMINI and call is not None and self._profile.thought_signatures:
            self._signature = part.signature
        elif part.origin in (None, NAME) and is_detailed(part) and self._profile.reasoning_details:
            self._details += encode_details(part, len(self._details), call)
        elif is_opaque(part):
            losses.append(Loss(path, self._why_not(part)))
        return losses

    def _why_not(self, part: Reasoning) -> str:
        if part.origin in (NAME, GEMINI):
            return "the target takes no signed or encrypted reasoning back"
        return f"only {part.origin} can use its opaque reasoning" if part.origin else NO_ORIGIN

    def signed(self, call: dict[str, Any]) -> dict[str, Any]:
        """The entry of `tool_calls` that follows, with the signature that the part before it was."""
        signature, self._signature = self._signature, None
        return call if signature is None else sign_call(call, signature)

    def fields(self) -> dict[str, Any]:
        """What the message gets for all its reasoning parts."""
        fields: dict[str, Any] = {}
        if self._thoughts and self._profile.reasoning_field is not None:
            fields[self._profile.reasoning_field] = plain_text(self._thoughts)
        if self._details:
            fields["reasoning_details"] = self._details
        return fields
