"""A changed configuration is taken over while serving: by signal, by request, by a look at the file."""

from __future__ import annotations

import json
import os
import select
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from headgate.local import catalog
from tests.e2e.conftest import Play, remote
from tests.support.client import Answer, Connection, request
from tests.support.process import Process, started, write_config
from tests.support.upstream import DONE, SSE_HEAD, Script, Seen, Step, completion, delta, event, plain

CHAT = "/v1/chat/completions"
HOST = {"host": "127.0.0.1"}
DEADLINE = 30.0


def ask(model: str = "m", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


def says(text: str) -> Script:
    async def script(seen: Seen) -> AsyncIterator[Step]:
        if seen.json.get("stream"):
            yield SSE_HEAD + event(delta(text))
            yield 0.01
            yield event(delta(finish="stop")) + DONE
        else:
            yield plain(200, completion(text))

    return script


def content(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    found: str = answer.json["choices"][0]["message"]["content"]
    return found


def until(condition: Callable[[], Any]) -> Any:
    """Ask again until the answer is true."""
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        select.select([], [], [], 0.02)
    return found


def reload(process: Process, headers: dict[str, str] | None = None) -> Answer:
    with Connection(process.port, DEADLINE) as connection:
        return connection.request("POST", "/admin/reload", b"", {**HOST, **(headers or {})})


def reloaded(process: Process) -> dict[str, Any]:
    answer = reload(process)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


def targets(process: Process) -> dict[str, dict[str, Any]]:
    listed = request(process.port, "GET", "/admin/targets", None, HOST).json["targets"]
    return {each["target"]: each for each in listed}


def begin_stream(connection: Connection) -> None:
    """A stream of the model `m`, as far as the upstream lets it go."""
    connection.send("POST", CHAT, ask(stream=True))
    assert connection.head()[0] == 200
    assert b"one" in (connection.chunk() or b"")


def rest_of(connection: Connection) -> bytes:
    found = b""
    while (part := connection.chunk()) is not None:
        found += part
    return found


def held(release: threading.Event) -> Script:
    async def script(seen: Seen) -> AsyncIterator[Step]:
        if not seen.json.get("stream"):
            yield plain(200, completion("old"))
            return
        yield SSE_HEAD + event(delta("one"))
        yield release
        yield event(delta("two")) + event(delta(finish="stop")) + DONE

    return script


def test_a_stream_ends_on_the_old_target_while_calls_go_to_the_new_one(tmp_path: Path, play: Play) -> None:
    release = threading.Event()
    old, new = play(held(release)), play(says("new"))
    config = write_config(tmp_path, {"models": {"m": remote(old)}})
    with started(tmp_path, "serve", config) as process, ExitStack() as stack:
        process.ready()
        stream = stack.enter_context(Connection(process.port, DEADLINE))
        begin_stream(stream)
        assert content(request(process.port, "POST", CHAT, ask())) == "old"
        write_config(tmp_path, {"models": {"m": remote(new), "n": remote(new)}, "aliases": {"o": "n"}})
        process.signal(signal.SIGHUP)
        process.logged("reloaded: models added: n; changed: m; aliases changed: o")
        for model in ("m", "n", "o"):
            assert content(request(process.port, "POST", CHAT, ask(model))) == "new"
        names = [each["id"] for each in request(process.port, "GET", "/v1/models").json["data"]]
        assert names == ["m", "n"]
        release.set()
        assert rest_of(stream).endswith(b"data: [DONE]\n\n")
        assert old.wait_until(lambda upstream: upstream.open_connections == 0)
        assert len(old.seen) == 2
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert "Traceback" not in process.stderr


def test_what_stays_as_it_is_keeps_its_connections_and_its_past(tmp_path: Path, play: Play) -> None:
    upstream, other = play(says("kept")), play(says("other"))
    models = {"m": remote(upstream, quota="q", max_concurrency=4), "n": remote(upstream)}
    config = write_config(tmp_path, {"models": models})
    with started(tmp_path, "serve", config) as process:
        process.ready()
        for name in ("m", "n"):
            assert content(request(process.port, "POST", CHAT, ask(name))) == "kept"
        assert upstream.connections == 1
        request(process.port, "POST", "/admin/targets/m/drain", b"", HOST)
        pace = targets(process)["m"]["pace"]["plain"]
        assert pace is not None
        first = remote(upstream, quota="q", weight=5, lacks=["images"], max_concurrency=2, priority=2)
        models["m"] = {"targets": [remote(other), first], "retry": {"attempts": 3}}
        write_config(tmp_path, {"models": models})
        assert reloaded(process)["models"] == {"added": [], "removed": [], "changed": ["m"]}
        now = targets(process)
        assert now["m#1"] == {**now["m#1"], "drained": True, "weight": 5, "priority": 2}
        assert now["m#1"]["pace"]["plain"] == pace
        assert now["m#0"]["pace"]["plain"] is None
        assert content(request(process.port, "POST", CHAT, ask())) == "other"
        request(process.port, "POST", "/admin/targets/m%231/enable", b"", HOST)
        request(process.port, "POST", "/admin/targets/m%230/drain", b"", HOST)
        assert content(request(process.port, "POST", CHAT, ask())) == "kept"
        assert upstream.connections == 1  # the connection of before is used still


def words_of(refusal: Answer) -> str:
    """The reason, as a JSON log has it."""
    reason = refusal.error["message"].removeprefix("Nothing has changed. ")
    return json.dumps(reason, ensure_ascii=False)[1:-1]


BAD = {
    "not YAML": ("models: [", "not YAML"),
    "half of it": ("models:\n  m: {backend: openai, base_u", "not YAML"),
    "an unknown setting": ("models: {m: {backend: scripted, wieght: 2}}", 'did you mean "weight"'),
    "no model": ("server: {}", "add at least one"),
    "a model that can't start": ("models: {m: {backend: scripted}, n: {python: 'no_such:f'}}", "no_such"),
    "a model that can't be built": ("models: {n: {backend: openai-compatible}}", "base_url"),
    "a probe of what can't be probed": ("models: {m: {backend: scripted, probe: {}}}", "can't be probed"),
    "no keys beyond this machine": (
        "server: {host: 0.0.0.0}\nmodels: {m: {backend: scripted}}",
        "without a key",
    ),
}


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Path]]:
    folder = tmp_path_factory.mktemp("bad")
    config = write_config(folder, {"models": {"m": {"backend": "scripted"}}})
    with started(folder, "serve", config) as process:
        process.ready()
        yield process, folder


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_changes_nothing_and_says_why(
    scripted: tuple[Process, Path], text: str, words: str
) -> None:
    process, folder = scripted
    before = targets(process)
    write_config(folder, text)
    answer = reload(process)
    assert answer.status == 422
    assert answer.error["code"] == "config_error"
    assert answer.error["message"].startswith("Nothing has changed. ")
    assert words in answer.error["message"]
    process.logged(f"not reloaded, nothing has changed: {words_of(answer)}")
    assert targets(process) == before
    assert request(process.port, "POST", CHAT, ask()).status == 200


