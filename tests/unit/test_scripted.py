"""The double: its answers keep the rules of events, and each fault is the one that was asked for."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from headgate.backends.scripted import SCRIPTED, ScriptedBackend, ScriptedSettings
from headgate.core.backend import ChatBackend, EmbedBackend
from headgate.core.call import Call, Operation, Usage
from headgate.core.errors import HeadgateError, StreamBroken, UnsupportedParameter, UpstreamError
from headgate.core.events import ChatEvent, Failed, Finished, PartDelta, Started
from headgate.core.fold import Assembler
from headgate.core.messages import ChatRequest, Message, ResponseFormat, Sampling, Text, Tool
from headgate.core.operations import EmbedRequest
from headgate.core.result import ChatResult

CALL = Call("call-1", "m", Operation.CHAT, "openai_chat", 0.0)


def backend(**options: Any) -> ScriptedBackend:
    return ScriptedBackend(ScriptedSettings.model_validate({"backend": "scripted", **options}))


def ask(**fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=(Message("user", (Text("three words here"),)),), **fields)


def events_of(answers: ScriptedBackend, request: ChatRequest) -> list[ChatEvent]:
    async def collect() -> list[ChatEvent]:
        return [event async for event in answers.chat(request, CALL)]

    return asyncio.run(collect())


def folded(events: list[ChatEvent]) -> ChatResult:
    assembler = Assembler()
    for event in events:
        assembler.feed(event)  # raises where a rule of events is broken
    return assembler.result()


def text_of(result: ChatResult) -> str:
    [part] = result.choices[0].parts
    assert isinstance(part, Text)
    return part.text


def test_is_a_backend_of_both_kinds() -> None:
    assert isinstance(backend(), ChatBackend)
    assert isinstance(backend(), EmbedBackend)
    assert SCRIPTED.settings is ScriptedSettings


def test_answer_is_the_script_a_word_at_a_time() -> None:
    events = events_of(backend(reply="one two  three"), ask())
    result = folded(events)
    assert text_of(result) == "one two  three"
    assert [e.delta for e in events if isinstance(e, PartDelta)] == ["one", " two", " ", " three"]
    assert result.usage == Usage(3, 4)
    assert result.choices[0].stop.reason == "stop"
    assert result.id == "chatcmpl-call-1"


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 100])
def test_pieces(pieces: int) -> None:
    reply = "a reply of some length"
    events = events_of(backend(reply=reply, pieces=pieces), ask())
    assert text_of(folded(events)) == reply
    assert len([e for e in events if isinstance(e, PartDelta)]) <= max(pieces, 1)


def test_limit_of_tokens() -> None:
    result = folded(events_of(backend(reply="one two three"), ask(sampling=Sampling(max_tokens=2))))
    assert text_of(result) == "one two"
    assert result.choices[0].stop.reason == "length"
    result = folded(events_of(backend(reply="one two three"), ask(sampling=Sampling(max_tokens=3))))
    assert result.choices[0].stop.reason == "stop"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sampling": Sampling(n=2)}, "n"),
        ({"sampling": Sampling(logprobs=True)}, "logprobs"),
        ({"tools": (Tool("f"),)}, "tools"),
        ({"response_format": ResponseFormat("json_object")}, "response_format"),
    ],
)
def test_what_it_does_not_do_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        events_of(backend(), ask(**fields))
    assert caught.value.param == param


def test_faults_before_the_first_event_are_raised() -> None:
    fault = {"kind": "error", "status": 429, "message": "slow down", "retry_after": "3s"}
    with pytest.raises(UpstreamError, match="slow down") as caught:
        events_of(backend(fault=fault), ask())
    assert (caught.value.status, caught.value.retry_after) == (429, 3.0)
    with pytest.raises(StreamBroken):
        events_of(backend(fault={"kind": "cut"}), ask())


@pytest.mark.parametrize(("kind", "error"), [("error", UpstreamError), ("cut", StreamBroken)])
def test_later_faults_are_the_only_terminal_event(kind: str, error: type[HeadgateError]) -> None:
    events = events_of(backend(reply="a b c d", fault={"kind": kind, "after": 2}), ask())
    assert isinstance(events[0], Started)
    assert len([e for e in events if isinstance(e, PartDelta)]) == 2
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, error)
    assert not [e for e in events if isinstance(e, Finished)]


@pytest.mark.parametrize("after", [0, 1])
def test_a_stall_ends_when_it_is_closed(after: int) -> None:
    answers = backend(fault={"kind": "stall", "after": after})

    async def main() -> None:
        events: AsyncGenerator[ChatEvent, None] = answers.chat(ask(), CALL)
        got = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                async for event in events:
                    got.append(event)
        await events.aclose()
        assert len([e for e in got if isinstance(e, PartDelta)]) == after

    asyncio.run(main())
    assert (answers.running, answers.cancelled) == (0, 1)


def test_answers_under_way_are_counted() -> None:
    answers = backend(reply="a b c")

    async def main() -> None:
        events = answers.chat(ask(), CALL)
        await anext(events)
        assert answers.running == 1
        await events.aclose()
        assert (answers.running, answers.cancelled) == (0, 1)
        async for _ in answers.chat(ask(), CALL):
            pass
        assert (answers.running, answers.cancelled) == (0, 1)

    asyncio.run(main())


def test_vectors_have_unit_length_and_depend_on_their_input_alone() -> None:
    async def embed(*inputs: str, dimensions: int | None = None) -> list[tuple[float, ...]]:
        request = EmbedRequest(model="m", inputs=inputs, dimensions=dimensions)
        result = await backend(dimensions=5).embed(request, CALL)
        return [struct.unpack(f"<{len(vector) // 4}f", vector) for vector in result.vectors]

    one, two, again = asyncio.run(embed("a", "b", "a"))
    assert one == again != two
    assert sum(x * x for x in one) == pytest.approx(1)
    assert len(one) == 5
    assert len(asyncio.run(embed("a", dimensions=3))[0]) == 3


def test_embedding_usage_and_fault() -> None:
    request = EmbedRequest(model="m", inputs=("two words", "one"))
    assert asyncio.run(backend().embed(request, CALL)).usage == Usage(3, 0)
    tokens = EmbedRequest(model="m", inputs=((1, 2, 3), (4,)))
    assert asyncio.run(backend().embed(tokens, CALL)).usage == Usage(4, 0)
    with pytest.raises(UpstreamError):
        asyncio.run(backend(fault={"kind": "error"}).embed(request, CALL))
