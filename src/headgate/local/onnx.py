"""ONNX models over tables, on onnxruntime. Needs the extra `onnx`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from headgate.core.errors import ConfigError, InvalidData
from headgate.core.operations import Table
from headgate.local.diagnosis import is_missing, missing_column
from headgate.local.metadata import Target
from headgate.local.targets import Scores

_TYPES: Mapping[str, tuple[type[np.generic], str]] = {
    "tensor(float)": (np.float32, "number"),
    "tensor(double)": (np.float64, "number"),
    "tensor(float16)": (np.float16, "number"),
    "tensor(int64)": (np.int64, "integer"),
    "tensor(int32)": (np.int32, "integer"),
    "tensor(int16)": (np.int16, "integer"),
    "tensor(int8)": (np.int8, "integer"),
    "tensor(uint8)": (np.uint8, "integer"),
    "tensor(bool)": (np.bool_, "boolean"),
    "tensor(string)": (np.str_, "string"),
}
_FLOATS = ("tensor(float)", "tensor(double)", "tensor(float16)")
_LABEL_TYPES = ("tensor(int64)", "tensor(string)")
FEATURE_NAMES = "feature_names"
"""Key in the model's own metadata: a JSON list of column names, for models with one input for all."""


class OnnxScorer:
    """An inference session that takes a table: one input with all columns, or one input for each column.

    With one input for all, columns are found by name where the model's metadata has `feature_names`, and
    by position otherwise. A missing number is NaN.

    Raises:
        ConfigError: the inputs are not a table, or the outputs don't tell what a prediction is.
    """

    def __init__(self, session: Any, target: Target, place: str) -> None:
        self.model = session
        self._inputs = session.get_inputs()
        self._place = place
        for one in self._inputs:
            if one.type not in _TYPES or len(one.shape) > 2:
                raise ConfigError(
                    f"{place}: input {one.name!r} is {one.type} with shape {one.shape}, which is no table; "
                    "write a custom.py with score"
                )
        self._joint = len(self._inputs) == 1 and self._width(self._inputs[0]) != 1
        self._names = self._feature_names()
        self._one_by_one = any(one.shape and one.shape[0] == 1 for one in self._inputs)
        self._output, self.target = _output(session.get_outputs(), target, place)
        self.describe = f"ONNX, {self.target.type}, {len(self._names or self._inputs)} inputs"

    @classmethod
    def load(cls, path: Path, target: Target) -> OnnxScorer:
        """Raises ConfigError for a file that is not an ONNX model."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Idle threads that spin take the CPU from everything else in the process.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes have no common base
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(f"{path}: is not an ONNX model that onnxruntime loads: {reason}") from error
        return cls(session, target, str(path))

    @property
    def input_schema(self) -> Mapping[str, Any] | None:
        if self._joint:
            kind = {"type": _TYPES[self._inputs[0].type][1]}
            if self._names is None:
                width = self._width(self._inputs[0])
                size = {} if width is None else {"minProperties": width, "maxProperties": width}
                return {"type": "object", "additionalProperties": kind, **size}
            columns = dict.fromkeys(self._names, kind)
        else:
            columns = {one.name: {"type": _TYPES[one.type][1]} for one in self._inputs}
        return {"type": "object", "properties": columns, "required": list(columns)}

    def score(self, table: Table) -> Scores:
        feeds = self._joint_feed(table) if self._joint else self._separate_feeds(table)
        if not self._one_by_one:
            return self._scores(self._run(feeds))
        rows = [
            self._scores(self._run({name: array[row : row + 1] for name, array in feeds.items()}))
            for row in range(table.rows)
        ]
        columns = zip(*(row.columns for row in rows), strict=True)
        return Scores(
            rows[0].names, tuple([value for cells in column for value in cells] for column in columns)
        )

    def _run(self, feeds: Mapping[str, Any]) -> Any:
        return self.model.run([self._output], feeds)[0]

    def _joint_feed(self, table: Table) -> dict[str, Any]:
        one = self._inputs[0]
        names = self._names or table.columns
        width = self._width(one)
        if width is not None and len(names) != width:
            raise InvalidData(f"the table has {len(names)} columns; the model takes {width}")
        arrays = [_array(table, name, one.type) for name in names]
        return {one.name: np.stack(arrays, axis=1)}

    def _separate_feeds(self, table: Table) -> dict[str, Any]:
        feeds = {}
        for one in self._inputs:
            array = _array(table, one.name, one.type)
            feeds[one.name] = array.reshape(-1, 1) if len(one.shape) == 2 else array
        return feeds

    def _scores(self, output: Any) -> Scores:
        if isinstance(output, list):  # ZipMap: one mapping of label to probability for each row
            return Scores(
                tuple(str(label) for label in output[0]),
                tuple([row[label] for row in output] for label in output[0]),
            )
        array = np.asarray(output)
        if array.ndim == 1:
            array = array.reshape(-1, 1)
        columns = tuple(array[:, position].tolist() for position in range(array.shape[1]))
        labels = self.target.labels
        return Scores(labels if len(labels) == len(columns) else None, columns)

    def _feature_names(self) -> tuple[str, ...] | None:
        text = self.model.get_modelmeta().custom_metadata_map.get(FEATURE_NAMES)
        if text is None or not self._joint:
            return None
        try:
            names = json.loads(text)
        except ValueError:
            names = None
        width = self._width(self._inputs[0])
        if not isinstance(names, list) or (width is not None and len(names) != width):
            raise ConfigError(
                f"{self._place}: its metadata {FEATURE_NAMES!r} must be a JSON list of {width} names"
            )
        return tuple(str(name) for name in names)

    @staticmethod
    def _width(one: Any) -> int | None:
        """How many columns an input takes; None: any number."""
        if len(one.shape) < 2:
            return 1
        return one.shape[1] if isinstance(one.shape[1], int) else None


def _output(outputs: Sequence[Any], target: Target, place: str) -> tuple[str, Target]:
    """Which output to read, and what it is. Raises ConfigError where only the metadata could tell."""
    zipmap = next((one for one in outputs if one.type.startswith("seq(map(")), None)
    floats = [one for one in outputs if one.type in _FLOATS and len(one.shape) <= 2]
    if target.type in ("binary", "multiclass"):
        if zipmap is not None:
            return zipmap.name, target
        if not floats or not target.labels:
            raise ConfigError(
                f"{place}: the model's output bears no class labels; give classLabels in model-metadata.yaml "
                "in its folder, in the order of the output's columns"
            )
        return floats[-1].name, target
    if target.type == "regression" and floats:
        return floats[0].name, target
    if target.type is None and zipmap is not None:
        return zipmap.name, Target("multiclass", (), target.name)
    labels = any(one.type in _LABEL_TYPES for one in outputs)
    if target.type is None and len(floats) == 1 and not labels and floats[0].shape[1:] in ([], [1]):
        return floats[0].name, Target("regression", (), target.name)
    raise ConfigError(
        f"{place}: the outputs ({', '.join(f'{one.name}: {one.type}' for one in outputs)}) don't tell what a "
        "prediction is; give targetType (and classLabels) in model-metadata.yaml in its folder"
    )


def _array(table: Table, name: str, kind: str) -> Any:
    """One column as the model's type. Raises InvalidData naming the row."""
    if name not in table.columns:
        raise missing_column(name)
    cells = table.data[table.columns.index(name)]
    dtype, word = _TYPES[kind]
    for row, cell in enumerate(cells):
        if not _fits(cell, kind):
            what = "has no value" if is_missing(cell) else f"is not what the model takes ({word})"
            raise InvalidData(f"row {row}, column {name!r} {what}", param=f"{row}.{name}")
    if dtype is np.str_:
        return np.array(cells, dtype=object)
    try:
        with np.errstate(over="ignore"):
            if kind in _FLOATS:
                array = np.array([np.nan if cell is None else cell for cell in cells], dtype=dtype)
            else:
                array = np.array([int(cell) for cell in cells], dtype=dtype)
    except OverflowError:
        raise _out_of_range(name) from None
    if kind in _FLOATS and np.isinf(array).any():
        raise _out_of_range(name)
    return array


def _out_of_range(name: str) -> InvalidData:
    return InvalidData(f"column {name!r} holds a number out of range for the model", param=name)


def _fits(cell: Any, kind: str) -> bool:
    if kind == "tensor(string)":
        return isinstance(cell, str)
    if kind == "tensor(bool)":
        return isinstance(cell, bool)
    if cell is None or (isinstance(cell, float) and not cell.is_integer()):
        return kind in _FLOATS
    return isinstance(cell, float | int)
