"""InvokeModel with bodies of Chat Completions, as Mistral's chat models and gpt-oss take them.

The route holds the model and whether to stream. Mistral says `any` where others say `required`, and in its
answers `stop_reason` for `finish_reason` and, in a stream, `message` for `delta`: both names are read and
written. Parts and vendor fields are those of the dialect `openai_chat`. A stream's usage stands in its last
chunk, beside Bedrock's count.

Source: Amazon Bedrock user guide, "Mistral AI chat completion", "Mistral AI Large (24.07)", "OpenAI models".
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from typing_extensions import override

from headgate.core.errors import StreamBroken
from headgate.core.events import ChatEvent, Failed, Finished
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest
from headgate.core.result import ChatResult
from headgate.dialects import openai_chat
from headgate.dialects.bedrock.chunks import Deltas, invoke_dialect
from headgate.dialects.bedrock.errors import encode_error_body, stream_error_type
from headgate.dialects.bedrock.heard import (
    METRICS,
    Heard,
    Metrics,
    counted,
    error_within,
    metrics_of,
    observer,
)
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.json_bodies import decode_object, encode
from headgate.dialects.openai_chat.profile import COMPATIBLE, MISTRAL, Profile
from headgate.dialects.openai_usage import usage_from_wire, usage_to_wire

NAME = "invoke_chat"

_MISTRALS = re.compile(r"mi[sx]tral|pixtral|magistral|devstral|voxtral")
_MISTRAL = replace(
    MISTRAL,
    refuses={
        **MISTRAL.refuses,
        "seed": None,
        "n": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "response_format": {"type": "text"},
        "parallel_tool_calls": True,
        "metadata": None,
        "reasoning_effort": None,
        "prediction": None,
    },
    renames={},
)
"""Bedrock refuses a body of Mistral's with any field that is not published."""
_OTHERS = replace(
    COMPATIBLE,
    reasoning_field=None,
    reasoning_details=False,
    thought_signatures=False,
    top_k=False,
    stream_options=False,
    refuses=MISTRAL.refuses,
)
_OUTER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_json = msgspec.json.encode


def decode_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
    """Read a request body. Raises InvalidRequest as `headgate.dialects.openai_chat` does."""
    if b'"any"' in body:
        values = decode_object(body)
        if values.get("tool_choice") == "any":
            body = encode(values | {"tool_choice": "required"})
    request = openai_chat.decode_request(body, model=model, stream=bool(stream))
    return replace(request, include_usage=bool(stream))  # Bedrock always tells


