"""The backends `folder` and `python`: a runner behind the backend protocol, off the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import Field, field_validator
from typing_extensions import override

from headgate.backends.registry import BackendType, BuildContext
from headgate.config.schema import ConfigPath, TargetSettings
from headgate.core.backend import Backend, PredictBackend, State, Status
from headgate.core.call import Call, Operation
from headgate.core.errors import DeadlineExceeded, HeadgateError, Unavailable
from headgate.core.operations import PredictRequest, PredictResult
from headgate.local.folder import load
from headgate.local.runner import ANY_RECORD, LoadOptions, Runner
from headgate.local.workers import Workers

log = logging.getLogger(__name__)

CLOSE_GRACE = 5.0
"""Seconds that predictions under way get when the backend closes; the server's own grace came before."""


class CustomSettings(TargetSettings):
    """What the backends `folder` and `python` have in common."""

    max_workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Predictions that run at once. More than 1 only if the model's code is safe for threads.",
    )
    preload: bool = Field(
        default=True, description="Load at the start; otherwise at the first request, which then waits."
    )


class FolderSettings(CustomSettings):
    """A folder with a `custom.py` or an artefact, or the artefact's file itself."""

    folder: ConfigPath = Field(description="The folder, or the artefact (`.onnx`, `.skops`).")
    trust_types: tuple[str, ...] = Field(
        default=(), description="Types beyond scikit-learn's own that a skops file may hold."
    )


class PythonSettings(CustomSettings):
    """A function or a class that can be imported."""

    python: str = Field(description="`MODULE:ATTRIBUTE`, like `mypackage.models:predict`.")

    @field_validator("python")
    @classmethod
    def _has_both_parts(cls, value: str) -> str:
        module, _, attribute = value.partition(":")
        if not module or not attribute:
            raise ValueError("must be MODULE:ATTRIBUTE, like mypackage.models:predict")
        return value


class CustomModel(PredictBackend):
    """One model of one's own, loaded and run on threads that are its alone.

    Args:
        source: a folder, an artefact file, or `module:attr`.
        name: the public name, for messages.
    """

    def __init__(
        self, source: Path | str, settings: CustomSettings, *, name: str, options: LoadOptions
    ) -> None:
        self._source = source
        self._name = name
        self._options = options
        self._preload = settings.preload
        self._workers = Workers(name, settings.max_workers, settings.max_queue)
        self._state: State = "idle"
        self._detail: str | None = None
        self._runner: Runner | None = None
        self._loading: asyncio.Task[Runner] | None = None

    @property
    @override
    def operations(self) -> frozenset[Operation]:
        return frozenset({Operation.PREDICT})

    @property
    @override
    def status(self) -> Status:
        if self._runner is None:
            return Status(self._state, self._detail)
        info: dict[str, Any] = {
            "target_type": self._runner.target_type,
            "describe": self._runner.describe,
        }
        if self._runner.class_labels:
            info["class_labels"] = list(self._runner.class_labels)
        return Status(self._state, self._detail, info)

    @property
    @override
    def input_schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of one record. None: the model takes any columns, or is not loaded yet."""
        schema = self._runner.schema.input if self._runner is not None else None
        return None if schema == ANY_RECORD else schema

    @property
    @override
    def output_schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of one prediction. None: it may be anything, or the model is not loaded yet."""
        return (self._runner.schema.output if self._runner is not None else None) or None

    @override
    async def start(self) -> None:
        """Load the model, unless it is to load at the first request. Raises ConfigError."""
        if self._preload:
            await self._loaded(None)

    @override
    async def predict(self, request: PredictRequest, call: Call) -> PredictResult:
        """One prediction for each row.

        Raises:
            InvalidData: the table is not what the model takes.
            Internal: the model's code failed.
            Overloaded: too many wait already.
            DeadlineExceeded: `call.deadline` passed while it waited or ran.
            Unavailable: the model could not be loaded, or is being stopped.
        """
        runner = self._runner or await self._loaded_late(call.deadline)
        return await self._workers.run(
            lambda: runner.predict(request.table, request.parameters), call.deadline
        )

    @override
    async def close(self) -> None:
        self._state = "stopped"
        ended = await self._workers.close(CLOSE_GRACE)
        runner, self._runner = self._runner, None
        if runner is None:
            return
        if ended:
            await asyncio.to_thread(runner.close)
        else:
            log.warning("model %s: a prediction still runs and is left to itself", self._name)

    async def _loaded_late(self, deadline: float | None) -> Runner:
        """The runner, at a request. What the operator must mend is no news for the caller."""
        if self._state in ("failed", "stopped"):
            raise Unavailable(f"model {self._name!r} is not served: its state is {self._state}")
        try:
            return await self._loaded(deadline)
        except HeadgateError as error:
            if isinstance(error, DeadlineExceeded):
                raise
            raise Unavailable(
                f"model {self._name!r} could not be loaded; the server's log says why"
            ) from error

    async def _loaded(self, deadline: float | None) -> Runner:
        """Load once, whoever asks; a caller who stops waiting does not stop the loading."""
        if self._loading is None:
            self._state = "loading"
            self._loading = asyncio.create_task(self._load())
        try:
            async with asyncio.timeout_at(deadline) as limit:
                return await asyncio.shield(self._loading)
        except TimeoutError:
            if limit.expired():
                raise DeadlineExceeded(f"model {self._name!r} is still loading", code="total") from None
            raise

    async def _load(self) -> Runner:
        try:
            runner = await self._workers.run(
                lambda: load(self._source, name=self._name, options=self._options)
            )
        except BaseException as error:
            self._state = "failed"
            self._detail = error.message if isinstance(error, HeadgateError) else type(error).__name__
            if not self._preload:
                log.error("model %s: %s", self._name, self._detail)
            raise
        self._runner = runner
        self._state = "ready"
        log.info("model %s: %s", self._name, runner.describe)
        return runner


def _build_folder(settings: TargetSettings, context: BuildContext) -> Backend:
    mine = cast("FolderSettings", settings)
    options = LoadOptions(trust_types=mine.trust_types)
    return CustomModel(mine.folder, mine, name=context.model, options=options)


def _build_python(settings: TargetSettings, context: BuildContext) -> Backend:
    mine = cast("PythonSettings", settings)
    return CustomModel(mine.python, mine, name=context.model, options=LoadOptions())


FOLDER = BackendType(settings=FolderSettings, build=_build_folder)
PYTHON = BackendType(settings=PythonSettings, build=_build_python)