def test_a_file_that_is_gone_changes_nothing(scripted: tuple[Process, Path]) -> None:
    process, folder = scripted
    (folder / "headgate.yaml").unlink()
    answer = reload(process)
    assert (answer.status, "no such file" in answer.error["message"]) == (422, True)
    assert request(process.port, "POST", CHAT, ask()).status == 200


def test_what_needs_a_restart_is_named_and_stays_named(tmp_path: Path) -> None:
    models = {"m": {"backend": "scripted"}}
    config = write_config(tmp_path, {"models": models})
    with started(tmp_path, "serve", config) as process:
        process.ready()
        server = {"host": "localhost", "log_level": "debug", "max_body": 10, "grace": "3s"}
        write_config(tmp_path, {"server": server, "models": models})
        for settings in (["server.max_body", "server.grace"], []):
            changed = reloaded(process)
            assert changed["settings"] == settings
            assert changed["needs_restart"] == ["server.host", "server.log_level"]
        assert request(process.port, "POST", CHAT, ask()).status == 413
        process.logged("a restart is needed for server.host, server.log_level")


def test_keys_and_their_rights_are_taken_over(tmp_path: Path) -> None:
    def entry(key: str, **more: Any) -> dict[str, Any]:
        return {"name": key, "hash": f"sha256:{sha256(key.encode()).hexdigest()}", **more}

    models = {"m": {"backend": "scripted"}}
    keys = [entry("first"), entry("admin", admin=True)]
    config = write_config(tmp_path, {"server": {"keys": keys}, "models": models})
    with started(tmp_path, "serve", config) as process:
        process.ready()
        assert request(process.port, "GET", "/v1/models", None, {"x-api-key": "first"}).status == 200
        assert reload(process, {"x-api-key": "first"}).status == 403
        keys = [entry("second"), entry("admin", admin=True)]
        write_config(tmp_path, {"server": {"keys": keys}, "models": models})
        assert reload(process, {"x-api-key": "admin"}).json["settings"] == ["server.keys"]
        assert request(process.port, "GET", "/v1/models", None, {"x-api-key": "first"}).status == 401
        assert request(process.port, "GET", "/v1/models", None, {"x-api-key": "second"}).status == 200


