"""Responses requests, read and written: every kind of item, mistakes by field, losses, round trips."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import response_create_params, response_input_item_param
from pydantic import TypeAdapter

from headgate.core.errors import InvalidRequest
from headgate.core.messages import (
    CacheHint,
    ChatRequest,
    Media,
    Message,
    Opaque,
    Reasoning,
    ReasoningOptions,
    Refusal,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from headgate.dialects.openai_responses import Profile, decode_request, encode_request
from headgate.dialects.openai_responses.vocabulary import mint_item_id

OWN = "openai_responses"
ITEM: TypeAdapter[Any] = TypeAdapter(response_input_item_param.ResponseInputItemParam)
BREAKPOINTS = Profile(cache_breakpoints=True)

ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": "Hello"},
    {
        "type": "message",
        "role": "user",
        "content": [
            {
                "type": "input_text",
                "text": "Look",
                "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"},
            },
            {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "high"},
            {"type": "input_image", "image_url": "https://a.b/c.png"},
            {"type": "input_image", "file_id": "file-1", "detail": "auto"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="},
            {"type": "input_file", "file_url": "https://a.b/c.pdf"},
            {"type": "input_file", "file_id": "file-2"},
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
            {"type": "input_hologram", "waves": [1]},
        ],
    },
    {"role": "developer", "content": "Be brief."},
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}],
        "encrypted_content": "gAAA",
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [
            {
                "type": "output_text",
                "text": "Well",
                "annotations": [{"type": "file_path", "file_id": "f", "index": 0}],
            },
            {"type": "refusal", "refusal": "no"},
        ],
    },
    {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "q"},
    },
    {"type": "function_call", "id": "fc_1", "call_id": "call_a", "name": "f", "arguments": "{}"},
    {"type": "custom_tool_call", "call_id": "call_b", "name": "g", "input": "text"},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGk="},
    {"type": "function_call_output", "call_id": "call_a", "output": "sunny"},
    {
        "type": "custom_tool_call_output",
        "call_id": "call_b",
        "output": [{"type": "input_text", "text": "a"}, {"type": "input_image", "file_id": "file-3"}],
    },
    {"type": "mcp_approval_response", "approval_request_id": "r", "approve": True},
    {"type": "item_reference", "id": "msg_0"},
    {"role": "assistant", "content": "And"},
    {"role": "assistant", "content": [{"type": "output_text", "text": "so"}]},
]

FIELDS: dict[str, Any] = {
    "model": "m",
    "instructions": "Be kind.",
    "input": ITEMS,
    "tools": [
        {
            "type": "function",
            "name": "f",
            "description": "d",
            "parameters": {"type": "object"},
            "strict": True,
        },
        {"type": "custom", "name": "g", "format": {"type": "text"}},
        {"type": "web_search", "search_context_size": "low"},
        {"type": "mcp", "server_label": "l", "server_url": "https://a.b"},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "parallel_tool_calls": False,
    "text": {
        "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
        "verbosity": "low",
    },
    "reasoning": {"effort": "high", "summary": "auto", "context": "all_turns"},
    "max_output_tokens": 100,
    "max_tool_calls": 3,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_logprobs": 2,
    "include": ["message.output_text.logprobs", "file_search_call.results"],
    "store": True,
    "previous_response_id": "resp_0",
    "prompt_cache_key": "k",
    "safety_identifier": "s",
    "service_tier": "flex",
    "metadata": {"a": "b"},
    "truncation": "auto",
    "user": "u",
    "stream": True,
    "stream_options": {"include_obfuscation": False},
    "novelty": {"x": 1},
}


def request(**fields: Any) -> ChatRequest:
    return decode_request(msgspec.json.encode({"model": "m", "input": "Hi"} | fields))


def messages(*items: dict[str, Any]) -> tuple[Message, ...]:
    return request(input=list(items)).messages


def encoded(asked: ChatRequest, **options: Any) -> dict[str, Any]:
    body, losses = encode_request(asked, **options)
    assert not losses
    value: dict[str, Any] = msgspec.json.decode(body)
    return value


def losses_of(**fields: Any) -> list[str]:
    fields.setdefault("messages", (Message("user", (Text("a"),)),))
    body, losses = encode_request(ChatRequest(model="m", **fields))
    assert msgspec.json.decode(body)["model"] == "m"
    return [loss.path for loss in losses]


def ext(**values: Any) -> dict[str, dict[str, Any]]:
    return {OWN: values}


def test_turns_are_gathered_from_items() -> None:
    told = request(instructions="Be kind.", input=ITEMS).messages
    assert [message.role for message in told] == [
        *("system", "user", "user", "developer", "assistant", "tool", "assistant", "assistant"),
    ]
    assert told[2].parts == (
        Text("Look", cache=CacheHint("12h")),
        Media("image", "image/png", "aGk=", detail="high"),
        Media("image", url="https://a.b/c.png"),
        Media("image", file_id="file-1", detail="auto"),
        Media("file", "application/pdf", "aGk=", name="a.pdf"),
        Media("file", url="https://a.b/c.pdf"),
        Media("file", file_id="file-2"),
        Media("audio", "audio/mpeg", "aGk="),
        Opaque(OWN, {"type": "input_hologram", "waves": [1]}),
    )
    annotation = told[4].parts[2]
    assert isinstance(annotation, Text)
    assert annotation.citations[0].kind == "file"
    assert [type(part) for part in told[4].parts] == [
        *(Reasoning, Reasoning, Text, Refusal, Opaque, ToolCall, ToolCall, Media),
    ]
    assert told[4].parts[1] == Reasoning("b", data="gAAA", origin=OWN, extensions=ext(continued=True))
    assert told[5].parts[:2] == (
        ToolResult("call_a", (Text("sunny"),)),
        ToolResult("call_b", (Text("a"), Media("image", file_id="file-3"))),
    )


def test_every_field() -> None:
    told = request(**FIELDS)
    assert told.sampling == Sampling(
        max_tokens=100, temperature=0.5, top_p=0.9, logprobs=True, top_logprobs=2
    )
    assert told.reasoning == ReasoningOptions(effort="high", summary="auto")
    assert told.response_format == ResponseFormat("json_schema", "n", None, {"type": "object"}, True)
    assert told.tool_choice is not None
    assert told.tool_choice.mode == "auto"
    assert told.tools[2] == Tool("web_search", kind="web_search", extensions=ext(search_context_size="low"))
    assert (told.stream, told.include_usage, told.user, told.service_tier) == (True, True, "u", "flex")
    assert told.extensions[OWN].keys() == {
        *(
            "text",
            "reasoning",
            "include",
            "stream_options",
            "max_tool_calls",
            "store",
            "previous_response_id",
        ),
        *("prompt_cache_key", "safety_identifier", "truncation", "novelty"),
    }


def test_what_is_written_is_what_was_read() -> None:
    told = request(**FIELDS)
    again = encoded(told, profile=BREAKPOINTS)
    assert decode_request(msgspec.json.encode(again)) == told
    for key in FIELDS.keys() - {"input", "include", "tools"}:
        assert again[key] == FIELDS[key], key
    hints = get_type_hints(response_create_params.ResponseCreateParamsBase)
    assert again.keys() - hints.keys() == {"stream", "novelty"}
    for item in again["input"]:
        if "input_hologram" not in str(item) and "input_audio" not in str(item):
            ITEM.validate_python(item)


def test_the_usual_request_leaves_no_trace() -> None:
    """Nothing that other dialects would have to report as lost."""
    minted = mint_item_id("msg", "resp_1", 0)
    part = {"type": "output_text", "text": "a", "annotations": [], "logprobs": []}
    told = request(
        store=False,
        background=False,
        truncation="disabled",
        include=["reasoning.encrypted_content"],
        input=[
            {"role": "user", "content": "Hi"},
            {"type": "message", "id": minted, "status": "completed", "role": "assistant", "content": [part]},
            {"type": "function_call", "id": mint_item_id("fc", "resp_1", 1), "status": "completed"}
            | {"call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "x", "status": "completed"},
        ],
    )
    assert not told.extensions
    assert told.messages[1:] == (
        Message("assistant", (Text("a"), ToolCall("c", "f", "{}"))),
        Message("tool", (ToolResult("c", (Text("x"),)),)),
    )


def test_upstreams_are_asked_to_keep_nothing_and_to_hand_out_thoughts() -> None:
    wire = encoded(request(reasoning={"effort": "low"}))
    assert wire["store"] is False
    assert wire["include"] == ["reasoning.encrypted_content"]
    assert "include" not in encoded(request())
    assert encoded(request(store=True))["store"] is True


def test_only_its_own_reasoning_is_sent_back() -> None:
    """As data, or as the signature that another dialect's caller carried it in."""
    parts = (
        Reasoning("a", "sig", origin="anthropic"),
        Reasoning("b"),
        Reasoning("c", signature="gAAA", origin=OWN),
        Reasoning("d", data="gBBB", origin=OWN),
        Text("e"),
    )
    body, losses = encode_request(ChatRequest(model="m", messages=(Message("assistant", parts),)))
    items = msgspec.json.decode(body)["input"]
    assert [item.get("encrypted_content") for item in items] == ["gAAA", "gBBB", None]
    assert [loss.path for loss in losses] == ["messages[0].content[0]", "messages[0].content[1]"]


