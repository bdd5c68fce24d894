"""Where a call's time went, for the caller: the `Server-Timing` header (W3C Server Timing)."""

from __future__ import annotations

from time import monotonic

from headgate.core.call import Attempt, Call


def server_timing(call: Call, attempt: Attempt) -> bytes:
    """Milliseconds until now.

    `queue`: before the attempt was sent (its turn, earlier attempts, pauses); `connect`; `first`: from the
    request's being sent to the first event; `overhead`: our own share; `total`.

    Args:
        attempt: the one that answered, or the last one.
    """
    now = monotonic()
    begun = call.attempts[0].started
    launched = attempt.launched if attempt.launched is not None else now
    ended = attempt.first_event or attempt.ended or now
    sent = min(max(attempt.connected or launched, launched), ended)
    before = max(begun - call.started - call.queued, 0.0)
    return b"queue;dur=%.2f, connect;dur=%.2f, first;dur=%.2f, overhead;dur=%.2f, total;dur=%.2f" % (
        (launched - call.started - before) * 1e3,
        (sent - launched) * 1e3,
        (ended - sent) * 1e3,
        (before + now - ended) * 1e3,
        (now - call.started) * 1e3,
    )
