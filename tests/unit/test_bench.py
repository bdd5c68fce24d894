"""The benchmark's own parts: its arithmetic, its table, and its mock and load on real sockets."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import profile, run
from bench.build import BenchError, compiled
from bench.processes import Process, cpu_clock_ns, family, parent_and_reaped, rss_bytes
from bench.rig import Rig, call, lag
from bench.scenarios import SCENARIOS, Scenario, request_body
from bench.servers import SERVERS, Server, prepare
from bench.table import Goal, Row, added_latency, render, unsteady

# A proxy that copies bytes: what the rig needs of a server, and nothing more.
COPIER = """
import asyncio, sys

async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()

async def serve(reader, writer):
    up_reader, up_writer = await asyncio.open_connection("127.0.0.1", @upstream@)
    ways = [asyncio.create_task(copy(reader, up_writer)), asyncio.create_task(copy(up_reader, writer))]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)
    up_writer.close()
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", @port@)
    await server.serve_forever()

asyncio.run(main())
"""


def stand_in(name: str = "nginx", program: str = COPIER) -> Server:
    return Server(
        name=name,
        program="python3",
        files={"server.py": program},
        command=("@program@", "@dir@/server.py"),
        remedy="none",
    )


def scenario(name: str) -> Scenario:
    return next(row for row in SCENARIOS if row.name == name)


# Arithmetic and data


def test_a_process_name_may_hold_anything() -> None:
    stat = "41 (a) b (c) S 7 41 41 0 -1 4194560 100 0 0 0 5 6 30 12 20 0 1 0 99"
    assert parent_and_reaped(stat) == (7, 42)


def test_the_cpu_clock_is_the_process_clock() -> None:
    before = time.process_time_ns()
    seen = cpu_clock_ns(os.getpid())
    assert before <= seen <= time.process_time_ns()


def test_a_family_is_the_process_and_its_descendants() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        pids = family(shell.pid)
        try:
            assert pids[0] == shell.pid
            assert len(pids) == 2
            assert rss_bytes(pids) > rss_bytes(pids[:1]) > 0
        finally:
            for pid in pids:
                os.kill(pid, 9)


@pytest.mark.parametrize("name", [row.name for row in SCENARIOS])
def test_bodies_have_the_size_they_claim(name: str) -> None:
    row = scenario(name)
    body = request_body(row)
    assert len(body) == row.body_bytes
    assert json.loads(body).get("stream", False) is row.streaming


def test_added_latency_is_what_the_server_adds() -> None:
    direct = {"latency1.p50_us": 50.0, "latency1.p99_us": 70.0, "latency1.max_us": 90.0}
    through = {"latency1.p50_us": 150.0, "latency1.p99_us": 200.0, "latency1.cpu_us": 13.0}
    assert added_latency(through, direct) == {"latency1.added_p50_us": 100.0, "latency1.added_p99_us": 130.0}
    assert added_latency(through, {}) == {}


def test_rounds_that_lie_far_apart_are_reported() -> None:
    samples = {"nginx": {"cpu": [10.0, 12.9], "chunk": [10.0, 13.1], "start": [1.0, 9.0]}}
    assert unsteady(samples, ["nginx", "headgate"], ROWS) == ["nginx, chunk, µs: 10.0 to 13.1"]


ROWS = (
    Row("cpu", "CPU, µs", compared=True, goal=Goal(100)),
    Row("chunk", "chunk, µs", compared=True, goal=Goal(2, relative=True)),
    Row("start", "start, s", digits=2, goal=Goal(1)),
    Row("never", "never measured"),
)


def test_the_table_shows_medians_multiples_and_goals() -> None:
    samples = {
        "nginx": {"cpu": [13.0, 12.0, 50.0], "chunk": [10.0], "start": [0.02]},
        "headgate": {"cpu": [39.0], "chunk": [20.5], "start": [0.5]},
    }
    assert render(samples, ["nginx", "headgate"], ROWS).splitlines() == [
        "| pass-through chat | nginx |     headgate | goal for headgate  |",
        "| ----------------- | ----: | -----------: | ------------------ |",
        "| CPU, µs           |  13.0 | 39.0 (3.00×) | ≤ 100 ✓ ok         |",
        "| chunk, µs         |  10.0 | 20.5 (2.05×) | ≤ 2 × nginx ✗ over |",
        "| start, s          |  0.02 |         0.50 | ≤ 1 ✓ ok           |",
    ]


def test_the_table_says_nothing_of_what_was_not_measured() -> None:
    table = render({"headgate": {"chunk": [20.0]}}, ["headgate"], ROWS)
    assert table.splitlines()[2:] == ["| chunk, µs         |     20.0 | ≤ 2 × nginx       |"]


def test_hottest_counts_the_innermost_function() -> None:
    folded = "main;serve;parse 30\nmain;serve 10\nmain;read;parse 60\nnot a stack\n"
    assert profile.hottest(folded, 2) == [("parse", 0.9), ("serve", 0.1)]


def test_a_row_is_filled_in(tmp_path: Path) -> None:
    launch = prepare(stand_in(program="up @upstream@ on @port@ in @dir@"), tmp_path, 81, 82)
    assert launch.command[1] == f"{tmp_path}/server.py"
    assert (tmp_path / "server.py").read_text() == f"up 82 on 81 in {tmp_path}"


def test_a_missing_server_says_what_to_install(tmp_path: Path) -> None:
    server = Server(name="envoy", program="no-such-envoy", command=(), remedy="func-e use 1.36")
    with pytest.raises(BenchError, match=r"^envoy is not installed: func-e use 1\.36$"):
        prepare(server, tmp_path, 1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--servers", "nignx"], "unknown server 'nignx': choose from nginx, headgate, haproxy, litellm"),
        (
            ["--only", "chunks", "--servers", "headgate"],
            "unknown scenario 'chunks': choose from idle, latency1",
        ),
    ],
)
def test_a_wrong_name_lists_the_right_ones(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_names_are_unique() -> None:
    assert len({server.name for server in SERVERS}) == len(SERVERS)
    assert len({row.name for row in SCENARIOS}) == len(SCENARIOS)


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


def run_load(folder: Path, mode: str, port: int, *options: str, body: bytes | None = None) -> dict[str, Any]:
    file = folder / "body.json"
    file.write_bytes(chat() if body is None else body)
    command = [str(compiled("load")), mode, "--port", str(port), "--path", "/v1/chat/completions"]
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


# The rig, with a stand-in for a server


@pytest.mark.parametrize("name", ["latency1", "requests", "chunk50", "abort"])
def test_the_rig_measures_each_kind_of_load(name: str, tmp_path: Path) -> None:
    with Rig(tmp_path, scale=0.05) as rig:
        running = rig.start(stand_in())
        figures = rig.measure(scenario(name), running)
    assert figures.errors == ()
    assert figures.values[f"{name}.cpu_us"] > 0
    assert figures.values[f"{name}.per_second"] > 0
    assert ("chunk50.rss_mb" in figures.values) is (name == "chunk50")


def test_the_rig_leaves_no_process_behind(tmp_path: Path) -> None:
    affinity = os.sched_getaffinity(0)
    before, pids = set(family(os.getpid())), set[int]()
    with pytest.raises(KeyboardInterrupt), Rig(tmp_path) as rig:
        rig.start(stand_in())
        pids = set(family(os.getpid())) - before
        assert len(pids) == 2
        raise KeyboardInterrupt
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert os.sched_getaffinity(0) == affinity


def test_a_server_that_ends_says_why(tmp_path: Path) -> None:
    broken = stand_in("broken", "raise SystemExit('bad port @port@')")
    with Rig(tmp_path) as rig, pytest.raises(BenchError, match=r"^broken ended after .* s:\nbad port \d+$"):
        rig.start(broken)


def test_a_server_that_keeps_streams_of_clients_that_left_is_told(tmp_path: Path) -> None:
    # Reads the upstream to the end, whatever became of its client.
    hoarder = COPIER.replace(
        "return_when=asyncio.FIRST_COMPLETED", "return_when=asyncio.ALL_COMPLETED"
    ).replace(
        "        writer.write(data)\n        await writer.drain()",
        "        if not writer.is_closing(): writer.write(data)",
    )
    with Rig(tmp_path, scale=0.05) as rig:
        figures = rig.measure(scenario("abort"), rig.start(stand_in("hoarder", hoarder)))
    assert any("upstream streams still open" in error for error in figures.errors)


def test_a_server_that_cannot_keep_up_is_told() -> None:
    assert lag(900, 1000) == ()
    assert lag(1898, 2110) == ("1,898 of 2,110 events relayed in the window: it can't keep up",)


def test_a_run_without_the_gateway_itself_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "SERVERS", (stand_in("headgate", "raise SystemExit('no model')"),))
    assert run.main(["--quick", "--only", "idle"]) == 1
    assert "no model" in capsys.readouterr().out


def test_a_run_prints_its_table_and_keeps_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "SERVERS", (stand_in(), stand_in("absent", "raise SystemExit('no')")))
    file = tmp_path / "figures.json"
    assert run.main(["--quick", "--only", "latency1", "--json", str(file)]) == 0, (
        "a peer's failure is a result"
    )
    out = capsys.readouterr().out
    assert "one round" in out
    assert "| added latency p50, µs" in out
    assert "**Error** absent ended" in out
    figures = json.loads(file.read_text())
    assert figures["servers"] == ["nginx"]
    assert len(figures["samples"]["nginx"]["latency1.added_p99_us"]) == 1
    assert figures["samples"]["nginx"]["idle.rss_mb"][0] > 1
