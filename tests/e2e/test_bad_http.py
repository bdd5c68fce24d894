"""Requests that are hardly HTTP, on both lanes: refused in one way, and never taken for two requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import Connection, request
from tests.support.refusals import ASK, CHAT, MAX_BODY, post, raw, refused, serving, still_serves
from tests.support.server import Running

fast_only = pytest.mark.parametrize("server", ["fast"], indirect=True)


@pytest.fixture(scope="module", params=["fast", "asgi"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("bad"), fast=request.param == "fast") as running:
        yield running


@pytest.fixture(autouse=True)
def serves_on(server: Running) -> Iterator[None]:
    yield
    still_serves(server)


GARBAGE = {
    "two lengths": post(CHAT, b"{}", "content-length: 2", "content-length: 7"),
    "list of lengths": post(CHAT, b"{}", "content-length: 2, 7"),
    "negative length": post(CHAT, b"{}", "content-length: -1"),
    "signed length": post(CHAT, b"{}", "content-length: +2"),
    "length in words": post(CHAT, b"{}", "content-length: two"),
    "hexadecimal length": post(CHAT, b"{}", "content-length: 0x2"),
    "length past 64 bits": post(CHAT, b"{}", "content-length: 99999999999999999999999"),
    "length and chunked": post(CHAT, b"0\r\n\r\n", "content-length: 5", "transfer-encoding: chunked"),
    "chunked and length": post(CHAT, b"0\r\n\r\n", "transfer-encoding: chunked", "content-length: 5"),
    "chunked is not last": post(CHAT, b"0\r\n\r\n", "transfer-encoding: chunked, gzip"),
    "unknown transfer coding": post(CHAT, b"{}", "transfer-encoding: xchunked"),
    "chunk size": post(CHAT, b"zz\r\n{}\r\n0\r\n\r\n", "transfer-encoding: chunked"),
    "chunk without its end": post(CHAT, b"2\r\n{}xx0\r\n\r\n", "transfer-encoding: chunked"),
    "space before the colon": post(CHAT, b"{}", "content-length : 2"),
    "folded field": post(CHAT, b"{}", "x-a: 1\r\n 2", "content-length: 2"),
    "bare CR in a field": post(CHAT, b"{}", "x-a: 1\r2", "content-length: 2"),
    "NUL in a field": post(CHAT, b"{}", "x-a: 1\x002", "content-length: 2"),
    "field without a name": post(CHAT, b"{}", ": x", "content-length: 2"),
    "no version": b"POST /v1/chat/completions\r\n\r\n",
    "unknown method": b"BREW /v1/chat/completions HTTP/1.1\r\nhost: test\r\n\r\n",
    "unknown version": post(CHAT, b"{}", "content-length: 2", version="7.7"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "target with a space": b"POST /v1/chat completions HTTP/1.1\r\nhost: test\r\n\r\n",
    "target not ASCII": b"POST /v1/\xff\xfe HTTP/1.1\r\nhost: test\r\n\r\n",
    "tunnel": b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_http_that_can_be_read_in_two_ways_is_refused_and_closed(server: Running, data: bytes) -> None:
    smuggled = b"GET /livez HTTP/1.1\r\nhost: smuggled\r\n\r\n"
    answers = raw(server.port, data + smuggled)
    assert [answer.status for answer in answers] == [400]
    assert answers[0].headers["connection"] == "close"
    if server.fast:
        refused(answers[0], 400)


def test_garbage_after_a_request_does_not_corrupt_its_answer(server: Running) -> None:
    with Connection(server.port) as connection:
        connection.send("POST", CHAT, ASK)
        assert connection.answer().status == 200
        connection.socket.sendall(b"\x00\x01\x02 garbage\r\n\r\n")
        assert connection.answer().status == 400
        assert connection.closed()


def test_absurd_headers(server: Running) -> None:
    fields = {f"x-{n}": "v" * 50 for n in range(500)}
    assert request(server.port, "POST", CHAT, ASK, fields).status == 200
    assert request(server.port, "POST", CHAT, ASK, {"x-long": "v" * 30_000}).status == 200


@pytest.mark.parametrize("rid", ["a" * 5000, "x\ty", "caf\xe9", "", '"}{"', "a b"])
def test_hostile_request_ids_are_replaced(server: Running, rid: str) -> None:
    body = json.dumps(ASK).encode()
    with Connection(server.port) as connection:
        connection.socket.sendall(post(CHAT, body, f"content-length: {len(body)}", f"x-request-id: {rid}"))
        answer = connection.answer()
        assert answer.status == 200
        assert answer.headers["x-request-id"].isascii()
        assert answer.headers["x-request-id"].isprintable()
        assert 0 < len(answer.headers["x-request-id"]) <= 256


def test_expect_100_continue(server: Running) -> None:
    body = json.dumps(ASK).encode()
    with Connection(server.port) as connection:
        connection.socket.sendall(post(CHAT, b"", f"content-length: {len(body)}", "expect: 100-continue"))
        assert connection.head()[0] == 100
        connection.socket.sendall(body)
        assert connection.answer().status == 200


def test_expect_100_continue_for_a_body_too_large(server: Running) -> None:
    with Connection(server.port) as connection:
        connection.socket.sendall(post(CHAT, b"", f"content-length: {MAX_BODY + 1}", "expect: 100-continue"))
        refused(connection.answer(), 413, "payload_too_large")  # and no 100 before it


@pytest.mark.parametrize("ask", [ASK, {"model": "gpt-4o", "messages": ASK["messages"]}])
def test_http_1_0(server: Running, ask: dict[str, Any]) -> None:
    body = json.dumps(ask).encode()
    [answer] = raw(server.port, post(CHAT, body, f"content-length: {len(body)}", version="1.0"))
    assert answer.status == 200
    assert answer.json["object"] == "chat.completion"
    [answer] = raw(server.port, post(CHAT, b"{}", "content-length: 2", version="1.0"))
    refused(answer, 400, param="model")


@fast_only  # uvicorn's own loses the body
@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_wish_for_another_protocol_is_ignored(server: Running, protocol: str) -> None:
    """Java's HTTP client, and `curl --http2`, send their first request so."""
    fields = {"connection": "Upgrade, HTTP2-Settings", "upgrade": protocol, "http2-settings": "AAMAAABk"}
    with Connection(server.port) as connection:
        for _ in range(3):
            connection.send("POST", CHAT, ASK, fields)
        for _ in range(3):
            assert connection.answer().status == 200
        connection.send("POST", "/v1/nope", ASK, fields)
        refused(connection.answer(), 404, "not_found")
        connection.send("GET", "/livez", None, {**fields, "connection": "upgrade, close"})
        answer = connection.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert connection.closed()


