"""Neutral messages, written as the system prompt and the turns of a Messages request."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from headgate.core.errors import InvalidRequest
from headgate.core.loss import Loss
from headgate.core.messages import (
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from headgate.dialects.anthropic.block_encoder import BlockEncoder, plain
from headgate.dialects.anthropic.vocabulary import foreign_losses, own

_SYSTEM_ROLES = ("system", "developer")
_ALLOWED: dict[Role, tuple[type[Part], ...]] = {
    "system": (Text, Refusal, Opaque),
    "assistant": (Text, Refusal, Reasoning, ToolCall, Opaque),
    "user": (Text, Refusal, Media, ToolResult, Opaque),
}


class MessageEncoder:
    """Writes one conversation.

    Args:
        losses: added to.
        system_turns: the model takes system messages among the turns, right behind the user's.
    """

    def __init__(self, losses: list[Loss], system_turns: bool) -> None:
        self._losses = losses
        self._blocks = BlockEncoder(losses)
        self._system_turns = system_turns
        self._turns: list[dict[str, Any]] = []
        self._after_tool = False

    def encode(
        self, messages: Sequence[Message]
    ) -> tuple[str | list[dict[str, Any]] | None, list[dict[str, Any]]]:
        """The system prompt and the turns.

        Raises:
            InvalidRequest: a user's message is empty, or nothing is left to send.
        """
        leading = len(list(takewhile(lambda message: message.role in _SYSTEM_ROLES, messages)))
        if leading == len(messages):
            leading -= 1  # a request needs a turn
        system: list[dict[str, Any]] = []
        for index, message in enumerate(messages[: max(leading, 0)]):
            system += self._content(message, index, "system")
        for index, message in enumerate(messages[max(leading, 0) :], max(leading, 0)):
            self._turn(message, index)
        if not self._turns:
            raise InvalidRequest(
                "The request has no message that Anthropic's API could take: it needs one with content.",
                param="messages",
            )
        for turn in self._turns:
            turn["content"] = plain(turn["content"])
        return plain(system) if system else None, self._turns

    def _turn(self, message: Message, index: int) -> None:
        role: Role = message.role
        if role in _SYSTEM_ROLES:
            role = self._system_place(message.place(index))
        elif role == "tool":
            role = "user"
        content = self._content(message, index, role)
        if not content:
            self._refuse_empty(message, index)
            return
        is_tool = message.role == "tool"
        last = self._turns[-1] if self._turns else None
        if last is not None and role == "user" == last["role"] and (is_tool or self._after_tool):
            last["content"] += content  # results and what the user adds to them make one turn
            last.update(own(message.extensions))
        else:
            self._turns.append({"role": role, "content": content, **own(message.extensions)})
        self._after_tool = is_tool or (self._after_tool and role == "user")

    def _system_place(self, path: str) -> Role:
        if self._system_turns and self._turns and self._turns[-1]["role"] == "user":
            return "system"
        why = "behind a user's turn only" if self._system_turns else "before the first turn only"
        self._lose(path, f"moved to a user's turn: this model takes system messages {why}")
        return "user"

    def _content(self, message: Message, index: int, role: Role) -> list[dict[str, Any]]:
        path = message.place(index)
        self._losses += foreign_losses(message.extensions, path)
        if message.name is not None and message.role != "tool":  # that of a tool is its call's
            self._losses.append(Loss(f"{path}.name", "the dialect names no speakers"))
        parts = [(part, message.place_of(index, number)) for number, part in enumerate(message.parts)]
        self._blocks.list_word = message.content
        return self._blocks.encode(parts, _ALLOWED[role])

    def _refuse_empty(self, message: Message, index: int) -> None:
        """The vendor refuses empty messages. Those that say nothing can go; a user's question can't."""
        empty = not any(not isinstance(part, Text) or part.text for part in message.parts)
        if empty and message.role == "user":
            path = f"{message.place(index)}.{message.content}" if message.content else message.place(index)
            raise InvalidRequest(
                f"'{path}' is empty: Anthropic's API wants something in a user's message.", param=path
            )
        if empty and message.role == "assistant":
            self._lose(message.place(index), "left out: it is empty, which the vendor refuses")

    def _lose(self, path: str, reason: str) -> None:
        self._losses.append(Loss(path, reason))


def check_tool_results(messages: Sequence[Message]) -> None:
    """Every result must belong to a call, and every call must have its result in the turn that follows.

    The vendor would refuse the request too, but with the numbers of its own messages.

    Raises:
        InvalidRequest: with the path of the call or the result.
    """
    called: set[str] = set()
    pending: dict[str, str] = {}
    answering = False
    for index, message in enumerate(messages):
        if message.role == "assistant":
            if answering:
                _refuse_pending(pending)
            answering = False
        elif message.role in ("user", "tool"):
            answering = True
        for number, part in enumerate(message.parts):
            if isinstance(part, ToolCall) and message.role == "assistant":
                called.add(part.id)
                pending[part.id] = message.place_of(index, number)
            elif isinstance(part, ToolResult):
                if part.call_id not in called:
                    path = message.place_of(index, number)
                    raise InvalidRequest(
                        f"'{path}' is the result of a tool call that no earlier message makes.", param=path
                    )
                pending.pop(part.call_id, None)
    _refuse_pending(pending)


def _refuse_pending(pending: dict[str, str]) -> None:
    for path in pending.values():
        raise InvalidRequest(
            f"'{path}' is a tool call without a result: send one for each call in the turn that follows it.",
            param=path,
        )
