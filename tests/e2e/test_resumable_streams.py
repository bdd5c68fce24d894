"""Streams that go on where a connection broke off: within one process, on real sockets."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from headgate.server.streams.kept import KeptStream
from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import Answer, Connection, request
from tests.support.process import started, write_config
from tests.support.server import Running
from tests.support.upstream import DONE, SSE_HEAD, Drop, Seen, Step, completion, delta, event, plain

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "gpt", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
WORDS = [f"word{n} " for n in range(8)]


async def speaks(_: Seen) -> AsyncIterator[Step]:
    yield SSE_HEAD
    for word in WORDS:
        yield event(delta(word))
    yield event(delta(finish="stop")) + DONE


def waits_for(go_on: threading.Event, before: int = 3) -> Callable[[Seen], AsyncIterator[Step]]:
    """Says `before` words, then waits."""

    async def script(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD
        for number, word in enumerate(WORDS):
            if number == before:
                yield go_on
            yield event(delta(word))
        yield event(delta(finish="stop")) + DONE

    return script


def resumable(upstream: Any, **more: Any) -> dict[str, Any]:
    return remote(upstream, resumable=more or True)


def blocks(data: bytes) -> list[bytes]:
    return data.split(b"\n\n")[:-1]


def read_events(connection: Connection, count: int) -> list[bytes]:
    """The next `count` events of a chunked answer; what came with them of others is lost."""
    data = b""
    while data.count(b"\n\n") < count:
        part = connection.chunk()
        assert part is not None, f"it ended: {data!r}"
        data += part
    return blocks(data)[:count]


def place_of(block: bytes) -> str:
    """The id of an event."""
    (line,) = [line for line in block.split(b"\n") if line.startswith(b"id: ")]
    return line.removeprefix(b"id: ").decode()


def begin(
    server: Running, count: int, path: str = CHAT, ask: dict[str, Any] | None = None
) -> tuple[str, list[bytes]]:
    """Ask, read `count` events, and break the connection. The stream's id, and what was read."""
    with Connection(server.port) as connection:
        connection.send("POST", path, ask or ASK)
        status, headers = connection.head()
        assert status == 200
        return headers["x-headgate-stream"], read_events(connection, count)


def resume(server: Running, way: str, stream: str, after: int, path: str = CHAT) -> Answer:
    if way == "post":
        return request(server.port, "POST", path, ASK, {"last-event-id": f"{stream}:{after}"})
    if way == "header":
        return request(
            server.port, "GET", f"/v1/streams/{stream}", None, {"last-event-id": f"{stream}:{after}"}
        )
    return request(server.port, "GET", f"/v1/streams/{stream}?starting_after={after}")


def only_stream(server: Running) -> KeptStream:
    (stream,) = server.gateway.streams
    return stream


def numbers(events: list[bytes]) -> list[int]:
    return [int(place_of(each).rpartition(":")[2]) for each in events]


@pytest.mark.parametrize("way", ["post", "header", "query"])
def test_every_event_comes_once_and_in_order_wherever_it_was_cut(
    play: Play, serve: Serve, lane: str, way: str
) -> None:
    server = serve(models={"gpt": resumable(play(speaks))}, fast=lane == "fast")
    whole = blocks(request(server.port, "POST", CHAT, ASK).body)
    plain = [block.rpartition(b"\nid: ")[0] for block in whole]
    assert [b"word" in block for block in plain] == [True] * 8 + [False, False]
    assert plain[-1] == b"data: [DONE]"
    for cut in range(1, len(whole) + 1):
        stream, read = begin(server, cut)
        rest = resume(server, way, stream, len(read))
        assert rest.status == 200
        assert rest.headers["content-type"].startswith("text/event-stream")
        assert rest.headers["x-headgate-stream"] == stream
        events = read + blocks(rest.body)
        assert numbers(events) == list(range(1, len(whole) + 1))
        assert [block.rpartition(b"\nid: ")[0] for block in events] == plain