@fast_only  # uvicorn's own loses the body
def test_many_wishes_in_one_read(server: Running) -> None:
    body = json.dumps({**ASK, "model": "nope"}).encode()
    one = post(CHAT, body, f"content-length: {len(body)}", "connection: upgrade", "upgrade: h2c")
    with Connection(server.port) as connection:
        connection.socket.sendall(one * 1000)
        for _ in range(1000):
            assert connection.answer().status == 404


@fast_only  # uvicorn's own takes trailers for headers
def test_trailers_are_no_headers(server: Running) -> None:
    body = json.dumps(ASK).encode()
    data = b"%x\r\n%b\r\n0\r\nx-request-id: from-a-trailer\r\n\r\n" % (len(body), body)
    with Connection(server.port) as connection:
        connection.socket.sendall(post(CHAT, data, "transfer-encoding: chunked"))
        assert connection.answer().headers["x-request-id"] != "from-a-trailer"


@fast_only  # uvicorn's own has no limit
@pytest.mark.parametrize("where", ["head", "trailers", "chunk extension"])
def test_endless_fields_are_refused(server: Running, where: str) -> None:
    starts = {
        "head": b"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\nx-a: ",
        "trailers": post(CHAT, b"0\r\nx-a: ", "transfer-encoding: chunked"),
        "chunk extension": post(CHAT, b"5;a=", "transfer-encoding: chunked"),
    }
    with Connection(server.port) as connection:
        connection.socket.sendall(starts[where])
        sent = 0
        try:
            while sent < 50_000_000:
                connection.socket.sendall(b"v" * 100_000)
                sent += 100_000
        except ConnectionError:
            return  # closed on us: bounded, which is the point
        pytest.fail(f"the server took {sent} bytes")


@fast_only  # uvicorn's own has no limit
def test_head_over_the_limit_is_told(server: Running) -> None:
    with Connection(server.port) as connection:
        connection.socket.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\nx-a: " + b"v" * 65_536
        )
        refused(connection.answer(), 431, "head_too_large")


@fast_only  # uvicorn's own writes into the answer
def test_garbage_behind_a_request_under_way_closes_without_a_second_answer(server: Running) -> None:
    with Connection(server.port) as connection:
        connection.send("POST", CHAT, {**ASK, "model": "endless", "stream": True})
        assert connection.head()[0] == 200
        assert connection.chunk()
        connection.socket.sendall(b"\x00\x01 garbage\r\n\r\n")
        rest = b""
        with pytest.raises(ConnectionError):
            while (part := connection.chunk()) is not None:
                rest += part
        assert b"HTTP/1.1" not in rest


def test_chunked_requests_are_served(server: Running) -> None:
    body = json.dumps(ASK).encode()
    chunks = b"".join(b"1;ext=1\r\n%c\r\n" % byte for byte in body) + b"0\r\nx-trailer: 1\r\n\r\n"
    with Connection(server.port) as connection:
        connection.socket.sendall(post(CHAT, chunks, "transfer-encoding: chunked"))
        assert connection.answer().status == 200
        assert connection.request("POST", CHAT, ASK).status == 200


def test_a_body_that_never_comes_costs_nothing_when_the_caller_leaves(server: Running) -> None:
    with Connection(server.port) as connection:
        connection.socket.sendall(post(CHAT, b'{"model"', "content-length: 500"))
    with Connection(server.port) as connection:
        connection.socket.sendall(post(CHAT, b"ff\r\n{", "transfer-encoding: chunked"))
