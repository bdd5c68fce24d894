"""`headgate serve` as a process: starts that fail, exit codes, signals, drain, logs."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.cli.main import main
from tests.e2e.conftest import Play, remote
from tests.support.client import Connection, request
from tests.support.process import Process, started, write_config
from tests.support.upstream import DONE, SSE_HEAD, Hang, Seen, Step, delta, event

CHAT = "/v1/chat/completions"
ASK = {"model": "double", "messages": [{"role": "user", "content": "hi"}]}
DOUBLE = {"double": {"backend": "scripted"}}


Fails = Callable[..., str]


def fails(folder: Path, *arguments: str, **options: Any) -> str:
    """Its message: the start must fail with 2, say why on standard error, and nothing else."""
    with started(folder, "serve", *arguments, **options) as process:
        assert process.wait() == 2
        message = process.stderr
        assert process.popen.stdout is not None
        assert process.popen.stdout.read() == b""
    assert "Traceback" not in message
    assert message.strip()
    return message


@pytest.fixture
def fails_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Fails:
    """Like `fails`, in this process: the same entry point without the second that an interpreter takes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setenv("HEADGATE_LOG_LEVEL", "error")

    def fail(*arguments: str) -> str:
        assert main(["serve", *arguments]) == 2
        out, message = capfd.readouterr()
        assert out == ""
        assert "Traceback" not in message
        assert message.strip()
        return message

    return fail


CONFIGS = {
    "not YAML": ("models: [", "headgate.yaml:"),
    "not UTF-8": (b"models: \xff", "UTF-8"),
    "empty": ("", "models"),
    "unknown setting": ("models: {a: {backend: scripted, repply: x}}", 'did you mean "reply"'),
    "unknown backend": ("models: {a: {backend: scriptd}}", "scripted"),
    "wrong type": (
        "server: {grace: long}\nmodels: {a: {backend: scripted}}",
        "headgate.yaml:1: server.grace",
    ),
    "unset variable": (
        "models: {a: {backend: openai, base_url: 'http://h', api_key: '${NOPE_NOPE}'}}",
        "NOPE_NOPE",
    ),
    "no base_url": ("models: {a: {backend: openai-compatible}}", "needs base_url"),
    "bad base_url": ("models: {a: {backend: openai-compatible, base_url: 'ftp://h'}}", "ftp://h"),
    "missing folder": ("models: {a: {folder: ./nowhere}}", "nowhere"),
    "missing module": ("models: {a: {python: 'no_such_module:predict'}}", "no_such_module"),
    "missing CA": (
        "models: {a: {backend: openai-compatible, base_url: 'https://h/v1', ca_file: ./no.pem}}",
        "no.pem",
    ),
    "alias of nothing": ("models: {a: {backend: scripted}}\naliases: {b: c}", "aliases"),
}


@pytest.mark.parametrize(("content", "words"), CONFIGS.values(), ids=CONFIGS.keys())
def test_broken_configuration_ends_with_2_and_one_message(
    tmp_path: Path, fails_here: Fails, content: str | bytes, words: str
) -> None:
    path = tmp_path / "headgate.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = fails_here(str(path))
    assert words in message
    assert len(message.splitlines()) <= 2


def test_missing_configuration(fails_here: Fails) -> None:
    assert "nowhere.yaml" in fails_here("nowhere.yaml")


def test_every_broken_model_is_named_at_once(tmp_path: Path, fails_here: Fails) -> None:
    models = {"one": {"python": "no_such:a"}, "two": {"folder": "./nowhere"}, **DOUBLE}
    message = fails_here(write_config(tmp_path, {"models": models}))
    assert "'one'" in message
    assert "'two'" in message
    assert "double" not in message


FOLDERS: dict[str, tuple[dict[str, bytes], str]] = {
    "empty": ({}, "custom.py"),
    "syntax error": ({"custom.py": b"def predict(:\n"}, "custom.py"),
    "raises": ({"custom.py": b"raise RuntimeError('boom')\n"}, "boom"),
    "no hooks": ({"custom.py": b"x = 1\n"}, "predict"),
    "load_model raises": (
        {
            "custom.py": b"def load_model(d):\n    raise OSError('no weights')\n"
            b"def score(d, m):\n    return d\n"
        },
        "no weights",
    ),
    "broken skops": ({"model.skops": b"this is no archive"}, "model.skops"),
    "broken ONNX": ({"model.onnx": b"\x00\x01\x02"}, "model.onnx"),
}


