"""The emulated state: continued, fetched, replayed, listed, cancelled, restarted; with scripted answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from headgate.core.errors import (
    InvalidRequest,
    NotFound,
    UnsupportedParameter,
)
from headgate.core.fold import fold
from headgate.core.messages import Message, Reasoning, Text, ToolCall, ToolResult
from headgate.dialects import anthropic, bedrock, gemini, openai_chat
from headgate.dialects.openai_responses import decode_request
from headgate.server.responses import Asked
from tests.unit.responses.bench import ANN, ANSWER, BOB, CALLS, OPTIONS, Bench, feed, gather, run
from tests.unit.responses.wire import decode, kinds


def test_a_response_is_kept_for_its_owner() -> None:
    async def work() -> None:
        bench = Bench()
        draft = await bench.answered(metadata={"a": "b"}, instructions="Be kind.")
        told = await bench.fetched(draft)
        assert (told["id"], told["status"], told["created_at"]) == (draft.id, "completed", 1000)
        assert (told["metadata"], told["instructions"], told["store"]) == ({"a": "b"}, "Be kind.", True)
        assert told["output"][0]["content"][0]["text"] == "It is sunny."
        for identity, principal in ((draft.id, BOB), ("resp_0", ANN), ("../x", ANN)):
            for ask in (bench.book.retrieve, bench.book.replay, bench.book.input_items):
                with pytest.raises(NotFound):
                    await ask(identity, principal)
            for change in (bench.book.cancel, bench.book.delete):
                with pytest.raises(NotFound):
                    await change(identity, principal)
        assert await bench.fetched(draft) == told
        bench.clock.now += 3600
        with pytest.raises(NotFound):
            await bench.fetched(draft)

    run(work())


def test_what_goes_on_to_the_upstream_is_stateless() -> None:
    async def work() -> None:
        bench = Bench()
        draft = await bench.open(store=False, background=False, temperature=0.5)
        assert not draft.store
        request = decode_request(draft.body)
        assert not request.extensions
        assert request.sampling.temperature == 0.5
        assert request.messages == (Message("user", (Text("Hi"),)),)

    run(work())


def test_a_conversation_goes_on_by_id() -> None:
    async def work() -> None:
        bench = Bench()
        first = await bench.answered(CALLS, input="How is the weather?", instructions="One")
        output = {"type": "function_call_output", "call_id": "call_a", "output": "sunny"}
        second = await bench.answered(
            ANSWER, input=[output], previous_response_id=first.id, instructions="Two", stream=True
        )
        third = await bench.open(input="Thanks", previous_response_id=second.id)
        request = decode_request(third.body)
        assert request.messages == (
            Message("user", (Text("How is the weather?"),)),
            Message(
                "assistant",
                (Reasoning("Hm.", "sig", origin="anthropic"), ToolCall("call_a", "weather", "{}")),
            ),
            Message("tool", (ToolResult("call_a", (Text("sunny"),)),)),
            Message("assistant", (Text("It is sunny."),)),
            Message("user", (Text("Thanks"),)),
        )
        assert not request.extensions
        for upstream in (openai_chat, anthropic, gemini, bedrock):  # the result's call is in what was stored
            upstream.encode_request(request)
        assert (await bench.fetched(second))["previous_response_id"] == first.id

    run(work())


@pytest.mark.parametrize("identity", ["resp_0", 'x"y'])
def test_an_unknown_previous_response(identity: str) -> None:
    async def work() -> None:
        bench = Bench()
        draft = await bench.answered()
        for previous, principal in ((identity, ANN), (draft.id, BOB)):
            with pytest.raises(InvalidRequest) as caught:
                await bench.open(principal, previous_response_id=previous)
            error = caught.value
            assert (error.param, error.status) == ("previous_response_id", 404)
            assert error.code == "previous_response_not_found"
            assert '"' not in error.message

    run(work())


def test_references_to_items_are_resolved() -> None:
    async def work() -> None:
        bench = Bench()
        draft = await bench.answered(CALLS)
        items = (await bench.fetched(draft))["output"]
        references = [{"type": "item_reference", "id": item["id"]} for item in items]
        output = {"type": "function_call_output", "call_id": "call_a", "output": "x"}
        again = await bench.open(input=[*references, output])
        parts = decode_request(again.body).messages[0].parts
        assert parts == (Reasoning("Hm.", "sig", origin="anthropic"), ToolCall("call_a", "weather", "{}"))
        with pytest.raises(InvalidRequest) as caught:
            await bench.open(BOB, input=references)
        assert caught.value.status == 404
        foreign = await bench.open(input=[{"id": "msg_68af"}], previous_response_id=draft.id)
        assert b'"msg_68af"' in foreign.body

    run(work())


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("store", {"store": "yes"}),
        ("store", {"store": False, "background": True}),
        ("background", {"background": 1}),
        ("stream", {"stream": "x"}),
        ("model", {"model": None}),
        ("model", {"model": 1}),
        ("previous_response_id", {"previous_response_id": 1}),
        ("conversation", {"conversation": "conv_1"}),
        ("input", {"background": True, "input": 1}),
        ("temperature", {"background": True, "temperature": "hot"}),
    ],
)
def test_mistakes_name_their_field(param: str, fields: dict[str, Any]) -> None:
    async def work() -> None:
        with pytest.raises(InvalidRequest) as caught:
            await Bench().open(**fields)
        assert caught.value.param == param
        assert isinstance(caught.value, UnsupportedParameter) == (param == "conversation")

    run(work())


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_bodies_that_are_none(body: bytes) -> None:
    async def work() -> None:
        with pytest.raises(InvalidRequest):
            await Bench().book.open(Asked(body), ANN)

    run(work())


def test_input_items_by_pages() -> None:
    async def work() -> None:
        bench = Bench()
        items = [{"role": "user", "content": f"{number}"} for number in range(5)]
        first = await bench.answered(input=items)
        draft = await bench.answered(input="6", previous_response_id=first.id)

        async def page(**options: Any) -> dict[str, Any]:
            value: dict[str, Any] = json.loads(await bench.book.input_items(draft.id, ANN, **options))
            return value

        whole = await page(order="asc", limit=100)
        texts = [item["content"][0]["text"] for item in whole["data"]]
        assert texts == ["0", "1", "2", "3", "4", "It is sunny.", "6"]
        assert len({item["id"] for item in whole["data"]}) == 7
        assert not whole["has_more"]
        newest = await page(limit=2)
        assert [item["id"] for item in newest["data"]] == [item["id"] for item in whole["data"][:-3:-1]]
        assert newest["has_more"]
        rest = await page(after=newest["last_id"])
        assert [item["content"][0]["text"] for item in rest["data"]] == ["4", "3", "2", "1", "0"]
        assert (await page(after=rest["last_id"]))["data"] == []
        bad: dict[str, Any] = {"limit": 0, "order": "up", "after": "x"}
        for param, value in bad.items():
            with pytest.raises(InvalidRequest) as caught:
                await page(**{param: value})
            assert caught.value.param == param

    run(work())


@pytest.mark.parametrize("fields", [{"stream": True}, {"background": True}, {}])
def test_an_answer_is_replayed(fields: dict[str, Any]) -> None:
    async def work() -> None:
        bench = Bench()
        draft = await bench.answered(**fields)
        events = await gather(await bench.book.replay(draft.id, ANN))
        told = kinds(b"".join(events))
        assert told[0] == "created"
        assert told[-1] == "completed"
        assert ("queued" in told) == ("background" in fields)
        for after in (0, 3, len(events) - 1):
            assert await gather(await bench.book.replay(draft.id, ANN, after)) == events[after + 1 :]
        assert fold(decode(b"".join(events))).choices[0].parts == (Text("It is sunny."),)

    run(work())


def test_an_answer_under_way_is_followed() -> None:
    async def work() -> None:
        bench = Bench()
        draft = await bench.open(background=True)
        work = await bench.book.begin(draft)
        assert (await bench.fetched(draft))["status"] == "queued"
        first = await bench.book.replay(draft.id, ANN)
        early = [await anext(first), await anext(first)]
        late = asyncio.ensure_future(gather(await bench.book.replay(draft.id, ANN, 1)))  # noqa: TID251
        wire = feed(draft, work, ANSWER[:3])
        assert (await bench.fetched(draft))["status"] == "in_progress"
        with pytest.raises(InvalidRequest) as caught:
            await bench.open(previous_response_id=draft.id)
        assert caught.value.param == "previous_response_id"
        encoder = draft.dialect.stream_encoder(OPTIONS)
        whole = b"".join(encoder.encode(event) for event in ANSWER)
        work.feed(whole[len(wire) :])
        rest = await gather(first)
        assert rest == await late
        assert kinds(b"".join(early + rest))[-1] == "completed"
        await bench.book.close()
        assert (await bench.fetched(draft))["status"] == "completed"
        assert await gather(await bench.book.replay(draft.id, ANN)) == early + rest

    run(work())


def test_a_second_attempt_begins_the_same_answer() -> None:
    """The relay may have asked another target before; nothing of that has been told."""

    async def work() -> None:
        bench = Bench()
        draft = await bench.open(background=True)
        work = await bench.book.begin(draft)
        draft.dialect.stream_encoder(OPTIONS).encode(ANSWER[0])
        feed(draft, work, ANSWER)
        numbers = [number for number, _ in work.events]
        assert numbers == list(range(len(numbers)))

    run(work())


def test_events_are_numbered_alike_at_any_split() -> None:
    async def work() -> None:
        bench = Bench()
        kept = []
        for size in (1, 37, 10_000_000):
            draft = await bench.open(stream=True)
            under_way = await bench.book.begin(draft)
            encoder = draft.dialect.stream_encoder(OPTIONS)
            for event in ANSWER:
                piece = encoder.encode(event)
                for start in range(0, len(piece), size):
                    under_way.feed(piece[start : start + size])
            kept.append(
                [(number, data.replace(draft.id[5:].encode(), b"")) for number, data in under_way.events]
            )
        assert kept[0] == kept[1] == kept[2]
        assert [number for number, _ in kept[0]] == list(range(len(kept[0])))

    run(work())
