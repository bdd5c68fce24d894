"""The backend around a runner: bounded, cancellable, off the event loop."""

from __future__ import annotations

import asyncio
import builtins
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.backends.pools import Pools
from headgate.backends.registry import BuildContext, Registry
from headgate.config.schema import TargetSettings
from headgate.core.backend import PredictBackend, Timeouts
from headgate.core.call import Call, Operation
from headgate.core.errors import ConfigError, DeadlineExceeded, InvalidData, Overloaded, Unavailable
from headgate.core.operations import PredictRequest, PredictResult, Table
from headgate.local.custom import CustomModel, FolderSettings, PythonSettings
from headgate.local.runner import LoadOptions

GATED = """
import builtins
def predict(x: int) -> int:
    builtins._headgate_gate.enter(x)
    return x
"""


class Gate:
    """Holds predictions back until it is opened, and tells which began."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._began = threading.Semaphore(0)
        self.entered: list[int] = []

    def enter(self, x: int) -> None:
        """For the model's code."""
        self.entered.append(x)
        self._began.release()
        assert self._open.wait(30)

    async def one_began(self) -> None:
        assert await asyncio.to_thread(self._began.acquire, timeout=30)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(builtins, "_headgate_gate", gate, raising=False)
    return gate


def model(folder: Path, code: str, **settings: Any) -> CustomModel:
    (folder / "custom.py").write_text(code)
    options = FolderSettings(backend="folder", folder=folder, **settings)
    return CustomModel(options.folder, options, name="m", options=LoadOptions())


def a_call(deadline: float | None = None) -> Call:
    return Call("id", "m", Operation.PREDICT, "tables", 0.0, deadline=deadline)


def predicting(backend: CustomModel, x: Any, deadline: float | None = None) -> asyncio.Task[PredictResult]:
    request = PredictRequest(model="m", table=Table(("x",), ([x],)))
    return asyncio.get_running_loop().create_task(backend.predict(request, a_call(deadline)))


def state_of(backend: CustomModel) -> str:
    return backend.status.state


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


def test_a_model_loads_predicts_and_closes(tmp_path: Path) -> None:
    backend = model(tmp_path, "def predict(x: int) -> int: return x + 1")

    async def test() -> None:
        assert isinstance(backend, PredictBackend)
        assert backend.operations == {Operation.PREDICT}
        assert (state_of(backend), backend.input_schema) == ("idle", None)
        await backend.start()
        assert state_of(backend) == "ready"
        assert backend.status.info == {
            "target_type": None,
            "describe": "custom.py: predict, called once for each record",
        }
        assert (backend.input_schema or {})["required"] == ["x"]
        assert backend.output_schema == {"type": "integer"}
        assert (await predicting(backend, 1)).predictions == [2]
        with pytest.raises(InvalidData):
            await predicting(backend, "x")
        await backend.close()
        assert state_of(backend) == "stopped"
        with pytest.raises(Unavailable):
            await predicting(backend, 1)

    run(test)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("headgate-m")]


def test_the_loop_goes_on_while_a_prediction_runs(tmp_path: Path, gate: Gate) -> None:
    backend = model(tmp_path, GATED)

    async def test() -> None:
        await backend.start()
        task = predicting(backend, 1)
        await gate.one_began()
        gate.open()  # the loop is free to do this, or the prediction would never end
        assert (await task).predictions == [1]
        await backend.close()

    run(test)


def test_full_means_503_with_retry_after(tmp_path: Path, gate: Gate) -> None:
    backend = model(tmp_path, GATED, max_workers=2, max_queue=1)

    async def test() -> None:
        await backend.start()
        running = [predicting(backend, 1), predicting(backend, 2)]
        await gate.one_began()
        await gate.one_began()
        waiting = predicting(backend, 3)
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 predictions running and 1 waiting") as caught:
            await predicting(backend, 4)
        assert caught.value.retry_after == 1.0
        gate.open()
        answers = await asyncio.gather(*running, waiting)
        assert [answer.predictions for answer in answers] == [[1], [2], [3]]
        await backend.close()

    run(test)
    assert 4 not in gate.entered


def test_a_call_that_is_cancelled_while_it_waits_never_runs(tmp_path: Path, gate: Gate) -> None:
    backend = model(tmp_path, GATED, max_queue=1)

    async def test() -> None:
        await backend.start()
        running = predicting(backend, 1)
        await gate.one_began()
        waiting = predicting(backend, 2)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        next_one = predicting(backend, 3)  # the place in the queue is free again
        await asyncio.sleep(0)
        gate.open()
        assert (await running).predictions == [1]
        assert (await next_one).predictions == [3]
        await backend.close()

    run(test)
    assert gate.entered == [1, 3]


