"""Decoding a large JSON table in many short steps, so that other threads get their turn between them.

One decoding call can't be interrupted, on whichever thread it runs: a hundred megabytes would hold up the
event loop for a second. Here the outermost list or object is split first, which is fast, then each row is
decoded.
"""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.core.errors import InvalidData

LARGE = 1024 * 1024
"""Bytes from which on a body is decoded in pieces."""
MAX_ROWS = 2_000_000
"""Lists and objects in one body: splitting that many takes about 0.2 s, which can't be interrupted either."""

_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode(body: bytes) -> Any:
    """Like `msgspec.json.decode`, and raises what that raises.

    Raises:
        InvalidData: more than MAX_ROWS rows.
    """
    if len(body) < LARGE:
        return msgspec.json.decode(body)
    if body.count(b"[") + body.count(b"{") > MAX_ROWS:
        raise InvalidData(f"the table has more than {MAX_ROWS:,} rows or lists; send it in several requests")
    if not body.isascii():
        body.decode()  # splitting skips texts without a look at their encoding
    start = body[:64].lstrip()[:1]
    if start == b"{":
        return {name: _value(raw) for name, raw in _OBJECT.decode(body).items()}
    return _value(msgspec.Raw(body)) if start == b"[" else msgspec.json.decode(body)


def _value(raw: msgspec.Raw) -> Any:
    text = memoryview(raw)
    if len(text) >= LARGE and bytes(text[:1]) == b"[" and bytes(text[:64]).replace(b" ", b"")[1:2] in b"[{":
        return [msgspec.json.decode(row) for row in _LIST.decode(raw)]
    return msgspec.json.decode(raw)
