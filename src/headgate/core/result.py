"""A complete chat answer: what a fold over the events of a stream gives."""

from __future__ import annotations

from dataclasses import field

from headgate.core.call import Usage
from headgate.core.events import Stop
from headgate.core.messages import JSON, Extensions, Part
from headgate.core.record import record


@record(frozen=True, slots=True)
class Choice:
    """One of the `n` answers. `logprobs` holds token entries in OpenAI's shape, as `PartDelta` does."""

    index: int
    parts: tuple[Part, ...]
    stop: Stop
    logprobs: tuple[JSON, ...] | None = None


@record(frozen=True, slots=True)
class ChatResult:
    """`created` is Unix seconds. `extensions` are those of the start, the usage and the finish, merged."""

    id: str
    model: str
    created: int
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    extensions: Extensions = field(default_factory=dict)
