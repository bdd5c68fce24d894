"""Signed and encrypted reasoning through callers of Chat Completions, and back to who made it."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming._deltas import accumulate_delta

from headgate.core.errors import InvalidRequest
from headgate.core.events import ChatEvent, Finished, PartEnded, PartStarted, Started, Stop
from headgate.core.fold import fold, unfold
from headgate.core.messages import ChatRequest, Extensions, Message, Part, Reasoning, Text, ToolCall
from headgate.core.result import ChatResult, Choice
from headgate.dialects import openai_responses, sse
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_chat import (
    OPENAI,
    Profile,
    StreamDecoder,
    StreamEncoder,
    decode_request,
    decode_result,
    encode_request,
    encode_result,
)
from headgate.dialects.openai_chat.profile import COMPATIBLE, OPENROUTER
from headgate.dialects.sealed import seal
from tests.unit.openai_chunks import ANSWER, DONE, choice, chunk, decode

GIVEN = settings(max_examples=150, deadline=None, database=None)
CLAUDE = {"format": "anthropic-claude-v1", "index": 0}


def result(*parts: Part) -> ChatResult:
    return ChatResult("i", "m", 1, (Choice(0, parts, Stop("stop", native="stop")),))


def message_of(answer: ChatResult) -> dict[str, Any]:
    """The message as a caller gets it, in one piece."""
    body, losses = encode_result(answer, AnswerOptions())
    assert losses == []
    message: dict[str, Any] = json.loads(body)["choices"][0]["message"]
    return message


def deltas_of(answer: ChatResult) -> list[dict[str, Any]]:
    """The deltas of the same answer as a stream."""
    encoder = StreamEncoder(AnswerOptions())
    wire = b"".join(encoder.encode(event) for event in unfold(answer))
    assert encoder.losses == []
    events = sse.Decoder().feed(wire)
    return [json.loads(event.data)["choices"][0]["delta"] for event in events if event.data != b"[DONE]"]


def accumulated(deltas: list[dict[str, Any]]) -> dict[Any, Any]:
    """As OpenAI's own client puts deltas together: lists by the index of their entries."""
    whole: dict[Any, Any] = {}
    each: dict[object, object]
    for each in copy.deepcopy(deltas):  # type: ignore[assignment]
        whole = accumulate_delta(whole, each)
    return whole


def collected(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """As a simple client does it: details are appended as they come."""
    whole = accumulated([{k: v for k, v in delta.items() if k != "reasoning_details"} for delta in deltas])
    details = [entry for delta in deltas for entry in delta.get("reasoning_details", ())]
    return whole | ({"reasoning_details": details} if details else {})


def next_turn(message: dict[str, Any]) -> tuple[Part, ...]:
    """What the message means when the caller sends it back."""
    message = {key: value for key, value in message.items() if value is not None}
    for call in message.get("tool_calls", ()):
        call.pop("index", None)
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}, {"content": "", **message}]}
    parts = decode_request(json.dumps(body).encode()).messages[1].parts
    return tuple(part for part in parts if part != Text(""))


def every_way(*parts: Part) -> list[tuple[Part, ...]]:
    answer = result(*parts)
    deltas = deltas_of(answer)
    return [next_turn(message) for message in (message_of(answer), accumulated(deltas), collected(deltas))]


SIGNED = Reasoning("Hm. ", "sig1", origin="anthropic")


@pytest.mark.parametrize(
    "parts",
    [
        (SIGNED, Text("a")),
        (SIGNED, Reasoning("Well.", "sig2", origin="anthropic"), Text("a")),
        (Reasoning(data="enc", redacted=True, origin="anthropic"), SIGNED, Text("a")),
        (Reasoning("", "sig", origin="anthropic"), Text("a")),
        (Reasoning("sum", data="enc", origin="openai_responses"), Text("a")),
        (Reasoning(data="enc", origin="openai_responses"), Text("a")),
        (
            Reasoning("one", origin="openai_responses", extensions={"openai_responses": {"id": "rs"}}),
            Reasoning(
                "two",
                data="enc",
                origin="openai_responses",
                extensions={"openai_responses": {"continued": True}},
            ),
        ),
        (Reasoning(signature="g1", origin="gemini"), ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}")),
        (
            Reasoning("Hm.", origin="gemini"),
            Reasoning(signature="g1", origin="gemini"),
            ToolCall("a", "f", "{}"),
            Reasoning(signature="g2", origin="gemini"),
            ToolCall("b", "g", "{}"),
        ),
        (Reasoning(signature="g", origin="gemini"), Text("a")),
        (SIGNED, Reasoning("", "s", origin="converse"), ToolCall("a", "f", "{}")),
        (Reasoning("just thoughts"), Text("a")),
    ],
)
def test_what_others_made_comes_back_as_it_was(parts: tuple[Part, ...]) -> None:
    for back in every_way(*parts):
        assert back == parts


