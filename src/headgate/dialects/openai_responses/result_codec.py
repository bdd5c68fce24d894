"""Complete Responses answers, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.core.errors import StreamBroken
from headgate.core.events import ChatEvent, Finished, Started, UsageReported
from headgate.core.fold import fold, unfold
from headgate.core.loss import Loss
from headgate.core.result import ChatResult
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_responses.output_reader import OutputReader
from headgate.dialects.openai_responses.stream_encoder import StreamEncoder, echo_of
from headgate.dialects.openai_responses.vocabulary import (
    NAME,
    error_within,
    stop_from_wire,
    usage_from_wire,
    usage_rest,
)
from headgate.dialects.openai_shared import of_answer

_KNOWN = frozenset(
    {
        *("id", "object", "created_at", "completed_at", "status", "model", "output", "output_text"),
        *("usage", "error", "incomplete_details"),
        *echo_of({}),
    }
)
_KEPT = ("service_tier",)
"""Of what a response repeats of its request, this is news: the tier that served it."""


def decode_result(body: bytes) -> ChatResult:
    """An upstream's answer of status 200.

    Raises:
        StreamBroken: it is not a response, or one that has yet to be made (`background`).
        UpstreamError: it holds an error instead.
    """
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream's answer is not JSON, or was cut.") from None
    if not isinstance(value, dict):
        raise StreamBroken("The upstream's answer is not a JSON object.")
    status = value.get("status")
    if value.get("error") or status in ("failed", "cancelled"):
        raise error_within(value.get("error") or {"message": f"The upstream's answer is {status}."})
    if not isinstance(value.get("output"), list):
        raise StreamBroken("The upstream's answer is not a response: it has no 'output'.")
    if status in ("queued", "in_progress"):
        raise StreamBroken(f"The upstream's answer is not complete: it is {status}.")
    events: list[ChatEvent] = [started(value)]
    reader = OutputReader()
    ended(value, reader, events)
    return fold(events)


def started(response: Mapping[str, Any]) -> Started:
    """The beginning of an answer; what the upstream leaves out or garbles is empty or 0."""
    identity, model, created = response.get("id"), response.get("model"), response.get("created_at")
    return Started(
        id=identity if isinstance(identity, str) else "",
        model=model if isinstance(model, str) else "",
        created=int(created) if isinstance(created, int | float) else 0,
    )


def ended(response: Mapping[str, Any], reader: OutputReader, events: list[ChatEvent]) -> None:
    """The end of an answer from its complete or incomplete response object."""
    reader.finish(response.get("output"), events)
    usage = usage_from_wire(response.get("usage"))
    if usage is not None:
        rest = usage_rest(response.get("usage"))
        events.append(UsageReported(usage, {NAME: {"usage": rest}} if rest else {}))
    stop = stop_from_wire(response.get("status"), response.get("incomplete_details"), reader.called)
    extra = {
        key: value
        for key, value in response.items()
        if value is not None and (key not in _KNOWN or key in _KEPT)
    }
    events.append(Finished((stop,), of_answer(NAME, extra)))


def encode_result(
    result: ChatResult, options: AnswerOptions, echo: Mapping[str, Any] | None = None
) -> tuple[bytes, list[Loss]]:
    """The answer's body, and what of the answer has no place in it.

    Args:
        result: the answer.
        options: how it is to look.
        echo: what the response repeats of its request (`echo_of`).
    """
    encoder = StreamEncoder(options, echo)
    for event in unfold(result):
        encoder.encode(event)
    return msgspec.json.encode(encoder.response), encoder.losses
