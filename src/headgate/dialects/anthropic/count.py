"""Answers of `/v1/messages/count_tokens`: `{"input_tokens": 2095}`."""

from __future__ import annotations

import msgspec

from headgate.core.errors import StreamBroken


class _Count(msgspec.Struct):
    input_tokens: int


_COUNT = msgspec.json.Decoder(_Count)


def encode_count(tokens: int) -> bytes:
    return msgspec.json.encode(_Count(tokens))


def decode_count(body: bytes) -> int:
    """Raises StreamBroken for anything but a count."""
    try:
        return _COUNT.decode(body).input_tokens
    except (ValueError, RecursionError):
        raise StreamBroken("The upstream's answer is not a count of tokens.") from None