def test_losses() -> None:
    hint = CacheHint("5m")
    assert losses_of(
        sampling=Sampling(
            top_k=1, min_p=0.1, seed=1, stop=("x",), n=2, logit_bias={"1": 1}, presence_penalty=1
        )
    ) == ["top_k", "min_p", "seed", "presence_penalty", "logit_bias", "stop", "n"]
    assert losses_of(reasoning=ReasoningOptions(budget_tokens=5000)) == ["reasoning.budget_tokens"]
    assert losses_of(extensions={"anthropic": {"container": "x"}}) == ["container"]
    assert losses_of(
        tools=(Tool("f", cache=hint), Tool("x", kind="bash", extensions={"anthropic": {"a": 1}}))
    ) == [
        "tools[0].cache_control",
        "tools[1]",
    ]
    assert losses_of(
        messages=(
            Message("user", (Text("a", cache=hint), Media("video", url="u"), Opaque("gemini", {})), name="n"),
            Message("assistant", (Text("a"), Opaque("gemini", {}), Media("image", data="aa"))),
            Message("tool", (ToolResult("c", (Text("x"),), is_error=True, cache=hint), Text("?"))),
        )
    ) == [
        "messages[0].name",
        "messages[0].content[0].cache_control",
        "messages[0].content[1]",
        "messages[0].content[2]",
        "messages[1].content[1]",
        "messages[1].content[2]",
        "messages[2].content[0].is_error",
        "messages[2].content[0].cache_control",
        "messages[2].content[1]",
    ]


