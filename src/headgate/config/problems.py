"""What is wrong with a configuration: collected, then told in one message, a line for each mistake."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from headgate.config.quantities import QuantityError
from headgate.core.errors import ConfigError

SettingPath: TypeAlias = tuple[str | int, ...]
"""Where a setting is: `("models", "gpt-4o", "targets", 0, "weight")`."""

_PLAIN_NAME = re.compile(r"[\w-]+")
_MOST_PROBLEMS = 50
_LONGEST_VALUE = 60
_MOST_NAMES = 40


@dataclass(slots=True)
class Problems:
    """Collects mistakes.

    Args:
        source: how the configuration is called in messages: its path as the user wrote it.
        lines: line of each setting in that file, counted from 1; empty where there is no file.
        origins: settings that came from elsewhere, and the name of that place (`HEADGATE_PORT`).
        private: settings whose value must not be shown (they came from a variable or a file).
        broken: settings whose mistake is noted already: they have no value to check.
    """

    source: str
    lines: Mapping[SettingPath, int] = field(default_factory=dict)
    origins: dict[SettingPath, str] = field(default_factory=dict)
    private: set[SettingPath] = field(default_factory=set)
    broken: set[SettingPath] = field(default_factory=set)
    _found: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, path: SettingPath, message: str, *, line: int | None = None) -> None:
        """Note one mistake. `line` overrides the line known for `path`."""
        if line is None:
            line = self._line(path)
        origin = self.origins.get(path)
        place = origin or (f"{self.source}:{line}" if line else self.source)
        where = f"{place}: {shown_path(path)}" if path else place
        self._found.setdefault((where, message), 0 if origin else line or 0)

    def add_invalid(
        self, error: ValidationError, prefix: SettingPath, model: type[BaseModel], raw: Any
    ) -> None:
        """Note what pydantic found wrong with `raw`, which `prefix` leads to and `model` describes."""
        seen = set()
        for details in error.errors(include_url=False):
            location = _present(details["loc"], raw, missing=details["type"] == "missing")
            path = prefix + location
            if location not in seen and path not in self.broken:
                seen.add(location)
                self.add(path, self._worded(details, path, location, model))

    def raise_if_any(self) -> None:
        """Raises ConfigError with every mistake, in the order of the file."""
        if not self._found:
            return
        ordered = sorted(self._found.items(), key=lambda item: item[1])
        lines = [f"{where}: {message}" for (where, message), _ in ordered]
        if len(lines) > _MOST_PROBLEMS:
            lines[_MOST_PROBLEMS:] = [f"{self.source}: and {len(lines) - _MOST_PROBLEMS} more mistakes"]
        raise ConfigError("\n".join(lines))

    def _line(self, path: SettingPath) -> int | None:
        for length in range(len(path), -1, -1):
            if (line := self.lines.get(path[:length])) is not None:
                return line
        return None

    def _worded(
        self, details: ErrorDetails, path: SettingPath, location: SettingPath, model: type[BaseModel]
    ) -> str:
        kind, context = details["type"], details.get("ctx", {})
        if kind == "extra_forbidden":
            return unknown(str(location[-1]), _fields_at(model, location[:-1]))
        if kind == "missing":
            return _missing(_fields_at(model, location[:-1]), str(location[-1]))
        if kind in ("model_type", "model_attributes_type", "dict_type", "mapping_type"):
            return f"must be a mapping of settings{_written_as(details['input'])}"
        if kind in ("literal_error", "enum"):
            allowed = [value.strip("'") for value in re.split(r", | or ", context["expected"])]
            return one_of(details["input"], allowed, private=path in self.private)
        if kind == "value_error" and not isinstance(context["error"], QuantityError):
            return str(context["error"])
        message = _MESSAGES.get(kind, "").format(**context) or str(context.get("error") or details["msg"])
        shows = kind in _SHOWING_VALUE and path not in self.private
        return message + (_not_value(details["input"]) if shows else _written_as(details["input"]))


_MESSAGES = {
    "string_type": "must be a text; put it in quotes",
    "string_too_short": "must not be empty",
    "string_too_long": "must be {max_length} characters at most",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be {le:g} or less",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "too_short": "must not be empty",
    "path_type": "must be a path",
}
_SHOWING_VALUE = frozenset(
    {
        *("int_type", "int_parsing", "int_from_float", "float_type", "float_parsing", "finite_number"),
        *("bool_type", "bool_parsing", "value_error"),
        *("greater_than", "greater_than_equal", "less_than", "less_than_equal"),
    }
)
"""Kinds of mistake where showing the value helps and the setting can't be a secret."""


def shown_path(path: SettingPath) -> str:
    """`models."gpt-4.1".targets[1].weight`: names that hold a dot or worse are quoted."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            name = (
                part if _PLAIN_NAME.fullmatch(part) else json.dumps(part, ensure_ascii=not part.isprintable())
            )
            shown += f".{name}" if shown else name
    return shown


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def unknown(name: str, known: Iterable[str], *, what: str = "setting", named: bool = False) -> str:
    """Words for a name that is not one of `known`. `named`: the path before the words does not hold it."""
    names = list(known)
    guess = near(name, names)
    quoted = f" {json.dumps(name, ensure_ascii=not name.isprintable())}" if named else ""
    meant = f' did you mean "{guess}"?' if guess else ""
    listed = ", ".join(names[:_MOST_NAMES]) or "none"
    rest = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"unknown {what}{quoted};{meant} known: {listed}{rest}"


def one_of(value: Any, allowed: Sequence[str], *, private: bool = False) -> str:
    """Words for a value that is not one of `allowed`."""
    message = f"must be one of {', '.join(allowed)}"
    if private:
        return message
    guess = near(value, allowed) if isinstance(value, str) else None
    return message + _not_value(value) + (f'; did you mean "{guess}"?' if guess else "")


def _missing(fields: Mapping[str, str | None], name: str) -> str:
    description = fields.get(name)
    return f"required, but not set{f': {description}' if description else ''}"


def _not_value(value: Any) -> str:
    if isinstance(value, str | int | float | bool):
        shown = json.dumps(value)
        return f", not {shown if len(shown) <= _LONGEST_VALUE else shown[:_LONGEST_VALUE] + '…'}"
    return _written_as(value)


def _written_as(value: Any) -> str:
    """The kind of a value whose content is not shown."""
    if value is None:
        return ", not empty"
    if isinstance(value, dict):
        return ", not a mapping"
    return ", not a list" if isinstance(value, list | tuple) else ""


def _present(location: tuple[int | str, ...], raw: Any, *, missing: bool) -> SettingPath:
    """`location` as far as it exists in `raw`: pydantic adds names of union members and the like."""
    present: list[str | int] = []
    for part in location:
        if isinstance(raw, dict) and (part in raw or (missing and part == location[-1])):
            raw = raw.get(part)
        elif isinstance(raw, list) and isinstance(part, int) and part < len(raw):
            raw = raw[part]
        else:
            break
        present.append(part)
    return tuple(present)


def _fields_at(model: type[BaseModel], location: SettingPath) -> dict[str, str | None]:
    """Names and descriptions of the settings that the model at `location` inside `model` knows."""
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return {name: info.description for name, info in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := _model_in(inner))), None)
