"""What an upstream would refuse a conversation for, told in the caller's terms before it is asked.

Only where a request is translated: one that passes through is its upstream's to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headgate.core.errors import InvalidRequest
from headgate.core.messages import Message, ToolCall, ToolResult


def empty_conversation() -> InvalidRequest:
    """For a request in which the model would find nothing to answer."""
    return InvalidRequest(
        "The conversation is empty: the target wants at least one message with content.",
        param="messages",
        code="invalid_value",
    )


def check_results(messages: Sequence[Message], called: Iterable[str] = ()) -> None:
    """Every tool's result must follow the call that it belongs to.

    Args:
        messages: the whole conversation.
        called: ids of calls that are not among the neutral parts.

    Raises:
        InvalidRequest: with the place of the first result that does not.
    """
    called = set(called)
    for index, message in enumerate(messages):
        for number, part in enumerate(message.parts):
            if isinstance(part, ToolCall):
                called.add(part.id)
            elif isinstance(part, ToolResult) and part.call_id not in called:
                path = message.place_of(index, number)
                raise InvalidRequest(
                    f"'{path}' is the result of a tool call that no earlier message makes: send both.",
                    param=path,
                    code="invalid_value",
                )
