"""Any request: nothing but InvalidRequest is raised, and the same dialect loses nothing."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.errors import InvalidRequest
from headgate.core.messages import (
    CacheHint,
    ChatRequest,
    Media,
    Message,
    Opaque,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from headgate.dialects.gemini import GEMINI_COUNT, GEMINI_EMBED_BATCH, decode_request, encode_request
from headgate.dialects.gemini.schemas import from_subset, to_subset
from tests.unit.gemini.test_answers import JSON_VALUES, mutated
from tests.unit.gemini.test_encoding import FULL

GIVEN = settings(max_examples=200, deadline=None, database=None)


def check(body: bytes) -> None:
    """What is taken once is taken again in its normal form, without loss."""
    for dialect in (GEMINI_COUNT, GEMINI_EMBED_BATCH):
        with contextlib.suppress(InvalidRequest):
            dialect.decode_request(body, model="m")
    try:
        request = decode_request(body, model="m")
    except InvalidRequest as error:
        assert error.status == 400 and error.message
        return
    try:
        written, losses = encode_request(request)
    except InvalidRequest as error:
        assert error.param
        return
    assert losses == []
    assert decode_request(written, model="m") == request


@GIVEN
@given(st.lists(st.integers(0, 20), min_size=1, max_size=9), JSON_VALUES)
def test_mutated_requests(path: list[int], patch: Any) -> None:
    check(json.dumps(mutated(FULL, path, patch)).encode())


@GIVEN
@given(JSON_VALUES | st.dictionaries(st.sampled_from([*FULL, "model"]), JSON_VALUES))
def test_arbitrary_json(value: Any) -> None:
    check(json.dumps(value).encode())


@GIVEN
@given(st.binary(max_size=100))
def test_arbitrary_bytes(body: bytes) -> None:
    check(body)


SUBSETS = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["STRING", "NUMBER", "INTEGER", "BOOLEAN"])},
        optional={
            "nullable": st.just(True),
            "description": st.text(max_size=3),
            "enum": st.lists(st.text(max_size=3), min_size=1, max_size=2),
            "minimum": st.integers(0, 9),
            "maxLength": st.integers(0, 9),
            "default": JSON_VALUES,
        },
    ),
    lambda inner: (
        st.fixed_dictionaries({"type": st.just("ARRAY"), "items": inner})
        | st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries(
            {
                "type": st.just("OBJECT"),
                "properties": st.dictionaries(st.text(min_size=1, max_size=3), inner, min_size=1, max_size=2),
            },
            optional={"required": st.lists(st.text(max_size=3), min_size=1, max_size=2)},
        )
    ),
    max_leaves=5,
)


@GIVEN
@given(SUBSETS)
def test_the_subset_of_schemas_goes_through_json_schema_unchanged(schema: dict[str, Any]) -> None:
    assert to_subset(from_subset(schema, "parameters")) == schema


TEXTS = st.text(max_size=5)
HINTS = st.none() | st.builds(CacheHint, st.none() | st.just("1h"))
ORIGINS = st.sampled_from([None, "gemini", "anthropic", "openai_responses"])
PARTS = st.one_of(
    st.builds(Text, TEXTS, cache=HINTS),
    st.builds(Media, st.sampled_from(["image", "audio", "video", "file"]), data=st.just("AAAA"), cache=HINTS),
    st.builds(Media, st.just("image"), url=st.sampled_from(["https://x/y.png", "http://[", "gs://b"])),
    st.builds(Media, st.just("file"), file_id=st.just("f"), detail=st.just("high")),
    st.builds(
        Reasoning,
        TEXTS,
        signature=st.none() | st.just("AAAA"),
        data=st.none() | st.just("d"),
        redacted=st.booleans(),
        origin=ORIGINS,
    ),
    st.builds(Refusal, TEXTS),
    st.builds(
        ToolCall,
        st.sampled_from("abc"),
        st.just("f"),
        TEXTS | st.just('{"x":1}'),
        kind=st.sampled_from(["function", "custom"]),
    ),
    st.builds(
        ToolResult,
        st.sampled_from("abc"),
        st.lists(st.builds(Text, TEXTS) | st.just(Opaque("anthropic", 1)), max_size=2).map(tuple),
        is_error=st.booleans(),
    ),
    st.builds(Opaque, st.sampled_from(["gemini", "anthropic"]), JSON_VALUES),
)
MESSAGES = st.builds(
    Message,
    st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
    st.lists(PARTS, max_size=4).map(tuple),
    name=st.none() | st.just("n"),
)


@GIVEN
@given(st.lists(MESSAGES, min_size=1, max_size=5))
def test_any_conversation_is_written_or_refused(messages: list[Message]) -> None:
    request = ChatRequest(model="gemini-3-pro", messages=tuple(messages))
    try:
        body, losses = encode_request(request)
    except InvalidRequest as error:
        assert error.param is not None
        assert error.param == "messages" or error.param.startswith("messages[")
        return
    wire = json.loads(body)
    assert all(content["parts"] and content["role"] in ("user", "model") for content in wire["contents"])
    kinds = {type(part) for message in messages for part in message.parts}
    assert losses or not kinds & {Refusal}
