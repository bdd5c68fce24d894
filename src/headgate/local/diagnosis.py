"""Telling a caller's mistake from a model's defect, by the exception that came out of the model's code.

A column that is missing, a text where a number belongs: data frames and estimators answer these with a
KeyError or a ValueError, which would be a 500. An exception counts as the caller's only where the table
that was sent shows the same fault.
"""

from __future__ import annotations

import re
import traceback
from typing import Any

from headgate.core.errors import InvalidData
from headgate.core.operations import Table

_NOT_A_NUMBER = re.compile(r"could not convert string to float: (?:np\.str_\()?'(.*)'\)?", re.DOTALL)
_WRONG_COUNT = re.compile(r"X has (\d+) features, but \w+ is expecting (\d+) features")
_LARGEST = 1.7976931348623157e308


def client_mistake(error: BaseException, table: Table) -> InvalidData | None:
    """What the caller did wrong, if `error` says so and `table` bears it out; None otherwise."""
    if isinstance(error, KeyError):
        return _missing_key(error, table)
    if isinstance(error, OverflowError):
        return _at(table, _is_too_large, "is a number out of range")
    if not isinstance(error, ValueError):
        return None
    text = str(error)
    if match := _NOT_A_NUMBER.fullmatch(text):
        return _at(table, lambda cell: cell == match[1], "is a text; the model takes a number")
    if "contains NaN" in text:
        return _at(table, is_missing, "has no value, and the model takes none missing")
    if "Found unknown categories" in text:
        return InvalidData("a column holds a category that the model was not trained on")
    if (match := _WRONG_COUNT.match(text)) and int(match[1]) == len(table.columns):
        return InvalidData(f"the table has {match[1]} columns; the model takes {match[2]}")
    for name in _missing_names(text):
        if name not in table.columns:
            return missing_column(name)
    for name in _listed_after("unseen at fit time:", text):
        if name in table.columns:
            return InvalidData(f"column {name!r} is not one that the model was trained on", param=name)
    return None


def missing_column(name: str) -> InvalidData:
    return InvalidData(f"column {name!r} is missing; the model needs it in every row", param=name)


def is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and cell != cell)


def _missing_key(error: KeyError, table: Table) -> InvalidData | None:
    """`frame["a"]` and `frame[["a", "b"]]`: only a KeyError that a data frame raised counts."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or "pandas" not in frames[-1].filename:
        return None
    key = error.args[0] if error.args else None
    if not isinstance(key, str):
        return None
    several = any(words in key for words in ("not in index", "are in the [columns]", "not found in axis"))
    names = re.findall(r"'([^']+)'", key) if several else [key]
    missing = [name for name in names if name not in table.columns and name != "str"]
    return missing_column(missing[0]) if missing else None


def _missing_names(text: str) -> list[str]:
    """Columns that scikit-learn says it misses."""
    if "columns are missing: " in text:
        return re.findall(r"'([^']+)'", text.partition("columns are missing: ")[2])
    return _listed_after("yet now missing:", text)


def _listed_after(words: str, text: str) -> list[str]:
    """The names in the list, one a line, that follows `words`."""
    _, _, rest = text.partition(words)
    names = []
    for line in rest.lstrip("\n").splitlines():
        if not line.startswith("- "):
            break
        names.append(line[2:])
    return names


def _is_too_large(cell: Any) -> bool:
    return isinstance(cell, int) and abs(cell) > _LARGEST


def _at(table: Table, guilty: Any, what: str) -> InvalidData | None:
    for name, cells in zip(table.columns, table.data, strict=True):
        for row, cell in enumerate(cells):
            if guilty(cell):
                return InvalidData(f"row {row}, column {name!r} {what}", param=f"{row}.{name}")
    return None
