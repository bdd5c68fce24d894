"""The backends `folder` and `python`: a runner behind the backend protocol, off the event loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import Field, field_validator
from typing_extensions import override

from headgate.backends.registry import BackendType, BuildContext
from headgate.config.schema import ConfigPath, TargetSettings
from headgate.core.backend import Backend, PredictBackend, Status
from headgate.core.call import Call, Operation
from headgate.core.operations import PredictRequest, PredictResult
from headgate.local.folder import load
from headgate.local.runner import ANY_RECORD, LoadOptions, Runner
from headgate.local.threaded import Threaded

log = logging.getLogger(__name__)


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
        self._name = name
        self._preload = settings.preload
        self._model: Threaded[Runner] = Threaded(
            name,
            lambda: load(source, name=name, options=options),
            threads=settings.max_workers,
            max_queue=settings.max_queue,
        )

    @property
    @override
    def operations(self) -> frozenset[Operation]:
        return frozenset({Operation.PREDICT})

    @property
    @override
    def status(self) -> Status:
        runner = self._model.model
        if runner is None:
            return Status(self._model.state, self._model.detail)
        info: dict[str, Any] = {"target_type": runner.target_type, "describe": runner.describe}
        if runner.class_labels:
            info["class_labels"] = list(runner.class_labels)
        return Status(self._model.state, self._model.detail, info)

    @property
    @override
    def input_schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of one record. None: the model takes any columns, or is not loaded yet."""
        runner = self._model.model
        schema = runner.schema.input if runner is not None else None
        return None if schema == ANY_RECORD else schema

    @property
    @override
    def output_schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of one prediction. None: it may be anything, or the model is not loaded yet."""
        runner = self._model.model
        return (runner.schema.output if runner is not None else None) or None

    @override
    async def start(self) -> None:
        """Load the model, unless it is to load at the first request. Raises ConfigError."""
        if self._preload:
            runner = await self._model.load()
            log.info("model %s: %s", self._name, runner.describe)

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
        return await self._model.run(
            lambda runner: runner.predict(request.table, request.parameters), call.deadline
        )

    @override
    async def close(self) -> None:
        await self._model.close(lambda runner: runner.close())


def _build_folder(settings: TargetSettings, context: BuildContext) -> Backend:
    mine = cast("FolderSettings", settings)
    options = LoadOptions(trust_types=mine.trust_types)
    return CustomModel(mine.folder, mine, name=context.model, options=options)


def _build_python(settings: TargetSettings, context: BuildContext) -> Backend:
    mine = cast("PythonSettings", settings)
    return CustomModel(mine.python, mine, name=context.model, options=LoadOptions())


FOLDER = BackendType(settings=FolderSettings, build=_build_folder)
PYTHON = BackendType(settings=PythonSettings, build=_build_python)
