"""The benchmark's mock upstream and load generator, on real sockets."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.build import compiled
from bench.mock import call
from bench.processes import Process
from bench.scenarios import ANTHROPIC, OPENAI, Dialect

# The mock


@pytest.fixture(scope="module")
def mock_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    command = [str(compiled("mock")), "--chunks", "5", "--pace-us", "1000"]
    log = tmp_path_factory.mktemp("mock") / "log"
    core = min(os.sched_getaffinity(0))
    with Process(command, core=core, log=log, stdout=subprocess.PIPE) as mock:
        assert mock.popen.stdout is not None
        yield int(mock.popen.stdout.readline().split()[1])


def http_request(body: bytes, path: str = "/v1/chat/completions") -> bytes:
    return b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [], **fields}).encode()


def test_mock_answers_a_chat_request(mock_port: int) -> None:
    status, body = call(mock_port, "POST", "/v1/chat/completions", chat())
    assert (status, len(body)) == (200, 1024)
    answer = json.loads(body)
    assert answer["object"] == "chat.completion"
    assert answer["usage"] == {"prompt_tokens": 200, "completion_tokens": 180, "total_tokens": 380}


@pytest.mark.parametrize("usage", [False, True])
def test_mock_streams_events(mock_port: int, usage: bool) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    body = call(mock_port, "POST", "/v1/chat/completions", chat(stream=True, **options))[1].decode()
    *events, done, rest = body.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    decoded = [json.loads(event.removeprefix("data: ")) for event in events]
    texts = [event["choices"][0]["delta"].get("content") for event in decoded if event["choices"]]
    assert len(texts) == 6
    assert len(set(texts)) == 6, "some proxies end a stream that repeats itself"
    assert texts[-1] is None
    assert [event["usage"]["completion_tokens"] for event in decoded if "usage" in event] == [5] * usage
    assert {len(event) + 2 for event in events[:5]} == {200}


def test_mock_answers_a_messages_request(mock_port: int) -> None:
    status, body = call(mock_port, "POST", "/v1/messages", chat())
    assert (status, len(body)) == (200, 1024)
    answer = json.loads(body)
    assert (answer["type"], answer["stop_reason"]) == ("message", "end_turn")
    assert answer["usage"] == {"input_tokens": 200, "output_tokens": 180}


def test_mock_streams_messages(mock_port: int) -> None:
    body = call(mock_port, "POST", "/v1/messages", chat(stream=True))[1].decode()
    *events, rest = body.split("\n\n")
    assert rest == ""
    named = [event.removeprefix("event: ").split("\ndata: ") for event in events]
    decoded = [json.loads(data) for _, data in named]
    assert [name for name, _ in named] == [event["type"] for event in decoded]
    assert [event["type"] for event in decoded] == [
        *("message_start", "content_block_start"),
        *["content_block_delta"] * 5,
        *("content_block_stop", "message_delta", "message_stop"),
    ]
    texts = [event["delta"]["text"] for event in decoded[2:7]]
    assert len(set(texts)) == 5, "some proxies end a stream that repeats itself"
    assert {len(event) + 2 for event in events[2:7]} == {200}
    assert decoded[-2]["usage"] == {"output_tokens": 5}


def test_mock_embeds_and_lists_models_and_knows_no_other_route(mock_port: int) -> None:
    assert json.loads(call(mock_port, "POST", "/v1/embeddings", b"{}")[1])["data"][0]["index"] == 0
    assert json.loads(call(mock_port, "GET", "/v1/models")[1])["data"][0]["id"] == "mock"
    assert call(mock_port, "GET", "/elsewhere")[0] == 404


def test_mock_takes_requests_in_pieces_and_several_at_once(mock_port: int) -> None:
    plain, stream = http_request(chat()), http_request(chat(stream=True))
    chunked = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        b'7\r\n{"strea\r\n9\r\nm": true}\r\n0\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", mock_port), 10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in plain + stream + chunked:
            client.send(bytes([byte]))
        client.sendall(stream + plain + plain)
        kinds = []
        for _ in range(6):
            answer = http.client.HTTPResponse(client)
            # Unbuffered, else it reads into the next answer.
            answer.fp = client.makefile("rb", buffering=0)  # type: ignore[assignment]
            answer.begin()
            kinds.append(answer.getheader("content-type", "").partition(";")[0])
            answer.read()
    plain_kind, stream_kind = "application/json", "text/event-stream"
    assert kinds == [plain_kind, stream_kind, stream_kind, stream_kind, plain_kind, plain_kind]


# The load


def run_load(
    folder: Path,
    mode: str,
    port: int,
    *options: str,
    body: bytes | None = None,
    dialect: Dialect = OPENAI,
) -> dict[str, Any]:
    file = folder / "body.json"
    file.write_bytes(chat() if body is None else body)
    command = [str(compiled("load")), mode, "--port", str(port), "--path", dialect.path]
    command += ["--end-mark", dialect.end_mark]
    command += ["--body", str(file), "--deadline", "20", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_load_counts_requests(mock_port: int, tmp_path: Path) -> None:
    before = json.loads(call(mock_port, "GET", "/stats")[1])["requests"]
    result = run_load(tmp_path, "requests", mock_port, "--connections", "7", "--requests", "200")
    assert (result["finished"], result["errors"], result["bytes"]) == (200, 0, 200 * 1024)
    times = result["latency_us"]
    assert 0 < times["p50"] <= times["p90"] <= times["p99"] <= times["max"]
    assert json.loads(call(mock_port, "GET", "/stats")[1])["requests"] == before + 201


def test_load_with_one_connection(mock_port: int, tmp_path: Path) -> None:
    result = run_load(tmp_path, "latency", mock_port, "--connections", "9", "--seconds", "0.05")
    assert (result["connections"], result["errors"]) == (1, 0)
    assert result["finished"] > 0


def test_load_sends_a_big_body_whole(mock_port: int, tmp_path: Path) -> None:
    body = chat(padding="x" * 3_000_000)
    result = run_load(tmp_path, "requests", mock_port, "--connections", "2", "--requests", "4", body=body)
    assert (result["finished"], result["errors"]) == (4, 0)


def test_load_counts_the_events_of_streams(mock_port: int, tmp_path: Path) -> None:
    progress = tmp_path / "progress"
    options = ("--connections", "20", "--progress", str(progress))
    result = run_load(tmp_path, "streams", mock_port, *options, body=chat(stream=True))
    assert (result["finished"], result["opened"], result["errors"]) == (20, 20, 0)
    assert result["events"] == 20 * 7  # five tokens, the finish reason, the end mark
    counters = [int.from_bytes(progress.read_bytes()[at : at + 8], "little") for at in range(0, 40, 8)]
    assert counters == [20, 140, 20, 0, result["bytes"]]


def test_load_reads_the_streams_of_another_dialect(mock_port: int, tmp_path: Path) -> None:
    body, options = chat(stream=True), ("--connections", "3")
    result = run_load(tmp_path, "streams", mock_port, *options, body=body, dialect=ANTHROPIC)
    assert (result["finished"], result["errors"], result["events"]) == (3, 0, 3 * 10)


def test_load_leaves_in_the_middle_and_the_mock_notices(mock_port: int, tmp_path: Path) -> None:
    before = json.loads(call(mock_port, "GET", "/stats")[1])["aborted"]
    options = ("--connections", "3", "--requests", "12", "--leave-after", "2")
    result = run_load(tmp_path, "abort", mock_port, *options, body=chat(stream=True))
    assert (result["finished"], result["errors"], result["events"] >= 24) == (12, 0, True)
    stats = json.loads(call(mock_port, "GET", "/stats")[1])
    assert (stats["aborted"], stats["streams"]) == (before + 12, 0)


def test_load_goes_to_loopback_only(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        run_load(tmp_path, "requests", 80, "--host", "192.0.2.1", "--requests", "1")
    assert "loopback" in raised.value.stderr


class Scripted:
    """Answers each request with the same bytes, one at a time, then closes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.recv(65536)
                for byte in self._answer:
                    client.send(bytes([byte]))

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "errors", "why"),
    [
        (OK + b"content-length: 14\r\n\r\ndata: [DONE]\n\n", 0, ""),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n7;x=y\r\ndata: [\r\n7\r\nDONE]\n\n\r\n0\r\na: b\r\n\r\n",
            0,
            "",
        ),
        (OK + b"\r\ndata: [DONE]\n\n", 0, ""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\ndata: [DONE]\r\n\r\n", 0, ""),
        (OK + b"content-length: 9\r\n\r\ndata: a\n\n", 1, "a stream ended without its end mark: data: a''"),
        (OK + b"content-length: 0\r\n\r\n", 1, "a stream ended without its end mark: "),
        (OK + b"content-length: 99\r\n\r\ndata: [DONE]\n\n", 1, "closed in the middle of an answer: "),
        (b"", 1, "closed without an answer: "),
        (b"HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy", 1, "status 503: busy"),
        (b"SSH-2.0-x\r\n\r\n", 1, "not HTTP/1.1: "),
        (OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 1, "not HTTP/1.1: "),
    ],
)
def test_load_reads_every_framing_and_tells_what_broke(
    answer: bytes, errors: int, why: str, tmp_path: Path
) -> None:
    with Scripted(answer) as server:
        result = run_load(tmp_path, "streams", server.port, body=chat(stream=True))
    assert (result["finished"], result["errors"]) == (1 - errors, errors)
    assert result["error"].startswith(why)
    assert bool(result["error"]) is bool(errors)


def test_load_stops_at_its_deadline(mock_port: int, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        result = run_load(tmp_path, "streams", port, "--connections", "2", "--deadline", "0.1")
    assert (result["finished"], result["errors"]) == (0, 2)
    assert result["error"].startswith("not finished by the deadline")