def test_a_second_listener_joins_and_both_get_all(play: Play, serve: Serve, lane: str) -> None:
    go_on = threading.Event()
    server = serve(models={"gpt": resumable(play(waits_for(go_on)))}, fast=lane == "fast")
    with Connection(server.port) as first, Connection(server.port) as second:
        first.send("POST", CHAT, ASK)
        stream = first.head()[1]["x-headgate-stream"]
        read = read_events(first, 3)
        second.send("GET", f"/v1/streams/{stream}?starting_after=1")
        assert second.head()[0] == 200
        assert read_events(second, 2) == read[1:]
        go_on.set()
        rest = first.body()
        assert blocks(rest)
        assert second.body() == rest
        # Both connections serve on.
        assert first.request("POST", CHAT, ASK).status == 200
        assert second.request("GET", "/v1/models").status == 200


def test_who_comes_back_while_it_goes_on_gets_the_rest_as_it_comes(
    play: Play, serve: Serve, lane: str
) -> None:
    go_on = threading.Event()
    upstream = play(waits_for(go_on))
    server = serve(models={"gpt": resumable(upstream)}, fast=lane == "fast")
    stream, read = begin(server, 2)
    with Connection(server.port) as connection:
        connection.send("POST", CHAT, ASK, {"last-event-id": place_of(read[-1])})
        assert connection.head()[1]["x-headgate-stream"] == stream
        third = read_events(connection, 1)
        assert b"word2" in third[0]
        go_on.set()
        rest = blocks(connection.body())
    assert numbers(read + third + rest) == list(range(1, len(WORDS) + 3))
    assert len(upstream.seen) == 1


def test_the_upstream_goes_on_while_nobody_listens(play: Play, serve: Serve) -> None:
    go_on = threading.Event()
    upstream = play(waits_for(go_on))
    server = serve(models={"gpt": resumable(upstream)})
    stream, _ = begin(server, 1)
    go_on.set()
    assert upstream.wait_until(lambda u: u.open_connections <= 1)
    rest = blocks(resume(server, "query", stream, 1).body)
    assert numbers(rest) == list(range(2, len(WORDS) + 3))
    assert rest[-1].startswith(b"data: [DONE]")


def test_when_the_grace_is_over_the_upstream_is_closed(play: Play, serve: Serve, lane: str) -> None:
    upstream = play(waits_for(threading.Event()))
    server = serve(models={"gpt": resumable(upstream, grace="200ms")}, fast=lane == "fast")
    stream, _ = begin(server, 2)
    assert upstream.wait_until(lambda u: u.open_connections == 0)
    late = blocks(resume(server, "post", stream, 2).body)
    assert numbers(late) == [3, 4]
    assert b"word2" in late[0]
    assert b"stream_abandoned" in late[1]


def test_a_caller_that_leaves_before_the_stream_begins_ends_it(play: Play, serve: Serve, lane: str) -> None:
    async def silent(_: Seen) -> AsyncIterator[Step]:
        yield threading.Event()

    upstream = play(silent)
    server = serve(models={"gpt": resumable(upstream)}, fast=lane == "fast")
    with Connection(server.port) as connection:
        connection.send("POST", CHAT, ASK)
        assert upstream.wait_until(lambda u: len(u.seen) == 1)
    assert upstream.wait_until(lambda u: u.open_connections == 0)


def test_who_never_comes_back_leaves_nothing(play: Play, serve: Serve, lane: str) -> None:
    upstream = play(waits_for(threading.Event()))
    server = serve(models={"gpt": resumable(upstream, grace="100ms", keep="300ms")}, fast=lane == "fast")
    streams = [begin(server, 2)[0] for _ in range(5)]
    assert len(server.gateway.streams) == 5
    assert upstream.wait_until(lambda u: u.open_connections == 0)
    until = monotonic() + 10
    while resume(server, "query", streams[-1], 0).status != 404:
        assert monotonic() < until
    book = server.gateway.streams
    assert (len(book), book.held, len(book.listening), server.gateway.in_flight) == (0, 0, 0, 0)
    for stream in streams:
        answer = resume(server, "post", stream, 0)
        assert (answer.status, answer.error["code"]) == (404, "stream_not_found")


