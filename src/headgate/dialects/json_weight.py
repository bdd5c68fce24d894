"""How much a JSON body holds, told without decoding it.

Decoding is one call into C that nothing can interrupt: sixty megabytes of `[]` would hold up every other
request for seconds and take gigabytes. Counting single bytes is a hundred times cheaper.
"""

from __future__ import annotations

import re

from headgate.core.errors import InvalidRequest

MAX_VALUES = 1_000_000
"""Values of one body that are decoded: about 0.1 s of work."""
MAX_SCANNED = 16 * 1024 * 1024
"""Bytes up to which texts are told from structure where there are many commas and brackets."""

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def check_weight(body: bytes) -> None:
    """Let pass what can be decoded in a moment. Says nothing about whether the body is JSON.

    Every value but the first stands behind a comma or a bracket, so that these, counted, are a bound. They
    stand in texts too: of a body that is not too long the texts are left out before it is refused.

    Raises:
        InvalidRequest: more than MAX_VALUES values.
    """
    if len(body) <= MAX_VALUES or _marks(body) <= MAX_VALUES:
        return
    tellable = len(body) <= MAX_SCANNED and body.count(b'"') <= 2 * MAX_VALUES
    if tellable and _marks(_STRING.sub(b"", body)) <= MAX_VALUES:
        return
    raise InvalidRequest(
        f"The request body has more than {MAX_VALUES:,} JSON values, or that many commas and brackets in"
        f" texts of more than {MAX_SCANNED // 2**20} MiB; send it in several requests.",
        code="invalid_value",
    )


def _marks(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")
