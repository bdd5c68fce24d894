"""The owner of an engine process, against small engines that start, crash, hang and hold on."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headgate.core.errors import Unavailable
from headgate.local import supervisor as module
from headgate.local.supervisor import EngineSpec, Supervisor, child_environment

FAKE = """
    import json, os, signal, socket, sys
    mode, path = sys.argv[1], sys.argv[3]
    print("loading", flush=True)
    if mode == "refuse":
        print("ERROR: a package is missing", file=sys.stderr); sys.exit(2)
    if mode == "crash":
        print("GGML_ASSERT(x) failed"); sys.stdout.flush(); os.abort()
    if mode == "hang":
        signal.pause()
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "flaky":
        marker = os.environ["MARKER"]
        if not os.path.exists(marker):
            open(marker, "w").close(); sys.exit(3)
    if mode == "chatty":
        for n in range(3000):
            print("x" * 100)
        print("WARNING: told you", flush=True)
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path); listener.listen()
    body = json.dumps({"model": "fake"}).encode()
    while True:
        connection, _ = listener.accept()
        request = connection.recv(65536)
        if b"/die" in request:
            print("the caller's own words"); print("GGML_ASSERT(y) failed"); sys.stdout.flush(); os.abort()
        connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body)
        connection.close()
"""


def spec(
    mode: str,
    *,
    start_timeout: float = 20.0,
    idle_unload: float | None = None,
    stop_grace: float = 5.0,
    env: dict[str, str] | None = None,
) -> EngineSpec:
    argv = (sys.executable, "-c", textwrap.dedent(FAKE), mode)
    return EngineSpec("fake", argv, start_timeout, idle_unload, stop_grace, env or {})


@asynccontextmanager
async def supervised(engine: EngineSpec) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(engine)
    try:
        yield supervisor
    finally:
        await supervisor.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}  # nothing goes on behind it


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the state of another process has no event
            await asyncio.sleep(0.005)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def pid_of(supervisor: Supervisor) -> int:
    info = supervisor.status.info
    assert info is not None
    pid = info["pid"]
    assert isinstance(pid, int)
    return pid


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(autouse=True)
def quick_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_FIRST", 0.05)


def test_the_first_use_starts_it_once_and_stop_removes_everything() -> None:
    async def test() -> None:
        supervisor = Supervisor(spec("serve"))
        folder = Path(supervisor.socket_path).parent
        assert len(supervisor.socket_path) < 100
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert supervisor.status.state == "idle"
        assert supervisor.retry_after is None
        first = asyncio.create_task(supervisor.ready())
        await until(lambda: supervisor.status.state == "loading")
        assert supervisor.retry_after == 1.0
        await asyncio.gather(first, *(supervisor.ready() for _ in range(20)))
        assert supervisor.is_ready
        assert supervisor.status.info is not None
        assert supervisor.status.info["model"] == "fake"
        assert supervisor.restarts == 0
        pid = pid_of(supervisor)
        await supervisor.stop()
        assert not alive(pid)
        assert not folder.exists()
        assert not supervisor.status.serving
        with pytest.raises(Unavailable, match="is stopped") as caught:
            await supervisor.ready()
        assert caught.value.retry_after is None

    run(test)


def test_kill_9_is_told_and_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_FIRST", 0.5)

    async def test() -> None:
        async with supervised(spec("serve")) as supervisor:
            await supervisor.ready()
            pid = pid_of(supervisor)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: supervisor.retry_after is not None)
            status = supervisor.status
            assert (status.state, status.serving) == ("restarting", False)
            assert status.detail == "killed by SIGKILL; its last words: loading"
            with pytest.raises(Unavailable, match=r"is restarting: try again in 1 s") as caught:
                await supervisor.ready()
            assert caught.value.retry_after is not None
            assert 0 < caught.value.retry_after < 1
            await until(lambda: supervisor.is_ready)
            await supervisor.ready()
            assert pid_of(supervisor) != pid
            assert supervisor.restarts == 1
            assert supervisor.status.detail is None

    run(test)


def test_the_reason_of_a_crash_holds_no_words_of_a_request() -> None:
    async def test() -> None:
        async with supervised(spec("serve")) as supervisor:
            await supervisor.ready()
            _, writer = await asyncio.open_unix_connection(supervisor.socket_path)
            writer.write(b"GET /die HTTP/1.1\r\n\r\n")
            await until(lambda: supervisor.status.state == "restarting" and supervisor.retry_after != 1.0)
            writer.close()
            assert supervisor.status.detail == (
                "killed by SIGABRT; its last words: loading | GGML_ASSERT(y) failed"
            )

    run(test)


def test_an_engine_that_never_starts_is_tried_again_ever_more_slowly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        async with supervised(spec("crash")) as supervisor:
            with pytest.raises(Unavailable, match="failed to start: try again in") as caught:
                await supervisor.ready()
            assert caught.value.retry_after is not None
            assert supervisor.status.state == "failed"
            assert supervisor.status.detail == (
                "killed by SIGABRT; its last words: loading | GGML_ASSERT(x) failed"
            )
            with pytest.raises(Unavailable):
                await supervisor.ready()
            await until(lambda: supervisor.restarts >= 3)
            assert supervisor.status.state == "failed"

    with caplog.at_level(logging.WARNING, "headgate.engine"):
        run(test)
    waits = [
        float(record.getMessage().split()[-2]) for record in caplog.records if "next try" in record.message
    ]
    assert waits[:3] == sorted(waits[:3])


def test_back_off_grows_to_a_bound_with_jitter() -> None:
    async def test() -> None:
        supervisor = Supervisor(spec("serve"))
        waits = [supervisor._back_off() for _ in range(40)]
        for number, wait in enumerate(waits):
            ideal = min(module.BACKOFF_MOST, 0.05 * 2 ** min(number, 10))
            assert 0.74 * ideal <= wait <= min(module.BACKOFF_MOST, 1.26 * ideal)
        assert len(set(waits)) > 5
        await supervisor.stop()

    run(test)


def test_a_failed_start_is_forgotten_once_it_works(tmp_path: Path) -> None:
    async def test() -> None:
        async with supervised(spec("flaky", env={"MARKER": str(tmp_path / "marker")})) as supervisor:
            with pytest.raises(Unavailable):
                await supervisor.ready()
            assert supervisor.status.detail is not None
            assert supervisor.status.detail.startswith("exited with code 3")
            await until(lambda: supervisor.is_ready)
            await supervisor.ready()

    run(test)


def test_a_configuration_error_is_not_tried_again() -> None:
    async def test() -> None:
        async with supervised(spec("refuse")) as supervisor:
            for _ in range(2):
                with pytest.raises(Unavailable, match="can't start: a package is missing") as caught:
                    await supervisor.ready()
                assert caught.value.retry_after is None
            assert supervisor.status.state == "failed"
            assert supervisor.status.detail == "a package is missing"
            assert supervisor.restarts == 0

    run(test)


def test_an_engine_that_hangs_at_the_start_is_ended() -> None:
    async def test() -> None:
        async with supervised(spec("hang", start_timeout=0.3)) as supervisor:
            with pytest.raises(Unavailable):
                await supervisor.ready()
            assert supervisor.status.detail is not None
            assert "did not answer its health check within 0.3 s" in supervisor.status.detail
            assert not alive(pid_of(supervisor))

    run(test)


def test_a_program_that_is_not_there_is_a_failed_start() -> None:
    async def test() -> None:
        async with supervised(EngineSpec("fake", ("/nowhere/python",))) as supervisor:
            with pytest.raises(Unavailable):
                await supervisor.ready()
            assert supervisor.status.detail == "can't run /nowhere/python: No such file or directory"

    run(test)


def test_an_engine_that_ignores_sigterm_is_killed() -> None:
    async def test() -> None:
        supervisor = Supervisor(spec("stubborn", stop_grace=0.2))
        await supervisor.ready()
        pid = pid_of(supervisor)
        await supervisor.stop()
        assert not alive(pid)

    run(test)


def test_stop_while_it_starts() -> None:
    async def test() -> None:
        supervisor = Supervisor(spec("hang"))
        waiting = asyncio.create_task(supervisor.ready())
        await until(lambda: "pid" in (supervisor.status.info or {}))
        pid = pid_of(supervisor)
        await supervisor.stop()
        with pytest.raises(Unavailable, match="is stopped"):
            await waiting
        assert not alive(pid)

    run(test)


def test_one_caller_that_leaves_does_not_stop_the_start() -> None:
    async def test() -> None:
        async with supervised(spec("serve")) as supervisor:
            impatient = asyncio.create_task(supervisor.ready())
            await until(lambda: supervisor.status.state == "loading")
            impatient.cancel()
            await supervisor.ready()
            assert supervisor.restarts == 0

    run(test)


def test_an_idle_engine_is_unloaded_but_never_one_in_use() -> None:
    async def test() -> None:
        async with supervised(spec("serve", idle_unload=0.1)) as supervisor:
            loop = asyncio.get_running_loop()
            with supervisor.lease():
                await supervisor.ready()
                pid = pid_of(supervisor)
                with supervisor.lease():
                    pass
                later = loop.time() + 0.3
                await until(lambda: loop.time() > later)
                assert supervisor.is_ready
                assert alive(pid)
            await until(lambda: supervisor.status.state == "idle")
            assert supervisor.status.serving
            with supervisor.lease():
                await supervisor.ready()  # while the old process may still be ending
                assert not alive(pid)
                assert pid_of(supervisor) != pid

    run(test)


def test_much_output_neither_blocks_nor_piles_up(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with supervised(spec("chatty")) as supervisor:
            await supervisor.ready()
            assert len(supervisor._tail) <= 20

    with caplog.at_level(logging.INFO, "headgate.engine"):
        run(test)
    assert ("WARNING", "fake: told you") in [(r.levelname, r.message) for r in caplog.records]
    assert not any("xxx" in record.message for record in caplog.records)


def test_the_child_inherits_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    monkeypatch.setenv("CUDA_TOKEN", "t")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("DATABASE_URL", "postgres://user:password@host")
    kept = child_environment({"EXTRA": "1"})
    assert {"CUDA_VISIBLE_DEVICES", "PATH", "EXTRA"} <= kept.keys()
    assert not {"OPENAI_API_KEY", "CUDA_TOKEN", "DATABASE_URL", "HF_TOKEN"} & kept.keys()


TRIVIAL = """
    from headgate.core.errors import ConfigError, MissingExtra
    from headgate.local.engines.host import run

    class Engine:
        info = {"model": "trivial"}
        routes = {}

    def load(options, folder):
        if options.get("missing"):
            raise MissingExtra("a GGUF chat model", "chat")
        return Engine()

    run(load)
