"""Responses requests with mistakes, and any at all: read, or refused by the name of the field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import InvalidRequest
from headgate.core.messages import (
    Media,
)
from headgate.dialects.openai_responses import decode_request, encode_request
from tests.unit.responses.asked import (
    BREAKPOINTS,
    FIELDS,
    ITEMS,
    encoded,
    messages,
    request,
)

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
    ("text.verbosity", {"text": {"verbosity": 1}}),
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
        {"type": "input_image", "image_url": "data:image/png;base64,aGkgdGhlcmU="},
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGg"},
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
    data = "iVBORw0KGgoA" + "A" * 20_000_000
    image = f"data:image/png;base64,{data}"
    (part,) = messages({"role": "user", "content": [{"type": "input_image", "image_url": image}]})[0].parts
    assert isinstance(part, Media)
    assert part.data == data
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
    assert [loss.path for loss in losses] in ([], ["stream_options.include_obfuscation"])
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
