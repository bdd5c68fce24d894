"""Records: frozen dataclasses that are cheap to make."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:
    T = TypeVar("T")

    def record(*, frozen: bool, slots: bool, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
        """A dataclass, taken for frozen by type checkers, compared and hashed as one, but not guarded.

        The guard is in `__init__`: a frozen class must set each field by a call. Measured on CPython 3.11,
        making a record of 5 fields takes 0.40 µs with it and 0.11 µs without; a request makes dozens of
        records, a stream one for each event.
        """
        return dataclasses.dataclass(eq=True, unsafe_hash=frozen, slots=slots, kw_only=kw_only)


__all__ = ["record"]