origins = st.sampled_from(["anthropic", "gemini", "openai_responses"])
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
marks = st.dictionaries(st.sampled_from(["id", "status", "place"]), words, max_size=2)


@st.composite
def thoughts(draw: st.DrawFn) -> list[Part]:
    found: list[Part] = []
    for _ in range(draw(st.integers(0, 4))):
        origin = draw(origins)
        kept = draw(marks)
        extensions: Any = {origin: kept} if kept else {}
        match draw(st.sampled_from(["signed", "redacted", "sealed", "both", "bare"])):
            case "signed":
                part = Reasoning(draw(words), draw(words), origin=origin, extensions=extensions)
            case "redacted":
                part = Reasoning(data=draw(words), redacted=True, origin=origin, extensions=extensions)
            case "sealed":
                part = Reasoning(data=draw(words), origin=origin, extensions=extensions)
            case "both":
                part = Reasoning(draw(words), data=draw(words), origin=origin, extensions=extensions)
            case _:
                part = Reasoning(draw(words), origin=origin, extensions=extensions)
        found.append(part)
    if draw(st.booleans()):
        found.append(Text(draw(words)))
    for number in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            found.append(Reasoning(signature=draw(words), origin="gemini"))
        found.append(ToolCall(f"call{number}", "f", "{}"))
    return found


@GIVEN
@given(thoughts())
def test_any_thoughts_come_back(parts: list[Part]) -> None:
    if not any(isinstance(part, Text | ToolCall) for part in parts):
        parts = [*parts, Text("a")]
    for back in every_way(*parts):
        assert back == tuple(parts)


