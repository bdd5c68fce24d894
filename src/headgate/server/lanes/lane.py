"""What a relay asks of an attempt under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headgate.core.backend import Exchange, RawHeaders
from headgate.core.call import Usage
from headgate.core.errors import HeadgateError, InvalidRequest
from headgate.core.loss import Loss

JSON_HEAD = [(b"content-type", b"application/json")]


class Lane(Exchange, Protocol):
    """An attempt under way: it tells the relay what comes, already in the caller's dialect."""

    @property
    def usage(self) -> Usage | None: ...

    @property
    def finish_reason(self) -> str | None: ...

    @property
    def complete(self) -> bool:
        """The answer has had its terminal event."""
        ...

    @property
    def failed(self) -> bool:
        """The upstream reported an error of its own within the answer, and the caller has it."""
        ...

    @property
    def streaming(self) -> bool:
        """The answer has begun and is a stream."""
        ...

    @property
    def losses(self) -> Sequence[Loss]:
        """What the translation had no place for, so far."""
        ...

    def frame_error(self, error: HeadgateError) -> bytes:
        """What to send when the stream breaks now: everything open closed, then the dialect's error event."""
        ...

    def decode_error(self, status: int, headers: RawHeaders, body: bytes) -> HeadgateError:
        """The upstream's own error answer."""
        ...


class LossRefused(InvalidRequest):
    """A translation would lose something, and the caller or the operator wants none of that.

    Another target may speak the caller's dialect, so this one is worth a try elsewhere.
    """

    default_code = "loss_refused"
    retryable = True

    def __init__(self, losses: Sequence[Loss]) -> None:
        listed = "; ".join(loss.line for loss in losses[:20])
        more = f" and {len(losses) - 20} more" if len(losses) > 20 else ""
        super().__init__(f"The model's upstream can't express all of this request: {listed}{more}")


def content_type(headers: RawHeaders) -> str:
    """The content type in lower case; empty where none was sent."""
    for name, value in headers:
        if name == b"content-type":
            return value.decode("latin-1").lower()
    return ""