def test_a_lifetime_of_another_vendor_is_reported() -> None:
    asked = ChatRequest(model="m", messages=(Message("user", (Text("a", cache=CacheHint("5m")),)),))
    body, losses = encode_request(asked, profile=BREAKPOINTS)
    part = msgspec.json.decode(body)["input"][0]["content"][0]
    assert part["prompt_cache_breakpoint"] == {"mode": "explicit"}
    assert [loss.path for loss in losses] == ["messages[0].content[0].cache_control.ttl"]


@pytest.mark.parametrize(("budget", "effort"), [(1024, "low"), (10_000, "medium"), (50_000, "high")])
def test_budgets_become_efforts(budget: int, effort: str) -> None:
    asked = ChatRequest(model="m", messages=(), reasoning=ReasoningOptions(budget_tokens=budget))
    assert msgspec.json.decode(encode_request(asked)[0])["reasoning"] == {"effort": effort}


def test_thinking_on_and_off() -> None:
    for enabled, effort in ((True, "medium"), (False, "none")):
        asked = ChatRequest(model="m", messages=(), reasoning=ReasoningOptions(enabled=enabled))
        assert encoded(asked)["reasoning"] == {"effort": effort}


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        (ToolChoice("none"), "none"),
        (ToolChoice("tool", "f"), {"type": "function", "name": "f"}),
        (ToolChoice("tool", "g"), {"type": "custom", "name": "g"}),
    ],
)
def test_tool_choices_of_others(choice: ToolChoice, wire: Any) -> None:
    asked = ChatRequest(
        model="m", messages=(), tools=(Tool("f"), Tool("g", kind="custom")), tool_choice=choice
    )
    assert encoded(asked)["tool_choice"] == wire


