"""What an upstream's header fields say of a quota that is used up."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

_UNITS = {b"ms": 0.001, b"s": 1.0, b"m": 60.0, b"h": 3600.0, b"d": 86400.0}
_PIECE = re.compile(rb"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_LONGEST = 600.0
_EPOCH = 1e9
"""A number above it is a time since 1970, not a number of seconds."""


def spent_for(headers: Sequence[tuple[bytes, bytes]], clock: Callable[[], float] = time.time) -> float | None:
    """Seconds until a quota is filled again that an answer says is at 0; None where none is.

    Reads `x-ratelimit-remaining-requests: 0` with `x-ratelimit-reset-requests: 6m0s` (OpenAI and those like
    it), `anthropic-ratelimit-requests-remaining` with `…-reset` in RFC 3339, and the plain
    `ratelimit-remaining` with seconds (draft-ietf-httpapi-ratelimit-headers) or a time since 1970.

    Args:
        headers: lower-case names.
        clock: seconds since 1970.
    """
    longest: float | None = None
    for name, value in headers:
        if value.strip() == b"0" and b"remaining" in name and b"ratelimit" in name:
            reset = _value(headers, name.replace(b"remaining", b"reset"))
            seconds = _seconds(reset, clock()) if reset is not None else None
            if seconds is not None and seconds > 0:
                longest = max(longest or 0.0, min(seconds, _LONGEST))
    return longest


def _value(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    for name, value in headers:
        if name == wanted:
            return value.strip()
    return None


def _seconds(value: bytes, wall: float) -> float | None:
    try:
        number = float(value)
    except ValueError:
        pass
    else:
        return number - wall if number > _EPOCH else number
    if b"T" in value:
        return _until(value, wall)
    pieces = _PIECE.findall(value)
    if b"".join(count + unit for count, unit in pieces) != value:
        return None
    return sum((float(count) * _UNITS[unit] for count, unit in pieces), 0.0)


def _until(value: bytes, wall: float) -> float | None:
    """From a moment in RFC 3339; one without a zone is taken as UTC."""
    try:
        moment = datetime.fromisoformat(value.decode("ascii"))
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp() - wall