def test_another_key_sees_nothing_of_it(play: Play, serve: Serve, lane: str) -> None:
    keys = [{"name": name, "hash": f"sha256:{sha256(name.encode()).hexdigest()}"} for name in ("ann", "bob")]
    server = serve(models={"gpt": resumable(play(speaks))}, server={"keys": keys}, fast=lane == "fast")
    ann, bob = ({"authorization": f"Bearer {name}"} for name in ("ann", "bob"))
    stream = request(server.port, "POST", CHAT, ASK, ann).headers["x-headgate-stream"]
    path = f"/v1/streams/{stream}"
    known = {"last-event-id": f"{stream}:2"}
    missing = {"last-event-id": f"{stream[:-1]}-:2"}
    other = request(server.port, "POST", CHAT, ASK, bob | known)
    none = request(server.port, "POST", CHAT, ASK, bob | missing)
    assert (other.status, none.status) == (404, 404)
    assert other.error["code"] == none.error["code"] == "stream_not_found"
    assert request(server.port, "GET", path, None, bob).status == 404
    assert request(server.port, "DELETE", path, None, bob).status == 404
    assert request(server.port, "GET", path, None, known).status == 401
    assert request(server.port, "POST", CHAT, ASK, known).status == 401
    assert len(blocks(request(server.port, "POST", CHAT, ASK, ann | known).body)) == len(WORDS)
    assert request(server.port, "DELETE", path, None, ann).json["deleted"] is True
    assert request(server.port, "GET", path, None, ann).status == 404


def test_stopping_a_stream_closes_the_upstream_and_tells_the_listener(
    play: Play, serve: Serve, lane: str
) -> None:
    upstream = play(waits_for(threading.Event()))
    server = serve(models={"gpt": resumable(upstream)}, fast=lane == "fast")
    with Connection(server.port) as connection:
        connection.send("POST", CHAT, ASK)
        stream = connection.head()[1]["x-headgate-stream"]
        read_events(connection, 2)
        assert request(server.port, "DELETE", f"/v1/streams/{stream}").status == 200
        assert b"stream_stopped" in connection.body()
    assert upstream.wait_until(lambda u: u.open_connections == 0)


def test_events_that_are_not_kept_any_more(play: Play, serve: Serve, lane: str) -> None:
    server = serve(models={"gpt": resumable(play(speaks), buffer=1000)}, fast=lane == "fast")
    whole = blocks(request(server.port, "POST", CHAT, ASK).body)
    stream = place_of(whole[0]).partition(":")[0]
    for way in ("post", "query"):
        gone = resume(server, way, stream, 1)
        assert (gone.status, gone.error["code"]) == (410, "stream_expired")
    there = re.search(r"events (\d+) to 10 are there", gone.error["message"])
    assert there is not None
    first = int(there[1])
    assert first > 2
    assert resume(server, "post", stream, first - 2).status == 410
    assert blocks(resume(server, "post", stream, first - 1).body) == whole[first - 1 :]


