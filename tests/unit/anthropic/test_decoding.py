"""Requests of callers: what they become, and what is refused with which field named."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from headgate.core.errors import InvalidRequest
from headgate.core.messages import (
    CacheHint,
    Citation,
    Media,
    Message,
    Opaque,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from headgate.dialects.anthropic import ANTHROPIC, ANTHROPIC_COUNT, decode_count_request, decode_request
from headgate.dialects.sealed import seal
from tests.support.agent_payload import PDF, PNG
from tests.unit.anthropic.wire import asked, body, said

IMAGE = {"type": "base64", "media_type": "image/png", "data": PNG}


def test_the_plain_request() -> None:
    request = decode_request(body(system="Be brief.", temperature=0.5, top_p=0.9, top_k=4, stream=True))
    assert request.messages == (Message("system", (Text("Be brief."),)), Message("user", (Text("Hi"),)))
    assert (request.model, request.stream, request.include_usage) == ("m", True, True)
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (9, 0.5, 0.9, 4)
    assert request.extensions == {}


def test_a_user_turn_with_tool_results_becomes_messages_of_their_own() -> None:
    request = said(
        {"type": "tool_result", "tool_use_id": "a", "content": "1"},
        {"type": "tool_result", "tool_use_id": "b"},
        {"type": "text", "text": "And now?"},
    )
    assert request.messages == (
        Message("tool", (ToolResult("a", (Text("1"),)), ToolResult("b", ()))),
        Message("user", (Text("And now?"),)),
    )


@pytest.mark.parametrize(
    ("source", "media"),
    [
        (IMAGE, Media("image", "image/png", PNG)),
        ({"type": "url", "url": "https://a/b"}, Media("image", url="https://a/b")),
        ({"type": "file", "file_id": "file_1"}, Media("image", file_id="file_1")),
        (
            {"type": "url", "url": "https://a/b", "new": 1},
            Media("image", url="https://a/b", extensions={"anthropic": {"source": {"new": 1}}}),
        ),
    ],
)
def test_images(source: dict[str, Any], media: Media) -> None:
    assert said({"type": "image", "source": source}).messages[0].parts == (media,)


@pytest.mark.parametrize(
    ("source", "media"),
    [
        (
            {"type": "base64", "media_type": "application/pdf", "data": PDF},
            Media("file", "application/pdf", PDF, name="t"),
        ),
        (
            {"type": "url", "url": "https://a/b"},
            Media("file", "application/pdf", url="https://a/b", name="t"),
        ),
        ({"type": "file", "file_id": "file_1"}, Media("file", file_id="file_1", name="t")),
        (
            {"type": "text", "media_type": "text/plain", "data": "Grüße"},
            Media("file", "text/plain", base64.b64encode("Grüße".encode()).decode(), name="t"),
        ),
    ],
)
def test_documents(source: dict[str, Any], media: Media) -> None:
    assert said({"type": "document", "source": source, "title": "t"}).messages[0].parts == (media,)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a"}]}},
        {"type": "image", "source": {"type": "hologram", "url": "x"}, "cache_control": {"type": "ephemeral"}},
        {"type": "search_result", "source": "s", "title": "t", "content": []},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
        {"type": "container_upload", "file_id": "f"},
        {"type": "mcp_tool_use", "id": "m", "name": "n", "server_name": "s", "input": {}},
        {"type": "compaction", "content": "so far", "encrypted_content": "e"},
        {"type": "from_the_future", "x": [1]},
    ],
)
def test_blocks_of_the_vendors_own_are_kept_whole(block: dict[str, Any]) -> None:
    assert said(block).messages[0].parts == (Opaque("anthropic", block),)


def test_cache_hints_are_read_on_every_block_and_their_unknown_fields_kept() -> None:
    control = {"type": "ephemeral", "ttl": "1h", "scope": "global"}
    extra: Any = {"anthropic": {"cache_control": {"scope": "global"}}}
    result = {
        "type": "tool_result",
        "tool_use_id": "a",
        "content": [{"type": "text", "text": "x", "cache_control": control}],
        "cache_control": {"type": "ephemeral"},
    }
    assert said(result).messages[0].parts == (
        ToolResult("a", (Text("x", cache=CacheHint("1h"), extensions=extra),), cache=CacheHint()),
    )


def test_thoughts_and_redacted_thoughts() -> None:
    request = said(
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "redacted_thinking", "data": "enc"},
        {"type": "thinking", "thinking": "", "signature": seal("gemini", "theirs")},
        {"type": "thinking", "thinking": "s", "signature": seal("openai_responses", "~enc")},
        {"type": "redacted_thinking", "data": seal("converse", "enc")},
        role="assistant",
    )
    assert request.messages[0].parts == (
        Reasoning("Hm.", "sig", origin="anthropic"),
        Reasoning("Hm."),
        Reasoning(data="enc", redacted=True, origin="anthropic"),
        Reasoning("", "theirs", origin="gemini"),
        Reasoning("s", data="enc", origin="openai_responses"),
        Reasoning(data="enc", redacted=True, origin="converse"),
    )


def test_tool_calls() -> None:
    call = {
        "type": "tool_use",
        "id": "t",
        "name": "f",
        "input": {"a": [1, 2.5]},
        "caller": {"type": "direct"},  # goes without saying
    }
    assert said(call, role="assistant").messages[0].parts == (ToolCall("t", "f", '{"a":[1,2.5]}'),)
    caller: Any = {"type": "code_execution_20250825", "tool_id": "s"}
    assert said(call | {"caller": caller}, role="assistant").messages[0].parts == (
        ToolCall("t", "f", '{"a":[1,2.5]}', extensions={"anthropic": {"caller": caller}}),
    )


def test_citations_of_earlier_answers_are_kept_in_their_own_form() -> None:
    form: dict[str, Any] = {
        "type": "char_location",
        "cited_text": "q",
        "document_index": 0,
        "document_title": "t",
        "start_char_index": 1,
        "end_char_index": 2,
    }
    request = said({"type": "text", "text": "x", "citations": [form]}, role="assistant")
    citation = Citation("document", title="t", quote="q", source=0, extensions={"anthropic": form})
    assert request.messages[0].parts == (Text("x", (citation,)),)


def test_system_messages_may_stand_among_the_turns_and_twice_at_the_start() -> None:
    system = {"role": "system", "content": "B"}
    request = asked(
        system=[{"type": "text", "text": "A"}], messages=[system, {"role": "user", "content": "x"}]
    )
    assert [message.role for message in request.messages] == ["system", "system", "user"]


def test_tools() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    request = asked(
        tools=[
            {"name": "f", "description": "d", "input_schema": schema, "strict": True, "input_examples": [{}]},
            {"type": "custom", "name": "g", "input_schema": schema, "cache_control": {"type": "ephemeral"}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 1},
            {"type": "mcp_toolset", "mcp_server_name": "s", "cache_control": {"type": "ephemeral"}},
        ]
    )
    assert request.tools == (
        Tool("f", "d", schema, True, extensions={"anthropic": {"input_examples": [{}]}}),
        Tool("g", parameters=schema, cache=CacheHint()),
        Tool(
            "web_search",
            kind="web_search_20250305",
            extensions={"anthropic": {"name": "web_search", "max_uses": 1}},
        ),
        Tool(
            "mcp_toolset",
            kind="mcp_toolset",
            cache=CacheHint(),
            extensions={"anthropic": {"mcp_server_name": "s"}},
        ),
    )


@pytest.mark.parametrize(
    ("wire", "choice", "parallel"),
    [
        ({"type": "auto"}, ToolChoice("auto"), None),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required"), False),
        ({"type": "tool", "name": "f", "disable_parallel_tool_use": False}, ToolChoice("tool", "f"), True),
        ({"type": "none"}, ToolChoice("none"), None),
    ],
)
def test_tool_choice(wire: dict[str, Any], choice: ToolChoice, parallel: bool | None) -> None:
    request = asked(tool_choice=wire)
    assert (request.tool_choice, request.parallel_tool_calls) == (choice, parallel)


@pytest.mark.parametrize(
    ("fields", "options", "kept"),
    [
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            {"enabled": True, "budget_tokens": 2048},
            {},
        ),
        ({"thinking": {"type": "disabled"}}, {"enabled": False}, {}),
        (
            {"thinking": {"type": "adaptive", "display": "summarized"}},
            {"enabled": True, "summary": "auto"},
            {},
        ),
        (
            {"thinking": {"type": "adaptive", "display": "omitted"}},
            {"enabled": True},
            {"thinking": {"display": "omitted"}},
        ),
        (
            {"thinking": {"type": "between_tools"}},
            {"enabled": False},
            {"thinking": {"type": "between_tools"}},
        ),
        (
            {"output_config": {"effort": "max", "task_budget": 5}},
            {"effort": "max", "effort_only": True},
            {"output_config": {"task_budget": 5}},
        ),
        (
            {"output_config": {"effort": "max"}, "thinking": {"type": "adaptive"}},
            {"effort": "max", "enabled": True},
            {},
        ),
    ],
)
def test_reasoning(fields: dict[str, Any], options: dict[str, Any], kept: dict[str, Any]) -> None:
    request = asked(**fields)
    assert request.reasoning == ReasoningOptions(**options)
    assert request.extensions == ({"anthropic": kept} if kept else {})


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_structured_output_in_its_new_and_its_old_place(place: str) -> None:
    form: dict[str, Any] = {"type": "json_schema", "schema": {"type": "object"}}
    request = asked(**{place: {"format": form} if place == "output_config" else form})
    assert request.response_format == ResponseFormat("json_schema", schema={"type": "object"})


def test_the_rest() -> None:
    request = asked(
        metadata={"user_id": "u", "more": 1},
        service_tier="auto",
        stop_sequences=["a", "b"],
        mcp_servers=[{"type": "url"}],
        container="c",
        betas=["x"],
    )
    assert (request.user, request.service_tier, request.sampling.stop) == ("u", "auto", ("a", "b"))
    assert request.extensions == {
        "anthropic": {
            "mcp_servers": [{"type": "url"}],
            "container": "c",
            "betas": ["x"],
            "metadata": {"more": 1},
        }
    }


def test_a_count_needs_no_limit_and_routes_may_hold_the_model() -> None:
    counted = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    assert decode_count_request(counted).sampling.max_tokens is None
    with pytest.raises(InvalidRequest, match="max_tokens"):
        decode_request(counted)
    assert decode_request(body(model=None), model="route", stream=True).model == "route"
    assert ANTHROPIC.path("m", True) == "/messages"
    assert ANTHROPIC_COUNT.path("m", False) == "/messages/count_tokens"


NOT_BASE64 = "it must be base64"
BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": 3}, "model"),
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": "9"}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": ["Hi"]}, "messages[0]"),
    ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "tool", "content": "Hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["Hi"]}]}, "messages[0].content[0]"),
    ({"system": 3}, "system"),
    ({"system": [{"type": "image", "source": IMAGE}]}, "system[0].type"),
    ({"stream": "yes"}, "stream"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_k": 1.5}, "top_k"),
    ({"stop_sequences": "END"}, "stop_sequences"),
    ({"stop_sequences": ["a", 1]}, "stop_sequences[1]"),
    ({"metadata": []}, "metadata"),
    ({"metadata": {"user_id": 1}}, "metadata.user_id"),
    ({"service_tier": 1}, "service_tier"),
    ({"thinking": True}, "thinking"),
    ({"thinking": {}}, "thinking.type"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking.budget_tokens"),
    ({"output_config": {"effort": 3}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ({"output_config": {"format": {"type": "json_schema", "schema": []}}}, "output_config.format.schema"),
    ({"tools": {}}, "tools"),
    ({"tools": ["f"]}, "tools[0]"),
    ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    ({"tools": [{"name": "f", "input_schema": "none"}]}, "tools[0].input_schema"),
    ({"tools": [{"name": "f", "input_schema": {"type": "string"}}]}, "tools[0].input_schema.type"),
    ({"tools": [{"name": "f", "input_schema": {}, "strict": 1}]}, "tools[0].strict"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"mcp_servers": {}}, "mcp_servers"),
    ({"container": 1}, "container"),
    ({"cache_control": "ephemeral"}, "cache_control"),
]


@pytest.mark.parametrize(
    ("fields", "param"), BAD, ids=[f"{param}-{index}" for index, (_, param) in enumerate(BAD)]
)
def test_a_bad_field_is_refused_by_its_path(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(**fields)
    assert (refused.value.param, refused.value.status) == (param, 400)


BAD_BLOCKS: list[tuple[dict[str, Any], str]] = [
    ({}, "type"),
    ({"type": 1}, "type"),
    ({"type": "text"}, "text"),
    ({"type": "text", "text": 1}, "text"),
    ({"type": "text", "text": "x", "citations": {}}, "citations"),
    ({"type": "text", "text": "x", "citations": [1]}, "citations[0]"),
    ({"type": "text", "text": "x", "cache_control": True}, "cache_control"),
    ({"type": "text", "text": "x", "cache_control": {}}, "cache_control.type"),
    ({"type": "text", "text": "x", "cache_control": {"type": "eternal"}}, "cache_control.type"),
    ({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": 5}}, "cache_control.ttl"),
    ({"type": "image"}, "source"),
    ({"type": "image", "source": {}}, "source.type"),
    ({"type": "image", "source": {"type": "url"}}, "source.url"),
    ({"type": "image", "source": {"type": "file", "file_id": 1}}, "source.file_id"),
    ({"type": "image", "source": {"type": "base64", "data": PNG}}, "source.media_type"),
    ({"type": "image", "source": IMAGE | {"media_type": "text/html"}}, "source.media_type"),
    ({"type": "image", "source": IMAGE | {"data": "not base64!"}}, "source.data"),
    ({"type": "image", "source": IMAGE | {"data": PNG[:-1]}}, "source.data"),
    ({"type": "image", "source": IMAGE | {"data": "Grüße"}}, "source.data"),
    ({"type": "image", "source": IMAGE | {"data": ""}}, "source.data"),
    ({"type": "image", "source": IMAGE | {"data": PDF}}, "source.data"),
    ({"type": "image", "source": IMAGE | {"data": "!" * 4_000_000}}, "source.data"),
    ({"type": "document", "source": {"type": "text", "media_type": "a/b", "data": "x"}}, "source.media_type"),
    ({"type": "document", "source": {"type": "base64", "media_type": "a", "data": "x"}}, "source.data"),
    ({"type": "document", "source": {"type": "url", "url": "u"}, "title": 1}, "title"),
    ({"type": "thinking"}, "thinking"),
    ({"type": "thinking", "thinking": "x", "signature": 1}, "signature"),
    ({"type": "redacted_thinking"}, "data"),
    ({"type": "tool_use", "name": "f", "input": {}}, "id"),
    ({"type": "tool_use", "id": "t", "input": {}}, "name"),
    ({"type": "tool_use", "id": "t", "name": "f"}, "input"),
    ({"type": "tool_use", "id": "t", "name": "f", "input": "{}"}, "input"),
    ({"type": "tool_result"}, "tool_use_id"),
    ({"type": "tool_result", "tool_use_id": "t", "content": 1}, "content"),
    ({"type": "tool_result", "tool_use_id": "t", "is_error": "no"}, "is_error"),
    (
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
        "content[0].type",
    ),
]


@pytest.mark.parametrize(
    ("block", "param"), BAD_BLOCKS, ids=[f"{param}-{index}" for index, (_, param) in enumerate(BAD_BLOCKS)]
)
def test_a_bad_block_is_refused_by_its_path(block: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        said({"type": "text", "text": "x"}, block)
    assert refused.value.param == f"messages[0].content[1].{param}"
    assert len(refused.value.message) < 300, "the message quotes the payload"


@pytest.mark.parametrize("wire", [b"", b"[]", b"{", b'"x"', b"\xff{}", b'{"a":' * 5000])
def test_what_is_no_object_is_refused(wire: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_request(wire)


def test_much_is_taken() -> None:
    tool = {"name": "f", "input_schema": {"type": "object"}}
    assert len(asked(tools=[tool] * 1000).tools) == 1000
    image = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20_000_000)).decode()
    part = said({"type": "image", "source": IMAGE | {"data": image}}).messages[0].parts[0]
    assert isinstance(part, Media)
    assert part.data == image
    with pytest.raises(InvalidRequest, match="16,384"):
        said(*[{"type": "text", "text": "x"}] * 16_385)
