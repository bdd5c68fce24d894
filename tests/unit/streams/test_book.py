"""All streams of a server: found by their owners, bounded; shared with another process through a store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from headgate.core.call import Principal
from headgate.core.errors import InvalidRequest, NotFound, Unavailable
from headgate.policy.store import MemoryStore, SqliteStore, Store
from headgate.routing.route import Resume
from headgate.server.streams import StreamBook
from headgate.server.streams.archive import StreamRecord
from headgate.server.streams.distant import DistantListener
from headgate.server.streams.kept import OVERHEAD, KeptStream, StreamHead
from tests.unit.streams.shelf import Caller as Client
from tests.unit.streams.shelf import Source, say

ANN, BOB = Principal("ann"), Principal("bob")


class Caller(Client):
    """Of a stream with any id."""

    @property
    @override
    def numbers(self) -> list[int]:
        lines = [line for line in self.got.split(b"\n") if line.startswith(b"id: ")]
        return [int(line.rpartition(b":")[2]) for line in lines]

    async def until(self, condition: Callable[[Caller], bool]) -> None:
        await until(lambda: condition(self))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task does."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - there is no event of it
            await asyncio.sleep(0.01)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def open_in(book: StreamBook, owner: str = "ann", **resume: Any) -> tuple[KeptStream, Source]:
    source = Source()
    head = StreamHead(
        book.mint(), owner, "gpt", "openai_chat", True, [(b"content-type", b"x")], Resume(**resume), 600.0
    )
    stream = book.open(head, source)
    assert stream is not None
    source.stream = stream
    return stream, source


def test_ids_cannot_be_guessed() -> None:
    book = StreamBook()
    ids = {book.mint() for _ in range(100)}
    assert len(ids) == 100
    assert all(each.startswith("str-") and len(each) == 34 for each in ids)


def test_found_by_its_owner_alone() -> None:
    async def work() -> None:
        book = StreamBook()
        stream, _ = open_in(book)
        identity = stream.head.id
        assert await book.find(identity, ANN) is stream
        wanted = [(identity, BOB), (book.mint(), ANN), ("", ANN), ("str-" + "x" * 1000, ANN)]
        for each, who in wanted:
            with pytest.raises(NotFound) as missing:
                await book.find(each, who)
            assert missing.value.code == "stream_not_found"
            assert len(missing.value.message) < 300
        book.name(stream, "resp_1")
        assert await book.find_named("resp_1", ANN) is stream
        assert await book.find_named("resp_1", BOB) is None
        assert await book.find_named("resp_2", ANN) is None
        with pytest.raises(NotFound):
            await book.stop(identity, BOB)
        await book.stop(identity, ANN)
        assert (len(book), book.held) == (0, 0)
        assert await book.find_named("resp_1", ANN) is None

    run(work())


def test_so_many_streams_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        book = StreamBook(max_streams=3)
        streams = [open_in(book)[0] for _ in range(3)]
        head = streams[0].head
        with caplog.at_level(logging.WARNING, "headgate.streams"):
            assert book.open(head, Source()) is None
        assert "no room for another resumable stream: 3 are kept" in caplog.text
        for stream in (streams[1], streams[0]):
            stream.end()
        fourth, _ = open_in(book)
        assert [each.head.id for each in book] == [s.head.id for s in (streams[0], streams[2], fourth)]
        await book.close()
        assert (len(book), book.held) == (0, 0)

    run(work())


def test_so_many_bytes_and_no_more() -> None:
    async def work() -> None:
        book = StreamBook(max_bytes=100_000)
        old, _ = open_in(book)
        say(old, 50, size=1000)
        old.end()
        new, source = open_in(book)
        caller = Caller()
        listener = new.attach(caller, 0, ())
        say(new, 60, size=1000)
        assert len(book) == 1  # the one that had ended made room
        assert book.held == new.held
        say(new, 200, size=1000)
        assert book.held <= 100_000
        assert caller.numbers == list(range(1, 261))
        listener.cancel()
        while source.flowing:
            say(new, 1, size=1000)
        assert book.held <= 100_000 + 1000 + OVERHEAD + 60
        assert book.open(new.head, source) is None
        await book.close()
        assert book.held == 0

    run(work())


class Two:
    """Two books that share a store, as those of two processes do."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.here = StreamBook(store)
        self.there = StreamBook(store)

    async def listen(self, identity: str, after: int = 0, caller: Caller | None = None) -> Listening:
        found = await self.there.find(identity, ANN)
        assert isinstance(found, StreamRecord)
        assert self.there.archive is not None
        caller = caller if caller is not None else Caller()
        return Listening(DistantListener(self.there.archive, found, caller, after), caller)

    async def close(self) -> None:
        await self.here.close()
        await self.there.close()
        await self.store.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        assert not rest


class Listening:
    def __init__(self, listener: DistantListener, caller: Caller) -> None:
        self.listener = listener
        self.caller = caller
        caller.pause = listener.pause
        self.task = asyncio.get_running_loop().create_task(listener.run(()))

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    if request.param == "memory":
        return MemoryStore
    return lambda: SqliteStore(tmp_path / "state.db")


