"""InvokeModel with Command R's bodies: history, calls without ids, flat parameters, citations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.errors import InvalidRequest, StreamBroken, UpstreamError
from headgate.core.events import PartCited
from headgate.core.fold import fold, unfold
from headgate.core.messages import (
    ChatRequest,
    Citation,
    Media,
    Message,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from headgate.dialects.dialect import AnswerOptions
from tests.unit.bedrock.invoke_cases import METRICS, chunk, decode, encode, record

COHERE = record("invoke_cohere")
TOOL = {
    "name": "weather",
    "description": "Weather",
    "parameter_definitions": {
        "city": {"type": "str", "description": "Where", "required": True},
        "days": {"type": "int"},
    },
}
PARIS = {"name": "weather", "parameters": {"city": "Paris"}}
OSLO = {"name": "weather", "parameters": {"city": "Oslo"}}
BODY: dict[str, Any] = {
    "message": "And in Oslo?",
    "preamble": "Be brief.",
    "chat_history": [
        {"role": "USER", "message": "Weather in Paris?"},
        {"role": "CHATBOT", "message": "I look.", "tool_calls": [PARIS]},
        {"role": "TOOL", "tool_results": [{"call": PARIS, "outputs": [{"text": "mild"}]}]},
        {"role": "CHATBOT", "message": "Mild."},
    ],
    "tool_results": [{"call": OSLO, "outputs": [{"degrees": -3}, {"text": "cold"}]}],
    "tools": [TOOL],
    "documents": [{"title": "t", "snippet": "s"}],
    "max_tokens": 9,
    "temperature": 0.5,
    "p": 0.9,
    "k": 7,
    "seed": 1,
    "stop_sequences": ["x"],
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
}


def decoded(body: dict[str, Any], stream: bool = False) -> ChatRequest:
    return COHERE.decode_request(json.dumps(body).encode(), model="m", stream=stream)


def encoded(asked: ChatRequest) -> tuple[dict[str, Any], list[str]]:
    body, losses = COHERE.encode_request(asked)
    return json.loads(body), [loss.path for loss in losses]


def request(*messages: Message, **more: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=messages, **more)


USER = Message("user", (Text("hi"),))


def test_a_request_is_read() -> None:
    asked = decoded(BODY, stream=True)
    paris, oslo = (
        ToolCall("call_0", "weather", '{"city":"Paris"}'),
        ToolCall("call_2", "weather", '{"city":"Oslo"}'),
    )
    assert [(message.role, message.parts) for message in asked.messages] == [
        ("system", (Text("Be brief."),)),
        ("user", (Text("Weather in Paris?"),)),
        ("assistant", (Text("I look."), paris)),
        ("tool", (ToolResult("call_0", (Text("mild"),)),)),
        ("assistant", (Text("Mild."),)),
        ("user", (Text("And in Oslo?"),)),
        ("assistant", (oslo,)),
        ("tool", (ToolResult("call_2", (Text('{"degrees":-3}'), Text("cold"))),)),
    ]
    assert asked.tools == (
        Tool(
            "weather",
            "Weather",
            {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where"},
                    "days": {"type": "integer"},
                },
                "required": ["city"],
            },
        ),
    )
    assert asked.sampling == Sampling(
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        seed=1,
        stop=("x",),
        frequency_penalty=0.1,
        presence_penalty=0.2,
    )
    assert asked.extensions == {"invoke_cohere": {"documents": BODY["documents"]}}
    assert [message.place(0) for message in asked.messages[-3:]] == [
        "message",
        "tool_results",
        "tool_results",
    ]


def test_a_request_comes_back() -> None:
    written, losses = encoded(decoded(BODY))
    assert losses == []
    assert written == BODY


def test_results_for_calls_of_the_history() -> None:
    body = {
        "message": "",
        "chat_history": [
            {"role": "USER", "message": "Weather?"},
            {"role": "CHATBOT", "message": "", "tool_calls": [PARIS, OSLO, PARIS]},
        ],
        "tool_results": [{"call": call, "outputs": [{"text": "x"}]} for call in (OSLO, PARIS, PARIS)],
        "tools": [TOOL],
    }
    asked = decoded(body)
    assert [message.role for message in asked.messages] == ["user", "assistant", "tool"]
    assert [part.call_id for part in asked.messages[2].parts if isinstance(part, ToolResult)] == [
        *("call_1", "call_0", "call_2")
    ]
    written, losses = encoded(asked)
    assert losses == []
    assert written["message"] == "Weather?"
    assert written["tool_results"] == body["tool_results"]
    assert "chat_history" not in written


def test_what_has_no_place_is_reported() -> None:
    schema: Any = {"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]}}}
    asked = request(
        USER,
        Message("user", (Text("look"), Media("image", "image/png", "aGk=")), "ann"),
        Message("assistant", (Text("I will."), ToolCall("c", "f", "no json"))),
        Message("tool", (ToolResult("c", (Text("x"), Media("image", "image/png", "aGk=")), True),)),
        Message("system", (Text("late"),)),
        tools=(Tool("f", parameters=schema, strict=True), Tool("w", kind="search_v1")),
        tool_choice=ToolChoice("required"),
        parallel_tool_calls=False,
        sampling=Sampling(n=2, min_p=0.5),
        user="u",
    )
    written, losses = encoded(asked)
    assert set(losses) == {
        *("messages[1].name", "messages[1].content[1]", "messages[2].content[0]", "messages[4]"),
        *("messages[2].content[1].arguments", "messages[3].content[0].content[1]"),
        *("messages[3].content[0].is_error", "tools[0].parameters", "tools[0].strict", "tools[1]"),
        *("tool_choice", "parallel_tool_calls", "n", "min_p", "user"),
    }
    assert written["message"] == "look"
    assert written["chat_history"][-1] == {"role": "SYSTEM", "message": "late"}
    assert written["tool_results"] == [
        {"call": {"name": "f", "parameters": {"input": "no json"}}, "outputs": [{"text": "x"}]}
    ]
    without = encoded(request(USER, tools=(Tool("f"),), tool_choice=ToolChoice("none")))
    assert without == ({"message": "hi"}, ["tool_choice"])
    assert encoded(request(USER, tools=(Tool("f"),), tool_choice=ToolChoice("auto")))[1] == []


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ((USER, Message("assistant", (Text("a"),))), "messages[1]"),
        ((Message("system", (Text("a"),)),), "messages"),
        ((USER, Message("tool", (ToolResult("c", (Text("x"),)),))), "messages[1].content[0]"),
        ((), "messages"),
    ],
)
def test_what_the_model_can_not_be_asked(messages: tuple[Message, ...], param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        encoded(request(*messages))
    assert raised.value.param == param


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"message": None}, "message"),
        ({"message": "", "tool_results": None}, "message"),
        ({"chat_history": [{"role": "user", "message": "a"}]}, "chat_history[0].role"),
        ({"chat_history": [{"role": "USER"}]}, "chat_history[0].message"),
        ({"chat_history": [{"role": "TOOL"}]}, "chat_history[0].tool_results"),
        ({"chat_history": [{"role": "CHATBOT", "tool_calls": [{}]}]}, "chat_history[0].tool_calls[0].name"),
        ({"tool_results": [{"outputs": []}]}, "tool_results[0].call"),
        ({"tool_results": [{"call": PARIS}]}, "tool_results[0].outputs"),
        ({"tool_results": [{"call": PARIS, "outputs": ["a"]}]}, "tool_results[0].outputs[0]"),
        ({"tools": [{"name": "f", "parameter_definitions": {"a": 1}}]}, "tools[0].parameter_definitions.a"),
        ({"k": 0.5}, "k"),
        ({"stop_sequences": [1]}, "stop_sequences[0]"),
        ({"preamble": 1}, "preamble"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        decoded(BODY | change)
    assert raised.value.param == param


def test_types_of_its_own_come_back() -> None:
    tool = {"name": "f", "description": "", "parameter_definitions": {"a": {"type": "List[str]", "new": 1}}}
    asked = decoded({"message": "hi", "tools": [tool]})
    assert asked.tools[0].parameters == {"type": "object", "properties": {"a": {}}}
    assert encoded(asked)[0]["tools"] == [tool]


CITED: dict[str, Any] = {"start": 0, "end": 4, "text": "Mild", "document_ids": ["doc_0"]}
STREAM: list[dict[str, Any]] = [
    {"is_finished": False, "event_type": "stream-start", "generation_id": "g1"},
    {"is_finished": False, "event_type": "text-generation", "text": "Mild"},
    {"is_finished": False, "event_type": "search-results", "documents": []},
    {"is_finished": False, "event_type": "citation-generation", "citations": [CITED]},
    {"is_finished": False, "event_type": "tool-calls-generation", "tool_calls": [PARIS, OSLO]},
    {
        "is_finished": True,
        "event_type": "stream-end",
        "finish_reason": "COMPLETE",
        "response": {
            "text": "Mild",
            "generation_id": "g1",
            "citations": [CITED],
            "tool_calls": [PARIS, OSLO],
            "finish_reason": "COMPLETE",
        },
        **METRICS,
    },
]
WHOLE = STREAM[-1]["response"] | {"meta": {"tokens": {"input_tokens": 5, "output_tokens": 2}}}


def test_calls_and_citations_of_an_answer() -> None:
    streamed = fold(decode("invoke_cohere", b"".join(map(chunk, STREAM))))
    whole = COHERE.decode_result(json.dumps(WHOLE).encode())
    assert streamed == whole
    citation = Citation("document", start=0, end=4, extensions={"invoke_cohere": CITED})
    assert whole.choices[0].parts == (
        Text("Mild", (citation,)),
        ToolCall("call_g1_0", "weather", '{"city":"Paris"}', extensions={"invoke_cohere": {}}),
        ToolCall("call_g1_1", "weather", '{"city":"Oslo"}', extensions={"invoke_cohere": {}}),
    )
    assert whole.choices[0].stop.reason == "tool_calls"
    body, losses = COHERE.encode_result(whole, AnswerOptions())
    assert losses == []
    again = COHERE.decode_result(body)
    assert (again.choices, again.usage) == (whole.choices, whole.usage)
    wire, lost = encode("invoke_cohere", unfold(whole))
    assert lost == []
    assert fold(decode("invoke_cohere", wire)).choices == whole.choices


def test_a_plan_is_told_as_text() -> None:
    events = [
        STREAM[0],
        {"event_type": "tool-calls-chunk", "text": "I will"},
        {"event_type": "tool-calls-chunk", "text": " look."},
        {"event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0, "name": "weather"}},
        {"event_type": "tool-calls-generation", "text": "I will look.", "tool_calls": [PARIS]},
        STREAM[-1],
    ]
    parts = fold(decode("invoke_cohere", b"".join(map(chunk, events)))).choices[0].parts
    assert parts[0] == Text("I will look.")
    assert len(parts) == 2


def test_a_citation_from_elsewhere_needs_a_place() -> None:
    placed = Citation("url", url="https://example.com", start=2, end=4)
    adrift = Citation("url", url="https://example.com")
    events = [*unfold(COHERE.decode_result(json.dumps({**WHOLE, "citations": None}).encode()))]
    events[3:3] = [PartCited(0, placed), PartCited(0, adrift)]
    wire, losses = encode("invoke_cohere", events, "sse")
    assert b'"citations":[{"start":2,"end":4,"text":"ld","document_ids":[]}]' in wire
    assert set(losses) == {"choices[0].parts[0].citations.url", "choices[0].parts[0].citations"}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"text":1}', StreamBroken),
        (b"[]", StreamBroken),
        (b"{", StreamBroken),
        (b'{"message":"no"}', UpstreamError),
    ],
)
def test_what_is_no_answer(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        COHERE.decode_result(body)
