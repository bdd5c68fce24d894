"""What a translation could not carry over: never silent."""

from __future__ import annotations

from headgate.core.record import record


@record(frozen=True, slots=True)
class Loss:
    """One thing that the other dialect has no place for.

    `path` says where it was, in the caller's request (`messages[2].content[0].cache_control`); `reason`
    says why it is gone. Neither holds any of the payload: both go to a response header and the log.
    """

    path: str
    reason: str
