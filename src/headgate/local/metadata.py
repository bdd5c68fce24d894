"""`model-metadata.yaml`: what a folder says about its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from headgate.core.errors import ConfigError
from headgate.local.runner import ANY_RECORD, TARGET_TYPES, TargetType

FILE_NAME = "model-metadata.yaml"
_REQUIRED = ("name", "type", "targetType")


@dataclass(frozen=True, slots=True)
class Target:
    """What a prediction is.

    Args:
        type: None where nothing says.
        labels: class labels; for binary first the negative one, then the positive one.
        name: the column that is predicted.
    """

    type: TargetType | None = None
    labels: tuple[str, ...] = ()
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    target: Target = Target()
    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_schema(self) -> Mapping[str, Any]:
        """One record's schema, as far as `typeSchema` tells it: how many columns, of which kinds."""
        requirements = (self.raw.get("typeSchema") or {}).get("input_requirements") or []
        schema: dict[str, Any] = dict(ANY_RECORD)
        for rule in requirements:
            match rule:
                case {"field": "number_of_columns", "condition": "EQUALS", "value": int(count)}:
                    schema |= {"minProperties": count, "maxProperties": count}
                case {"field": "data_types", "condition": "EQUALS" | "IN", "value": kinds}:
                    kinds = kinds if isinstance(kinds, list) else [kinds]
                    if set(kinds) == {"NUM"}:
                        schema["additionalProperties"] = {"anyOf": [{"type": "number"}, {"type": "null"}]}
                    elif set(kinds) <= {"TXT", "CAT"}:
                        schema["additionalProperties"] = {"anyOf": [{"type": "string"}, {"type": "null"}]}
        return schema


def read_metadata(folder: Path) -> Metadata:
    """The folder's metadata; empty where there is no such file. Raises ConfigError."""
    path = folder / FILE_NAME
    try:
        raw = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        return Metadata()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: is not YAML: {getattr(error, 'problem', 'malformed')}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping with {', '.join(_REQUIRED)}")
    for name in _REQUIRED:
        if not isinstance(raw.get(name), str):
            raise ConfigError(f"{path}: {name} is missing or not a text; {', '.join(_REQUIRED)} are required")
    for name in ("inferenceModel", "typeSchema"):
        if not isinstance(raw.get(name) or {}, dict):
            raise ConfigError(f"{path}: {name} must be a mapping")
    return Metadata(_target(path, raw), raw)


def _target(path: Path, raw: Mapping[str, Any]) -> Target:
    target_type = raw["targetType"]
    if target_type not in TARGET_TYPES:
        raise ConfigError(f"{path}: targetType {target_type!r} is none of {', '.join(TARGET_TYPES)}")
    inference = raw.get("inferenceModel") or {}
    labels = _labels(path, inference)
    if target_type == "binary":
        labels = _binary_labels(path, inference, labels)
    elif target_type == "multiclass" and len(labels) == 1:
        raise ConfigError(f"{path}: classLabels has one label; multiclass needs two or more")
    if len({canonical(label) for label in labels}) < len(labels):
        raise ConfigError(f"{path}: a class label occurs twice")
    return Target(cast("TargetType", target_type), labels, _text(inference.get("targetName")))


def _labels(path: Path, inference: Mapping[str, Any]) -> tuple[str, ...]:
    labels = inference.get("classLabels")
    file = inference.get("classLabelsFile")
    if labels and file:
        raise ConfigError(f"{path}: both classLabels and classLabelsFile are given; keep one")
    if file:
        try:
            labels = (path.parent / str(file)).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: classLabelsFile can't be read: {error}") from error
        labels = [label for label in labels if label.strip()]
    if not isinstance(labels or [], list):
        raise ConfigError(f"{path}: classLabels must be a list")
    return tuple(str(label) for label in labels or ())


def _binary_labels(path: Path, inference: Mapping[str, Any], labels: tuple[str, ...]) -> tuple[str, ...]:
    negative, positive = (
        _text(inference.get("negativeClassLabel")),
        _text(inference.get("positiveClassLabel")),
    )
    if (negative is None) != (positive is None):
        raise ConfigError(f"{path}: give both positiveClassLabel and negativeClassLabel, or none")
    if negative is not None and positive is not None:
        return (negative, positive)
    if labels and len(labels) != 2:
        raise ConfigError(f"{path}: targetType binary has two classLabels, not {len(labels)}")
    return labels


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def canonical(label: object) -> str:
    """One spelling for labels that mean the same: YAML's 1, a data frame's 1.0 and JSON's "1"."""
    text = str(label).strip()
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else repr(number)