@pytest.mark.parametrize(("files", "words"), FOLDERS.values(), ids=FOLDERS.keys())
def test_broken_folder_ends_with_2_and_one_message(
    tmp_path: Path, fails_here: Fails, files: dict[str, bytes], words: str
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    message = fails_here("./broken")
    assert words in message
    assert len(message.splitlines()) <= 3


def test_broken_folder_as_a_process(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "custom.py").write_text("raise RuntimeError('boom')\n")
    assert "boom" in fails(tmp_path, "./broken")


def test_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = fails(tmp_path, write_config(tmp_path, {"models": DOUBLE}), port=port)
    assert f"127.0.0.1:{port}" in message
    assert "--port" in message
    assert len(message.splitlines()) == 1


def test_beyond_this_machine_needs_keys_or_a_word(tmp_path: Path, fails_here: Fails) -> None:
    config = write_config(tmp_path, {"models": DOUBLE})
    assert "--allow-no-keys" in fails_here(config, "--host", "0.0.0.0")
    with started(tmp_path, "serve", config, "--host", "0.0.0.0", "--allow-no-keys") as process:
        assert process.ready().status == 200
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_keep_going_serves_the_rest_and_readyz_names_the_broken(tmp_path: Path) -> None:
    models = {**DOUBLE, "broken": {"python": "no_such_module:predict"}}
    config = write_config(tmp_path, {"models": models, "aliases": {"b": "broken"}})
    with started(tmp_path, "serve", config, "--keep-going") as process:
        answer = process.ready()
        assert answer.json["models"]["broken"]["state"] == "failed"
        assert "no_such_module" in answer.json["models"]["broken"]["detail"]
        assert answer.json["models"]["double"]["state"] == "ready"
        assert request(process.port, "POST", CHAT, ASK).status == 200
        refused = request(process.port, "POST", CHAT, {**ASK, "model": "broken"})
        assert refused.status == 503
        assert "/readyz" in refused.error["message"]
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert "Traceback" not in process.stderr


def test_keep_going_with_nothing_left_fails(tmp_path: Path, fails_here: Fails) -> None:
    models = {"broken": {"python": "no_such_module:predict"}}
    assert "no_such_module" in fails_here(write_config(tmp_path, {"models": models}), "--keep-going")


class Stream:
    """A stream under way in a process, with the upstream waiting in its middle."""

    def __init__(self, process: Process, connection: Connection) -> None:
        self.process = process
        self.connection = connection
        connection.send("POST", CHAT, {**ASK, "model": "slow", "stream": True}, {"x-request-id": "mid"})
        assert connection.head()[0] == 200
        assert b"one" in (connection.chunk() or b"")

    def rest(self) -> bytes:
        return rest_of(self.connection)


def rest_of(connection: Connection) -> bytes:
    """What is still to come of a stream."""
    found = b""
    while (part := connection.chunk()) is not None:
        found += part
    return found


def slow_config(folder: Path, play: Play, release: Any, **server: Any) -> str:
    async def waits(_: Seen) -> AsyncIterator[Step]:
        yield SSE_HEAD + event(delta("one"))
        yield release
        yield event(delta("two")) + event(delta(finish="stop")) + DONE

    upstream = play(waits)
    models = {"slow": remote(upstream), **DOUBLE}
    return write_config(folder, {"server": server, "models": models})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(tmp_path: Path, play: Play, number: signal.Signals) -> None:
    release = threading.Event()
    config = slow_config(tmp_path, play, release)
    with started(tmp_path, "serve", config) as process:
        process.ready()
        with Connection(process.port) as idle, Connection(process.port) as busy:
            assert idle.request("GET", "/livez").status == 200
            stream = Stream(process, busy)
            process.signal(number)
            process.refuses_connections()
            assert process.popen.poll() is None  # it waits for the stream
            release.set()
            assert stream.rest().endswith(b"data: [DONE]\n\n")
        assert process.wait() == 0
        assert "Traceback" not in process.stderr


def test_past_its_grace_a_stream_ends_with_an_error_event(tmp_path: Path, play: Play) -> None:
    config = slow_config(tmp_path, play, Hang(), grace="1s")
    with started(tmp_path, "serve", config) as process:
        process.ready()
        with Connection(process.port, timeout=20) as connection, Connection(process.port, 20) as plain:
            stream = Stream(process, connection)
            plain.send("POST", CHAT, {**ASK, "model": "slow", "stream": False})
            signalled = time.monotonic()
            process.signal(signal.SIGTERM)
            last = stream.rest().decode().split("\n\n")[-2]
            assert json.loads(last.removeprefix("data: "))["error"]["code"] == "unavailable"
            assert time.monotonic() - signalled > 0.9
            answer = plain.answer()
            assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert process.wait() == 0
        assert "Traceback" not in process.stderr


def test_past_its_grace_a_response_has_failed_for_all_who_watch(tmp_path: Path, play: Play) -> None:
    """The caller of a stream, and one that follows a response in the background."""
    config = slow_config(tmp_path, play, Hang(), grace="1s")
    ask = {"model": "slow", "input": "hi"}
    with started(tmp_path, "serve", config) as process:
        process.ready()
        with Connection(process.port, 20) as caller, Connection(process.port, 20) as follower:
            caller.send("POST", "/v1/responses", {**ask, "stream": True})
            kept = follower.request("POST", "/v1/responses", {**ask, "background": True})
            follower.send("GET", f"/v1/responses/{kept.json['id']}?stream=true")
            for connection in (caller, follower):
                assert connection.head()[0] == 200
                assert connection.chunk()
            process.signal(signal.SIGTERM)
            for connection in (caller, follower):
                *_, last, end = rest_of(connection).decode().split("\n\n")
                assert (last.partition("\n")[0], end) == ("event: response.failed", "")
        assert process.wait() == 0
        assert "Traceback" not in process.stderr


def test_past_its_grace_a_prediction_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(
        "import pathlib, threading\n"
        "def predict(x: float) -> float:\n"
        "    pathlib.Path('predicting').touch()\n"
        "    threading.Event().wait(5)\n"
        "    return x\n"
    )
    with started(tmp_path, "serve", "busy:predict", "--grace", "1s") as process:
        process.ready()
        with Connection(process.port, 20) as connection:
            connection.send("POST", "/predict", {"x": 1})
            until = time.monotonic() + 20
            while not (tmp_path / "predicting").exists():
                assert time.monotonic() < until
            process.signal(signal.SIGTERM)
            answer = connection.answer()
            assert answer.status == 503
            assert answer.json == {"message": "ERROR: The server is stopping; try again in a moment"}
        assert process.wait() == 0
        assert "Traceback" not in process.stderr


def test_a_second_interrupt_ends_at_once_with_130(tmp_path: Path, play: Play) -> None:
    config = slow_config(tmp_path, play, Hang())
    with started(tmp_path, "serve", config) as process:
        process.ready()
        with Connection(process.port) as connection:
            stream = Stream(process, connection)
            process.signal(signal.SIGINT)
            process.logged("draining")
            process.signal(signal.SIGINT)
            assert b"[DONE]" not in stream.rest()
        assert process.wait() == 130
        assert "Traceback" not in process.stderr


def test_a_signal_during_the_start_ends_it(tmp_path: Path) -> None:
    (tmp_path / "slow_model.py").write_text(
        "import pathlib, time\npathlib.Path('loading').touch()\ntime.sleep(60)\n"
        "def predict(x: float) -> float:\n    return x\n"
    )
    with started(tmp_path, "serve", "slow_model:predict") as process:
        until = time.monotonic() + 20
        while not (tmp_path / "loading").exists():
            assert time.monotonic() < until
            assert process.popen.poll() is None, process.stderr
        process.signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert "Traceback" not in process.stderr


def test_logs_are_json_lines_with_the_request_id(tmp_path: Path) -> None:
    with started(tmp_path, "serve", write_config(tmp_path, {"models": DOUBLE})) as process:
        process.ready()
        secret = {"role": "user", "content": "do-not-log-me"}
        body = {**ASK, "messages": [secret]}
        assert request(process.port, "POST", CHAT, body, {"x-request-id": "req-42"}).status == 200
        assert (
            request(process.port, "POST", CHAT, {**body, "model": "nope"}, {"x-request-id": "req-43"}).status
            == 404
        )
        request(process.port, "GET", "/v1/models", None, {"x-request-id": "req-44"})
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        lines = process.log
    by_id = {line["request_id"]: line for line in lines if line.get("request_id")}
    assert (by_id["req-42"]["status"], by_id["req-42"]["model"]) == (200, "double")
    assert by_id["req-43"]["status"] == 404
    assert by_id["req-44"]["status"] == 200
    assert "do-not-log-me" not in process.stderr
    assert all({"time", "level"} <= line.keys() for line in lines)


def test_text_logs_when_asked(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"models": DOUBLE})
    with started(tmp_path, "serve", config, "--log-format", "text") as process:
        process.ready()
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert f"http://127.0.0.1:{process.port}" in process.stderr
        with pytest.raises(json.JSONDecodeError):
            json.loads(process.stderr.splitlines()[0])
