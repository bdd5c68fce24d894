"""Chat Completions, as the openai SDK types them, and with what OpenRouter and Google add."""

from __future__ import annotations

import json
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.completion_usage import CompletionTokensDetails, CompletionUsage, PromptTokensDetails

from tests.support.answers.row import HERS, Body, Sample, Vendor, fields_of, pieces
from tests.support.fields.row import WAV

MESSAGE: Body = {"role": "assistant", "content": "Hello", "refusal": None}
CHOICE: Body = {"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "stop"}
USAGE: Body = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
BASE: Body = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "gpt-4.1",
    "choices": [CHOICE],
    "usage": USAGE,
}
CALL: Body = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":"b"}'}}
SECOND = CALL | {"id": "call_2"}
FREE: Body = {"id": "call_1", "type": "custom", "custom": {"name": "f", "input": "free as the wind"}}
SIGNED = CALL | {"extra_content": {"google": {"thought_signature": "c2ln"}}}
THOUGHT: Body = {"type": "reasoning.text", "text": "pondering", "format": "anthropic-claude-v1", "index": 0}
SEALED: Body = {"type": "reasoning.encrypted", "data": "ZW5j", "format": "openai-responses-v1", "index": 0}
CITED: Body = {"url": "https://example.com/a", "title": "A", "start_index": 1, "end_index": 3}
TOKEN: Body = {"token": "Hello", "logprob": -0.5, "bytes": [72, 101, 108, 108, 111], "top_logprobs": []}
OTHER: Body = {"token": "Hi", "logprob": -1.5, "bytes": [72, 105]}


def top(**fields: Any) -> Body:
    return {**BASE, **fields}


def choice(**fields: Any) -> Body:
    return top(choices=[{**CHOICE, **fields}])


def message(**fields: Any) -> Body:
    return choice(message={**MESSAGE, **fields})


def called(*calls: Body) -> Body:
    return choice(message={**MESSAGE, "content": None, "tool_calls": list(calls)}, finish_reason="tool_calls")


def counted(**fields: Any) -> Body:
    return top(usage={**USAGE, **fields})


def likely(*tokens: Body) -> Body:
    return choice(logprobs={"content": list(tokens), "refusal": None})


def detailed(*details: Body) -> Body:
    text = "".join(each.get("text", "") for each in details)
    return message(reasoning=text or None, reasoning_details=list(details))