def test_under_load_no_call_fails(tmp_path: Path, play: Play) -> None:
    upstreams = [play(says(f"from {number}")) for number in range(2)]

    def models(number: int) -> dict[str, Any]:
        """Another upstream each time, another number of targets, another order."""
        entries = [remote(upstreams[(number + k) % 2], weight=1 + number % 3) for k in range(1 + number % 3)]
        return {"m": {"targets": entries}, f"extra-{number}": {"backend": "scripted"}}

    config = write_config(tmp_path, {"models": models(0)})
    done = threading.Event()

    def served(calls: int) -> bool:
        return sum(len(upstream.seen) for upstream in upstreams) > calls

    def call(process: Process, stream: bool) -> int:
        count = 0
        with Connection(process.port, DEADLINE) as connection:
            while not done.is_set():
                answer = connection.request("POST", CHAT, ask(stream=stream))
                assert answer.status == 200, answer.body
                assert b"from" in answer.body
                assert not stream or answer.body.endswith(b"data: [DONE]\n\n")
                count += 1
        return count

    with started(tmp_path, "serve", config) as process, ThreadPoolExecutor(4) as pool:
        process.ready()
        callers = [pool.submit(call, process, stream) for stream in (False, True, False, True)]
        try:
            for number in range(1, 16):
                seen = sum(len(upstream.seen) for upstream in upstreams)
                text = yaml.safe_dump({"models": models(number)})
                (tmp_path / "next.yaml").write_text(text)
                (tmp_path / "next.yaml").replace(config)
                if number % 2:
                    assert f"extra-{number}" in reloaded(process)["models"]["added"]
                else:
                    process.signal(signal.SIGHUP)
                    process.logged(f"added: extra-{number};")
                until(partial(served, seen + 20))
        finally:
            done.set()
        total = sum(caller.result() for caller in callers)
        assert total >= 300
        page = request(process.port, "GET", "/metrics").body.decode()
        ok = [line for line in page.splitlines() if line.startswith("headgate_requests_total{")]
        assert all('outcome="ok"' in line for line in ok), ok
        assert sum(float(line.split()[-1]) for line in ok) == total
        assert process.popen.poll() is None
        assert "Traceback" not in process.stderr


def test_many_reloads_at_once_are_done_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import pathlib, threading\n"
        "running = pathlib.Path('running')\n"
        "assert not running.exists()\n"
        "running.touch()\n"
        "threading.Event().wait(0.2)\n"
        "running.unlink()\n"
        "def predict(x: float) -> float:\n    return x\n"
    )
    config = write_config(tmp_path, {"models": {"m": {"backend": "scripted"}}})
    with started(tmp_path, "serve", config) as process, ThreadPoolExecutor(8) as pool:
        process.ready()
        models = {"m": {"backend": "scripted"}, "slow": {"python": "slow:predict"}}
        write_config(tmp_path, {"models": models})
        answers = [answer.result() for answer in [pool.submit(reload, process) for _ in range(8)]]
        assert [answer.status for answer in answers] == [200] * 8
        added = [answer.json["models"]["added"] for answer in answers]
        assert sorted(map(tuple, added))[-1] == ("slow",)
        request(process.port, "GET", "/v1/models", None, {"x-request-id": "after"})
        process.logged("after")
        lines = [line["message"] for line in process.log if line["logger"] == "headgate.reload"]
        assert lines[0] == "reloaded: models added: slow"
        assert set(lines[1:]) <= {"reloaded: nothing has changed"}
        assert len(lines) <= 4  # who asks while one runs shares the next one
        assert request(process.port, "POST", "/models/slow/predict", [{"x": 2}]).json["predictions"] == [2]


