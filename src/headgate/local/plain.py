"""What a model's code returns, as plain JSON values."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python


class NotPlain(ValueError):
    """A value that has no JSON form; the message names its type only."""


def plain(value: Any) -> Any:
    """None, bool, int, float, str, and lists and dicts of them.

    Takes numpy scalars and arrays, dates, enumerations, dataclasses and pydantic models. NaN and
    infinities stay.

    Raises:
        NotPlain: anything else is in it.
    """
    try:
        return to_jsonable_python(value, fallback=_from_numpy)
    except (PydanticSerializationError, UnicodeDecodeError, ValueError, RecursionError) as error:
        if isinstance(error, NotPlain):
            raise
        raise NotPlain("a value that can't be written as JSON") from error


def _from_numpy(value: Any) -> Any:
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    raise NotPlain(f"a value of type {type(value).__qualname__}, which can't be written as JSON")