COMMON = {
    "text": Sample(message(content="Hello there"), BASE),
    "reasoning": Sample(message(reasoning_content="pondering"), BASE),
    "signed reasoning": Sample(
        detailed(THOUGHT | {"signature": "c2ln"}), detailed(THOUGHT), within="].parts["
    ),
    "redacted reasoning": Sample(detailed(SEALED), BASE),
    "tool call": Sample(called(CALL), called()),
    "parallel tool calls": Sample(called(CALL, SECOND), called(CALL)),
    "signed tool call": Sample(called(SIGNED), called(CALL)),
    "free-form tool call": Sample(called(FREE), called()),
    "tool call whose arguments are no JSON": Sample(
        called(CALL | {"function": {"name": "f", "arguments": '{"a":'}}),
        called(CALL | {"function": {"name": "f", "arguments": "{}"}}),
        within="].parts[",
    ),
    "refusal": Sample(message(content=None, refusal="No."), message(content=None)),
    "second answer": Sample(
        top(choices=[CHOICE, {**CHOICE, "index": 1, "message": {**MESSAGE, "content": "Hi"}}]), BASE
    ),
    "sound": Sample(
        message(audio={"id": "a1", "data": WAV, "expires_at": 1_700_000_900, "transcript": "Hello"}), BASE
    ),
    "block of an unknown type": Sample(message(novelty={"a": 1}), BASE),
    "cited web page": Sample(message(annotations=[{"type": "url_citation", "url_citation": CITED}]), BASE),
    "log probabilities": Sample(likely(TOKEN), BASE),
    "alternatives of tokens": Sample(
        likely(TOKEN | {"top_logprobs": [OTHER]}), likely(TOKEN), within="logprobs"
    ),
    "tokens": Sample(BASE, top(usage=None)),
    "tokens from a cache": Sample(counted(prompt_tokens_details={"cached_tokens": 4}), BASE),
    "tokens to a cache": Sample(counted(prompt_tokens_details={"cache_write_tokens": 4}), BASE),
    "tokens of reasoning": Sample(counted(completion_tokens_details={"reasoning_tokens": 4}), BASE),
    "tokens of sound": Sample(counted(completion_tokens_details={"audio_tokens": 4}), BASE),
    "id": Sample(BASE, top(id="chatcmpl-2"), HERS["id"]),
    "model": Sample(BASE, top(model="gpt-4.1-mini"), HERS["model"]),
    "created": Sample(BASE, top(created=1_600_000_000), HERS["created"]),
    "service tier": Sample(top(service_tier="flex"), BASE),
}
OWN = {
    "message.function_call": Sample(
        message(content=None, function_call={"name": "f", "arguments": "{}"}), message(content=None)
    ),
    "system_fingerprint": Sample(top(system_fingerprint="fp_1"), BASE),
    "metadata": Sample(top(metadata={"a": "b"}), BASE),
    "moderation": Sample(top(moderation={"model": "omni-moderation-latest", "results": [1]}), BASE),
    "choices[].content_filter_results": Sample(
        choice(content_filter_results={"hate": {"filtered": True, "severity": "low"}}), BASE
    ),
    **{
        f"usage.{group}.{name}": Sample(counted(**{group: {name: 4}}), BASE)
        for group, names in (
            ("prompt_tokens_details", ("audio_tokens", "image_tokens", "text_tokens")),
            (
                "completion_tokens_details",
                ("accepted_prediction_tokens", "rejected_prediction_tokens", "text_tokens"),
            ),
        )
        for name in names
    },
    "usage.cost": Sample(counted(cost=0.25), BASE),
}
WORDS = {
    "stop": BASE,
    "length": choice(finish_reason="length"),
    "tool_calls": called(CALL),
    "function_call": choice(
        message={**MESSAGE, "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        finish_reason="function_call",
    ),
    "content_filter": choice(finish_reason="content_filter"),
    "a word of tomorrow": choice(finish_reason="a word of tomorrow"),
}


def streamed(body: Body) -> bytes:
    head = {key: body[key] for key in body.keys() - {"choices", "usage"}}
    head["object"] = "chat.completion.chunk"
    chunks: list[Body] = []
    for each in body["choices"]:
        for delta in _deltas(each["message"]):
            first = "content" in delta and each["logprobs"]
            chunks.append(_choice(each, delta, each["logprobs"] if first else None))
            each = {**each, "logprobs": None if first else each["logprobs"]}
    for each in body["choices"]:
        rest = {key: each[key] for key in each.keys() - CHOICE.keys()}
        chunks.append(_choice(each, {}, None) | rest | {"finish_reason": each["finish_reason"]})
    out = [head | {"choices": [chunk], "usage": None} for chunk in chunks]
    if body["usage"] is not None:
        out.append(head | {"choices": [], "usage": body["usage"]})
    lines = [json.dumps(each) for each in out] + ["[DONE]"]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def _choice(each: Body, delta: Body, logprobs: Body | None) -> Body:
    return {"index": each["index"], "delta": delta, "logprobs": logprobs, "finish_reason": None}


def _deltas(message: Body) -> list[Body]:
    deltas: list[Body] = [{"role": "assistant"}]
    for key, value in sorted(message.items(), key=lambda item: "reasoning" not in item[0]):
        match key:
            case "role":
                pass
            case "content" | "refusal" | "reasoning_content":
                found = [value] if key == "content" and value == "Hello" else pieces(value or "")
                deltas += [{key: piece} for piece in found]
            case "reasoning_details":
                deltas += [_detail(each) for each in value]
                deltas += [
                    {"reasoning_details": [{k: v for k, v in each.items() if k != "text"}]}
                    for each in value
                    if "signature" in each
                ]
            case "reasoning":
                pass
            case "tool_calls":
                deltas += [delta for number, call in enumerate(value) for delta in _call(number, call)]
            case "function_call":
                deltas.append({key: {"name": value["name"], "arguments": ""}})
                deltas += [{key: {"arguments": piece}} for piece in pieces(value["arguments"])]
            case _:
                deltas.append({key: value})
    return deltas


def _detail(detail: Body) -> Body:
    shown = {key: value for key, value in detail.items() if key != "signature"}
    return {"reasoning": detail.get("text"), "reasoning_details": [shown]}


def _call(number: int, call: Body) -> list[Body]:
    kind = call["type"]
    field = "input" if kind == "custom" else "arguments"
    heads = {"index": number, **call, kind: {**call[kind], field: ""}}
    more = [{"index": number, kind: {field: piece}} for piece in pieces(call[kind][field])]
    return [{"tool_calls": [each]} for each in (heads, *more)]


VENDOR = Vendor(
    "openai_chat",
    COMMON,
    OWN,
    WORDS,
    streamed,
    sdk=fields_of(
        *(ChatCompletion, ChatCompletionMessage, Choice),
        *(CompletionUsage, PromptTokensDetails, CompletionTokensDetails),
    ),
)
