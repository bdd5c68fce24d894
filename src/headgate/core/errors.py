"""One tree of errors. Dialects give each its wire shape; routing reads `retryable`.

Every error says what is wrong, where, and what to do. `message` is safe to show to a caller: it holds
no secret, no stack trace and none of the caller's payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class HeadgateError(Exception):
    """Anything that ends a call without an answer.

    Args:
        message: for the caller: what is wrong, where, what to do.
        param: path of the offending field in the request ("messages.0.content"), if there is one.
        code: machine-readable reason; the class has a default.
        retry_after: seconds until another try makes sense; becomes `Retry-After`.
        headers: upstream response headers worth handing on (rate limits), lower-case names.
        status: HTTP status where it differs from the class's own (an upstream's 418, say).
    """

    status: int = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else self.default_code
        self.retry_after = retry_after
        self.headers: Mapping[str, str] = headers or {}
        if status is not None:
            self.status = status


class ConfigError(HeadgateError):
    """The configuration, a folder or an artefact is wrong. Ends the start with exit code 2."""

    default_code = "config_error"


class MissingExtra(ConfigError):
    """A feature needs packages that are not installed; the message holds the install command."""

    default_code = "missing_extra"

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an extra that is not installed: pip install 'headgate[{extra}]'")
        self.extra = extra


# The caller's mistakes: never retried, never another target.


class InvalidRequest(HeadgateError):
    status = 400
    type = "invalid_request_error"
    default_code = "invalid_request"


class UnsupportedParameter(InvalidRequest):
    """A field that the chosen target can't honour, refused rather than dropped."""

    default_code = "unsupported_parameter"


class ContextLengthExceeded(InvalidRequest):
    default_code = "context_length_exceeded"


class InvalidData(InvalidRequest):
    """Well-formed, but not data this model takes (a missing column, an unparsable table)."""

    status = 422
    default_code = "invalid_data"


class Unauthenticated(HeadgateError):
    status = 401
    type = "invalid_request_error"
    default_code = "invalid_api_key"


class Forbidden(HeadgateError):
    status = 403
    type = "invalid_request_error"
    default_code = "forbidden"


class NotFound(HeadgateError):
    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class ModelNotFound(NotFound):
    default_code = "model_not_found"


class MethodNotAllowed(HeadgateError):
    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"


class PayloadTooLarge(HeadgateError):
    status = 413
    type = "invalid_request_error"
    default_code = "payload_too_large"


class UnsupportedMediaType(HeadgateError):
    status = 415
    type = "invalid_request_error"
    default_code = "unsupported_media_type"


# Not the caller's doing: another target, or another moment, may do.


class RateLimited(HeadgateError):
    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"
    retryable = True


class Overloaded(HeadgateError):
    """A bounded queue is full."""

    status = 503
    default_code = "overloaded"
    retryable = True


class Unavailable(HeadgateError):
    """A target can't answer now: an engine that restarts, a model that failed to load."""

    status = 503
    default_code = "unavailable"
    retryable = True


class UpstreamError(HeadgateError):
    """An upstream answered with an error of its own; status and message are kept."""

    status = 502
    default_code = "upstream_error"

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
        type: str | None = None,
    ) -> None:
        super().__init__(
            message, param=param, code=code, retry_after=retry_after, headers=headers, status=status
        )
        self.retryable = status in RETRYABLE_STATUSES
        self.upstream_type = type


class ConnectFailed(HeadgateError):
    """No connection to the upstream could be made: nothing was sent."""

    status = 502
    default_code = "upstream_unreachable"
    retryable = True


class StreamBroken(HeadgateError):
    """The upstream closed, stalled or garbled its answer before the end."""

    status = 502
    default_code = "upstream_broken"
    retryable = True


class DeadlineExceeded(HeadgateError):
    """One of the deadlines passed: connect, first event, idle or total (`code` names it)."""

    status = 504
    type = "timeout_error"
    default_code = "deadline_exceeded"
    retryable = True


class Cancelled(HeadgateError):
    """The client left. Nobody reads this answer; metrics do."""

    status = 499
    default_code = "client_closed_request"


class Internal(HeadgateError):
    """A defect of ours. The caller learns the request id, the log has the rest."""

    default_code = "internal_error"


RETRYABLE_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Upstream statuses after which the same request may succeed elsewhere or later."""
