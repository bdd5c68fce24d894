"""Complete Chat Completions answers, both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headgate.core.errors import StreamBroken
from headgate.core.events import ChatEvent, Started
from headgate.core.fold import fold
from headgate.core.loss import Loss
from headgate.core.messages import (
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from headgate.core.result import ChatResult, Choice
from headgate.dialects.answer_losses import (
    note_all,
    note_citation,
    note_sequence,
    note_stop,
    unplaced,
    untitled,
)
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_chat.choice_decoder import ChoiceDecoder
from headgate.dialects.openai_chat.message_encoder import encode_call
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
from headgate.dialects.openai_chat.vocabulary import (
    NAME,
    citation_to_wire,
    own,
    stop_from_word,
    word_from_stop,
)
from headgate.dialects.openai_chunks import KNOWN_FIELDS, finished, usage_reported, wire_head
from headgate.dialects.openai_errors import error_within
from headgate.dialects.openai_shared import for_answer
from headgate.dialects.openai_usage import usage_from_wire, usage_to_wire


def decode_result(body: bytes) -> ChatResult:
    """An upstream's answer of status 200.

    Raises:
        StreamBroken: it is not a chat completion.
        UpstreamError: it holds an error instead.
    """
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream's answer is not JSON, or was cut.") from None
    if isinstance(value, dict) and value.get("error"):
        raise error_within(value)
    if not isinstance(value, dict) or not isinstance(value.get("choices"), list):
        raise StreamBroken("The upstream's answer is not a chat completion: it has no 'choices'.")
    decoders: list[ChoiceDecoder] = []
    events: list[ChatEvent] = [Started(*wire_head(value))]
    for number, choice in enumerate(value["choices"]):
        if isinstance(choice, dict):
            decoders.append(ChoiceDecoder(number))
            decoders[-1].feed(_as_delta(choice), events)
            decoders[-1].end(events)
    usage = usage_from_wire(value.get("usage"))
    if usage is not None:
        events.append(usage_reported(NAME, value["usage"], usage))
    extra = {key: value[key] for key in value.keys() - KNOWN_FIELDS if value[key] is not None}
    events.append(finished(NAME, decoders, extra))
    return fold(events)


def _as_delta(choice: dict[str, Any]) -> dict[str, Any]:
    """A whole message is one long delta, but for the indexes of its tool calls."""
    message = choice.get("message")
    if not isinstance(message, dict):
        return choice
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        numbered = [{**call, "index": i} for i, call in enumerate(calls) if isinstance(call, dict)]
        message = {**message, "tool_calls": numbered}
    return {**choice, "delta": message}


def encode_result(result: ChatResult, options: AnswerOptions) -> tuple[bytes, list[Loss]]:
    """The answer's body, and what of the answer has no place in it."""
    extra = for_answer(NAME, result.extensions)
    choice_fields, usage_fields = extra.pop("choices", None), extra.pop("usage", None)
    if not isinstance(choice_fields, dict):
        choice_fields = {}
    wire: dict[str, Any] = {
        "id": result.id if options.id is None else options.id,
        "object": "chat.completion",
        "created": result.created if options.created is None else options.created,
        "model": result.model if options.model is None else options.model,
        "choices": [
            _encode_choice(choice) | choice_fields.get(str(choice.index), {}) for choice in result.choices
        ],
    }
    if result.usage is not None:
        wire["usage"] = usage_to_wire(result.usage, usage_fields)
    return msgspec.json.encode(wire | extra), _losses(result)


def _losses(result: ChatResult) -> list[Loss]:
    found: list[Loss] = []
    note_all(result, NAME, found, keeps_thoughts=True)
    for choice in result.choices:
        word = word_from_stop(choice.stop)
        note_sequence(choice.stop, found)
        note_stop(choice.stop, word, stop_from_word(word, 0).reason, found)
        for index, part in enumerate(choice.parts):
            path = f"choices[{choice.index}].parts[{index}]"
            for citation in part.citations if isinstance(part, Text) else ():
                note_citation(citation, NAME, path, untitled(citation), found)
            if isinstance(part, Reasoning) and is_opaque(part) and not is_detailed(part):
                found.append(Loss(path, NO_ORIGIN))
            elif isinstance(part, Media | ToolResult) or (isinstance(part, Opaque) and part.dialect != NAME):
                found.append(Loss(path, unplaced(part)))
    return found


def _encode_choice(choice: Choice) -> dict[str, Any]:
    message = _encode_message(choice)
    logprobs = None
    if choice.logprobs is not None:
        field = "refusal" if message["refusal"] is not None and message["content"] is None else "content"
        logprobs = {"content": None, "refusal": None, field: choice.logprobs}
    return {
        "index": choice.index,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": word_from_stop(choice.stop),
    }


def _encode_message(choice: Choice) -> dict[str, Any]:
    texts = [part for part in choice.parts if isinstance(part, Text)]
    refusals = [part.text for part in choice.parts if isinstance(part, Refusal)]
    thoughts = plain_text(part for part in choice.parts if isinstance(part, Reasoning))
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    legacy = [call for call in calls if "function_call" in own(call.extensions)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(part.text for part in texts) if texts else None,
        "refusal": "".join(refusals) if refusals else None,
    }
    if annotations := [citation_to_wire(each) for part in texts for each in part.citations]:
        message["annotations"] = annotations
    if thoughts:
        message["reasoning_content"] = thoughts
    if legacy:
        message["function_call"] = {"name": legacy[0].name, "arguments": legacy[0].arguments}
    details, modern = encode_signed(choice.parts)
    if details:
        message["reasoning_details"] = details
    if modern:
        message["tool_calls"] = modern
    for part in choice.parts:
        if isinstance(part, Opaque) and part.dialect == NAME and isinstance(part.value, dict):
            _merge(message, part.value)
    return message


def encode_signed(parts: Sequence[Part]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """`reasoning_details` and `tool_calls` of a message; Gemini's signatures stand at their calls as well."""
    details: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for index, part in enumerate(parts):
        if isinstance(part, Reasoning):
            details += encode_details(part, len(details), signed_call(parts, index))
        elif isinstance(part, ToolCall) and "function_call" not in own(part.extensions):
            call = encode_call(part)
            before = parts[index - 1] if index else None
            if isinstance(before, Reasoning) and before.origin == GEMINI and signed_call(parts, index - 1):
                call = sign_call(call, before.signature or "")
            calls.append(call)
    return details, calls


def _merge(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add an unknown delta field: lists grow, an audio's data and transcript too, the rest is replaced."""
    for key, value in delta.items():
        before = message.get(key)
        if isinstance(before, list) and isinstance(value, list):
            message[key] = before + value
        elif key == "audio" and isinstance(before, dict) and isinstance(value, dict):
            grown = {
                name: before[name] + value[name]
                for name in ("data", "transcript")
                if isinstance(before.get(name), str) and isinstance(value.get(name), str)
            }
            message[key] = before | value | grown
        else:
            message[key] = value
