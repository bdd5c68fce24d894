"""Whatever one dialect can say, every other one is told, or the loss is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.core.errors import InvalidRequest
from headgate.core.loss import Loss
from headgate.core.messages import (
    JSON,
    CacheHint,
    ChatRequest,
    Citation,
    Extensions,
    Media,
    Message,
    Part,
    Reasoning,
    ReasoningOptions,
    Refusal,
    ResponseFormat,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from headgate.dialects.dialect import ChatDialect
from headgate.dialects.registry import dialect
from tests.support.fields.row import PDF, PNG, SCHEMA, WAV
from tests.support.loss_table import CHAT, Upstream

GIVEN = settings(max_examples=30, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
OPENAIS: dict[str, JSON] = {
    "moderation": {"model": "omni-moderation-latest"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "store": True,
    "verbosity": "low",
}
SIDES = {upstream.dialect: upstream for upstream in CHAT.upstreams}

Fact: TypeAlias = tuple[object, ...]


# Requests. Every text is marked by where it stands, so that it is known again however it was moved.

hints = st.none() | st.builds(CacheHint, st.sampled_from([None, "1h"]))
media = st.sampled_from(
    [
        Media("image", "image/png", PNG),
        Media("image", url="https://example.com/a.png", detail="high"),
        Media("image", file_id="file-1"),
        Media("file", "application/pdf", PDF, name="paper"),
        Media("file", url="https://example.com/a.pdf"),
        Media("audio", "audio/wav", WAV),
        Media("video", url="https://example.com/a.mp4"),
    ]
)
elsewhere: st.SearchStrategy[Extensions] = st.sampled_from([{}, {"elsewhere": {"special": 1}}])
openais: st.SearchStrategy[Extensions] = st.fixed_dictionaries(
    {}, optional={key: st.just(value) for key, value in OPENAIS.items()}
).map(lambda fields: {"openai": fields})
thoughts = st.builds(
    Reasoning,
    text=st.sampled_from(["", "pondering"]),
    signature=st.just("c2ln"),
    origin=st.sampled_from([None, *SIDES]),
)
samplings = st.builds(
    Sampling,
    max_tokens=st.none() | st.just(99),
    temperature=st.sampled_from([None, 0.5, 1.5]),
    top_p=st.none() | st.just(0.5),
    top_k=st.none() | st.just(7),
    min_p=st.none() | st.just(0.5),
    seed=st.none() | st.just(0),
    stop=st.just(()) | st.just(("x", "y")),
    presence_penalty=st.none() | st.just(0.5),
    frequency_penalty=st.none() | st.just(0.5),
    logit_bias=st.none() | st.just({"1": 2}),
    n=st.none() | st.just(2),
    logprobs=st.none() | st.just(True),
)
formats = st.sampled_from(
    [
        None,
        ResponseFormat("json_object"),
        ResponseFormat("json_schema", name="answer", schema=SCHEMA),
        ResponseFormat("json_schema", name="answer", description="what", schema=SCHEMA),
    ]
)
reasonings = st.sampled_from(
    [None, ReasoningOptions(effort="high"), ReasoningOptions(enabled=True, budget_tokens=2048)]
)
choices = st.sampled_from(
    [None, ToolChoice("auto"), ToolChoice("required"), ToolChoice("none"), ToolChoice("tool", "f")]
)


@st.composite
def texts(draw: st.DrawFn, mark: str) -> Text:
    return Text(f"<{mark}>", cache=draw(hints), extensions=draw(elsewhere))


@st.composite
def turns(draw: st.DrawFn, number: int) -> list[Message]:
    """What the user says, and what the model did before that."""
    messages: list[Message] = []
    if draw(st.booleans()):
        parts: list[Part] = draw(st.lists(thoughts, max_size=1))
        parts.append(draw(texts(f"model {number}")))
        if draw(st.booleans()):
            citation = Citation("url", url="https://example.com", title="t")
            parts.append(Text(f"<cited {number}>", citations=(citation,)))
        parts += draw(st.lists(st.just(Refusal(f"<refusal {number}>")), max_size=1))
        calls = [
            ToolCall(f"call_{number}_{index}", "f", json.dumps({"a": f"{number} {index}"}), cache=draw(hints))
            for index in range(draw(st.integers(0, 2)))
        ]
        messages.append(Message("assistant", (*parts, *calls)))
        for call in calls:
            told = draw(texts(f"result {call.id}"))
            seen = draw(st.lists(media, max_size=1))
            result = ToolResult(call.id, (told, *seen), draw(st.booleans()), draw(hints))
            messages.append(Message("tool", (result,)))
    shown = draw(st.lists(media, max_size=2))
    name = draw(st.none() | st.just("ann"))
    messages.append(Message("user", (draw(texts(f"user {number}")), *shown), name, draw(elsewhere)))
    if draw(st.integers(0, 5)) == 0:
        messages.append(Message("system", (draw(texts(f"late {number}")),)))
        messages.append(Message("user", (Text(f"<after {number}>"),)))
    return messages


@st.composite
def requests(draw: st.DrawFn) -> ChatRequest:
    messages = [Message("user", (Text("<first>"),))]
    if draw(st.booleans()):
        roles: tuple[Role, ...] = ("system", "developer")
        role = draw(st.sampled_from(roles))
        messages.insert(0, Message(role, (draw(texts("system")), draw(texts("system two")))))
    for number in range(draw(st.integers(1, 2))):
        messages += draw(turns(number))
    tool = Tool("f", "what it does", SCHEMA, draw(st.sampled_from([None, True])), cache=draw(hints))
    foreign = Tool("search", kind="search_v1", extensions={"elsewhere": {"uses": 1}})
    tools = (tool, *draw(st.lists(st.just(foreign), max_size=1)))
    return ChatRequest(
        model="m",
        messages=tuple(messages),
        tools=tools,
        tool_choice=draw(choices),
        parallel_tool_calls=draw(st.sampled_from([None, False])),
        response_format=draw(formats),
        sampling=draw(samplings),
        reasoning=draw(reasonings),
        stream=draw(st.booleans()),
        user=draw(st.none() | st.just("u")),
        metadata=draw(st.none() | st.just({"a": "b"})),
        service_tier=draw(st.sampled_from([None, "flex", "priority"])),
        extensions={**draw(elsewhere), **draw(openais)},
    )


# What a request says, fact by fact, each with the place that its loss would have.


def facts(request: ChatRequest) -> Iterator[tuple[Fact, str]]:
    for index, message in enumerate(request.messages):
        place = message.place(index)
        role = "system" if message.role == "developer" else message.role
        yield from ((("extension", key), f"{place}.{key}") for key in _foreign(message.extensions))
        if message.name is not None and message.role != "tool":
            yield ("name", message.name), f"{place}.name"
        for number, part in enumerate(message.parts):
            yield from _of_part(part, role, message.place_of(index, number), place, message.content)
    for index, tool in enumerate(request.tools if _calls_at_all(request) else ()):
        yield from _of_tool(tool, tool.place(index))
    yield from _of_settings(request)


def _calls_at_all(request: ChatRequest) -> bool:
    """Tools that the model must not use may be left out."""
    return request.tool_choice is None or request.tool_choice.mode != "none"


def _foreign(extensions: Any) -> list[str]:
    return list(extensions.get("elsewhere", {}))


def _of_part(part: Part, role: str, path: str, message: str, word: str) -> Iterator[tuple[Fact, str]]:
    match part:
        case Text():
            yield ("text", part.text), path
            yield ("role", part.text, role), f"{message}.role"
            yield from ((("extension", part.text, key), f"{path}.{key}") for key in _foreign(part.extensions))
            for citation in part.citations:
                yield ("citation", part.text, citation.url), f"{path}.citations"
        case Refusal():
            yield ("refusal", part.text), path
        case Media():
            yield ("media", part.kind, part.data or part.url or part.file_id), path
            if part.detail is not None:
                yield ("detail", part.url, part.detail), f"{path}.detail"
            if part.name is not None:
                yield ("file name", part.name), f"{path}.name"
        case Reasoning():
            if part.text:
                yield ("thought", part.text), path
            if opaque := part.signature or part.data:
                yield ("signature", opaque, part.origin), f"{path}.signature"
        case ToolCall():
            yield ("call", part.name, json.dumps(json.loads(part.arguments), sort_keys=True)), path
        case ToolResult():
            for number, item in enumerate(part.parts):
                yield from _of_part(item, role, f"{path}.{word}[{number}]", path, word)
            if part.is_error:
                yield ("error", _marked(part)), f"{path}.is_error"
    hint = getattr(part, "cache", None)
    if hint is not None:
        yield ("cache", _marked(part)), f"{path}.cache_control"
        yield ("lifetime", _marked(part), hint.ttl), f"{path}.cache_control.ttl"


def _marked(part: Part) -> str:
    """By what a part is known again."""
    match part:
        case Text():
            return part.text
        case ToolCall():
            return str(json.loads(part.arguments))
        case ToolResult():
            return "".join(item.text for item in part.parts if isinstance(item, Text))
        case Media():
            return str(part.data or part.url or part.file_id)
        case _:
            return ""


def _of_tool(tool: Tool, path: str) -> Iterator[tuple[Fact, str]]:
    yield ("tool", tool.name, tool.kind), path
    if tool.kind != "function":
        return
    yield ("description", tool.description), f"{path}.description"
    yield ("schema", json.dumps(tool.parameters, sort_keys=True)), f"{path}.parameters"
    if tool.strict:
        yield ("strict", tool.name), f"{path}.strict"
    if tool.cache is not None:
        yield ("cache", "tool", tool.name), f"{path}.cache_control"


def _of_settings(request: ChatRequest) -> Iterator[tuple[Fact, str]]:
    for key in Sampling.__dataclass_fields__:
        # The last two are what every model does anyway.
        if (value := getattr(request.sampling, key)) not in (None, ()) and (key, value) not in (
            ("top_logprobs", 0),
            ("temperature", 1),
        ):
            yield ("sampling", key, str(value)), key
    for key in ("user", "service_tier", "metadata"):
        if (value := getattr(request, key)) is not None:
            yield (key, str(value)), key
    if request.parallel_tool_calls is False and _calls_at_all(request):
        yield ("one call at a time",), "parallel_tool_calls"
    if request.tool_choice is not None:
        yield ("tool choice", request.tool_choice.mode, request.tool_choice.name), "tool_choice"
    if request.reasoning is not None:  # dialects have words and numbers for the same wish
        yield ("thinking wanted",), "reasoning"
    wanted = request.response_format
    if wanted is not None:
        yield ("format", wanted.kind, json.dumps(wanted.schema, sort_keys=True)), "response_format"
        if wanted.description is not None:
            yield ("format description", wanted.description), "response_format.description"
    yield from ((("extension", key), key) for key in _foreign(request.extensions))
    for key, value in request.extensions.get("openai", {}).items():
        yield ("OpenAI's", key, json.dumps(value)), key


# What is found again.


def silently_lost(request: ChatRequest, losses: list[Loss], arrived: ChatRequest) -> list[Fact]:
    paths = {loss.path for loss in losses}
    found = {fact for fact, _ in facts(arrived)}
    said = {role: _said(arrived, role) for role in ("system", "user", "assistant", "tool")}
    return [
        fact
        for fact, place in facts(request)
        if fact not in found and not _excused(place, fact, paths) and not _within(fact, found, said)
    ]


def _said(request: ChatRequest, role: str) -> str:
    return "".join(
        text
        for message in request.messages
        if (message.role if message.role != "developer" else "system") == role
        for part in message.parts
        for text in _texts(part)
    )


def _texts(part: Part) -> list[str]:
    match part:
        case Text() | Refusal():
            return [part.text]
        case ToolResult():
            return [text for item in part.parts for text in _texts(item)]
        case _:
            return []


def _excused(place: str, fact: Fact, paths: set[str]) -> bool:
    """A loss names the fact's place, or one that holds it."""
    if fact[0] == "thinking wanted" and any(path.startswith("reasoning.") for path in paths):
        return True
    return any(
        place == path or place.startswith((f"{path}.", f"{path}[")) or path.startswith(f"{place}[")
        for path in paths
    )


