"""Messages, written as `contents` and `systemInstruction` of a request."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from headgate.core.loss import Loss
from headgate.core.messages import Message, Part, ToolCall, ToolResult
from headgate.dialects.gemini.part_encoder import PartEncoder, Wire
from headgate.dialects.gemini.vocabulary import foreign_losses, kind_of, own

UNSIGNED = "skip_thought_signature_validator"
"""Documented stand-in for the signature of a call that this vendor did not make."""
_SYSTEM = ("system", "developer")


class ContentEncoder:
    """Writes one conversation.

    Args:
        losses: added to.
        signed_calls: the model refuses a turn whose first function call has no signature.
    """

    def __init__(self, losses: list[Loss], *, signed_calls: bool) -> None:
        self._losses = losses
        self._signed_calls = signed_calls
        self._names: dict[str, str] = {}
        self._parts = PartEncoder(losses, self._names, for_caller=False)
        self._held: list[Wire] = []
        self.system: Wire | None = None
        self.contents: list[Wire] = []

    def encode(self, messages: Sequence[Message]) -> None:
        """Raises InvalidRequest: a tool result without its call."""
        leading = len(list(takewhile(lambda message: message.role in _SYSTEM, messages)))
        if leading == len(messages):
            leading -= 1  # a request needs a turn
        for index, message in enumerate(messages):
            path = message.place(index)
            self._losses += foreign_losses(message.extensions, path)
            if message.name is not None and message.role != "tool":
                self._losses.append(Loss(f"{path}.name", "the dialect has no names of participants"))
            if index < leading:
                self._instruct(message, index)
            elif message.role in _SYSTEM:
                self._move(message, index)
            else:
                self._converse(message, index)
        self._release()

    def _instruct(self, message: Message, index: int) -> None:
        parts = self._written(message, index)
        if self.system is None:
            self.system = {"parts": []}
        self.system["parts"] += parts
        self.system |= own(message.extensions)

    def _move(self, message: Message, index: int) -> None:
        """A later instruction stays at its place, in the user's voice; but nothing may stand between calls
        and their results."""
        reason = "moved to a user turn: the dialect takes system messages only before all others"
        self._losses.append(Loss(f"{message.place(index)}.role", reason))
        wire = {"role": "user", "parts": self._written(message, index), **own(message.extensions)}
        if not wire["parts"]:
            return
        if self.contents and any("functionCall" in part for part in self.contents[-1]["parts"]):
            self._held.append(wire)
        else:
            self.contents.append(wire)

    def _converse(self, message: Message, index: int) -> None:
        if message.role == "tool":
            self._results(message, index)
            return
        parts = self._written(message, index)
        if message.role == "assistant":
            self._release()
            self._sign(parts)
        elif not self._holds_results(message):
            self._release()
        if parts:
            role = "model" if message.role == "assistant" else "user"
            self.contents.append({"role": role, "parts": parts, **own(message.extensions)})

    def _holds_results(self, message: Message) -> bool:
        return any(isinstance(part, ToolResult) for part in message.parts)

    def _results(self, message: Message, index: int) -> None:
        """Results of one turn go in one content, though they come as a message each."""
        if message.name is not None:
            for part in message.parts:
                if isinstance(part, ToolResult):
                    self._names.setdefault(part.call_id, message.name)
        kept: list[tuple[Part, str]] = []
        self._parts.list_word = message.content
        for number, part in enumerate(message.parts):
            inner = message.place_of(index, number)
            if isinstance(part, ToolResult):
                kept.append((part, inner))
            else:
                self._losses.append(Loss(inner, f"a {kind_of(part)} part has no place in a tool message"))
        parts = [wire for part, inner in kept for wire in self._parts.encode(part, inner)]
        last = self.contents[-1] if self.contents else None
        extra = own(message.extensions)
        if last is not None and not extra and last["parts"] and "functionResponse" in last["parts"][-1]:
            last["parts"] += parts
        elif parts:
            self.contents.append({"role": "user", "parts": parts, **extra})

    def _written(self, message: Message, index: int) -> list[Wire]:
        wires: list[Wire] = []
        for number, part in enumerate(message.parts):
            if isinstance(part, ToolCall):
                self._names[part.id] = part.name
            wires += self._parts.encode(part, message.place_of(index, number))
        return wires + self._parts.flush()

    def _sign(self, parts: list[Wire]) -> None:
        if not self._signed_calls:
            return
        for part in parts:
            if "functionCall" in part:
                part.setdefault("thoughtSignature", UNSIGNED)
                return

    def _release(self) -> None:
        self.contents += self._held
        self._held.clear()
