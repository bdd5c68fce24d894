"""Durations, sizes and shares as people write them: `500ms`, `2m`, `100MB`, `1MiB`, `5%`."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_NUMBER_AND_UNIT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]*)", re.ASCII)

_SECONDS = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 366 * 86400.0

_BYTES = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)},
}
_LARGEST = 2**63 - 1


class QuantityError(ValueError):
    """Not a duration, a size or a share.

    The message leaves the value out: it may be a secret in the wrong place.
    """


def parse_duration(value: Any) -> float:
    """Seconds from a number (of seconds) or a text like `5s`, `500ms`, `2m`, `1.5h`.

    Raises:
        QuantityError: it is not a duration, not above zero, or longer than a year.
    """
    seconds = _scaled(value, _SECONDS, lower=False)
    if seconds is None:
        raise QuantityError("must be a duration: seconds, or a number with us, ms, s, m, h or d, like 30s")
    if not 0 < seconds <= _LONGEST:
        raise QuantityError("must be a duration above zero and of a year at most")
    return seconds


def parse_size(value: Any) -> int:
    """Bytes from a whole number (of bytes) or a text like `10KB` (1000), `1MiB` (1024 × 1024).

    Raises:
        QuantityError: it is not a size, or not above zero.
    """
    size = _scaled(value, _BYTES, lower=True)
    if size is None:
        raise QuantityError("must be a size: bytes, or a number with KB, MB, GB, KiB, MiB or GiB, like 100MB")
    if not 1 <= size <= _LARGEST:
        raise QuantityError("must be a size of one byte or more")
    return int(size)


def parse_share(value: Any) -> float:
    """A share from 0 to 1, from a number or a text like `5%`.

    Raises:
        QuantityError: it is not a share, or not within 0 and 1.
    """
    text = value.strip() if isinstance(value, str) else ""
    percent = text.endswith("%")
    share = _scaled(text.removesuffix("%") if percent else value, {"": 1.0}, lower=True)
    if share is None:
        raise QuantityError("must be a share: a percentage like 5%, or a number from 0 to 1")
    share = share / 100 if percent else share
    if not 0 <= share <= 1:
        raise QuantityError("must be a share from 0 to 1, or from 0% to 100%")
    return share


def _scaled(value: Any, units: dict[str, float] | dict[str, int], *, lower: bool) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value if math.isfinite(value) else None
    if not isinstance(value, str) or (match := _NUMBER_AND_UNIT.fullmatch(value.strip())) is None:
        return None
    number, unit = match.groups()
    factor = units.get(unit.lower() if lower else unit)
    return None if factor is None else float(number) * factor


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds, above zero."""

Size = Annotated[int, BeforeValidator(parse_size)]
"""Bytes, one or more."""

Share = Annotated[float, BeforeValidator(parse_share)]
"""From 0 to 1."""
