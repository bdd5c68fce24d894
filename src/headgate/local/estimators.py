"""scikit-learn estimators, and objects with the same methods. Needs the extra `sklearn`."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headgate.core.errors import ConfigError, InvalidData, MissingExtra
from headgate.core.operations import Table
from headgate.local.diagnosis import missing_column
from headgate.local.frames import frame_of, require_pandas
from headgate.local.metadata import Target, canonical
from headgate.local.targets import Scores


def load_skops(path: Path, target: Target, trust_types: Sequence[str]) -> EstimatorScorer:
    """Load a skops file, whose types must be scikit-learn's own or trusted by the operator.

    Raises:
        ConfigError: it holds other types, or is no skops file.
        MissingExtra: skops is not installed.
    """
    try:
        import skops.io
    except ImportError:
        raise MissingExtra(f"{path}: a skops model", "sklearn") from None
    try:
        unknown = sorted(set(skops.io.get_untrusted_types(file=path)) - set(trust_types))
        if unknown:
            types = ", ".join(unknown)
            raise ConfigError(
                f"{path}: holds types that are not known to be safe: {types}; if you trust the file, "
                f"list them in the model's settings: trust_types: [{types}]"
            )
        model = skops.io.load(path, trusted=list(trust_types))
    except ConfigError:
        raise
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise ConfigError(f"{path}: is not a skops file: {error}; write it with skops.io.dump") from error
    except Exception as error:  # skops runs the constructors of what it loads
        raise ConfigError(
            f"{path}: can't be loaded: {type(error).__name__}: {error}; "
            "it may have been saved with other versions of scikit-learn or skops: save it again"
        ) from error
    return EstimatorScorer(model, target, str(path))


class EstimatorScorer:
    """A fitted estimator: class probabilities from a classifier, values from any other.

    Columns are found by name where the estimator was fitted on named columns; others that come along are
    left out. Where it was fitted on a bare array, the table's columns count by position.
    """

    def __init__(self, model: Any, target: Target, place: str) -> None:
        require_pandas(f"{place}: an estimator")
        self.model = model
        self._names: tuple[str, ...] | None = None
        if hasattr(model, "feature_names_in_"):
            self._names = tuple(str(name) for name in model.feature_names_in_)
        self._count = getattr(model, "n_features_in_", None)
        if not isinstance(self._count, int):
            raise ConfigError(
                f"{place}: the {type(model).__name__} does not say how many columns it takes "
                "(n_features_in_): it is not fitted, or takes something other than a table; "
                "write a custom.py with score"
            )
        self.target = _completed(model, target, place)
        self.describe = f"{type(model).__name__}, {self.target.type}, {self._count} columns"

    @property
    def input_schema(self) -> Mapping[str, Any] | None:
        if self._names is None:
            return {"type": "object", "minProperties": self._count, "maxProperties": self._count}
        kind = {"type": "number"} if _is_numeric(self.model) else {}
        return {
            "type": "object",
            "properties": {name: {"title": name, **kind} for name in self._names},
            "required": list(self._names),
        }

    def score(self, table: Table) -> Scores:
        data = self._data(table)
        if self.target.type == "regression":
            return Scores(None, _columns(np.asarray(self.model.predict(data))))
        labels = tuple(str(label) for label in self.model.classes_)
        return Scores(labels, _columns(np.asarray(self.model.predict_proba(data))))

    def _data(self, table: Table) -> Any:
        if self._names is not None:
            for name in self._names:
                if name not in table.columns:
                    raise missing_column(name)
            return frame_of(table)[list(self._names)]
        if len(table.columns) != self._count:
            raise InvalidData(f"the table has {len(table.columns)} columns; the model takes {self._count}")
        return frame_of(table).to_numpy()


def _completed(model: Any, target: Target, place: str) -> Target:
    """`target` with the type and the labels that the estimator shows. Raises ConfigError if they differ."""
    classes = getattr(model, "classes_", None)
    if target.type == "regression" and classes is not None:
        raise ConfigError(
            f"{place}: targetType is regression, but the {type(model).__name__} is a classifier"
        )
    if target.type == "regression" or (target.type is None and classes is None):
        return Target("regression", (), target.name)
    if classes is None or not hasattr(model, "predict_proba"):
        raise ConfigError(
            f"{place}: {target.type or 'a classifier'} needs class probabilities, and the "
            f"{type(model).__name__} has no predict_proba; choose another or wrap it (CalibratedClassifierCV)"
        )
    known = tuple(str(label) for label in classes)
    if target.labels and {canonical(one) for one in target.labels} != {canonical(one) for one in known}:
        raise ConfigError(
            f"{place}: the class labels in the metadata ({', '.join(target.labels)}) are not the model's "
            f"({', '.join(known)})"
        )
    if target.type == "binary" and len(known) != 2:
        raise ConfigError(f"{place}: targetType is binary, but the model has {len(known)} classes")
    return Target(
        target.type or ("binary" if len(known) == 2 else "multiclass"), target.labels or known, target.name
    )


def _columns(array: np.ndarray[Any, Any]) -> tuple[list[Any], ...]:
    if array.ndim == 1:
        return (array.tolist(),)
    return tuple(array[:, position].tolist() for position in range(array.shape[1]))


def _is_numeric(model: Any) -> bool:
    """Whether every column is a number for sure: what comes first is an estimator of scikit-learn's own
    that takes neither texts nor categories, and that does not route columns to others."""
    steps = getattr(model, "steps", None)
    if isinstance(steps, list) and steps:
        return _is_numeric(steps[0][1])
    if not type(model).__module__.startswith("sklearn.") or hasattr(model, "transformers"):
        return False
    if hasattr(model, "transformer_list") or hasattr(model, "func") or hasattr(model, "estimator"):
        return False
    from sklearn.utils import get_tags

    tags = get_tags(model).input_tags
    return bool(tags.two_d_array and not tags.string and not tags.categorical)
