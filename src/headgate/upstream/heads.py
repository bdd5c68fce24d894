"""Heads: of requests, as bytes whose fixed part is made once; of answers, what they say of their body."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.core.backend import RawHeaders


def request_head(method: str, target: str, host: str, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The fixed part of a request's head, without the empty line, so that more fields can follow.

    Raises:
        ValueError: a field holds a line break (RFC 9110 5.5).
    """
    lines = [f"{method} {target} HTTP/1.1\r\nhost: {host}\r\n".encode("ascii")]
    for name, value in fields:
        if any(c in name + value for c in b"\r\n\0"):
            raise ValueError(f"header field {name.decode('latin-1')!r} holds a line break")
        lines.append(name + b": " + value + b"\r\n")
    return b"".join(lines)


def complete_head(prefix: bytes, headers: RawHeaders, length: int) -> bytes:
    """A request's whole head: `prefix`, this request's own fields, the body's length."""
    extra = b"".join([name + b": " + value + b"\r\n" for name, value in headers])
    return b"%bcontent-length: %d\r\n%b\r\n" % (prefix, length, extra)


def is_framed(headers: RawHeaders) -> bool:
    """The body has an end of its own (RFC 9112 6.3). Lower-case names, here and below."""
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)


def is_encoded(headers: RawHeaders) -> bool:
    """The body is in a content coding, such as gzip (RFC 9110 8.4)."""
    return any(
        name == b"content-encoding" and value.strip().lower() not in (b"identity", b"")
        for name, value in headers
    )