def test_a_full_buffer_holds_the_upstream_up_until_somebody_comes(play: Play, serve: Serve) -> None:
    size = 2_000_000
    words = [f"{n:06}" + "x" * 994 for n in range(size * 8 // 1000)]

    async def long(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD
        for number, word in enumerate(words):
            if number == 1:
                yield go_on
            yield event(delta(word))
            sent.append(word)
        yield event(delta(finish="stop")) + DONE

    sent: list[str] = []
    go_on = threading.Event()
    server = serve(models={"gpt": resumable(play(long), buffer=size)})
    stream, read = begin(server, 1)
    kept = only_stream(server)
    until = monotonic() + 10
    while kept.attended:
        assert monotonic() < until
    go_on.set()
    while not kept.full:
        assert monotonic() < until
    book = server.gateway.streams
    assert book.held < size * 1.5
    assert len(sent) < len(words)
    rest = blocks(resume(server, "query", stream, 1).body)
    assert numbers(read + rest) == list(range(1, len(words) + 3))
    assert book.held <= size


def test_a_slow_listener_holds_the_upstream_up(play: Play, serve: Serve, lane: str) -> None:
    piece = event(delta("x" * 1000)) * 100
    sent: list[int] = []

    async def endless(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD
        while True:
            yield piece
            sent.append(1)
            yield 0.0

    upstream = play(endless)
    server = serve(models={"gpt": resumable(upstream, buffer=1_000_000, grace="100ms")}, fast=lane == "fast")
    with Connection(server.port) as connection:
        connection.send("POST", CHAT, ASK)
        assert connection.head()[0] == 200
        until = monotonic() + 20
        kept = only_stream(server)
        while not kept.full:
            assert monotonic() < until
        assert kept.held < 2_000_000
        read = read_events(connection, 5000)  # it goes on as it is read
        assert numbers(read) == list(range(1, 5001))
    assert upstream.wait_until(lambda u: u.open_connections == 0)


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses"])
def test_what_broke_is_told_again(play: Play, serve: Serve, lane: str, path: str) -> None:
    async def breaks(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("one")) + event(delta("two"))
        yield Drop()

    ask = ASK | {"max_tokens": 9, "input": "hi"} if path != "/v1/responses" else ASK | {"input": "hi"}
    server = serve(models={"gpt": resumable(play(breaks))}, fast=lane == "fast")
    first = request(server.port, "POST", path, ask)
    whole = blocks(first.body)
    stream = first.headers["x-headgate-stream"]
    assert b"error" in whole[-1]
    for after in (0, 1, len(whole) - 1):
        again = request(server.port, "POST", path, ask, {"last-event-id": f"{stream}:{after}"})
        assert blocks(again.body) == whole[after:]


def test_what_is_no_stream_is_as_ever(play: Play, serve: Serve, lane: str) -> None:
    async def answers(seen: Seen) -> AsyncIterator[Step]:
        yield (
            plain(200, completion())
            if not seen.json.get("stream")
            else plain(503, {"error": {"message": "no"}})
        )

    server = serve(models={"gpt": resumable(play(answers))}, fast=lane == "fast")
    whole = request(server.port, "POST", CHAT, ASK | {"stream": False})
    assert (whole.status, "x-headgate-stream" in whole.headers) == (200, False)
    assert request(server.port, "POST", CHAT, ASK).status == 503
    assert len(server.gateway.streams) == 0


@pytest.mark.parametrize(
    ("field", "status", "code"),
    [
        ("str-x:1", 404, "stream_not_found"),
        ("str-x", 400, "invalid_request"),
        ("str-x:y", 400, "invalid_request"),
        ("str-%s:1" % ("x" * 500), 400, "invalid_request"),
        ("17", 200, ""),
    ],
)
def test_places_that_are_none(
    play: Play, serve: Serve, lane: str, field: str, status: int, code: str
) -> None:
    server = serve(models={"gpt": resumable(play(speaks))}, fast=lane == "fast")
    answer = request(server.port, "POST", CHAT, ASK, {"last-event-id": field})
    assert answer.status == status
    if code:
        assert answer.error["code"] == code
    for query in ("x", "-1", "1e3", "9" * 40):
        wrong = request(server.port, "GET", f"/v1/streams/str-x?starting_after={query}")
        assert (wrong.status, wrong.error["param"]) == (400, "starting_after")


def test_googles_client_gets_no_ids_and_resumes_by_number(play: Play, serve: Serve, lane: str) -> None:
    """It takes any line but `data:` for JSON."""
    server = serve(models={"gpt": resumable(play(speaks))}, fast=lane == "fast")
    path = "/v1beta/models/gpt:streamGenerateContent"
    ask = {"contents": [{"parts": [{"text": "hi"}]}]}
    whole = request(server.port, "POST", f"{path}?alt=sse", ask)
    assert b"id:" not in whole.body
    stream = whole.headers["x-headgate-stream"]
    rest = request(server.port, "GET", f"/v1/streams/{stream}?starting_after=2")
    assert blocks(rest.body) == blocks(whole.body)[2:]
    array = request(server.port, "POST", path, ask)
    assert "x-headgate-stream" not in array.headers


def test_a_model_that_is_not_resumable_has_no_ids(play: Play, serve: Serve, lane: str) -> None:
    server = serve(models={"gpt": remote(play(speaks))}, fast=lane == "fast")
    answer = request(server.port, "POST", CHAT, ASK, {"last-event-id": "str-x:1"})
    assert (answer.status, "x-headgate-stream" in answer.headers, b"id: " in answer.body) == (
        200,
        False,
        False,
    )


def test_a_stop_tells_those_who_listen(play: Play, tmp_path: Path) -> None:
    upstream = play(waits_for(threading.Event()))
    settings = {"server": {"grace": "1s"}, "models": {"gpt": resumable(upstream)}}
    with started(tmp_path, "serve", write_config(tmp_path, settings)) as process:
        process.ready()
        with Connection(process.port, 20) as first, Connection(process.port, 20) as second:
            first.send("POST", CHAT, ASK)
            stream = first.head()[1]["x-headgate-stream"]
            second.send("GET", f"/v1/streams/{stream}")
            assert second.head()[0] == 200
            with Connection(process.port) as leaves:
                leaves.send("POST", CHAT, ASK)
                assert leaves.head()[0] == 200
            process.signal(signal.SIGTERM)
            assert b"unavailable" in first.body()
            assert b"unavailable" in second.body()
        assert process.wait() == 0
        assert "Traceback" not in process.stderr
    assert upstream.wait_until(lambda u: u.open_connections == 0)


def test_a_stop_does_not_wait_for_what_nobody_listens_to(play: Play, tmp_path: Path) -> None:
    """Nobody can come back for it: without a shared store, that is."""
    upstream = play(waits_for(threading.Event()))
    settings = {"server": {"grace": "10m"}, "models": {"gpt": resumable(upstream)}}
    with started(tmp_path, "serve", write_config(tmp_path, settings)) as process:
        process.ready()
        with Connection(process.port) as leaves:
            leaves.send("POST", CHAT, ASK)
            assert leaves.head()[0] == 200
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_first_event_that_fills_the_callers_side(play: Play, serve: Serve, lane: str) -> None:
    async def large(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD
        for _n in range(10):
            yield event(delta("x" * 2_000_000))
        yield event(delta(finish="stop")) + DONE

    server = serve(models={"gpt": resumable(play(large), buffer="100MB")}, fast=lane == "fast")
    with Connection(server.port) as connection:
        connection.send("POST", CHAT, ASK)
        assert connection.head()[0] == 200
        until = monotonic() + 10
        while not only_stream(server).full:
            assert monotonic() < until
        assert numbers(blocks(connection.body())) == list(range(1, 13))


def test_a_stream_that_was_held_back_to_its_end(play: Play, serve: Serve, lane: str) -> None:
    model = resumable(play(speaks)) | {"hold_back": {"characters": 10_000, "time": "10s"}}
    server = serve(models={"gpt": model}, fast=lane == "fast")
    whole = request(server.port, "POST", CHAT, ASK)
    rest = resume(server, "post", whole.headers["x-headgate-stream"], 4)
    assert numbers(blocks(whole.body)) == list(range(1, len(WORDS) + 3))
    assert blocks(rest.body) == blocks(whole.body)[4:]
