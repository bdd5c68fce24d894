"""Responses, as the openai SDK types them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from openai.types.responses import (
    Response,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
    ResponseUsage,
)
from openai.types.responses.response_output_text import Annotation
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

from tests.support.answers.row import HERS, Body, Sample, Vendor, fields_of, pieces, tags
from tests.support.fields.row import PNG

TEXT: Body = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
SAYS: Body = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "assistant",
    "content": [TEXT],
}
USAGE: Body = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 15,
}
BASE: Body = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_700_000_000,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-5",
    "output": [SAYS],
    "usage": USAGE,
}
THOUGHT: Body = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "pondering"}],
}
CALL: Body = {
    "type": "function_call",
    "id": "fc_1",
    "status": "completed",
    "call_id": "call_1",
    "name": "f",
    "arguments": '{"a":"b"}',
}
SECOND = CALL | {"id": "fc_2", "call_id": "call_2"}
FREE: Body = {
    "type": "custom_tool_call",
    "id": "ctc_1",
    "call_id": "call_1",
    "name": "f",
    "input": "free as the wind",
}
SEARCH: Body = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "rivers"},
}
RAN: Body = {"type": "shell_call_output", "id": "sho_1", "call_id": "c1", "output": []}
IMAGE: Body = {
    "type": "image_generation_call",
    "id": "ig_1",
    "status": "completed",
    "result": PNG,
    "output_format": "png",
}
WEB: Body = {
    "type": "url_citation",
    "url": "https://example.com/a",
    "title": "A",
    "start_index": 1,
    "end_index": 3,
}
FILE: Body = {"type": "file_citation", "file_id": "file-1", "filename": "rivers.txt", "index": 3}
CITED: dict[str, Body] = {
    "container_file_citation": {
        "container_id": "cntr_1",
        "file_id": "file-1",
        "filename": "rivers.txt",
        "start_index": 1,
        "end_index": 3,
    },
    "file_path": {"file_id": "file-1", "index": 3},
}
TOKEN: Body = {"token": "Hello", "logprob": -0.5, "bytes": [72, 101, 108, 108, 111], "top_logprobs": []}
OTHER: Body = {"token": "Hi", "logprob": -1.5, "bytes": [72, 105]}
ECHOED = (
    *("instructions", "metadata", "parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p"),
    *("background", "conversation", "max_output_tokens", "max_tool_calls", "previous_response_id", "prompt"),
    *("prompt_cache_key", "reasoning", "safety_identifier", "text", "top_logprobs", "truncation", "user"),
)
"""What a response repeats of its request."""


def top(**fields: Any) -> Body:
    return {**BASE, **fields}


def output(*items: Body) -> Body:
    return top(output=list(items))


def says(*parts: Body) -> Body:
    return output(SAYS | {"content": list(parts)})


def counted(group: str, **fields: Any) -> Body:
    return top(usage=USAGE | {group: USAGE[group] | fields})


def likely(*tokens: Body) -> Body:
    return says(TEXT | {"logprobs": list(tokens)})


def item(kind: str) -> Sample:
    return Sample(output({"type": kind, "id": "x_1", "status": "completed", "call_id": "c1"}, SAYS), BASE)


def stopped(reason: str) -> Body:
    return top(status="incomplete", incomplete_details={"reason": reason})


COMMON = {
    "text": Sample(says(TEXT | {"text": "Hello there"}), BASE),
    "reasoning": Sample(output(THOUGHT, SAYS), BASE),
    "signed reasoning": Sample(
        output(THOUGHT | {"encrypted_content": "ZW5j"}, SAYS), output(THOUGHT, SAYS), within="].parts["
    ),
    "redacted reasoning": Sample(
        output({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "ZW5j"}, SAYS), BASE
    ),
    "tool call": Sample(output(SAYS, CALL), BASE),
    "parallel tool calls": Sample(output(CALL, SECOND), output(CALL)),
    "free-form tool call": Sample(output(SAYS, FREE), BASE),
    "tool call whose arguments are no JSON": Sample(
        output(CALL | {"arguments": '{"a":'}), output(CALL | {"arguments": "{}"}), within="].parts["
    ),
    "refusal": Sample(says({"type": "refusal", "refusal": "No."}), says()),
    "image": Sample(output(IMAGE, SAYS), BASE),
    "call that the vendor ran": Sample(output(SEARCH, SAYS), BASE),
    "result of what the vendor ran": Sample(output(RAN, SAYS), BASE),
    "block of an unknown type": Sample(output({"type": "novelty", "a": 1}, SAYS), BASE),
    "cited web page": Sample(says(TEXT | {"annotations": [WEB]}), BASE),
    "cited document": Sample(says(TEXT | {"annotations": [FILE]}), BASE),
    "log probabilities": Sample(likely(TOKEN), BASE),
    "alternatives of tokens": Sample(
        likely(TOKEN | {"top_logprobs": [OTHER]}), likely(TOKEN), within="logprobs"
    ),
    "tokens": Sample(BASE, top(usage=None)),
    "tokens from a cache": Sample(counted("input_tokens_details", cached_tokens=4), BASE),
    "tokens to a cache": Sample(counted("input_tokens_details", cache_write_tokens=4), BASE),
    "tokens of reasoning": Sample(counted("output_tokens_details", reasoning_tokens=4), BASE),
    "id": Sample(BASE, top(id="resp_2"), HERS["id"]),
    "model": Sample(BASE, top(model="gpt-5-mini"), HERS["model"]),
    "created": Sample(BASE, top(created_at=1_600_000_000), HERS["created"]),
    "service tier": Sample(top(service_tier="flex"), BASE),
}
_ITEMS = tags(ResponseOutputItem) - {
    *("message", "reasoning", "function_call", "custom_tool_call", "image_generation_call"),
    *("web_search_call", "shell_call_output"),
}
OWN = {
    **{name: item(name) for name in sorted(_ITEMS)},
    "message.phase": Sample(output(SAYS | {"phase": "commentary"}), BASE),
    "reasoning.content": Sample(
        output(THOUGHT | {"content": [{"type": "reasoning_text", "text": "deeply"}]}, SAYS),
        output(THOUGHT, SAYS),
    ),
    **{
        name: Sample(says(TEXT | {"annotations": [{"type": name, **fields}]}), BASE)
        for name, fields in CITED.items()
    },
    "completed_at": Sample(top(completed_at=1_700_000_005), BASE, HERS["created"]),
    "access_programs": Sample(top(access_programs=["p"]), BASE),
    "input_transformations": Sample(top(input_transformations=[{"type": "x"}]), BASE),
    "moderation": Sample(top(moderation={"results": [1]}), BASE),
    "prompt_cache_diagnostics": Sample(top(prompt_cache_diagnostics={"reason": "x"}), BASE),
    "prompt_cache_options": Sample(top(prompt_cache_options={"mode": "implicit"}), BASE),
    "prompt_cache_retention": Sample(top(prompt_cache_retention="24h"), BASE),
    "image": Sample(top(image={"size": "auto"}), BASE),
    "tool_usage": Sample(top(tool_usage={"web_search": {"num_requests": 1}}), BASE),
    "usage.input_tokens_details.cache_write_tokens_details": Sample(
        counted("input_tokens_details", cache_write_tokens=4, cache_write_tokens_details={"ttl_1h": 4}),
        counted("input_tokens_details", cache_write_tokens=4),
    ),
}
WORDS = {
    "completed": BASE,
    "completed, with calls": output(SAYS, CALL),
    "max_output_tokens": stopped("max_output_tokens"),
    "content_filter": stopped("content_filter"),
    "a_word_of_tomorrow": stopped("a_word_of_tomorrow"),
}


def streamed(body: Body) -> bytes:
    begun = {**body, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    events: list[Body] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, each in enumerate(body["output"]):
        events += [{"output_index": index, **event} for event in _item(each)]
    events.append({"type": f"response.{body['status']}", "response": body})
    numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in numbered).encode()


def _item(item: Body) -> Iterator[Body]:
    begun = dict(item)
    if "status" in item:
        begun["status"] = "in_progress"
    for key, empty in (("content", []), ("summary", []), ("arguments", ""), ("input", "")):
        if key in item:
            begun[key] = empty
    begun.pop("encrypted_content", None)
    yield {"type": "response.output_item.added", "item": begun}
    match item["type"]:
        case "message":
            for number, part in enumerate(item["content"]):
                yield from ({"item_id": "i", "content_index": number, **each} for each in _part(part))
        case "reasoning":
            for number, part in enumerate(item["summary"]):
                yield from ({"item_id": "i", "summary_index": number, **each} for each in _summary(part))
            for number, part in enumerate(item.get("content", ())):
                yield from (
                    {"item_id": "i", "content_index": number, **each} for each in _thoughts(part["text"])
                )
        case "function_call":
            yield from _grown("response.function_call_arguments", "arguments", item["arguments"])
        case "custom_tool_call":
            yield from _grown("response.custom_tool_call_input", "input", item["input"])
    yield {"type": "response.output_item.done", "item": item}


def _grown(name: str, key: str, text: str) -> Iterator[Body]:
    yield from ({"type": f"{name}.delta", "item_id": "i", "delta": piece} for piece in pieces(text))
    yield {"type": f"{name}.done", "item_id": "i", key: text}


def _part(part: Body) -> Iterator[Body]:
    kind = part["type"]
    key = "text" if kind == "output_text" else "refusal"
    empty = {name: [] if isinstance(value, list) else value for name, value in part.items()}
    yield {"type": "response.content_part.added", "part": empty | {key: ""}}
    texts = [part[key]] if part.get("logprobs") else pieces(part[key])
    for text in texts:
        tokens = {"logprobs": part["logprobs"]} if "logprobs" in part else {}
        yield {"type": f"response.{kind}.delta", "delta": text, **tokens}
    for number, each in enumerate(part.get("annotations", ())):
        yield {
            "type": "response.output_text.annotation.added",
            "annotation_index": number,
            "annotation": each,
        }
    yield {"type": f"response.{kind}.done", key: part[key]}
    yield {"type": "response.content_part.done", "part": part}


def _summary(part: Body) -> Iterator[Body]:
    name = "response.reasoning_summary"
    yield {"type": f"{name}_part.added", "part": part | {"text": ""}}
    yield from ({"type": f"{name}_text.delta", "delta": piece} for piece in pieces(part["text"]))
    yield {"type": f"{name}_text.done", "text": part["text"]}
    yield {"type": f"{name}_part.done", "part": part}


def _thoughts(text: str) -> Iterator[Body]:
    yield from ({"type": "response.reasoning_text.delta", "delta": piece} for piece in pieces(text))
    yield {"type": "response.reasoning_text.done", "text": text}


VENDOR = Vendor(
    "openai_responses",
    COMMON,
    OWN,
    WORDS,
    streamed,
    sdk=fields_of(
        *(Response, ResponseOutputMessage, ResponseOutputText, ResponseReasoningItem),
        *(ResponseUsage, InputTokensDetails, OutputTokensDetails),
    )
    | tags(ResponseOutputItem)
    | tags(Annotation),
    unsaid=frozenset(ECHOED),
)