def test_what_a_caller_sees() -> None:
    message = message_of(result(SIGNED, Reasoning("", "g", origin="gemini"), ToolCall("a", "f", "{}")))
    assert message["reasoning_content"] == "Hm. "
    head = {"format": "unknown", "index": 0, "origin": "anthropic"}
    call_head = {"format": "unknown", "index": 1, "origin": "gemini", "id": "a"}
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", **head, "text": "Hm. ", "signature": seal("anthropic", "sig1")},
        {"type": "reasoning.encrypted", **call_head, "data": seal("gemini", "s:g")},
    ]
    assert message["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "g"}}


SUMMARIES = [{"type": "summary_text", "text": text} for text in ("**One**\n\nFirst.", "Second.\n", "Third.")]


def test_summaries_are_paragraphs_of_the_plain_text() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": SUMMARIES, "encrypted_content": "gAAA"}
    content = [{"type": "output_text", "text": "So.", "annotations": []}]
    said = {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": content}
    response = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
    answer = openai_responses.decode_result(json.dumps({**response, "output": [item, said]}).encode())
    plain = "**One**\n\nFirst.\n\nSecond.\n\nThird."
    told = json.loads(encode_result(answer, AnswerOptions())[0])["choices"][0]["message"]
    assert told["reasoning_content"] == plain
    encoder = StreamEncoder(AnswerOptions())
    wire = b"".join(encoder.encode(event) for event in unfold(answer))
    streamed = accumulated([json.loads(each.data)["choices"][0]["delta"] for each in events_of(wire)])
    assert streamed["reasoning_content"] == plain
    for message in (told, streamed):
        assert [entry.get("text", "") for entry in message["reasoning_details"]] == [
            *(entry["text"] for entry in SUMMARIES),
            "",
        ]
        parts = next_turn(message)
        body, losses = openai_responses.encode_request(
            ChatRequest(model="gpt-5", messages=(Message("assistant", parts),))
        )
        assert losses == []
        back = json.loads(body)["input"][0]
        assert (back["summary"], back["encrypted_content"]) == (SUMMARIES, "gAAA")
    read = [part.text for part in fold(decode(wire)).choices[0].parts if isinstance(part, Reasoning)]
    assert read == [*(entry["text"] for entry in SUMMARIES), ""]


def test_thoughts_of_another_upstream_are_paragraphs_when_they_go_back_as_plain_text() -> None:
    thoughts = (Reasoning("a", origin="anthropic"), Reasoning("b", origin="anthropic"), Text("x"))
    request = ChatRequest(model="m", messages=(Message("assistant", thoughts),))
    told = json.loads(encode_request(request, profile=COMPATIBLE)[0])["messages"][0]
    assert told["reasoning_content"] == "a\n\nb"


def test_thoughts_of_this_dialect_are_pieces_of_one_text() -> None:
    own: Extensions = {"openai_chat": {"type": "reasoning.text", "index": 0}}
    parts = (Reasoning("a", origin="openai_chat", extensions=own), Text("x"), Reasoning("b"))
    assert message_of(result(*parts))["reasoning_content"] == "ab"
    assert accumulated(deltas_of(result(*parts)))["reasoning_content"] == "ab"


def events_of(wire: bytes) -> list[sse.ServerSentEvent]:
    return [event for event in sse.Decoder().feed(wire) if event.data != b"[DONE]"]


def test_plain_thoughts_need_no_details() -> None:
    assert "reasoning_details" not in message_of(result(Reasoning("Hm."), Text("a")))
    assert deltas_of(result(Reasoning("Hm."), Text("a")))[1] == {"reasoning_content": "Hm."}


def test_fragments_share_an_index_and_name_their_format_once() -> None:
    encoder = StreamEncoder(AnswerOptions())
    events = unfold(result(SIGNED))
    head, opened, text, signature, ended, finished = events
    assert isinstance(text, type(events[2]))
    wire = b"".join(encoder.encode(event) for event in (head, opened, text, text, signature, ended, finished))
    details = [
        json.loads(event.data)["choices"][0]["delta"].get("reasoning_details")
        for event in sse.Decoder().feed(wire)[1:-2]
    ]
    again = {"type": "reasoning.text", "index": 0}
    assert details == [
        [again | {"format": "unknown", "origin": "anthropic", "text": "Hm. "}],
        [again | {"text": "Hm. "}],
        [again | {"signature": seal("anthropic", "sig1")}],
    ]


def test_either_place_of_a_calls_signature_will_do() -> None:
    parts = (Reasoning(signature="g", origin="gemini"), ToolCall("a", "f", "{}"))
    message = message_of(result(*parts))
    without_details = {key: value for key, value in message.items() if key != "reasoning_details"}
    assert next_turn(copy.deepcopy(without_details)) == parts
    message["tool_calls"][0].pop("extra_content")
    assert next_turn(message) == parts


def test_the_text_of_a_lone_signature_may_stand_in_the_plain_field() -> None:
    message = message_of(result(SIGNED, Text("a")))
    message["reasoning_details"][0].pop("text")
    assert next_turn(message) == (SIGNED, Text("a"))


def test_plain_thoughts_that_differ_from_the_details_are_kept() -> None:
    message = {
        "role": "assistant",
        "reasoning_content": "other",
        "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}],
        "content": "a",
    }
    body = json.dumps({"model": "m", "messages": [message]}).encode()
    assert json.loads(encode_request(decode_request(body))[0])["messages"] == [message]


DETAILS: list[dict[str, Any]] = [
    {"type": "reasoning.text", "text": "Hm.", "signature": "raw", **CLAUDE},
    {"type": "reasoning.summary", "summary": "Well.", "format": "openai-responses-v1", "index": 1},
    {"type": "reasoning.encrypted", "data": "enc", "id": "rs_1", "format": "openai-responses-v1", "index": 2},
    {"type": "reasoning.encrypted", "data": "sig", "id": "call_1", "format": "google-gemini-v1"},
    {"type": "reasoning.server_tool_call", "tool": "x"},
]
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_an_upstreams_details_go_through_a_caller_and_back_unchanged() -> None:
    message = {
        "role": "assistant",
        "reasoning": "Hm.Well.",
        "reasoning_details": DETAILS,
        "content": "a",
        "tool_calls": [CALL],
    }
    wire = ANSWER | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    told = message_of(decode_result(json.dumps(wire).encode()))
    assert (told["reasoning_content"], told["reasoning_details"]) == ("Hm.Well.", DETAILS)
    request = {"model": "m", "messages": [{key: told[key] for key in told if told[key] is not None}]}
    body, losses = encode_request(decode_request(json.dumps(request).encode()), profile=OPENROUTER)
    (sent,) = json.loads(body)["messages"]
    assert losses == []
    assert sent.pop("reasoning") == "Hm.Well."
    details = sorted(sent.pop("reasoning_details"), key=by_content)
    assert details == sorted(DETAILS, key=by_content)
    assert sent == {"role": "assistant", "content": "a", "tool_calls": [CALL]}


def by_content(detail: dict[str, Any]) -> str:
    return json.dumps(detail, sort_keys=True)


FRAGMENTS: list[dict[str, Any]] = [
    {"reasoning": "", "reasoning_details": []},
    {"reasoning_details": [{"type": "reasoning.text", "text": "", "signature": "", **CLAUDE}]},
    {"reasoning": "H", "reasoning_details": [{"type": "reasoning.text", "text": "H", **CLAUDE}]},
    {"reasoning": "m.", "reasoning_details": [{"type": "reasoning.text", "text": "m.", **CLAUDE}]},
    {"reasoning_details": [{"type": "reasoning.text", "signature": "raw", **CLAUDE}]},
    {"reasoning_details": [DETAILS[2], DETAILS[4]]},
    {"content": "a"},
    {"tool_calls": [{**CALL, "index": 0, "extra_content": {"google": {"thought_signature": "g"}, "x": 1}}]},
]


def test_an_upstreams_stream_of_details() -> None:
    wire = b"".join(chunk(choice(delta)) for delta in FRAGMENTS) + chunk(choice({}, "stop")) + DONE
    expected = decode(wire)
    for cut in range(len(wire)):
        assert decode(wire, cut) == expected
    one_by_one = StreamDecoder()
    events = [event for line in wire.split(b"\n\n") for event in one_by_one.feed(line + b"\n\n")]
    assert events + one_by_one.end() == expected
    kept = {key: value for key, value in DETAILS[2].items() if key != "data"}
    text: Any = {"type": "reasoning.text", **CLAUDE}
    assert fold(expected).choices[0].parts == (
        Reasoning("Hm.", "raw", origin="openai_chat", extensions={"openai_chat": text}),
        Reasoning(data="enc", redacted=True, origin="openai_chat", extensions={"openai_chat": kept}),
        Reasoning(extensions={"openai_chat": {"detail": DETAILS[4]}}),
        Text("a"),
        Reasoning(signature="g", origin="gemini"),
        ToolCall("call_1", "f", "{}", extensions={"openai_chat": {"extra_content": {"x": 1}}}),
    )


def thoughts_first(answer: ChatResult) -> list[Part]:
    return sorted(
        answer.choices[0].parts,
        key=lambda part: not (isinstance(part, Reasoning) and part.origin == "openai_chat"),
    )


@GIVEN
@given(thoughts())
def test_a_stream_folds_to_the_plain_answer(parts: list[Part]) -> None:
    """Both as this dialect's own decoder reads them, with what is sealed in them as opaque as any other. A
    message has no order of thoughts and text, so that only a stream can tell it."""
    answer = result(*parts)
    encoder = StreamEncoder(AnswerOptions())
    events: list[ChatEvent] = unfold(answer)
    whole = fold(decode(b"".join(encoder.encode(event) for event in events)))
    plain = decode_result(encode_result(answer, AnswerOptions())[0])
    assert thoughts_first(whole) == thoughts_first(plain)


def test_a_waiting_signature_comes_out_at_the_end() -> None:
    encoder = StreamEncoder(AnswerOptions())
    events = unfold(result(Text("a"), Reasoning(signature="g", origin="gemini")))
    wire = b"".join(encoder.encode(event) for event in events)
    assert seal("gemini", "g").encode() in wire
    assert isinstance(events[0], Started) and isinstance(events[-1], Finished)


@pytest.mark.parametrize(
    ("profile", "sent", "lost"),
    [
        (COMPATIBLE, ["reasoning_content", "reasoning_details", "extra_content"], [1]),
        (OPENROUTER, ["reasoning", "reasoning_details"], [1, 3]),
        (Profile(reasoning_details=False), ["reasoning_content", "extra_content"], [0, 1]),
        (OPENAI, [], [0, 0, 1, 3]),
    ],
)
def test_only_who_made_it_gets_it_back(profile: Profile, sent: list[str], lost: list[int]) -> None:
    mine: Any = {"openai_chat": {"type": "reasoning.text"}}
    message = Message(
        "assistant",
        (
            Reasoning("Hm.", "raw", origin="openai_chat", extensions=mine),
            Reasoning(data="enc", redacted=True, origin="anthropic"),
            Text("a"),
            Reasoning(signature="g", origin="gemini"),
            ToolCall("a", "f", "{}"),
        ),
    )
    body, losses = encode_request(ChatRequest(model="m", messages=(message,)), profile=profile)
    (wire,) = json.loads(body)["messages"]
    found = [key for key in ("reasoning_content", "reasoning", "reasoning_details") if key in wire]
    found += [key for key in ("extra_content",) if key in wire["tool_calls"][0]]
    assert found == sent
    assert [loss.path for loss in losses] == [f"messages[0].content[{index}]" for index in lost]
    assert b"enc" not in body
    if "reasoning_details" in sent:
        assert wire["reasoning_details"] == [{"type": "reasoning.text", "text": "Hm.", "signature": "raw"}]


def test_opaque_data_of_unknown_origin_is_reported_lost() -> None:
    answer = result(Reasoning("Hm.", "s"))
    body, losses = encode_result(answer, AnswerOptions())
    assert b'"s"' not in body
    assert [loss.path for loss in losses] == ["choices[0].parts[0]"]
    encoder = StreamEncoder(AnswerOptions())
    wire = b"".join(encoder.encode(event) for event in unfold(answer))
    assert b'"s"' not in wire
    assert [loss.path for loss in encoder.losses] == ["choices[0].parts[0]"]
    request = ChatRequest(model="m", messages=(Message("assistant", answer.choices[0].parts),))
    assert len(encode_request(request)[1]) == 1


@pytest.mark.parametrize(
    ("details", "param"),
    [
        ("x", ""),
        ([1], "[0]"),
        ([{}], "[0].type"),
        ([{"type": 1}], "[0].type"),
        ([{"type": "reasoning.text", "text": 1}], "[0].text"),
        (
            [{"type": "reasoning.text", "text": "a"}, {"type": "reasoning.text", "signature": {}}],
            "[1].signature",
        ),
        ([{"type": "reasoning.summary", "summary": []}], "[0].summary"),
        ([{"type": "reasoning.encrypted", "data": 5}], "[0].data"),
    ],
)
def test_a_wrong_detail_is_named(details: Any, param: str) -> None:
    message = {"role": "assistant", "content": "a", "reasoning_details": details}
    with pytest.raises(InvalidRequest) as caught:
        decode_request(json.dumps({"model": "m", "messages": [message]}).encode())
    assert caught.value.param == f"messages[0].reasoning_details{param}"


garbage = st.recursive(
    st.none() | st.integers(-1, 2) | st.sampled_from(["a", "hgs1.x.y", "hgs1.gemini.s:q", "c", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "signature", "data", "id", "index", "origin", "extensions"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=8,
)
entries = st.builds(
    lambda kind, rest: {"type": kind, **rest},
    st.sampled_from(["reasoning.text", "reasoning.summary", "reasoning.encrypted", "x"]),
    st.dictionaries(st.sampled_from(["text", "signature", "data", "id", "index", "origin"]), garbage),
)


@GIVEN
@given(st.lists(entries | garbage, max_size=4))
def test_any_details_are_read_or_refused(details: list[Any]) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    message = {"role": "assistant", "content": "a", "reasoning_details": details, "tool_calls": [call]}
    try:
        request = decode_request(json.dumps({"model": "m", "messages": [message]}).encode())
    except InvalidRequest as error:
        assert error.param is not None and error.param.startswith("messages[0].reasoning_details")
    else:
        body, losses = encode_request(request)
        thoughts = [part for part in request.messages[0].parts if isinstance(part, Reasoning)]
        if all(thought.origin in (None, "openai_chat") for thought in thoughts):
            assert losses == []
            assert decode_request(body) == request


@GIVEN
@given(st.lists(st.lists(entries | garbage, max_size=3), max_size=4))
def test_any_details_in_a_stream_keep_the_rules(deltas: list[Any]) -> None:
    wire = b"".join(chunk(choice({"reasoning": "r", "reasoning_details": each})) for each in deltas)
    fold(decode(wire + chunk(choice({}, "stop")) + DONE))


def test_parts_that_open_with_all_they_hold() -> None:
    redacted = Reasoning(data="enc", redacted=True, origin="anthropic")
    unknown = Reasoning(extensions={"openai_chat": {"detail": {"type": "x"}}})
    parts: tuple[Part, ...] = (SIGNED, redacted, unknown, Text("a"))
    opened = [(PartStarted(index, part), PartEnded(index)) for index, part in enumerate(parts)]
    encoder = StreamEncoder(AnswerOptions())
    wire = encoder.encode(Started("i", "m", 1))
    wire += b"".join(encoder.encode(event) for pair in opened for event in pair)
    wire += encoder.encode(Finished((Stop("stop"),)))
    deltas = [json.loads(event.data)["choices"][0]["delta"] for event in sse.Decoder().feed(wire)[:-1]]
    assert next_turn(collected(deltas)) == parts
