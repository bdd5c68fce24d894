"""The steps of a streamed answer: one closed union that crosses every layer in place of text.

Rules, checked by `headgate.core.fold.Assembler`: `Started` comes first; a delta goes only to an open
part; part indexes of a choice grow by one; usage is cumulative; exactly one terminal event
(`Finished` or `Failed`) ends the stream.
"""

from __future__ import annotations

from dataclasses import field
from typing import Literal, TypeAlias

from headgate.core.call import Usage
from headgate.core.errors import HeadgateError
from headgate.core.messages import JSON, Citation, Extensions, Part
from headgate.core.record import record

FinishReason: TypeAlias = Literal[
    "stop", "length", "tool_calls", "content_filter", "refusal", "pause", "context_length", "other"
]
DeltaField: TypeAlias = Literal["text", "arguments", "signature", "data"]


@record(frozen=True, slots=True)
class Started:
    """The answer has begun. `created` is Unix seconds; `model` is what the upstream calls itself."""

    id: str
    model: str
    created: int
    extensions: Extensions = field(default_factory=dict)


@record(frozen=True, slots=True)
class PartStarted:
    """A part opens. `part` holds what is known at the start (a tool call's id and name, say)."""

    index: int
    part: Part
    choice: int = 0


@record(frozen=True, slots=True)
class PartDelta:
    """More of an open part, to be appended to the part's `field`.

    `logprobs` is a list of token entries in OpenAI's shape, which every dialect with log
    probabilities can be read into.
    """

    index: int
    delta: str
    choice: int = 0
    field: DeltaField = "text"
    logprobs: list[JSON] | None = None


@record(frozen=True, slots=True)
class PartCited:
    """A citation of an open text part."""

    index: int
    citation: Citation
    choice: int = 0


@record(frozen=True, slots=True)
class PartEnded:
    index: int
    choice: int = 0


@record(frozen=True, slots=True)
class UsageReported:
    """Usage so far; later reports replace earlier ones field by field."""

    usage: Usage
    extensions: Extensions = field(default_factory=dict)


@record(frozen=True, slots=True)
class Stop:
    """Why one choice ended. `sequence` is the stop sequence that was hit; `native` the wire's own word."""

    reason: FinishReason
    choice: int = 0
    sequence: str | None = None
    native: str | None = None


@record(frozen=True, slots=True)
class Finished:
    """The answer is complete: one `Stop` for each choice, in order."""

    stops: tuple[Stop, ...]
    extensions: Extensions = field(default_factory=dict)


@record(frozen=True, slots=True)
class Failed:
    """The answer ended early; what came before is incomplete."""

    error: HeadgateError


ChatEvent: TypeAlias = (
    Started | PartStarted | PartDelta | PartCited | PartEnded | UsageReported | Finished | Failed
)
"""One step of a streamed chat answer."""

__all__ = [
    "ChatEvent",
    "DeltaField",
    "Failed",
    "FinishReason",
    "Finished",
    "PartCited",
    "PartDelta",
    "PartEnded",
    "PartStarted",
    "Started",
    "Stop",
    "UsageReported",
]