"""


def trivial(**options: object) -> EngineSpec:
    argv = (sys.executable, "-c", textwrap.dedent(TRIVIAL), "--options", json.dumps(options))
    return EngineSpec("trivial", argv)


def test_a_missing_extra_says_what_to_install() -> None:
    async def test() -> None:
        async with supervised(trivial(missing=True)) as supervisor:
            with pytest.raises(Unavailable, match=r"needs an extra .*: pip install 'headgate\[chat\]'"):
                await supervisor.ready()
            assert supervisor.status.state == "failed"

    run(test)


def test_the_host_ends_cleanly_when_told() -> None:
    async def test() -> None:
        supervisor = Supervisor(trivial())
        await supervisor.ready()
        process = supervisor._process
        assert process is not None
        await supervisor.stop()
        assert process.returncode == 0

    run(test)


def test_the_host_ends_at_the_end_of_its_input(tmp_path: Path) -> None:
    argv = (*trivial().argv, "--socket", str(tmp_path / "e.sock"))
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 1


def test_the_engine_dies_with_a_killed_parent() -> None:
    parent = """
        import asyncio, json, sys
        from headgate.local.supervisor import EngineSpec, Supervisor

        async def main():
            supervisor = Supervisor(EngineSpec("trivial", tuple(json.loads(sys.argv[1]))))
            await supervisor.ready()
            print(supervisor.status.info["pid"], supervisor.socket_path, flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """
    argv = [sys.executable, "-c", textwrap.dedent(parent), json.dumps(trivial().argv)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid, socket = process.stdout.readline().split()
        assert alive(int(pid))
        process.kill()
        process.wait()
    run(lambda: until(lambda: not alive(int(pid))))
    Path(socket).unlink(missing_ok=True)
    Path(socket).parent.rmdir()
