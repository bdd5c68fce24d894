"""Bad input on the hot routes, both lanes: a clear 4xx in OpenAI's shape, and the server serves on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from headgate.dialects.json_bodies import MAX_ITEMS
from tests.support.client import Connection, request
from tests.support.refusals import ASK, CHAT, EMBED, HOT, JSON, MAX_BODY, post, refused, serving, still_serves
from tests.support.server import Running


@pytest.fixture(scope="module", params=["fast", "asgi"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("bad"), fast=request.param == "fast") as running:
        yield running


@pytest.fixture(autouse=True)
def serves_on(server: Running) -> Iterator[None]:
    yield
    still_serves(server)


BODIES = {
    "empty": b"",
    "blank": b"  \r\n ",
    "malformed": b'{"model": "double", "messages": [',
    "trailing bytes": b'{"model": "double"} {}',
    "bare words": b"model=double&stream=true",
    "array": b'[{"model": "double"}]',
    "string": b'"double"',
    "number": b"12e3",
    "null": b"null",
    "not UTF-8": b'{"model": "double", "user": "\xff\xfe"}',
    "UTF-16": '{"model": "double"}'.encode("utf-16"),
    "nested in a field": b'{"model": "double", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "nested and unclosed": b"[" * 100_000,
    "NaN": b'{"model": "double", "temperature": NaN}',
    "control character in a string": b'{"model": "dou\x00ble"}',
}


@pytest.mark.parametrize("path", HOT)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_body_that_is_not_one_json_object(server: Running, path: str, body: bytes) -> None:
    message = refused(request(server.port, "POST", path, body, JSON), 400, "invalid_json")
    assert "JSON" in message


@pytest.mark.parametrize("path", HOT)
@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({}, "missing_required_parameter", "model"),
        ({"model": None}, "invalid_type", "model"),
        ({"model": 3}, "invalid_type", "model"),
        ({"model": ["double"]}, "invalid_type", "model"),
        ({"model": {"name": "double"}}, "invalid_type", "model"),
        ({"model": True}, "invalid_type", "model"),
        ({"model": ""}, "invalid_value", "model"),
        ({"model": "double", "stream": "yes"}, "invalid_type", "stream"),
        ({"model": "double", "stream": 1}, "invalid_type", "stream"),
        ({"model": "double", "stream": []}, "invalid_type", "stream"),
    ],
)
def test_fields_that_routing_reads(
    server: Running, path: str, fields: dict[str, Any], code: str, param: str
) -> None:
    body = {"messages": ASK["messages"], "input": "x", **fields}
    refused(request(server.port, "POST", path, body), 400, code, param)


@pytest.mark.parametrize("path", HOT)
def test_unknown_model_names_its_neighbours(server: Running, path: str) -> None:
    answer = request(server.port, "POST", path, {**ASK, "model": "gpt-4"})
    assert "'gpt-4o'" in refused(answer, 404, "model_not_found", "model")
    answer = request(server.port, "POST", path, {**ASK, "model": "x" * 10_000})
    assert len(refused(answer, 404, "model_not_found", "model")) < 300
    answer = request(server.port, "POST", path, {**ASK, "model": "../../etc/passwd\r\nx: y"})
    refused(answer, 404, "model_not_found", "model")


def test_lone_surrogate_in_the_model_is_no_crash(server: Running) -> None:
    for path in HOT:
        answer = request(server.port, "POST", path, b'{"model": "\\ud800", "messages": []}', JSON)
        assert answer.status in (400, 404)
        refused(answer, answer.status)


WRONG_CHAT_FIELDS: list[tuple[str, Any, str]] = [
    ("messages", None, "messages"),
    ("messages", [], "messages"),
    ("messages", "hi", "messages"),
    ("messages", {"role": "user"}, "messages"),
    ("messages", ["hi"], "messages[0]"),
    ("messages", [{}], "messages[0].role"),
    ("messages", [{"role": 1}], "messages[0].role"),
    ("messages", [{"role": "boss", "content": "x"}], "messages[0].role"),
    ("messages", [{"role": "user"}], "messages[0].content"),
    ("messages", [{"role": "user", "content": 5}], "messages[0].content"),
    ("messages", [{"role": "user", "content": [5]}], "messages[0].content[0]"),
    ("messages", [{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
    ("messages", [{"role": "tool", "content": "x"}], "messages[0].tool_call_id"),
    ("messages", [{"role": "assistant", "tool_calls": "x"}], "messages[0].tool_calls"),
    ("temperature", "hot", "temperature"),
    ("temperature", True, "temperature"),
    ("top_p", [], "top_p"),
    ("n", 0, "n"),
    ("n", 1.5, "n"),
    ("n", 2, "n"),
    ("seed", "one", "seed"),
    ("max_tokens", "10", "max_tokens"),
    ("max_tokens", -1, "max_tokens"),
    ("max_completion_tokens", {}, "max_completion_tokens"),
    ("stop", 1, "stop"),
    ("stop", [1], "stop[0]"),
    ("presence_penalty", "x", "presence_penalty"),
    ("frequency_penalty", {}, "frequency_penalty"),
    ("logit_bias", [], "logit_bias"),
    ("logit_bias", {"5": "x"}, "logit_bias"),
    ("logprobs", "yes", "logprobs"),
    ("logprobs", True, "logprobs"),
    ("top_logprobs", "x", "top_logprobs"),
    ("stream_options", "x", "stream_options"),
    ("stream_options", {"include_usage": "x"}, "stream_options.include_usage"),
    ("tools", "x", "tools"),
    ("tools", [1], "tools[0]"),
    ("tools", [{}], "tools[0].type"),
    ("tools", [{"type": "function"}], "tools[0].function"),
    ("tools", [{"type": "function", "function": {}}], "tools[0].function.name"),
    ("tools", [{"type": "function", "function": {"name": "f"}}], "tools"),
    ("tool_choice", 1, "tool_choice"),
    ("tool_choice", "perhaps", "tool_choice"),
    ("tool_choice", {"type": "function"}, "tool_choice.function"),
    ("parallel_tool_calls", "x", "parallel_tool_calls"),
    ("response_format", "json", "response_format"),
    ("response_format", {"type": "xml"}, "response_format.type"),
    ("response_format", {"type": "json_schema"}, "response_format.json_schema"),
    ("response_format", {"type": "json_object"}, "response_format"),
    ("reasoning_effort", 3, "reasoning_effort"),
    ("user", 3, "user"),
    ("metadata", "x", "metadata"),
    ("metadata", {"a": 1}, "metadata"),
    ("service_tier", [], "service_tier"),
    ("store", "x", "store"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("field", "value", "param"), WRONG_CHAT_FIELDS)
def test_wrong_chat_field_of_a_translated_model(
    server: Running, field: str, value: Any, param: str, stream: bool
) -> None:
    answer = request(server.port, "POST", CHAT, {**ASK, "stream": stream, field: value})
    assert param in refused(answer, 400, param=param) or field == "messages"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": {}}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"input": [1, "a"]}, "input[1]"),
        ({"input": [1.5]}, "input[0]"),
        ({"input": [-1]}, "input[0]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [[1], ["a"]]}, "input[1][0]"),
        ({"input": [True]}, "input[0]"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x", "encoding_format": 1}, "encoding_format"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
        ({"input": "x", "dimensions": "8"}, "dimensions"),
        ({"input": "x", "user": 1}, "user"),
    ],
)
def test_wrong_embedding_field(server: Running, fields: dict[str, Any], param: str) -> None:
    refused(request(server.port, "POST", EMBED, {"model": "double", **fields}), 400, param=param)


@pytest.mark.parametrize(
    ("path", "name", "item"),
    [
        (EMBED, "input", b'"a"'),
        (EMBED, "input", b"1"),
        (CHAT, "messages", b'{"role":"user","content":"a"}'),
        (CHAT, "stop", b'"a"'),
        (CHAT, "tools", b'"a"'),
    ],
)
def test_too_many_items_are_refused(server: Running, path: str, name: str, item: bytes) -> None:
    def body(number: int) -> bytes:
        rest = b"" if name == "messages" else b', "messages": [{"role": "user", "content": "x"}]'
        return b'{"model": "double", "%b": [%b]%b}' % (name.encode(), b",".join([item] * number), rest)

    answer = request(server.port, "POST", path, body(MAX_ITEMS + 1), JSON)
    assert f"{MAX_ITEMS:,}" in refused(answer, 400, "invalid_value", name)
    million = body(1_000_000 if len(item) < 10 else 600_000)
    assert len(million) < MAX_BODY
    answer = request(server.port, "POST", path, million, JSON)
    assert "1,000,000 JSON values" in refused(answer, 400, "invalid_value")


def test_a_message_of_too_many_parts_is_refused(server: Running) -> None:
    parts = b"[" + b",".join([b'{"type":"text","text":"a"}'] * (MAX_ITEMS + 1)) + b"]"
    body = b'{"model": "double", "messages": [{"role": "user", "content": %b}]}' % parts
    refused(request(server.port, "POST", CHAT, body, JSON), 400, "invalid_value", "messages[0].content")


def test_a_field_given_twice_has_one_meaning(server: Running) -> None:
    body = b'{"model": "nope", "messages": [{"role": "user", "content": "x"}], "model": "double"}'
    assert request(server.port, "POST", CHAT, body, JSON).json["model"] == "double"


# Larger than allowed.


@pytest.mark.parametrize("path", HOT)
def test_announced_too_large_is_refused_before_the_body_comes(server: Running, path: str) -> None:
    with Connection(server.port) as connection:
        connection.socket.sendall(post(path, b"", f"content-length: {MAX_BODY + 1}"))
        answer = connection.answer()  # nothing of the body was sent
        assert str(MAX_BODY) in refused(answer, 413, "payload_too_large")
        assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("path", HOT)
@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_is_readable_by_a_client_that_sends_it_all(
    server: Running, path: str, chunked: bool
) -> None:
    block = b"x" * 1_000_000
    with Connection(server.port) as connection:
        if chunked:
            connection.socket.sendall(post(path, b"", "transfer-encoding: chunked"))
            block = b"%x\r\n%b\r\n" % (len(block), block)
        else:
            connection.socket.sendall(post(path, b"", f"content-length: {25_000_000}"))
        for _ in range(25):
            connection.socket.sendall(block)
        if chunked:
            connection.socket.sendall(b"0\r\n\r\n")
        refused(connection.answer(), 413, "payload_too_large")
        assert connection.closed()


def test_chunked_too_large_is_refused_in_the_middle(server: Running) -> None:
    with Connection(server.port) as connection:
        connection.socket.sendall(post(CHAT, b"", "transfer-encoding: chunked"))
        block = b"%x\r\n%b\r\n" % (1_000_000, b"x" * 1_000_000)
        for _ in range(21):
            connection.socket.sendall(block)
        refused(connection.answer(), 413, "payload_too_large")  # the end of the body was not sent


def test_just_large_enough(server: Running) -> None:
    body = json.dumps(ASK).encode()
    body = body[:-1] + b', "user": "' + b"u" * (MAX_BODY - len(body) - 12) + b'"}'
    assert len(body) == MAX_BODY
    assert request(server.port, "POST", CHAT, body, JSON).status == 200


# Types, routes, methods.


@pytest.mark.parametrize("path", HOT)
@pytest.mark.parametrize(
    "fields",
    [
        {"content-type": "text/xml"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "\xff\xfe"},
        {"content-type": "application/json", "content-encoding": "gzip"},
        {"content-type": "application/json", "content-encoding": "br"},
    ],
)
def test_unsupported_media_type(server: Running, path: str, fields: dict[str, str]) -> None:
    body = json.dumps(ASK).encode()
    head = [f"{name}: {value}" for name, value in fields.items()]
    lines = [f"POST {path} HTTP/1.1", "host: test", f"content-length: {len(body)}", *head, "", ""]
    with Connection(server.port) as connection:
        connection.socket.sendall("\r\n".join(lines).encode("latin-1") + body)
        refused(connection.answer(), 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json", ""]
)
def test_supported_media_types(server: Running, kind: str) -> None:
    body = json.dumps(ASK).encode()
    assert request(server.port, "POST", CHAT, body, {"content-type": kind}).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/nope",
        "/v1/chat/completions/",
        "/v1/embeddings/",
        "//v1/chat/completions",
        "/v1/chat/completions%00",
        "/V1/chat/completions",
        "/nope?x=%ff",
        "/" + "x" * 5000,
    ],
)
def test_unknown_route(server: Running, path: str) -> None:
    for method in ("GET", "POST"):
        message = refused(request(server.port, method, path, b""), 404, "not_found")
        assert len(message) < 400


@pytest.mark.parametrize("path", HOT)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_wrong_method(server: Running, path: str, method: str) -> None:
    answer = request(server.port, method, path)
    assert method in refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_head_has_no_body(server: Running) -> None:
    with Connection(server.port) as connection:
        connection.send("HEAD", CHAT)
        status, _ = connection.head()
        assert status == 405
        assert connection.request("GET", "/livez").status == 200  # and no bytes were left between


def test_query_string_on_a_hot_route_is_let_through(server: Running) -> None:
    assert request(server.port, "POST", f"{CHAT}?api-version=1", ASK).status == 200


def test_a_defect_of_ours_is_a_500_without_particulars(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: str) -> None:
        raise RuntimeError("a secret detail")

    with monkeypatch.context() as patch:
        patch.setattr(server.gateway, "route", broken)
        answer = request(server.port, "POST", CHAT, ASK, {"x-request-id": "defect-1"})
        assert (answer.status, answer.error["code"]) == (500, "internal_error")
        assert "defect-1" in answer.error["message"]
        assert "secret" not in answer.body.decode()
    assert "a secret detail" in caplog.text
