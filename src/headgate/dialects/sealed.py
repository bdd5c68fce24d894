"""Opaque vendor data on its way through callers of another dialect, and back.

A signature or an encrypted block is of use only to the upstream that made it, and that upstream wants it back
in the next turn. A caller of the same dialect gets it as it is. A caller of another dialect gets it sealed,
with the name of its origin, in that dialect's own place for opaque data; the next turn's decoder unseals it,
and the encoder for the upstream sends it only where it came from.
"""

from __future__ import annotations

_MARK = "hgs1."
"""Sealed text is `hgs1.<dialect>.<data>`; no vendor's own signature begins so."""


def seal(origin: str, data: str) -> str:
    """`data` of the dialect `origin`, to be handed to a caller of another."""
    return f"{_MARK}{origin}.{data}"


def unseal(text: str) -> tuple[str, str] | None:
    """Origin and data of sealed text; None where it is a vendor's own."""
    if not text.startswith(_MARK):
        return None
    origin, dot, data = text[len(_MARK) :].partition(".")
    return (origin, data) if origin and dot else None