def encode_request(request: ChatRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """The request body, and what had no place in it.

    Args:
        request: what to ask.
        model: the upstream's name for the model; it tells whether it is one of Mistral's.
    """
    mistrals = bool(_MISTRALS.search((model or request.model).lower()))
    profile: Profile = _MISTRAL if mistrals else _OTHERS
    asked = replace(request, stream=False, include_usage=False)
    body, losses = openai_chat.encode_request(asked, model=model, profile=profile)
    fields = _OUTER.decode(body)
    fields.pop("model")
    choice = fields.get("tool_choice")
    if mistrals and choice is not None and bytes(choice) not in (b'"auto"', b'"none"'):
        fields["tool_choice"] = msgspec.Raw(b'"any"')
        if request.tool_choice is not None and request.tool_choice.mode == "tool":
            losses.append(Loss("tool_choice", "sent as 'any': the model can't be told which tool to call"))
    return encode(fields), losses


def _as_openais(chunk: dict[str, Any]) -> dict[str, Any]:
    """An answer or chunk by OpenAI's names; Bedrock's own count of tokens becomes the usage.

    Raises the error that it is instead.
    """
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        if (error := error_within(chunk)) is not None:
            raise error
        choices = []
    renamed = [_choice(choice) if isinstance(choice, dict) else choice for choice in choices]
    chunk = {**chunk, "choices": renamed}
    metrics = chunk.pop(METRICS, None)
    if isinstance(metrics, dict) and not isinstance(chunk.get("usage"), dict):
        sent, received = metrics.get("inputTokenCount"), metrics.get("outputTokenCount")
        chunk["usage"] = {"prompt_tokens": sent, "completion_tokens": received}
    return chunk


def _choice(choice: dict[str, Any]) -> dict[str, Any]:
    choice = dict(choice)
    word = choice.pop("stop_reason", None)
    if choice.get("finish_reason") is None and word is not None:
        choice["finish_reason"] = word
    said = choice.pop("message", None)
    if choice.get("delta") is None and isinstance(said, dict):
        choice["delta"] = _numbered(said)
    return choice


def _numbered(message: dict[str, Any]) -> dict[str, Any]:
    """Calls of a whole message, by their place in it."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {
        **message,
        "tool_calls": [
            {"index": index, **call} for index, call in enumerate(calls) if isinstance(call, dict)
        ],
    }


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
    if not isinstance(value, dict) or (
        not isinstance(value.get("choices"), list) and not error_within(value)
    ):
        raise StreamBroken("The upstream's answer is not a chat completion: it has no 'choices'.")
    return openai_chat.decode_result(_json(_as_openais(value)))


def encode_result(result: ChatResult, options: AnswerOptions) -> tuple[bytes, list[Loss]]:
    """The answer's body, and what of the answer has no place in it."""
    body, losses = openai_chat.encode_result(result, options)
    fields: dict[str, Any] = msgspec.json.decode(body)
    fields["choices"] = [
        {**choice, "stop_reason": choice["finish_reason"]} for choice in fields.get("choices", ())
    ]
    return _json(fields), losses


class StreamDecoder(openai_chat.StreamDecoder):
    """OpenAI's, with Mistral's names for the same. Bedrock's count of tokens is its last word."""

    @override
    def _chunk(self, chunk: dict[str, Any], events: list[ChatEvent]) -> None:
        super()._chunk(_as_openais(chunk), events)
        if METRICS in chunk and self._choices and all(each.finished for each in self._choices.values()):
            self._finish(events, done=True)

    @override
    def _whole(self, body: bytes) -> ChatResult:
        return decode_result(body)


class StreamEncoder(openai_chat.StreamEncoder):
    """OpenAI's, with Mistral's names beside its own; at the end the usage, and Bedrock's count of tokens."""

    def __init__(self, options: AnswerOptions) -> None:
        super().__init__(replace(options, include_usage=False))

    @override
    def encode(self, event: ChatEvent) -> bytes:
        if isinstance(event, Failed) and not self._ended:
            self._ended = True
            name, payload = stream_error_type(event.error), encode_error_body(event.error)
            return b'data: {"%b":%b}\n\n' % (name.encode(), payload)
        return super().encode(event)

    @override
    def _chunk(
        self, choice: int, content: bytes, logprobs: bytes = b"null", finish: bytes = b"null"
    ) -> bytes:
        word = finish.partition(b",")[0]  # fields of the choice may follow it
        return (
            b'%b{"index":%d,"delta":%b,"message":%b,"logprobs":%b,"stop_reason":%b,"finish_reason":%b}]%b'
            % (
                self._head,
                choice,
                content,
                content,
                logprobs,
                word,
                finish,
                self._tail,
            )
        )

    @override
    def _finish(self, event: Finished) -> bytes:
        self._take_fields(event.extensions)
        usage = usage_to_wire(self._usage, self._usage_rest)
        counts = (_json(usage), METRICS.encode(), _json(metrics_of(self._usage)))
        self._tail = b',"usage":%b,"%b":%b}\n\n' % counts
        return super()._finish(event)


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str | None = None
    stop_reason: str | None = None


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None
    metrics: Metrics | None = msgspec.field(default=None, name=METRICS)


_ANSWER = msgspec.json.Decoder(_Answer)


def heard(data: bytes) -> Heard:
    """What an answer or chunk says. Raises StreamBroken, or the error that it is."""
    if data == b"[DONE]":
        return Heard()
    try:
        answer = _ANSWER.decode(data)
        if answer.choices is None and (error := error_within(msgspec.json.decode(data))) is not None:
            raise error
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream sent an answer or chunk that is not of this form.") from None
    word = next((each.finish_reason or each.stop_reason for each in answer.choices or ()), None)
    return Heard(None, word, usage_from_wire(answer.usage) or counted(None, None, answer.metrics))


INVOKE_CHAT = invoke_dialect(
    NAME,
    decode_request=decode_request,
    encode_request=encode_request,
    stream_encoder=StreamEncoder,
    stream_decoder=lambda content_type: StreamDecoder(),
    encode_result=encode_result,
    decode_result=decode_result,
    observer=partial(observer, read=heard),
    deltas=Deltas(),
)
