"""From a model's raw output to predictions, with what makes it trustworthy checked on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headgate.core.operations import PredictResult, Table
from headgate.local.metadata import Target, canonical
from headgate.local.runner import model_error

PREDICTIONS = "Predictions"
"""Name of the only column of a regression, in data frames that hooks see and return."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Output columns, all of one length. `names` is None where the model gave a bare array."""

    names: tuple[str, ...] | None
    columns: tuple[Sequence[Any], ...]

    @property
    def rows(self) -> int:
        return len(self.columns[0]) if self.columns else 0


def named(scores: Scores, target: Target, rows: int, source: str) -> Scores:
    """`scores` with a name for each column, after checking that there is one row for each input row.

    Args:
        rows: of the input.
        source: who made the scores, for messages: "model 'wine': score".
    """
    if scores.rows != rows:
        raise model_error(f"{source} returned {scores.rows} rows for {rows} input rows")
    if scores.names is not None:
        return scores
    if len(scores.columns) != 1:
        wanted = f", called {', '.join(target.labels)}" if target.labels else ""
        raise model_error(
            f"{source} returned {len(scores.columns)} unnamed columns; it must name them{wanted}"
        )
    if target.type == "binary" and len(target.labels) == 2:
        positive = scores.columns[0]
        _check_numbers(positive, target.labels[1], source)
        return Scores(target.labels, ([1 - value for value in positive], positive))
    return Scores((PREDICTIONS,), scores.columns)


def answer(scores: Scores, target: Target, source: str) -> PredictResult:
    """One prediction for each row, by target type; further columns become `extra`.

    Without a target type, one column gives plain values and several give one object for each row.
    """
    names = scores.names or ()
    columns = dict(zip(names, scores.columns, strict=True))
    if len(columns) < len(names):
        raise model_error(f"{source} returned a column name twice")
    if target.type in ("binary", "multiclass"):
        return _classes(columns, target, source)
    if target.type == "regression":
        return _value(columns, target, source)
    if len(columns) == 1:
        return PredictResult(list(scores.columns[0]))
    return PredictResult([dict(zip(names, row, strict=True)) for row in zip(*scores.columns, strict=True)])


def _classes(columns: Mapping[str, Sequence[Any]], target: Target, source: str) -> PredictResult:
    by_label = {canonical(name): name for name in columns}
    labels = target.labels or tuple(columns)
    chosen: list[str] = []
    for label in labels:
        name = by_label.get(canonical(label))
        if name is None:
            raise model_error(
                f"{source} returned no column for class label {label!r}; "
                f"its columns must be called {', '.join(labels)}"
            )
        chosen.append(name)
        _check_numbers(columns[name], name, source)
    predictions = [
        dict(zip(labels, row, strict=True)) for row in zip(*(columns[name] for name in chosen), strict=True)
    ]
    return PredictResult(predictions, _extra(columns, chosen))


def _value(columns: Mapping[str, Sequence[Any]], target: Target, source: str) -> PredictResult:
    chosen = next(iter(columns)) if len(columns) == 1 else None
    for name in (PREDICTIONS, target.name):
        if chosen is None and name in columns:
            chosen = name
    if chosen is None:
        raise model_error(f"{source} returned {len(columns)} columns, and none is called {PREDICTIONS!r}")
    _check_numbers(columns[chosen], chosen, source)
    return PredictResult(list(columns[chosen]), _extra(columns, [chosen]))


def _check_numbers(cells: Sequence[Any], name: str, source: str) -> None:
    for row, cell in enumerate(cells):
        if isinstance(cell, bool) or not isinstance(cell, int | float):
            raise model_error(
                f"{source} returned something other than a number in row {row}, column {name!r}"
            )


def _extra(columns: Mapping[str, Sequence[Any]], chosen: Sequence[str]) -> Table | None:
    rest = {name: cells for name, cells in columns.items() if name not in chosen}
    return Table(tuple(rest), tuple(rest.values())) if rest else None
