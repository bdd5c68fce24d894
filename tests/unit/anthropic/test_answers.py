"""Complete answers, both ways, and the words that end them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message
from pydantic import TypeAdapter

from headgate.core.call import Usage
from headgate.core.errors import StreamBroken, UpstreamError
from headgate.core.events import FinishReason, Stop
from headgate.core.loss import Loss
from headgate.core.messages import Citation, Media, Opaque, Part, Reasoning, Refusal, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects.anthropic import decode_result, encode_result
from headgate.dialects.dialect import AnswerOptions
from tests.unit.anthropic.wire import bare

CITED: dict[str, Any] = {
    "type": "web_search_result_location",
    "cited_text": "q",
    "encrypted_index": "e",
    "title": "t",
    "url": "https://a/b",
}
RICH: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "redacted_thinking", "data": "enc"},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
        {"type": "text", "text": "Grüße", "citations": [CITED]},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "container": {"id": "c", "expires_at": "2030-01-01T00:00:00Z"},
    "usage": {
        "input_tokens": 10,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 40,
        "output_tokens_details": {"thinking_tokens": 15},
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
        "service_tier": "standard",
    },
}


def answer(*parts: Part, stop: Stop | None = None, **fields: Any) -> ChatResult:
    return ChatResult("id", "m", 0, (Choice(0, parts, stop or Stop("stop")),), **fields)


def written(result: ChatResult, **options: Any) -> tuple[dict[str, Any], list[Loss]]:
    body, losses = encode_result(result, AnswerOptions(**options))
    TypeAdapter(Message).validate_json(body)
    return json.loads(body), losses


def test_a_rich_answer_is_read_whole() -> None:
    result = decode_result(json.dumps(RICH).encode())
    citation = Citation("url", "https://a/b", "t", "q", extensions={"anthropic": CITED})
    assert result.choices == (
        Choice(
            0,
            (
                Reasoning("Hm.", "sig", origin="anthropic"),
                Reasoning(data="enc", redacted=True, origin="anthropic"),
                Opaque("anthropic", RICH["content"][2]),
                Opaque("anthropic", RICH["content"][3]),
                Text("Grüße", (citation,)),
                ToolCall("t", "f", '{"x":1}'),
            ),
            Stop("tool_calls", native="tool_use"),
        ),
    )
    assert result.usage == Usage(60, 40, 30, 20, 15)
    assert result.extensions == {"anthropic": {"usage": RICH["usage"], "container": RICH["container"]}}


def test_it_goes_to_a_caller_of_the_same_dialect_as_it_came() -> None:
    told, losses = written(decode_result(json.dumps(RICH).encode()))
    assert bare(told) == RICH
    assert losses == []


def test_a_whole_answer_has_every_field_that_the_vendor_calls_required() -> None:
    told, _ = written(answer(Text("x"), ToolCall("a", "f", "{}")))
    assert told["content"][0]["citations"] is None
    assert told["content"][1]["caller"] == {"type": "direct"}
    assert {key for key in told if told[key] is None} == {"stop_sequence", "stop_details", "container"}
    assert {key for key in told["usage"] if told["usage"][key] is None} == {
        "cache_creation",
        "inference_geo",
        "output_tokens_details",
        "server_tool_use",
        "service_tier",
    }


def test_the_public_name_and_id_replace_the_upstreams() -> None:
    told, _ = written(answer(Text("x")), id="public", model="claude")
    assert (told["id"], told["model"]) == ("public", "claude")


def test_what_other_vendors_made_is_sealed_for_the_way_back() -> None:
    told, losses = written(
        answer(
            Reasoning("a", "sig", origin="gemini"),
            Reasoning("b", data="enc", origin="openai_responses"),
            Reasoning(data="enc", redacted=True, origin="converse"),
            Reasoning("c"),
            Text("x"),
        )
    )
    assert told["content"][:4] == [
        {"type": "thinking", "thinking": "a", "signature": "hgs1.gemini.sig"},
        {"type": "thinking", "thinking": "b", "signature": "hgs1.openai_responses.~enc"},
        {"type": "redacted_thinking", "data": "hgs1.converse.enc"},
        {"type": "thinking", "thinking": "c", "signature": ""},
    ]
    assert losses == []


@pytest.mark.parametrize(
    "part",
    [
        Media("image", "image/png", "AAAA"),
        Opaque("gemini", {"x": 1}),
        Reasoning("a", "sig"),
        Reasoning("a", "sig", "enc", origin="openai_responses"),
        Reasoning("shown", data="enc", redacted=True, origin="converse"),
        Text("x", (Citation("file", title="t"),)),
        Text("x", (Citation("url", url="https://a", start=0, end=1),)),
        ToolCall("a", "f", "not JSON"),
    ],
)
def test_what_an_answer_can_not_hold_is_reported(part: Part) -> None:
    _, losses = written(answer(Text("a"), part))
    assert [loss.path for loss in losses] == ["content[1]"]


def test_the_first_choice_is_the_answer() -> None:
    choices = tuple(Choice(index, (Text(str(index)),), Stop("stop", index), ({},)) for index in (0, 1))
    told, losses = written(ChatResult("id", "m", 0, choices))
    assert bare(told["content"]) == [{"type": "text", "text": "0"}]
    assert [loss.path for loss in losses] == ["choices[1]", "choices[0].logprobs"]


def test_a_citation_by_address_is_told_in_this_dialects_form() -> None:
    told, _ = written(answer(Text("x", (Citation("url", url="https://a", title="t", quote="q"),))))
    assert told["content"][0]["citations"] == [
        {
            "type": "web_search_result_location",
            "cited_text": "q",
            "encrypted_index": "",
            "title": "t",
            "url": "https://a",
        }
    ]


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
        ("refusal", "refusal"),
        ("pause", "pause_turn"),
        ("context_length", "model_context_window_exceeded"),
        ("other", "end_turn"),
    ],
)
def test_stop_words(reason: FinishReason, word: str) -> None:
    assert written(answer(Text("x"), stop=Stop(reason, native="theirs")))[0]["stop_reason"] == word
    if reason not in ("content_filter", "other"):
        told = decode_result(json.dumps(RICH | {"stop_reason": word}).encode())
        assert told.choices[0].stop == Stop(reason, native=word)


def test_stop_words_that_the_content_decides() -> None:
    call, hit = ToolCall("a", "f", "{}"), Stop("stop", sequence="END", native="stop")
    assert written(answer(call, stop=Stop("stop", native="stop")))[0]["stop_reason"] == "tool_use"
    assert written(answer(Refusal("No."), stop=Stop("stop", native="stop")))[0]["stop_reason"] == "refusal"
    assert bare(written(answer(Refusal("No.")))[0]["content"]) == [{"type": "text", "text": "No."}]
    told = written(answer(Text("x"), stop=hit))[0]
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", "END")
    own = decode_result(json.dumps(RICH | {"stop_reason": "stop_sequence", "stop_sequence": "E"}).encode())
    assert own.choices[0].stop == Stop("stop", sequence="E", native="stop_sequence")


def test_a_stop_word_newer_than_this_code_comes_back_to_callers_of_the_dialect() -> None:
    result = decode_result(json.dumps(RICH | {"stop_reason": "compaction"}).encode())
    assert result.choices[0].stop == Stop("other", native="compaction")
    assert json.loads(encode_result(result, AnswerOptions())[0])["stop_reason"] == "compaction"


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        (Usage(60, 40, 30, 20, 15), (10, 20, 30, 40)),
        (Usage(10, 4), (10, 0, 0, 4)),
        (Usage(10, 4, cached_tokens=10), (0, 0, 10, 4)),
        (None, (0, 0, 0, 0)),
    ],
)
def test_usage_excludes_cached_tokens_here(usage: Usage | None, told: tuple[int | None, ...]) -> None:
    wire = written(answer(Text("x"), usage=usage))[0]["usage"]
    keys = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    assert tuple(wire.get(key) for key in keys) == told


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"content": "x"}', b"<html>", b"\xff"])
def test_what_is_no_message_is_a_broken_answer(body: bytes) -> None:
    with pytest.raises(StreamBroken):
        decode_result(body)


def test_an_error_in_place_of_an_answer_is_raised() -> None:
    with pytest.raises(UpstreamError, match="Overloaded") as raised:
        decode_result(b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}')
    assert (raised.value.status, raised.value.retryable) == (529, True)


def test_garbled_blocks_are_kept_as_they_are() -> None:
    blocks: list[dict[str, Any]] = [
        {"type": "text"},
        {"type": "tool_use", "id": 1},
        {"no": "type"},
        {"type": "thinking", "thinking": 1},
    ]
    result = decode_result(json.dumps(RICH | {"content": [*blocks, 3], "usage": 7, "model": None}).encode())
    assert result.choices[0].parts == tuple(Opaque("anthropic", block) for block in blocks)
    assert (result.model, result.usage) == ("", None)
