"""Errors outside of the hot routes: each route has its own shape."""

from __future__ import annotations

import msgspec

from headgate.core.errors import HeadgateError, Internal
from headgate.dialects.dialect import WireError
from headgate.dialects.openai_errors import encode_error


def answer(path: str, error: HeadgateError) -> WireError:
    """`{"message": "ERROR: …"}` on the custom-model routes, OpenAI's error object everywhere else."""
    wire = encode_error(error)
    if not is_custom_model_path(path):
        return wire
    return WireError(error.status, wire.headers, msgspec.json.encode({"message": f"ERROR: {error.message}"}))


def is_custom_model_path(path: str) -> bool:
    return path.startswith("/models/") or path.rstrip("/") in ("/predict", "/predictions", "/invocations")


def internal(request_id: str) -> Internal:
    return Internal(f"Something went wrong here; the log has the reason under request id {request_id}")