def test_read_elsewhere_while_it_comes_and_after(make_store: Callable[[], Store]) -> None:
    async def work() -> None:
        two = Two(make_store())
        stream, _ = open_in(two.here)
        say(stream, 3)
        near = Caller()
        stream.attach(near, 0, ())
        early = await two.listen(stream.head.id)
        await early.caller.until(lambda c: c.numbers == [1, 2, 3])
        say(stream, 2)
        await early.caller.until(lambda c: c.numbers == [1, 2, 3, 4, 5])
        ahead = await two.listen(stream.head.id, after=6)  # what it has is not in the store yet
        say(stream, 3)
        stream.end()
        await early.task
        await ahead.task
        assert early.caller.got == near.got
        assert ahead.caller.numbers == [7, 8]
        assert (early.caller.end_seen, ahead.caller.end_seen) == ("end", "end")
        for after in range(9):
            late = await two.listen(stream.head.id, after)
            await late.task
            assert (late.caller.numbers, late.caller.end_seen) == (list(range(after + 1, 9)), "end")
        with pytest.raises(NotFound):
            await two.there.find(stream.head.id, BOB)
        await two.close()

    run(work())


def test_a_slow_reader_elsewhere(make_store: Callable[[], Store]) -> None:
    async def work() -> None:
        two = Two(make_store())
        stream, _ = open_in(two.here)
        say(stream, 300, size=1000)
        stream.end()
        await two.here.archive.close() if two.here.archive else None
        slow = await two.listen(stream.head.id, caller=Caller(room=1))
        await slow.caller.until(lambda c: len(c.numbers) > 0)
        await asyncio.sleep(0)
        assert 10 < len(slow.caller.numbers) < 150
        slow.caller.room = 10**9
        slow.listener.resume()
        await slow.task
        assert slow.caller.numbers == list(range(1, 301))
        await two.close()

    run(work())


def test_what_another_process_asks_for(make_store: Callable[[], Store]) -> None:
    async def work() -> None:
        two = Two(make_store())
        stream, source = open_in(two.here)
        caller = Caller()
        stream.attach(caller, 0, ())
        say(stream, 3)
        two.here.name(stream, "resp_1")
        reader = await two.listen(stream.head.id)
        await reader.caller.until(lambda c: len(c.numbers) == 3)
        found = await two.there.find_named("resp_1", ANN)
        assert isinstance(found, StreamRecord)
        assert found.id == stream.head.id
        with pytest.raises(NotFound):
            await two.there.stop(stream.head.id, BOB)
        await two.there.stop(stream.head.id, ANN)
        await caller.until(lambda c: c.end_seen == "end")
        assert [error.code for error in source.ended if error] == ["stream_stopped"]
        await reader.task
        assert b"stream_stopped" in reader.caller.got
        assert len(two.here) == 0
        with pytest.raises(NotFound):
            await two.there.find(stream.head.id, ANN)
        await two.close()

    run(work())


def test_a_full_stream_goes_on_for_a_reader_elsewhere(make_store: Callable[[], Store]) -> None:
    """The one who makes it holds no more than it may, and the store no more of it either."""

    async def work() -> None:
        two = Two(make_store())
        stream, source = open_in(two.here, buffer=20_000)
        while source.flowing:
            say(stream, 1, size=500)
            await asyncio.sleep(0)
        reader = await two.listen(stream.head.id)
        while stream.last < 150:
            await until(lambda: source.flowing)
            while source.flowing:
                say(stream, 1, size=500)
        stream.end()
        await reader.task
        assert reader.caller.numbers == list(range(1, stream.last + 1))
        assert stream.held <= 21_000
        keys = await two.store.list(f"stream-events:{stream.head.id}:")
        assert len(keys) < 10
        with pytest.raises(InvalidRequest, match="not all kept any more"):
            await (await two.listen(stream.head.id)).task
        await two.close()

    run(work())


def test_what_is_not_kept_any_more_is_not_in_the_store_either(make_store: Callable[[], Store]) -> None:
    async def work() -> None:
        two = Two(make_store())
        stream, _ = open_in(two.here, keep=0.05)
        say(stream, 3)
        stream.end()
        await until(lambda: len(two.here) == 0)
        assert two.here.held == 0
        await two.here.close()  # waits for what is to be cleared away
        assert await two.store.list("stream") == [f"stream-process:{two.here.process}"]
        await two.close()

    run(work())


class Failing(MemoryStore):
    """Can't be written for a while."""

    broken = False

    @override
    async def put_many(self, entries: Sequence[tuple[str, bytes, float]]) -> None:
        if self.broken:
            raise Unavailable("The server's store can't be used now (disk full).")
        await super().put_many(entries)


def test_a_store_that_fails_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        store = Failing()
        two = Two(store)
        lost, _ = open_in(two.here)
        stream, _ = open_in(two.here)
        caller = Caller()
        stream.attach(caller, 0, ())
        say(stream, 2)
        store.broken = True
        say(lost, 1)
        lost.end()
        await until(lambda: "can't be shared" in caplog.text)
        say(stream, 2)
        assert caller.numbers == [1, 2, 3, 4]
        store.broken = False
        reader = await two.listen(stream.head.id)
        stream.end()
        await reader.task
        assert reader.caller.numbers == [1, 2, 3, 4]
        with pytest.raises(NotFound):
            await two.there.find(lost.head.id, ANN)
        assert await two.here.find(lost.head.id, ANN) is lost
        await two.close()

    run(work())