@pytest.mark.parametrize(
    "choice",
    [
        "auto",
        {"type": "function", "name": "f"},
        {"type": "web_search_preview"},
        {"type": "mcp", "server_label": "l", "name": "n"},
    ],
)
def test_tool_choices_come_back(choice: Any) -> None:
    assert encoded(request(tool_choice=choice))["tool_choice"] == choice


BAD: list[tuple[str, dict[str, Any]]] = [
    ("input", {"input": None}),
    ("input", {"input": []}),
    ("input", {"input": 1}),
    ("input[0]", {"input": ["x"]}),
    ("input[0].type", {"input": [{}]}),
    ("input[0].type", {"input": [{"type": 1}]}),
    ("input[0].role", {"input": [{"role": "robot", "content": "x"}]}),
    ("input[0].content", {"input": [{"role": "user"}]}),
    ("input[0].content", {"input": [{"role": "user", "content": []}]}),
    ("input[0].content", {"input": [{"role": "user", "content": 1}]}),
    ("input[0].content[0].type", {"input": [{"role": "user", "content": [{}]}]}),
    ("input[0].content[0].text", {"input": [{"role": "user", "content": [{"type": "input_text"}]}]}),
    ("input[0].call_id", {"input": [{"type": "function_call_output", "call_id": "x", "output": ""}]}),
    ("input[0].call_id", {"input": [{"type": "function_call_output", "output": ""}]}),
    ("input[0].arguments", {"input": [{"type": "function_call", "call_id": "x", "name": "f"}]}),
    ("input[0].summary", {"input": [{"type": "reasoning", "summary": "x"}]}),
    ("input[0].encrypted_content", {"input": [{"type": "reasoning", "encrypted_content": 1}]}),
    ("tools", {"tools": {}}),
    ("tools[0]", {"tools": ["x"]}),
    ("tools[0].name", {"tools": [{"type": "function"}]}),
    ("tools[0].parameters", {"tools": [{"type": "function", "name": "f", "parameters": []}]}),
    ("tool_choice", {"tool_choice": "some"}),
    ("tool_choice", {"tool_choice": 1}),
    ("tool_choice.name", {"tool_choice": {"type": "function"}}),
    ("tool_choice.mode", {"tool_choice": {"type": "allowed_tools", "mode": "x"}}),
    ("text", {"text": 1}),
    ("text.format.type", {"text": {"format": {"type": "xml"}}}),
    ("text.format.schema", {"text": {"format": {"type": "json_schema", "name": "n"}}}),
    ("text.format.schema", {"text": {"format": {"type": "json_schema", "name": "n", "schema": []}}}),
    ("reasoning.effort", {"reasoning": {"effort": 1}}),
    ("include", {"include": "x"}),
    ("include[0]", {"include": [1]}),
    ("max_output_tokens", {"max_output_tokens": -1}),
    ("max_tool_calls", {"max_tool_calls": True}),
    ("temperature", {"temperature": "hot"}),
    ("metadata", {"metadata": {"a": 1}}),
    ("store", {"store": "yes"}),
    ("background", {"background": 1}),
    ("previous_response_id", {"previous_response_id": 1}),
    ("conversation", {"conversation": 1}),
    ("stream", {"stream": "x"}),
    ("stream_options", {"stream_options": 1}),
    ("model", {"model": 1}),
    ("model", {"model": ""}),
    ("instructions", {"instructions": 1}),
]