def _within(fact: Fact, found: set[Fact], said: dict[str, str]) -> bool:
    """Texts that follow each other may have been joined to one; what marked one then marks all."""
    match fact:
        case ("text", str(text)):
            return any(text in told for told in said.values())
        case ("role", str(text), str(role)):
            return text in said[role]
        case ("cache" | "lifetime" | "error" | "citation" as kind, str(mark), *rest):
            return any(
                each[0] == kind and isinstance(each[1], str) and mark in each[1] and list(each[2:]) == rest
                for each in found
            )
        case _:
            return False


def sent(side: Upstream, request: ChatRequest) -> tuple[ChatRequest, list[Loss]] | None:
    """What arrives at a side, by its own decoder; None where it can't be asked such a thing."""
    try:
        body, losses = side.encoded(request)
    except InvalidRequest as error:
        assert error.status == 400 and error.message
        return None
    codec = dialect(side.dialect)
    assert isinstance(codec, ChatDialect)
    if codec.model_in_body:
        return codec.decode_request(body), losses
    return codec.decode_request(body, model=side.model, stream=request.stream), losses


@pytest.mark.parametrize("upstream", SIDES)
@GIVEN
@given(requests())
def test_what_is_not_reported_arrives(upstream: str, request_: ChatRequest) -> None:
    result = sent(SIDES[upstream], request_)
    if result is not None:
        arrived, losses = result
        assert silently_lost(request_, losses, arrived) == []


