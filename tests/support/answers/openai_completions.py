"""Legacy Completions, as the openai SDK types them."""

from __future__ import annotations

import json
from typing import Any

from openai.types import Completion, CompletionChoice

from tests.support.answers import openai_chat as chat
from tests.support.answers.row import HERS, Body, Sample, Vendor, fields_of, pieces

CHOICE: Body = {"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "stop"}
BASE: Body = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1_700_000_000,
    "model": "gpt-3.5-turbo-instruct",
    "choices": [CHOICE],
    "usage": chat.USAGE,
}
LIKELY: Body = {"tokens": ["Hello"], "token_logprobs": [-0.5], "top_logprobs": [{}], "text_offset": [0]}


def top(**fields: Any) -> Body:
    return {**BASE, **fields}


def choice(**fields: Any) -> Body:
    return top(choices=[{**CHOICE, **fields}])


def counted(**fields: Any) -> Body:
    return top(usage={**chat.USAGE, **fields})


COMMON = {
    "text": Sample(choice(text="Hello there"), BASE),
    "second answer": Sample(top(choices=[CHOICE, {**CHOICE, "index": 1, "text": "Hi"}]), BASE),
    "log probabilities": Sample(choice(logprobs=LIKELY), BASE),
    "alternatives of tokens": Sample(
        choice(logprobs=LIKELY | {"top_logprobs": [{"Hi": -1.5}]}), choice(logprobs=LIKELY), within="logprobs"
    ),
    "tokens": Sample(BASE, top(usage=None)),
    "tokens from a cache": Sample(counted(prompt_tokens_details={"cached_tokens": 4}), BASE),
    "tokens of reasoning": Sample(counted(completion_tokens_details={"reasoning_tokens": 4}), BASE),
    "id": Sample(BASE, top(id="cmpl-2"), HERS["id"]),
    "model": Sample(BASE, top(model="davinci-002"), HERS["model"]),
    "created": Sample(BASE, top(created=1_600_000_000), HERS["created"]),
    "service tier": Sample(top(service_tier="flex"), BASE),
}
OWN = {
    "system_fingerprint": Sample(top(system_fingerprint="fp_1"), BASE),
    "choices[].prompt_logprobs": Sample(choice(prompt_logprobs=[{"1": 2}]), BASE),
}
WORDS = {
    "stop": BASE,
    "length": choice(finish_reason="length"),
    "content_filter": choice(finish_reason="content_filter"),
    "a word of tomorrow": choice(finish_reason="a word of tomorrow"),
}


def streamed(body: Body) -> bytes:
    head = {key: body[key] for key in body.keys() - {"choices", "usage"}}
    chunks: list[Body] = []
    for each in body["choices"]:
        texts = [each["text"]] if each["logprobs"] else pieces(each["text"])
        silent = {"index": each["index"], "finish_reason": None, "logprobs": None}
        chunks += [silent | {"text": text, "logprobs": each["logprobs"]} for text in texts]
        chunks.append({**each, "text": "", "logprobs": None})
    out = [head | {"choices": [chunk]} for chunk in chunks]
    if body["usage"] is not None:
        out.append(head | {"choices": [], "usage": body["usage"]})
    lines = [json.dumps(each) for each in out] + ["[DONE]"]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


VENDOR = Vendor(
    "openai_completions", COMMON, OWN, WORDS, streamed, sdk=fields_of(Completion, CompletionChoice)
)
