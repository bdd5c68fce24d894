"""Delimiter-separated text (RFC 4180 and its usual relatives) to a table."""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from collections.abc import Collection, Sequence
from typing import Any

from headgate.core.errors import InvalidData
from headgate.core.operations import Table

DELIMITERS = (",", ";", "\t", "|")
"""Those that are recognised by themselves; a content-type parameter may name any other."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_MISSING = frozenset({"", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "None"})
_QUOTED = re.compile(r'"[^"]*"')

# The csv module refuses cells above 128 KiB, and its limit is the process's. Here the size of the whole
# body is bounded already, and texts may be long.
csv.field_size_limit(sys.maxsize)


def decode_delimited(text: str, *, delimiter: str | None = None, texts: Collection[str] = ()) -> Table:
    """Read a header row and the rows below it. Blank lines are skipped.

    Types are found column by column. When every cell that says something is a number, the column holds
    ints and floats, and its empty cells and the usual marks for "not available" are None. Columns of
    true/false become bools. All else stays text, as do numbers whose text would be lost: `007`, `+49`.

    Args:
        delimiter: one character; None finds out from the header row.
        texts: columns that stay text whatever they look like.

    Raises:
        InvalidData: no rows, ragged rows, a column name twice, an unclosed quote, a number out of range.
    """
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter or _delimiter_of(text), strict=True
    )
    rows: list[list[str]] = []
    header: tuple[str, ...] | None = None
    try:
        for cells in reader:
            if not cells:
                continue
            if header is None:
                header = _names(cells)
            elif len(cells) == len(header):
                rows.append(cells)
            else:
                raise InvalidData(
                    f"CSV line {reader.line_num} has {len(cells)} cells, but the header row names "
                    f"{len(header)} columns"
                )
    except csv.Error as error:
        raise InvalidData(f"CSV line {reader.line_num} can't be read: {error}") from None
    if header is None or not rows:
        raise InvalidData("no data: the CSV needs a header row with the column names and at least one row")
    columns = zip(header, zip(*rows, strict=True), strict=True)
    return Table(header, tuple(_typed(name, cells, name in texts) for name, cells in columns))


def _delimiter_of(text: str) -> str:
    """The one that occurs most in the header row, outside quotes."""
    header = _QUOTED.sub("", text.lstrip("\r\n").partition("\n")[0])
    return max(DELIMITERS, key=header.count)


def _names(cells: Sequence[str]) -> tuple[str, ...]:
    """Column names; an unnamed one (a table saved with its index) is called as pandas calls it."""
    names = tuple(cell or f"Unnamed: {position}" for position, cell in enumerate(cells))
    seen: dict[str, int] = {}
    for position, name in enumerate(names, start=1):
        if name in seen:
            raise InvalidData(
                f"CSV header row: columns {seen[name]} and {position} have the same name; "
                "each name may occur once"
            )
        seen[name] = position
    return names


def _typed(name: str, cells: Sequence[str], is_text: bool) -> list[Any]:
    if not is_text:
        numbers = _numbers(name, cells)
        if numbers is not None:
            return numbers
        words = [cell.strip().lower() for cell in cells]
        if {"true", "false", ""}.issuperset(words) and any(words):
            return [None if word == "" else word == "true" for word in words]
    return [cell if cell != "" else None for cell in cells]


def _numbers(name: str, cells: Sequence[str]) -> list[int | float | None] | None:
    """The column as numbers; None where it is not numeric."""
    values: list[int | float | None] = []
    for row, cell in enumerate(cells):
        digits = cell.strip()
        if digits in _MISSING:
            values.append(None)
        elif _FLOAT.fullmatch(digits):
            values.append(_number(name, row, digits))
        else:
            return None
    says_something = any(value is not None for value in values)
    return values if says_something or not any(cells) else None


def _number(name: str, row: int, digits: str) -> int | float:
    try:
        value = int(digits) if _INTEGER.fullmatch(digits) else float(digits)
    except ValueError:  # more digits than Python converts
        value = math.inf
    if value in (math.inf, -math.inf):
        raise InvalidData(f"row {row}, column {name!r}: the number is out of range", param=f"{row}.{name}")
    return value