@pytest.mark.parametrize("caller", ["openai_chat", "openai_responses"])
@pytest.mark.parametrize("upstream", SIDES)
def test_what_both_of_openais_chat_dialects_have_arrives_there(caller: str, upstream: str) -> None:
    request = ChatRequest(
        model="m", messages=(Message("user", (Text("x"),)),), extensions={"openai": OPENAIS}
    )
    asked = sent(SIDES[caller], request)
    assert asked is not None and asked[1] == []
    assert asked[0].extensions == {"openai": OPENAIS}
    result = sent(SIDES[upstream], asked[0])
    assert result is not None
    arrived, losses = result
    if upstream in ("openai_chat", "openai_responses"):
        assert (arrived.extensions, losses) == ({"openai": OPENAIS}, [])
    else:
        assert {loss.path for loss in losses} >= OPENAIS.keys()
        assert "openai" not in arrived.extensions


@pytest.mark.parametrize("caller", SIDES)
@pytest.mark.parametrize("upstream", SIDES)
@GIVEN
@given(requests())
def test_what_a_caller_can_say_arrives_or_is_reported(
    caller: str, upstream: str, request_: ChatRequest
) -> None:
    asked = sent(SIDES[caller], request_)
    result = asked and sent(SIDES[upstream], asked[0])
    if asked and result:
        arrived, losses = result
        assert silently_lost(asked[0], losses, arrived) == []
