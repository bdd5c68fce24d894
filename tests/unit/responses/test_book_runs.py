"""Kept responses that do not end as they should: in the background, cancelled, failed, restarted, deleted."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from headgate.core.errors import (
    HeadgateError,
    InvalidRequest,
    NotFound,
    Overloaded,
    RateLimited,
    UpstreamError,
)
from headgate.core.events import (
    Failed,
    PartDelta,
    PartStarted,
)
from headgate.core.messages import Text
from headgate.dialects.openai_errors import encode_error_body
from headgate.dialects.openai_responses import decode_request
from headgate.policy.store import MemoryStore, SqliteStore
from headgate.server.responses import (
    DetachedClient,
    RecordedCall,
    RecordingClient,
)
from tests.unit.responses.bench import ANN, ANSWER, BOB, CALLS, OPTIONS, Bench, feed, gather, kinds_of, run
from tests.unit.responses.wire import kinds


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

    @property
    def done(self) -> bool:
        return "cancel" in self.told

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


def test_what_another_living_process_makes_is_left_to_it(tmp_path: Path) -> None:
    async def work() -> None:
        ours = Bench(SqliteStore(tmp_path / "r.db"))
        theirs, lost = await ours.open(background=True), await ours.open(background=True)
        for draft in (theirs, lost):
            feed(draft, await ours.book.begin(draft), ANSWER[:3])
        await ours.store.put(f"running:{theirs.id}", str(os.getppid()).encode(), 60.0)
        await ours.store.put(f"running:{lost.id}", b"999999999", 60.0)  # no process has this number
        await ours.store.close()

        after = Bench(SqliteStore(tmp_path / "r.db"))
        assert await after.book.recover() == 1
        assert (await after.fetched(theirs))["status"] == "queued"
        assert (await after.fetched(lost))["status"] == "failed"
        await after.store.close()

    run(work())


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
