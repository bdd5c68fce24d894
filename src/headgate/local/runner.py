"""What runs a model of one's own: one interface over code, artefacts and functions, whatever they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, get_args

from headgate.core.errors import Internal
from headgate.core.operations import PredictResult, Table

TargetType: TypeAlias = Literal[
    "regression",
    "binary",
    "multiclass",
    "multilabel",
    "anomaly",
    "unstructured",
    "transform",
    "textgeneration",
    "vectordatabase",
    "geopoint",
    "agenticworkflow",
]
TARGET_TYPES: tuple[TargetType, ...] = get_args(TargetType)
SERVED_TARGET_TYPES: tuple[TargetType, ...] = ("regression", "binary", "multiclass")

ANY_RECORD: Mapping[str, Any] = {"type": "object", "additionalProperties": True}


@dataclass(frozen=True, slots=True)
class Schema:
    """JSON Schemas (draft 2020-12) of one record that goes in and of one prediction that comes out."""

    input: Mapping[str, Any] = field(default_factory=lambda: ANY_RECORD)
    output: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What the operator allows. Plain values, so that they can go to another process.

    Args:
        trust_types: types beyond scikit-learn's own that a skops file may hold.
    """

    trust_types: tuple[str, ...] = ()


class Runner(Protocol):
    """A loaded model. Everything here is synchronous and runs on a worker thread."""

    @property
    def describe(self) -> str:
        """One line for the log: what was chosen, and why."""
        ...

    @property
    def schema(self) -> Schema: ...

    @property
    def target_type(self) -> TargetType | None:
        """None: the model's own function decides what a prediction is."""
        ...

    @property
    def class_labels(self) -> tuple[str, ...] | None: ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """`model-metadata.yaml` as it was read; empty without one."""
        ...

    def predict(self, table: Table, parameters: Mapping[str, Any]) -> PredictResult:
        """One prediction for each row, in order, as plain JSON values (numbers may be NaN or infinite).

        Raises:
            InvalidData: the table is not what the model takes; names column and row.
            UnsupportedParameter: `parameters` that nothing of the model takes.
            Internal: the model's code failed, or its output is not what it should be (`model_error`).
        """
        ...

    def close(self) -> None: ...


def model_error(message: str) -> Internal:
    """The model is at fault, not the caller and not the server."""
    return Internal(message, code="model_error")