def test_limits_are_taken_over(tmp_path: Path) -> None:
    models = {"m": {"backend": "scripted"}}
    config = write_config(tmp_path, {"models": models})
    with started(tmp_path, "serve", config) as process:
        process.ready()
        for server, status in (({"max_memory": "1MB"}, 503), ({}, 200), ({"max_body": "10"}, 413), ({}, 200)):
            write_config(tmp_path, {"server": server, "models": models})
            assert len(reloaded(process)["settings"]) == 1
            assert request(process.port, "POST", CHAT, ask()).status == status


def test_a_stop_does_not_wait_for_a_reload(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import pathlib, threading\n"
        "pathlib.Path('loading').touch()\n"
        "threading.Event().wait(3)\n"
        "def predict(x: float) -> float:\n    return x\n"
    )
    config = write_config(tmp_path, {"models": {"m": {"backend": "scripted"}}})
    with started(tmp_path, "serve", config) as process, ThreadPoolExecutor(1) as pool:
        process.ready()
        write_config(tmp_path, {"models": {"slow": {"python": "slow:predict"}}})
        asked = pool.submit(reload, process)
        until(lambda: (tmp_path / "loading").exists())
        assert request(process.port, "POST", CHAT, ask()).status == 200
        assert request(process.port, "GET", "/readyz").status == 200
        process.signal(signal.SIGHUP)
        process.signal(signal.SIGTERM)
        process.logged("draining")
        assert process.wait() == 0
        assert asked.result().status in (200, 503)
        assert "Traceback" not in process.stderr


def test_a_removed_model_is_gone_from_every_list(tmp_path: Path) -> None:
    (tmp_path / "double.py").write_text("def predict(x: float) -> float:\n    return 2 * x\n")
    both = {"m": {"backend": "scripted"}, "double": {"python": "double:predict"}}
    config = write_config(tmp_path, {"models": both})
    with started(tmp_path, "serve", config) as process:
        process.ready()
        assert "/models/double/predict" in request(process.port, "GET", "/openapi.json").json["paths"]
        write_config(tmp_path, {"models": {"m": {"backend": "scripted"}}})
        assert reloaded(process)["models"]["removed"] == ["double"]
        assert "/models/double/predict" not in request(process.port, "GET", "/openapi.json").json["paths"]
        assert request(process.port, "POST", "/models/double/predict", [{"x": 2}]).status == 404
        page = request(process.port, "GET", "/metrics").body.decode()
        assert 'headgate_model_state{model="m",state="ready"} 1' in page
        assert 'headgate_model_state{model="double"' not in page
        assert 'headgate_target_circuit{state="closed",target="m"} 1' in page
        assert "double" not in request(process.port, "GET", "/readyz").json["models"]
        write_config(tmp_path, {"models": both})
        assert reloaded(process)["models"]["added"] == ["double"]
        assert request(process.port, "POST", "/models/double/predict", [{"x": 2}]).json["predictions"] == [4]


def test_keep_going_never_loses_a_model_that_serves(tmp_path: Path) -> None:
    broken = {"python": "no_such:f"}
    config = write_config(tmp_path, {"models": {"m": {"backend": "scripted"}, "n": broken}})
    with started(tmp_path, "serve", config, "--keep-going") as process:
        assert process.ready().json["status"] == "degraded"
        write_config(tmp_path, {"models": {"m": {"backend": "scripted"}, "n": broken, "o": broken}})
        assert sorted(reloaded(process)["broken"]) == ["n", "o"]
        write_config(tmp_path, {"models": {"m": broken, "n": {"backend": "scripted"}}})
        assert reload(process).status == 422
        assert request(process.port, "POST", CHAT, ask()).status == 200
        write_config(tmp_path, {"models": {"m": {"backend": "scripted"}, "n": {"backend": "scripted"}}})
        assert reloaded(process)["broken"] == {}
        assert request(process.port, "GET", "/readyz").json["status"] == "ready"


