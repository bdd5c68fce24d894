"""Further things that go wrong at an upstream, or with the caller."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence

from headgate.core.call import Outcome
from headgate.core.errors import Cancelled, UpstreamError
from headgate.core.events import ChatEvent, PartDelta
from headgate.core.fold import fold
from headgate.dialects import eventstream
from headgate.dialects.dialect import AnswerOptions, ChatDialect, Dialect
from headgate.dialects.eventstream import MAX_FRAME
from headgate.dialects.sse import MAX_EVENT
from tests.contract.dialect_cases import GOOD, TEXT, framing_of, refusal_of, stream_of, whole_of
from tests.contract.dialect_faults import (
    REASON,
    Fault,
    Heard,
    Part,
    Reached,
    begun,
    good,
    pieces,
    refusal,
    stream_head,
    whole_body,
)
from tests.support.upstream import LAST_CHUNK, Drop, Hang, chunk, head

_NAME = ".".join(["x" * 60] * 5)
"""Longer than any name may be: no resolver asks anybody for it."""
LARGE = ("x" * 100_000,) * 10


def _said(*text: str) -> list[ChatEvent]:
    """A good answer of other words."""
    return [*GOOD[:2], *(PartDelta(0, piece) for piece in text), *GOOD[2 + len(TEXT) :]]


def _large(upstream: Dialect, stream: bool) -> Sequence[Part]:
    if not isinstance(upstream, ChatDialect):
        return good(upstream, stream)
    if not stream:
        return whole_body(upstream.encode_result(fold(_said(*LARGE)), AnswerOptions())[0])
    return [stream_head(upstream), *map(chunk, filter(None, stream_of(upstream, _said(*LARGE)))), LAST_CHUNK]


def _huge(upstream: Dialect, stream: bool) -> Sequence[Part]:
    assert isinstance(upstream, ChatDialect)
    most = MAX_FRAME if framing_of(upstream) == "eventstream" else MAX_EVENT
    event = stream_of(upstream, [*GOOD[:2], PartDelta(0, TEXT[0]), PartDelta(0, "x" * (most + 1))])[-1]
    return begun(upstream, chunk(event) + LAST_CHUNK)


def _without_body(upstream: Dialect, stream: bool) -> Sequence[Part]:
    return [head(500, length=0)]


def _page(upstream: Dialect, stream: bool) -> Sequence[Part]:
    page = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
    return [head(502, "text/html", length=len(page)) + page]


def _limited(upstream: Dialect, stream: bool) -> Sequence[Part]:
    """A 429 that does not say for how long."""
    status, headers, body = refusal_of(upstream, UpstreamError(REASON, status=429))
    fields = [f"{n.decode()}: {v.decode()}" for n, v in headers if n not in (b"content-type", b"retry-after")]
    return [head(status, "application/json", *fields, length=len(body)) + body]


def _within_the_first(upstream: Dialect, stream: bool) -> Sequence[Part]:
    assert isinstance(upstream, ChatDialect)
    return [stream_head(upstream) + chunk(pieces(upstream)[0][:20]), Drop()]


def _drips(upstream: Dialect, stream: bool) -> Sequence[Part]:
    if not stream:
        body = whole_of(upstream)
        return [head(200, length=len(body)), body[:5], 0.02, body[5:10], 0.02, body[10:]]
    return begun(upstream, chunk(pieces(upstream)[1]) + LAST_CHUNK)


def _ends_twice(upstream: Dialect, stream: bool) -> Sequence[Part]:
    assert isinstance(upstream, ChatDialect)
    return [*good(upstream, True)[:-1], chunk(pieces(upstream)[1] + _last(upstream)) + LAST_CHUNK]


def _goes_on(upstream: Dialect, stream: bool) -> Sequence[Part]:
    assert isinstance(upstream, ChatDialect)
    more = stream_of(upstream, GOOD[:3])[2] if upstream.name != "gemini" else b""  # it ends with its body
    return [*good(upstream, True)[:-1], chunk(pieces(upstream)[1] + more) + LAST_CHUNK]


def _last(upstream: ChatDialect) -> bytes:
    return stream_of(upstream, GOOD)[-1]


def no_text(upstream: ChatDialect, data: bytes) -> bytes:
    """`data` with bytes in its last piece of text that are no UTF-8."""
    if framing_of(upstream) != "eventstream":
        return data.replace(TEXT[1].encode(), b"\xff\xfe!")
    out = b""
    for frame in eventstream.Decoder().feed(data):
        payload = frame.payload
        if b'"bytes":"' in payload:
            start = payload.index(b'"bytes":"') + 9
            end = payload.index(b'"', start)
            inner = base64.b64decode(payload[start:end]).replace(TEXT[1].encode(), b"\xff\xfe!")
            payload = payload[:start] + base64.b64encode(inner) + payload[end:]
        else:
            payload = payload.replace(TEXT[1].encode(), b"\xff\xfe!")
        out += eventstream.encode(frame.headers, payload)
    return out


def _no_text(upstream: Dialect, stream: bool) -> Sequence[Part]:
    if not stream:
        return whole_body(whole_of(upstream).replace(b"Hello!", b"Hello\xff!"))
    assert isinstance(upstream, ChatDialect)
    return begun(upstream, chunk(no_text(upstream, pieces(upstream)[1])) + LAST_CHUNK)


def _zipped(upstream: Dialect, stream: bool) -> Sequence[Part]:
    if not stream:
        body = gzip.compress(whole_of(upstream))
        return [head(200, "application/json", "content-encoding: gzip", length=len(body)) + body]
    assert isinstance(upstream, ChatDialect)
    kind = upstream.stream_types[framing_of(upstream)]
    body = gzip.compress(b"".join(pieces(upstream)))
    return [head(200, kind, "content-encoding: gzip") + chunk(body) + LAST_CHUNK]


def _says_too_much(upstream: Dialect, stream: bool) -> Sequence[Part]:
    """Fewer bytes come than the head says."""
    body = whole_of(upstream)
    return [head(200, length=len(body) + 10) + body, Drop()]


def _says_too_little(upstream: Dialect, stream: bool) -> Sequence[Part]:
    """More bytes come than the head says: the end of the answer is no part of it."""
    body = whole_of(upstream)
    return [head(200, length=len(body) - 2) + body]


def _ends_too_late(upstream: Dialect, stream: bool) -> Sequence[Part]:
    assert isinstance(upstream, ChatDialect)
    body = b"".join(pieces(upstream))
    return [head(200, upstream.stream_types[framing_of(upstream)], length=len(body) + 10) + body, Drop()]


def _ends_too_early(upstream: Dialect, stream: bool) -> Sequence[Part]:
    assert isinstance(upstream, ChatDialect)
    first, rest = pieces(upstream)
    kind = upstream.stream_types[framing_of(upstream)]
    return [head(200, kind, length=len(first) + 5) + first, Heard(), rest]


def _waits(upstream: Dialect, stream: bool) -> Sequence[Part]:
    return [Reached(), Hang()]


def _waits_midway(upstream: Dialect, stream: bool) -> Sequence[Part]:
    if stream:
        return begun(upstream, Hang())
    body = whole_of(upstream)
    return [head(200, length=len(body)) + body[: len(body) // 2], Reached(), Hang()]


HUGE_EVENT = "a huge event"
NO_TEXT, NO_TEXT_WHOLE = "no UTF-8", "a body of no UTF-8"
_LEFT = {"status": Cancelled.status, "outcome": Outcome.CANCELLED}
MORE_FAULTS: dict[str, Fault] = {
    "unknown name": Fault("refused", None, 502, url=f"http://{_NAME}:{{port}}"),
    "no TLS": Fault("refused", lambda *_: [], 502, url="https://127.0.0.1:{port}"),
    **{f"status {status}": refusal(status) for status in (403, 408, 413, 502, 503)},
    "status 429 without a time": Fault(
        "refused", _limited, 429, Outcome.CLIENT_ERROR, frees=False, message=REASON
    ),
    "an HTML error page": Fault("refused", _page, 502, frees=False),
    "an error without a body": Fault("refused", _without_body, 500, frees=False),
    "cut within the first event": Fault("refused", _within_the_first, 502, on="stream"),
    "drips": Fault(
        "whole",
        _drips,
        outcome=Outcome.OK,
        frees=False,
        moves=True,
        settings={"hold_back": {"characters": 50, "time": "700ms"}},
    ),
    "ends twice": Fault("whole", _ends_twice, outcome=Outcome.OK, on="stream", frees=False),
    "goes on after its end": Fault("whole", _goes_on, outcome=Outcome.OK, on="stream", frees=False),
    NO_TEXT: Fault("broken", _no_text, on="stream", frees=False),
    NO_TEXT_WHOLE: Fault("refused", _no_text, 502, on="plain", frees=False),
    "large events": Fault("whole", _large, outcome=Outcome.OK, frees=False, text="".join(LARGE)),
    HUGE_EVENT: Fault("broken", _huge, on="stream", frees=False),
    "compressed": Fault("refused", _zipped, 502),
    "shorter than it says": Fault("refused", _says_too_much, 502, on="plain"),
    "longer than it says": Fault("refused", _says_too_little, 502, on="plain"),
    "a stream shorter than it says": Fault("whole", _ends_too_late, outcome=Outcome.OK, on="stream"),
    "a stream longer than it says": Fault("broken", _ends_too_early, on="stream"),
    "the caller leaves before it begins": Fault("left", _waits, **_LEFT, reads=0),  # type: ignore[arg-type]
    "the caller leaves in its middle": Fault("left", _waits_midway, **_LEFT),  # type: ignore[arg-type]
    "the caller reads slowly": Fault(
        "whole", _large, outcome=Outcome.OK, frees=False, text="".join(LARGE), reads=4096
    ),
}
"""The rest of what can go wrong. Those that a caller does are here too: its upstream must learn of it."""
