"""Legacy Completions: requests and complete answers."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion

from headgate.core.call import Usage
from headgate.core.errors import (
    HeadgateError,
    InvalidRequest,
    StreamBroken,
    UnsupportedParameter,
    UpstreamError,
)
from headgate.core.events import Stop
from headgate.core.messages import (
    CacheHint,
    ChatRequest,
    Citation,
    Media,
    Message,
    Reasoning,
    ReasoningOptions,
    Refusal,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
)
from headgate.core.result import ChatResult, Choice
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_chat.profile import MISTRAL, OPENAI
from headgate.dialects.openai_completions import (
    OPENAI_COMPLETIONS,
    decode_request,
    decode_result,
    encode_request,
    encode_result,
)
from headgate.dialects.openai_stream_usage import UsageStripper, ask_for_usage

GIVEN = settings(max_examples=120, deadline=None, database=None)

REQUEST: dict[str, Any] = {
    "model": "m",
    "prompt": "Say this",
    "suffix": "!",
    "max_tokens": 7,
    "temperature": 0,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.1,
    "n": 2,
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "logprobs": 2,
    "echo": True,
    "stop": ["a", "b"],
    "presence_penalty": 0.1,
    "frequency_penalty": -0.1,
    "best_of": 3,
    "logit_bias": {"5": -100},
    "seed": 42,
    "user": "u",
    "repetition_penalty": 1.1,
}


def decode(**fields: Any) -> ChatRequest:
    return decode_request(json.dumps({"model": "m", "prompt": "x"} | fields).encode())


def encode(request: ChatRequest) -> dict[str, Any]:
    body, losses = encode_request(request)
    assert losses == []
    return json.loads(body)  # type: ignore[no-any-return]


def test_every_field_comes_back_as_it_was() -> None:
    assert encode(decode_request(json.dumps(REQUEST).encode())) == REQUEST


def test_neutral_meaning() -> None:
    request = decode_request(json.dumps(REQUEST).encode())
    assert request.messages == (Message("user", (Text("Say this"),)),)
    assert request.sampling == Sampling(
        max_tokens=7,
        temperature=0,
        top_p=0.5,
        top_k=3,
        min_p=0.1,
        seed=42,
        stop=("a", "b"),
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        logit_bias={"5": -100},
        n=2,
        logprobs=True,
        top_logprobs=2,
    )
    assert (request.stream, request.include_usage, request.user) == (True, True, "u")
    assert request.extensions["openai_completions"].keys() == {
        "suffix",
        "echo",
        "best_of",
        "repetition_penalty",
        "stream_options",
    }


def test_what_is_left_out_means_what_the_api_says() -> None:
    plain = decode()
    assert plain.sampling == Sampling(max_tokens=16)
    assert plain.extensions == {}
    assert decode(echo=False, best_of=1, suffix=None, logprobs=None, stream=None) == plain
    assert decode(prompt=["x"]) == plain
    assert decode(logprobs=0).sampling.logprobs is True
    assert encode(decode(logprobs=0))["logprobs"] == 0


def test_the_route_may_hold_model_and_stream() -> None:
    request = decode_request(b'{"prompt":"x"}', model="azure", stream=True)
    assert (request.model, request.stream) == ("azure", True)
    assert b'"model":"other"' in encode_request(request, model="other")[0]


@pytest.mark.parametrize("prompt", [[1, 2], [[1], [2]], [[]], ["a", "b"]])
def test_what_only_an_upstream_of_this_dialect_can_take_is_refused(prompt: Any) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        decode(prompt=prompt)
    assert (caught.value.param, caught.value.status) == ("prompt", 400)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 1}, "model"),
        ({"prompt": None}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [True]}, "prompt[0]"),
        ({"prompt": [None]}, "prompt[0]"),
        ({"suffix": 1}, "suffix"),
        ({"echo": 1}, "echo"),
        ({"best_of": 0}, "best_of"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": []}, "top_p"),
        ({"stop": ["a", 1]}, "stop[1]"),
        ({"logit_bias": {"1": "x"}}, "logit_bias"),
        ({"seed": 1.5}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"user": 1}, "user"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    assert caught.value.param == param
    assert f"'{param}'" in caught.value.message


def test_a_conversation_becomes_a_prompt_and_the_losses_are_told() -> None:
    foreign: Any = {"anthropic": {"x": 1}}
    request = ChatRequest(
        model="m",
        messages=(
            Message("system", (Text("Be brief.", cache=CacheHint()),), name="n", extensions=foreign),
            Message("user", (Text("a"), Media("image", "image/png", "AA"), Text("b", extensions=foreign))),
            Message("assistant", (Reasoning("Hm."), ToolCall("c", "f", "{}"))),
        ),
        tools=(Tool("f"),),
        tool_choice=ToolChoice("auto"),
        response_format=ResponseFormat("json_object"),
        reasoning=ReasoningOptions(effort="low"),
        parallel_tool_calls=True,
        metadata={"a": "b"},
        service_tier="flex",
        sampling=Sampling(top_k=5, logprobs=True),
        stream=True,
        include_usage=True,
        extensions=foreign,
    )
    body, losses = encode_request(request, profile=OPENAI)
    assert json.loads(body) == {
        "model": "m",
        "prompt": "Be brief.\n\nab",
        "logprobs": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert [loss.path for loss in losses] == [
        "x",
        "messages[0].x",
        "messages[0].role",
        "messages[0].name",
        "messages[0].content[0].cache_control",
        "messages[1].role",
        "messages[1].content[1]",
        "messages[1].content[2].x",
        "messages[2].role",
        "messages[2].content[0]",
        "messages[2].content[1]",
        "tools[0]",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "reasoning",
        "metadata",
        "service_tier",
        "top_k",
    ]


def test_without_any_text_there_is_no_prompt() -> None:
    request = ChatRequest(model="m", messages=(Message("user", (Media("image", url="https://x"),)),))
    with pytest.raises(InvalidRequest) as caught:
        encode_request(request)
    assert caught.value.param == "messages"


def test_a_profile_holds_here_too() -> None:
    request = decode(seed=7, user="u", stream=True, stream_options={"include_usage": True})
    body, losses = encode_request(request, profile=MISTRAL)
    assert json.loads(body) == {
        "model": "m",
        "prompt": "x",
        "max_tokens": 16,
        "random_seed": 7,
        "stream": True,
    }
    assert [loss.path for loss in losses] == ["user"]


LOGPROBS = {
    "tokens": ["He", "y"],
    "token_logprobs": [-0.5, -0.25],
    "top_logprobs": [{"He": -0.5, "Hi": -1.5}, {}],
    "text_offset": [0, 2],
}
ANSWER: dict[str, Any] = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 7,
    "model": "m",
    "system_fingerprint": "fp",
    "choices": [
        {"text": "Hey", "index": 0, "logprobs": LOGPROBS, "finish_reason": "length"},
        {"text": "You", "index": 1, "logprobs": None, "finish_reason": "stop", "stop_reason": 5},
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "queue_time": 0.5},
}


def test_an_answer_comes_back_as_it_was() -> None:
    body, losses = encode_result(decode_result(json.dumps(ANSWER).encode()), AnswerOptions())
    assert (json.loads(body), losses) == (ANSWER, [])
    Completion.model_validate(ANSWER)


def test_an_answers_neutral_meaning() -> None:
    result = decode_result(json.dumps(ANSWER).encode())
    assert (result.id, result.model, result.created, result.usage) == ("cmpl-1", "m", 7, Usage(1, 2))
    first, second = result.choices
    assert first.parts == (Text("Hey"),)
    assert first.stop == Stop("length", native="length")
    assert first.logprobs is not None
    assert first.logprobs[0] == {
        "token": "He",
        "logprob": -0.5,
        "bytes": [72, 101],
        "top_logprobs": [
            {"token": "He", "logprob": -0.5, "bytes": [72, 101]},
            {"token": "Hi", "logprob": -1.5, "bytes": [72, 105]},
        ],
    }
    assert second == Choice(1, (Text("You"),), Stop("stop", 1, native="stop"))


def test_the_callers_own_names() -> None:
    result = decode_result(json.dumps(ANSWER).encode())
    told = json.loads(encode_result(result, AnswerOptions(id="i", created=9, model="public"))[0])
    assert (told["id"], told["created"], told["model"]) == ("i", 9, "public")


def test_what_an_answer_has_no_place_for_is_reported() -> None:
    parts = (Reasoning("Hm."), Text("a", (Citation("url"),)), Refusal("No."), ToolCall("c", "f", "{}"))
    body, losses = encode_result(
        ChatResult("i", "m", 1, (Choice(0, parts, Stop("refusal")),)), AnswerOptions()
    )
    told = json.loads(body)
    assert told["choices"] == [
        {"text": "aNo.", "index": 0, "logprobs": None, "finish_reason": "content_filter"}
    ]
    assert "usage" not in told
    assert [loss.path for loss in losses] == [
        "choices[0].parts[0]",
        "choices[0].parts[1].citations",
        "choices[0].parts[2]",
        "choices[0].parts[3]",
        "choices[0].stop",
    ]


@pytest.mark.parametrize(
    ("stop", "word"),
    [("stop", "stop"), ("length", "length"), ("context_length", "length"), ("tool_calls", "stop")],
)
def test_finish_reasons(stop: Any, word: str) -> None:
    result = ChatResult("i", "m", 1, (Choice(0, (Text("a"),), Stop(stop)),))
    assert json.loads(encode_result(result, AnswerOptions())[0])["choices"][0]["finish_reason"] == word


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", StreamBroken),
        (b"{", StreamBroken),
        (b"[]", StreamBroken),
        (b'{"choices":3}', StreamBroken),
        (b"[" * 100_000, StreamBroken),
        (b'{"error":{"message":"boom"}}', UpstreamError),
    ],
)
def test_a_garbled_answer_is_an_upstreams_failure(body: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        decode_result(body)


def test_the_record() -> None:
    assert OPENAI_COMPLETIONS.path("m", True) == "/completions"
    assert OPENAI_COMPLETIONS.name == "openai_completions"
    assert OPENAI_COMPLETIONS.ask_for_usage is ask_for_usage
    assert OPENAI_COMPLETIONS.strip_usage is UsageStripper


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "index", "logprobs", "tokens", "top_logprobs", "choices", "x"]), inner
        )
    ),
    max_leaves=10,
)


@GIVEN
@given(json_values, st.sampled_from([*REQUEST]))
def test_any_field_is_read_or_named(value: Any, key: str) -> None:
    try:
        request = decode_request(json.dumps(REQUEST | {key: value}).encode())
    except InvalidRequest as error:
        assert error.param
    else:
        assert decode_request(encode_request(request)[0]) == request


@GIVEN
@given(st.binary(max_size=50))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        decode_request(body)
    except HeadgateError as error:
        assert error.status == 400


@GIVEN
@given(json_values, st.lists(json_values, max_size=3))
def test_any_answer_is_read_or_refused(value: Any, choices: list[Any]) -> None:
    for each in (value, {"choices": choices}):
        with contextlib.suppress(StreamBroken, UpstreamError):
            encode_result(decode_result(json.dumps(each).encode()), AnswerOptions())