# By a look at the file


def test_watch_takes_over_a_change_of_the_file_or_of_a_secret(tmp_path: Path, play: Play) -> None:
    upstream = play(says("hi"))
    (tmp_path / "key").write_text("first\n")
    settings = {"models": {"m": remote(upstream, api_key="${file:./key}")}}
    config = write_config(tmp_path, settings)

    def key() -> str:
        request(process.port, "POST", CHAT, ask())
        return upstream.seen[-1].headers["authorization"]

    with started(tmp_path, "serve", config, "--watch") as process:
        process.ready()
        assert key() == "Bearer first"
        (tmp_path / "key").write_text("second\n")
        until(lambda: key() == "Bearer second")
        write_config(tmp_path, {**settings, "aliases": {"a": "m"}})
        until(lambda: request(process.port, "POST", CHAT, ask("a")).status == 200)


def test_watch_leaves_a_half_written_file_alone_and_one_that_is_gone(tmp_path: Path) -> None:
    one: dict[str, Any] = {"models": {"m": {"backend": "scripted"}}}
    two = yaml.safe_dump({"models": {**one["models"], "n": {"backend": "scripted"}}})
    path = Path(write_config(tmp_path, one))
    with started(tmp_path, "serve", str(path), "--watch") as process:
        process.ready()
        with path.open("w") as file:
            file.write(two[:-5])
            file.flush()
            process.logged("not reloaded, nothing has changed")
            assert request(process.port, "POST", CHAT, ask()).status == 200
            file.write(two[-5:])
        until(lambda: request(process.port, "POST", CHAT, ask("n")).status == 200)
        path.unlink()
        process.logged("there is no such file")
        assert request(process.port, "POST", CHAT, ask("n")).status == 200
        write_config(tmp_path, one)
        until(lambda: request(process.port, "POST", CHAT, ask("n")).status == 404)
        assert request(process.port, "POST", CHAT, ask()).status == 200


def test_watch_needs_a_file(tmp_path: Path) -> None:
    (tmp_path / "double.py").write_text("def predict(x: float) -> float:\n    return 2 * x\n")
    with started(tmp_path, "serve", "double:predict", "--watch") as process:
        assert process.wait() == 2
        assert "--watch needs a configuration file" in process.stderr


def test_a_hang_up_during_the_start_waits_for_its_end(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import pathlib, threading\n"
        "pathlib.Path('loading').touch()\n"
        "while not pathlib.Path('go').exists():\n    threading.Event().wait(0.01)\n"
        "def predict(x: float) -> float:\n    return x\n"
    )
    models = {"slow": {"python": "slow:predict"}}
    config = write_config(tmp_path, {"models": models})
    with started(tmp_path, "serve", config) as process:
        until(lambda: (tmp_path / "loading").exists())
        write_config(tmp_path, {"models": {**models, "m": {"backend": "scripted"}}})
        process.signal(signal.SIGHUP)
        (tmp_path / "go").touch()
        process.logged("reloaded: models added: m")


# Engines


@pytest.mark.weights
def test_an_engine_goes_on_when_its_model_gets_company(tmp_path: Path) -> None:
    catalog.pull("catalog:minilm")
    model = {"backend": "embedding", "weights": "catalog:minilm", "preload": True}
    config = write_config(tmp_path, {"models": {"e": model}})

    def pid() -> int:
        found: int = request(process.port, "GET", "/readyz").json["models"]["e"]["info"]["pid"]
        return found

    with started(tmp_path, "serve", config) as process:
        process.ready()
        before = pid()
        first = {**model, "weight": 3, "context_length": 256}
        both = {"targets": [first, {"backend": "scripted", "priority": 2}]}
        write_config(tmp_path, {"models": {"e": both, "m": {"backend": "scripted"}}})
        assert reloaded(process)["models"]["changed"] == ["e"]
        assert pid() == before
        answer = request(process.port, "POST", "/v1/embeddings", {"model": "e", "input": "hi"})
        assert (answer.status, answer.headers["x-headgate-target"]) == (200, "e#0")
        write_config(tmp_path, {"models": {"m": {"backend": "scripted"}}})
        assert reloaded(process)["models"]["removed"] == ["e"]
        until(lambda: not _runs(before))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