def test_the_deadline_covers_the_wait_and_the_run(tmp_path: Path, gate: Gate) -> None:
    backend = model(tmp_path, GATED)

    async def test() -> None:
        await backend.start()
        now = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded, match="did not answer before the deadline"):
            await predicting(backend, 100, deadline=now)
        assert gate.entered == []
        running = predicting(backend, 1, deadline=now + 0.5)
        await gate.one_began()
        waiting = predicting(backend, 2, deadline=now + 0.5)
        for task in (running, waiting):
            with pytest.raises(DeadlineExceeded):
                await task
        third = predicting(backend, 3)  # waits: the thread is still with the first
        await asyncio.sleep(0)
        assert gate.entered == [1]
        gate.open()
        assert (await third).predictions == [3]
        await backend.close()

    run(test)
    assert gate.entered == [1, 3]


def test_a_broken_folder_fails_the_start(tmp_path: Path) -> None:
    backend = model(tmp_path, "1 / 0")

    async def test() -> None:
        with pytest.raises(ConfigError, match=r"custom\.py, line 1: the import raised ZeroDivisionError"):
            await backend.start()
        assert state_of(backend) == "failed"
        assert "ZeroDivisionError" in (backend.status.detail or "")
        with pytest.raises(Unavailable, match="its state is failed"):
            await predicting(backend, 1)
        await backend.close()

    run(test)


def test_without_preload_the_first_request_loads_once(tmp_path: Path, gate: Gate) -> None:
    code = "import builtins\nbuiltins._headgate_gate.enter(0)\n"
    backend = model(tmp_path, code + "def predict(x: int) -> int: return x", preload=False)

    async def test() -> None:
        await backend.start()
        assert state_of(backend) == "idle"
        tasks = [predicting(backend, x) for x in (1, 2)]
        await gate.one_began()
        assert state_of(backend) == "loading"
        with pytest.raises(DeadlineExceeded, match="still loading"):
            await predicting(backend, 3, deadline=asyncio.get_running_loop().time() + 0.01)
        gate.open()
        assert [(await task).predictions for task in tasks] == [[1], [2]]
        await backend.close()

    run(test)
    assert gate.entered == [0]


def test_without_preload_a_broken_folder_is_unavailable_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = model(tmp_path, "1 / 0", preload=False)

    async def test() -> None:
        await backend.start()
        with pytest.raises(Unavailable, match="could not be loaded; the server's log says why"):
            await predicting(backend, 1)
        assert state_of(backend) == "failed"
        await backend.close()

    run(test)
    assert "ZeroDivisionError" in caplog.text


def test_close_leaves_a_hanging_prediction_behind(
    tmp_path: Path,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("headgate.local.threaded.CLOSE_GRACE", 0.01)
    backend = model(tmp_path, GATED)

    async def test() -> None:
        await backend.start()
        task = predicting(backend, 1)
        await gate.one_began()
        await backend.close()
        task.cancel()

    run(test)
    assert "a call still runs and is left to itself" in caplog.text
    gate.open()


@pytest.mark.parametrize("name", ["folder", "python"])
def test_the_registry_builds_both(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "custom.py").write_text("def predict(x: int) -> int: return x")
    (tmp_path / "registry_served.py").write_text("def predict(x: int) -> int: return x")
    monkeypatch.syspath_prepend(tmp_path)
    row = Registry().row(name)
    settings: TargetSettings = (
        FolderSettings(backend="folder", folder=tmp_path)
        if name == "folder"
        else PythonSettings(backend="python", python="registry_served:predict")
    )
    assert isinstance(settings, row.settings)

    async def test() -> None:
        pools = Pools()
        backend = row.build(settings, BuildContext("m", "m", Timeouts(), pools))
        assert isinstance(backend, CustomModel)
        await backend.start()
        assert (await predicting(backend, 5)).predictions == [5]
        await backend.close()
        await pools.close()

    run(test)


@pytest.mark.parametrize("source", ["module", "module:", ":attr"])
def test_a_python_source_has_two_parts(source: str) -> None:
    with pytest.raises(ValueError, match="must be MODULE:ATTRIBUTE"):
        PythonSettings(backend="python", python=source)
