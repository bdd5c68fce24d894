"""The emulated state: continued, fetched, replayed, listed, cancelled, restarted; with scripted answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from headgate.core.call import Principal, Usage
from headgate.core.errors import (
    HeadgateError,
    InvalidRequest,
    NotFound,
    Overloaded,
    RateLimited,
    UnsupportedParameter,
    UpstreamError,
)
from headgate.core.events import (
    ChatEvent,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.fold import fold
from headgate.core.messages import Message, Reasoning, Text, ToolCall, ToolResult
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_errors import encode_error_body
from headgate.dialects.openai_responses import decode_request
from headgate.policy.store import MemoryStore, SqliteStore, Store
from headgate.server.responses import (
    DetachedClient,
    Draft,
    RecordedCall,
    RecordingClient,
    ResponseBook,
    Run,
)
from tests.unit.responses.test_store import FakeClock
from tests.unit.responses.wire import decode, kinds, valid

ANN, BOB = Principal("ann"), Principal("bob")
OPTIONS = AnswerOptions(model="m")

ANSWER: list[ChatEvent] = [
    Started("up", "upstream", 3),
    PartStarted(0, Text("")),
    PartDelta(0, "It is "),
    PartDelta(0, "sunny."),
    PartEnded(0),
    UsageReported(Usage(3, 4)),
    Finished((Stop("stop"),)),
]
CALLS: list[ChatEvent] = [
    Started("up", "upstream", 3),
    PartStarted(0, Reasoning("Hm.", "sig", origin="anthropic")),
    PartEnded(0),
    PartStarted(1, ToolCall("call_a", "weather", "{}")),
    PartEnded(1),
    Finished((Stop("tool_calls"),)),
]


class Bench:
    """A book with a clock that stands still until told."""

    def __init__(self, store: Store | None = None, **options: Any) -> None:
        self.clock = FakeClock()
        self.store = store if store is not None else MemoryStore(clock=self.clock)
        self.book = ResponseBook(self.store, self.clock, **options)

    async def open(self, principal: Principal = ANN, **fields: Any) -> Draft:
        body = json.dumps({"model": "m", "input": "Hi"} | fields).encode()
        return await self.book.open(body, principal)

    async def answered(self, events: Sequence[ChatEvent] = ANSWER, **fields: Any) -> Draft:
        """A request with its answer, ended and kept."""
        draft = await self.open(**fields)
        run = await self.book.begin(draft)
        if draft.stream or draft.background:
            feed(draft, run, events)
        else:
            run.answer(200, draft.dialect.encode_result(fold(list(events)), OPTIONS)[0])
        await self.book.close()
        return draft

    async def fetched(self, draft: Draft, principal: Principal = ANN) -> dict[str, Any]:
        return valid(await self.book.retrieve(draft.id, principal))


def feed(draft: Draft, run: Run, events: Sequence[ChatEvent]) -> bytes:
    encoder = draft.dialect.stream_encoder(OPTIONS)
    wire = b"".join(encoder.encode(event) for event in events)
    for cut in range(0, len(wire), 37):
        run.feed(wire[cut : cut + 37])
    return wire


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def gather(stream: AsyncGenerator[bytes, None]) -> list[bytes]:
    return [data async for data in stream]


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
            await Bench().book.open(body, ANN)

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


def test_background_responses_are_bounded() -> None:
    async def work() -> None:
        bench = Bench(max_background=1)
        draft = await bench.open(background=True)
        work = await bench.book.begin(draft)
        second = await bench.open(background=True)
        with pytest.raises(Overloaded):
            await bench.book.begin(second)
        with pytest.raises(NotFound):
            await bench.book.retrieve(second.id, ANN)
        feed(draft, work, ANSWER)
        await bench.book.begin(second)

    run(work())


def test_cancel_stops_the_work() -> None:
    async def work() -> None:
        bench = Bench()
        draft = await bench.open(background=True)
        work = await bench.book.begin(draft)
        stopped: list[str] = []
        work.on_cancel = lambda: stopped.append(work.status)
        feed(draft, work, [*CALLS[:5], PartStarted(2, Text("")), PartDelta(2, "half")])
        following = await bench.book.replay(draft.id, ANN)
        assert json.loads(await bench.book.cancel(draft.id, ANN))["status"] == "cancelled"
        assert stopped == ["cancelled"]
        assert b"response.completed" not in b"".join(await gather(following))
        DetachedClient(work).write(b"late")
        DetachedClient(work).end()
        await bench.book.close()
        told = await bench.fetched(draft)
        assert told["status"] == "cancelled"
        assert [item["type"] for item in told["output"]] == ["reasoning", "function_call"]
        assert json.loads(await bench.book.cancel(draft.id, ANN)) == told
        assert stopped == ["cancelled"]

    run(work())


def test_what_can_not_be_cancelled() -> None:
    async def work() -> None:
        bench = Bench()
        draft = await bench.answered()
        with pytest.raises(InvalidRequest, match="synchronous"):
            await bench.book.cancel(draft.id, ANN)
        ended = await bench.answered(background=True)
        assert json.loads(await bench.book.cancel(ended.id, ANN))["status"] == "completed"

    run(work())


def test_delete() -> None:
    async def work() -> None:
        bench = Bench()
        ended = await bench.answered(stream=True)
        running = await bench.open(background=True)
        work = await bench.book.begin(running)
        stopped: list[bool] = []
        work.on_cancel = lambda: stopped.append(True)
        ending = await bench.open(stream=True)
        feed(ending, await bench.book.begin(ending), ANSWER)  # kept in a moment, deleted before
        for draft in (ended, running, ending):
            told = json.loads(await bench.book.delete(draft.id, ANN))
            assert told == {"id": draft.id, "object": "response", "deleted": True}
        assert stopped == [True]
        await bench.book.close()
        for draft in (ended, running, ending):
            with pytest.raises(NotFound):
                await bench.book.retrieve(draft.id, ANN)
        assert await bench.store.list("") == []

    run(work())


FAILURE = UpstreamError("The model is down.", status=500)


@pytest.mark.parametrize("begun", [0, 1, 3])
def test_failures_in_the_background(begun: int) -> None:
    async def work() -> None:
        bench = Bench()
        draft = await bench.answered([*ANSWER[:begun], Failed(FAILURE)], background=True)
        told = await bench.fetched(draft)
        assert (told["status"], told["error"]["message"]) == ("failed", "The model is down.")
        events = await gather(await bench.book.replay(draft.id, ANN))
        assert kinds(b"".join(events))[-1] == "failed"

    run(work())


@pytest.mark.parametrize("stream", [True, False])
def test_a_refusal_before_the_answer(stream: bool) -> None:
    async def work() -> None:
        bench = Bench()
        draft = await bench.open(background=True, stream=stream)
        client = DetachedClient(await bench.book.begin(draft))
        client.respond(429, (), encode_error_body(RateLimited("Too many.")))
        await bench.book.close()
        told = await bench.fetched(draft)
        assert (told["status"], told["error"]["code"]) == ("failed", "rate_limit_exceeded")
        assert told["error"]["message"] == "Too many."

    run(work())


def test_an_answer_that_breaks_off_has_failed() -> None:
    async def work() -> None:
        bench = Bench()
        draft = await bench.open(background=True)
        client = DetachedClient(await bench.book.begin(draft))
        encoder = draft.dialect.stream_encoder(OPTIONS)
        client.begin(200, (), b"".join(encoder.encode(event) for event in ANSWER[:3]))
        client.abort()
        await bench.book.close()
        assert (await bench.fetched(draft))["status"] == "failed"
        garbled = await bench.open()
        (await bench.book.begin(garbled)).answer(200, b"<html>")
        await bench.book.close()
        assert (await bench.fetched(garbled))["status"] == "failed"

    run(work())


class Caller:
    def __init__(self) -> None:
        self.got: list[Any] = []

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self.got += [status, body]

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        self.got += [status, data]

    def write(self, data: bytes) -> None:
        self.got.append(data)

    def end(self) -> None:
        self.got.append("end")

    def abort(self) -> None:
        self.got.append("abort")


class Work:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def cancel(self) -> None:
        self.told.append("cancel")

    def abandon(self, error: HeadgateError) -> None:
        self.told.append(error)


def test_a_caller_gets_what_is_recorded() -> None:
    async def work() -> None:
        bench = Bench()
        caller = Caller()
        draft = await bench.open(stream=True)
        client = RecordingClient(caller, await bench.book.begin(draft))
        encoder = draft.dialect.stream_encoder(OPTIONS)
        pieces = [encoder.encode(event) for event in ANSWER]
        client.begin(200, (), pieces[0])
        for piece in pieces[1:]:
            client.write(piece)
        client.end()
        assert caller.got == [200, *pieces, "end"]
        await bench.book.close()
        assert b"".join(await gather(await bench.book.replay(draft.id, ANN))) == b"".join(pieces)

    run(work())


def test_a_caller_that_leaves() -> None:
    async def work() -> None:
        bench = Bench()
        draft = await bench.open(stream=True)
        under_way = await bench.book.begin(draft)
        client = RecordingClient(Caller(), under_way)
        relay = Work()
        call = RecordedCall(relay, under_way)
        encoder = draft.dialect.stream_encoder(OPTIONS)
        client.begin(200, (), b"".join(encoder.encode(event) for event in ANSWER[:3]))
        call.pause()
        call.resume()
        call.cancel()
        call.cancel()
        assert relay.told == ["pause", "resume", "cancel", "cancel"]
        await bench.book.close()
        assert (await bench.fetched(draft))["status"] == "cancelled"
        abandoned = await bench.open(stream=True)
        under_way = await bench.book.begin(abandoned)
        RecordedCall(relay, under_way).abandon(FAILURE)
        await bench.book.close()
        assert (await bench.fetched(abandoned))["status"] == "failed"

    run(work())


def test_an_answer_too_long_to_be_replayed() -> None:
    async def work() -> None:
        bench = Bench(max_events=2000)
        draft = await bench.open(background=True)
        under_way = await bench.book.begin(draft)
        following = await bench.book.replay(draft.id, ANN)
        feed(draft, under_way, ANSWER)
        assert kinds_of(await gather(following)) == ["error"]
        await bench.book.close()
        assert (await bench.fetched(draft))["status"] == "completed"
        again = kinds_of(await gather(await bench.book.replay(draft.id, ANN)))
        assert again[-1] == "completed"

    run(work())


def kinds_of(events: list[bytes]) -> list[str]:
    return [
        data.partition(b"\n")[0].decode().removeprefix("event: ").removeprefix("response.") for data in events
    ]


def test_a_restart(tmp_path: Path) -> None:
    async def work() -> None:
        before = Bench(SqliteStore(tmp_path / "r.db"))
        ended = await before.answered(stream=True)
        events = await gather(await before.book.replay(ended.id, ANN))
        cut = await before.open(background=True)
        feed(cut, await before.book.begin(cut), ANSWER[:3])
        await before.store.close()

        after = Bench(SqliteStore(tmp_path / "r.db"))
        assert (await after.fetched(cut))["status"] == "queued"
        assert await after.book.recover() == 1
        assert await after.book.recover() == 0
        told = await after.fetched(cut)
        assert (told["status"], told["error"]["code"]) == ("failed", "server_error")
        assert kinds_of(await gather(await after.book.replay(cut.id, ANN)))[-1] == "failed"
        assert await gather(await after.book.replay(ended.id, ANN)) == events
        following = await after.open(input="And?", previous_response_id=ended.id)
        assert len(decode_request(following.body).messages) == 3
        with pytest.raises(NotFound):
            await after.book.retrieve(ended.id, BOB)
        await after.store.close()

    run(work())


def test_a_response_that_another_process_works_on(tmp_path: Path) -> None:
    async def work() -> None:
        one, two = Bench(SqliteStore(tmp_path / "r.db")), Bench(SqliteStore(tmp_path / "r.db"))
        draft = await one.open(background=True)
        under_way = await one.book.begin(draft)
        assert (await two.fetched(draft))["status"] == "queued"
        feed(draft, under_way, ANSWER)
        await one.book.close()
        assert (await two.fetched(draft))["status"] == "completed"
        waiting = await one.open(background=True)
        await one.book.begin(waiting)
        assert json.loads(await two.book.cancel(waiting.id, ANN))["status"] == "cancelled"
        for bench in (one, two):
            await bench.store.close()

    run(work())


def test_a_store_that_fails_loses_the_response_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        bench = Bench(MemoryStore(max_bytes=500))
        draft = await bench.answered(stream=True)
        assert "is not kept" in caplog.text
        with pytest.raises(NotFound):
            await bench.book.retrieve(draft.id, ANN)
        background = await bench.open(background=True)
        with pytest.raises(HeadgateError):
            await bench.book.begin(background)
        assert bench.book.in_background == 0

    run(work())