@pytest.mark.parametrize(("param", "fields"), BAD)
def test_mistakes_name_their_field(param: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request(**fields)
    assert caught.value.param == param
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image"},
        {"type": "input_image", "image_url": "https://a.b", "file_id": "f"},
        {"type": "input_image", "image_url": "data:text/plain;base64,aGk="},
        {"type": "input_image", "image_url": "data:image/png;base64,a b"},
        {"type": "input_image", "image_url": "data:image/png,xx"},
        {"type": "input_image", "image_url": "data:image/png;base64,"},
        {"type": "input_file", "file_data": "é"},
        {"type": "input_file", "file_data": "aGk=", "file_id": "f"},
        {"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}},
    ],
)
def test_media_that_are_none(part: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages({"role": "user", "content": [part]})
    assert (caught.value.param or "").startswith("input[0].content[0]")


def test_results_of_calls_that_the_server_holds() -> None:
    item = {"type": "custom_tool_call_output", "call_id": "x", "output": ""}
    told = request(input=[item], previous_response_id="resp_0")
    assert encoded(told)["input"] == [item]
    assert request(input=None, previous_response_id="resp_0").messages == ()


def test_two_system_prompts_stay_where_they_are() -> None:
    told = request(
        instructions="a", input=[{"role": "system", "content": "b"}, {"role": "user", "content": "c"}]
    )
    assert [message.role for message in told.messages] == ["system", "system", "user"]
    wire = encoded(told)
    assert wire["instructions"] == "a"
    assert wire["input"][0] == {"type": "message", "role": "system", "content": "b"}


def test_large_requests() -> None:
    assert len(request(tools=[{"type": "function", "name": f"f{i}"} for i in range(1000)]).tools) == 1000
    image = "data:image/png;base64," + "A" * 20_000_000
    (part,) = messages({"role": "user", "content": [{"type": "input_image", "image_url": image}]})[0].parts
    assert isinstance(part, Media)
    assert part.data == "A" * 20_000_000
    with pytest.raises(InvalidRequest):
        request(input=[{"role": "user", "content": "a"}] * 20_000)
    content = [{"type": "input_text", "text": "a"}] * 9000
    with pytest.raises(InvalidRequest):
        request(input=[{"role": "user", "content": content}] * 2)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += paths(inner, (*path, key))
    return found


PATHS = paths(FIELDS)
DROP = object()


def mutated(path: tuple[Any, ...], value: object) -> dict[str, Any]:
    copy: Any = msgspec.json.decode(msgspec.json.encode(FIELDS))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if value is DROP:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return dict(copy)


@settings(max_examples=400, deadline=None, database=None)
@given(st.sampled_from(PATHS), JSON | st.just(DROP))
def test_a_mutated_request_is_read_or_refused_by_name(path: tuple[Any, ...], value: object) -> None:
    try:
        told = decode_request(msgspec.json.encode(mutated(path, value)))
    except InvalidRequest as error:
        assert error.param
        return
    body, losses = encode_request(told, profile=BREAKPOINTS)
    assert not losses
    if path[-1] not in ("filename", "strict"):  # written even where the caller left them to a default
        assert decode_request(body) == told


@settings(max_examples=150, deadline=None, database=None)
@given(st.dictionaries(st.sampled_from([*FIELDS]), JSON) | JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    try:
        decode_request(msgspec.json.encode(value))
    except InvalidRequest as error:
        assert error.message


@settings(max_examples=100, deadline=None, database=None)
@given(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=8))
def test_items_in_any_order(items: list[dict[str, Any]]) -> None:
    told = request(input=items, previous_response_id="resp_0")
    assert decode_request(msgspec.json.encode(encoded(told, profile=BREAKPOINTS))) == told
