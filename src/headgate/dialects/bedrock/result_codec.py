"""Complete Converse answers, both ways."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.call import Usage
from headgate.core.errors import InvalidRequest, StreamBroken
from headgate.core.loss import Loss
from headgate.core.result import ChatResult, Choice
from headgate.dialects.answer_losses import note_all, note_stop
from headgate.dialects.bedrock.content_decoder import decode_blocks
from headgate.dialects.bedrock.content_encoder import ContentEncoder, numbered
from headgate.dialects.bedrock.errors import exception_from_event
from headgate.dialects.bedrock.vocabulary import (
    CACHE_FIELDS,
    NAME,
    extended,
    merged,
    own,
    stop_from_word,
    usage_from_wire,
    usage_losses,
    usage_rest,
    usage_to_wire,
    word_from_stop,
)
from headgate.dialects.dialect import AnswerOptions

_KNOWN_FIELDS = frozenset({"output", "stopReason", "usage"})


def decode_result(body: bytes) -> ChatResult:
    """An upstream's answer of status 200. Converse tells neither id, model nor time: empty and 0.

    Raises:
        StreamBroken: it is not an answer of Converse.
        UpstreamError: it holds an error instead.
    """
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream's answer is not JSON, or was cut.") from None
    match value:
        case {"output": {"message": {"content": list(content)}}, "stopReason": str(word)}:
            pass
        case {"message": str()} | {"error": _}:
            raise exception_from_event("error", body)
        case _:
            raise StreamBroken(
                "The upstream's answer is not one of Converse: it has no output or stop reason."
            )
    try:
        parts, _ = decode_blocks(content, "output.message.content", by_model=True)
    except InvalidRequest as error:
        raise StreamBroken(f"The upstream's answer is malformed at {error.param}.") from None
    extra = {key: value[key] for key in value.keys() - _KNOWN_FIELDS if value[key] is not None}
    usage = value.get("usage")
    extra |= own(usage_rest(usage))
    return ChatResult(
        id="",
        model="",
        created=0,
        choices=(Choice(0, tuple(parts), stop_from_word(word)),),
        usage=usage_from_wire(usage),
        extensions=extended(extra),
    )


def encode_result(
    result: ChatResult, options: AnswerOptions, *, cache_fields: tuple[str, str] = CACHE_FIELDS
) -> tuple[bytes, list[Loss]]:
    """The answer's body, and what of the answer has no place in it. Of several choices the first is told.

    Args:
        cache_fields: what the counts of tokens read from and written to the cache are called.
    """
    losses = usage_losses(result.usage)
    note_all(result, NAME, losses)
    content: list[dict[str, Any]] = []
    word = "end_turn"
    for choice in result.choices:
        path = f"choices[{choice.index}]"
        if choice is not result.choices[0]:
            losses.append(Loss(path, "the dialect gives one answer"))
            continue
        content = ContentEncoder(losses, for_caller=True).blocks(numbered(choice.parts, f"{path}.parts"))
        word = word_from_stop(choice.stop)
        note_stop(choice.stop, word, stop_from_word(word).reason, losses)
        if choice.stop.sequence is not None:
            losses.append(Loss(f"{path}.stop.sequence", "the dialect does not tell which sequence was hit"))
        if choice.logprobs is not None:
            losses.append(Loss(f"{path}.logprobs", "the dialect has no log probabilities"))
    wire: dict[str, Any] = {
        "metrics": {"latencyMs": 0},
        "output": {"message": {"content": content, "role": "assistant"}},
        "stopReason": word,
        "usage": usage_to_wire(result.usage or Usage(), cache_fields),
    }
    return msgspec.json.encode(merged(wire, own(result.extensions))), losses
