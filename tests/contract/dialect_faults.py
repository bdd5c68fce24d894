"""What can go wrong at an upstream, in its own words: bytes made with the encoders of its dialect."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from headgate.core.call import Outcome
from headgate.core.errors import UpstreamError
from headgate.core.events import Failed, PartDelta
from headgate.dialects.dialect import ChatDialect, Dialect
from tests.contract.dialect_cases import (
    GOOD,
    TEXT,
    Pair,
    framing_of,
    refusal_of,
    stream_of,
    whole_of,
)
from tests.support.upstream import LAST_CHUNK, Drop, Hang, Step, chunk, head

REASON = "no, because"
WAIT = 7.0
BODY, WRONG_TYPE = "a body for a stream", "wrong content type"
Kind: TypeAlias = Literal["refused", "broken", "whole", "left"]


class Heard:
    """Wait until the caller has what was sent so far."""


class Reached:
    """Tell the caller that this point is reached."""


Part: TypeAlias = "Step | Heard | Reached"
Steps: TypeAlias = Callable[[Dialect, bool], Sequence[Part]]
"""What an upstream of the dialect sends; the flag says whether it was asked for a stream."""

QUICK = {"connect": "5s", "first_event": "200ms", "idle": "200ms"}
"""For upstreams that stall."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and what the caller and the operator must see of it.

    Args:
        kind: `refused`: an error with a status; `broken`: 200, then an error in the stream; `whole`: good;
            `left`: the caller is gone before the end.
        steps: the upstream's part; None: nobody listens.
        status: of the answer; None for the status that the upstream's own words mean.
        on: which answers can have it.
        frees: the upstream's connection must be closed, as it can't be trusted with another request.
        scripted: the scripted backend's fault; None where it can't have this one.
        timeouts: for the model.
        url: of the upstream, with its port, where it can't be reached.
        text: of the whole answer.
        reads: bytes that the caller takes at a time; 0: none after the first piece.
        moves: another target is asked although this one may answer yet.
        settings: of the model, further ones.
    """

    kind: Kind
    steps: Steps | None
    status: int | None = 200
    outcome: Outcome = Outcome.UPSTREAM_ERROR
    on: Literal["stream", "plain", "both"] = "both"
    frees: bool = True
    retry_after: float | None = None
    message: str | None = None
    scripted: dict[str, Any] | None = None
    timeouts: dict[str, str] = field(default_factory=dict)
    url: str = "http://127.0.0.1:{port}"
    text: str = "".join(TEXT)
    reads: int = 65536
    moves: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    def concerns(self, pair: Pair) -> bool:
        if pair.repeats and self.status not in (200, 429):
            return False
        if pair.backend == "scripted":
            return self.scripted is not None and (self.on == "both" or pair.form.stream)
        return self.on == "both" or (self.on == "stream") == pair.form.stream

    def kind_for(self, pair: Pair) -> Kind:
        """Server-sent events that the caller wants pass whatever their type is said to be."""
        if self is FAULTS[WRONG_TYPE] and pair.passes and not pair.form.kept:
            assert isinstance(pair.spoken, ChatDialect)
            if pair.form.framing == framing_of(pair.spoken) == "sse":
                return "whole"
        return self.kind

    async def play(self, pair: Pair, heard: threading.Event, reached: threading.Event) -> AsyncIterator[Step]:
        """The upstream's part; `heard` is set when the caller has the first piece of a stream."""
        assert self.steps is not None
        assert pair.spoken is not None
        for step in self.steps(pair.spoken, pair.form.stream):
            if isinstance(step, Reached):
                reached.set()
            else:
                yield heard if isinstance(step, Heard) else step


def stream_head(upstream: Dialect) -> bytes:
    assert isinstance(upstream, ChatDialect)
    return head(200, upstream.stream_types[framing_of(upstream)])


def pieces(upstream: Dialect) -> tuple[bytes, bytes]:
    """A good stream, cut behind the first piece of text."""
    assert isinstance(upstream, ChatDialect)
    events = stream_of(upstream, GOOD)
    first = 1 + next(at for at, event in enumerate(GOOD) if isinstance(event, PartDelta))
    return b"".join(events[:first]), b"".join(events[first:])


def failing(upstream: Dialect, *, begun: bool) -> bytes:
    """A stream that tells an error of the upstream's own."""
    assert isinstance(upstream, ChatDialect)
    first = 1 + next(at for at, event in enumerate(GOOD) if isinstance(event, PartDelta))
    return b"".join(
        stream_of(upstream, [*(GOOD[:first] if begun else ()), Failed(UpstreamError(REASON, status=529))])
    )


def told_status(upstream: Dialect) -> int:
    """The status that the error means which `failing` tells: dialects differ in what they can say."""
    assert isinstance(upstream, ChatDialect)
    decoder = upstream.stream_decoder(upstream.stream_types[framing_of(upstream)])
    last = decoder.feed(failing(upstream, begun=False))[-1]
    assert isinstance(last, Failed)
    return last.error.status


def _answers(status: int) -> Steps:
    def steps(upstream: Dialect, stream: bool) -> Sequence[Part]:
        error = UpstreamError(REASON, status=status, retry_after=WAIT if status == 429 else None)
        status_sent, headers, body = refusal_of(upstream, error)
        kind = next(value.decode() for name, value in headers if name == b"content-type")
        fields = [f"{n.decode()}: {v.decode()}" for n, v in headers if n != b"content-type"]
        return [head(status_sent, kind, *fields, length=len(body)) + body]

    return steps


def refusal(status: int) -> Fault:
    outcome = Outcome.CLIENT_ERROR if status < 500 else Outcome.UPSTREAM_ERROR
    wait = WAIT if status == 429 else None
    scripted: dict[str, Any] = {"kind": "error", "status": status, "message": REASON}
    if wait is not None:
        scripted["retry_after"] = f"{wait:g}s"
    return Fault(
        "refused",
        _answers(status),
        status,
        outcome,
        frees=False,
        retry_after=wait,
        message=REASON,
        scripted=scripted,
    )


def whole_body(body: bytes, kind: str = "application/json") -> list[Part]:
    return [head(200, kind, length=len(body)) + body]


def _cut_after_head(upstream: Dialect, stream: bool) -> Sequence[Part]:
    if stream:
        return [stream_head(upstream), Drop()]
    body = whole_of(upstream)
    return [head(200, length=len(body)) + body[: len(body) // 2], Drop()]


def _stall_after_head(upstream: Dialect, stream: bool) -> Sequence[Part]:
    return [stream_head(upstream) if stream else head(200, length=100), Hang()]


def _empty(upstream: Dialect, stream: bool) -> Sequence[Part]:
    return [stream_head(upstream) + LAST_CHUNK] if stream else whole_body(b"")


def _html(upstream: Dialect, stream: bool) -> Sequence[Part]:
    return whole_body(b"<html><title>Log in</title><body>Who are you?</body></html>", "text/html")


def _half_a_body(upstream: Dialect, stream: bool) -> Sequence[Part]:
    body = whole_of(upstream)
    return whole_body(body[: len(body) // 2])


def good(upstream: Dialect, stream: bool) -> Sequence[Part]:
    if not stream:
        return whole_body(whole_of(upstream))
    first, rest = pieces(upstream)
    return [stream_head(upstream) + chunk(first), chunk(rest) + LAST_CHUNK]


def _wrong_type(upstream: Dialect, stream: bool) -> Sequence[Part]:
    return whole_body(b"".join(pieces(upstream)), "text/plain")


def begun(upstream: Dialect, *then: Step) -> list[Part]:
    """The caller has the first piece of text before anything else comes."""
    return [stream_head(upstream) + chunk(pieces(upstream)[0]), Heard(), *then]


def _garbled_event(upstream: Dialect, stream: bool) -> Sequence[Part]:
    garbled = {"sse": b'data: {"this is": no JSON\n\n', "eventstream": b"\0\0\0\x20 not a frame at all, no"}
    assert isinstance(upstream, ChatDialect)
    return begun(upstream, chunk(garbled[framing_of(upstream)]) + LAST_CHUNK)


def _within_an_event(upstream: Dialect, stream: bool) -> Sequence[Part]:
    """A long event, of which the half comes: more than the error that follows it."""
    assert isinstance(upstream, ChatDialect)
    events = [*GOOD[:2], PartDelta(0, TEXT[0]), PartDelta(0, "x" * 5000)]
    last = stream_of(upstream, events)[-1]
    return begun(upstream, chunk(last[:2500]), Drop())


_CUT = {"kind": "cut", "after": 0}
FAULTS: dict[str, Fault] = {
    "nothing": Fault("whole", good, outcome=Outcome.OK, frees=False, scripted={}),
    "unreachable": Fault("refused", None, 502),
    **{f"status {status}": refusal(status) for status in (400, 401, 404, 429, 500, 529)},
    "cut at once": Fault("refused", lambda *_: [Drop()], 502, scripted=_CUT),
    "cut after the head": Fault("refused", _cut_after_head, 502),
    "stall at once": Fault(
        "refused",
        lambda *_: [Hang()],
        504,
        Outcome.TIMEOUT,
        scripted={"kind": "stall", "after": 0},
        timeouts=QUICK,
    ),
    "stall after the head": Fault("refused", _stall_after_head, 504, Outcome.TIMEOUT, timeouts=QUICK),
    "garbled at once": Fault("refused", lambda *_: [b"220 mail.example ESMTP\r\n"], 502),
    "empty body": Fault("refused", _empty, 502, frees=False),
    "HTML page": Fault("refused", _html, 502, frees=False),
    "half a body": Fault("refused", _half_a_body, 502, on="plain", frees=False),
    "an error first": Fault(
        "refused",
        lambda upstream, _: [stream_head(upstream) + chunk(failing(upstream, begun=False)) + LAST_CHUNK],
        None,
        on="stream",
        message=REASON,
    ),
    "an error in mid-stream": Fault(
        "broken",
        lambda upstream, _: begun(
            upstream, chunk(failing(upstream, begun=True).removeprefix(pieces(upstream)[0])) + LAST_CHUNK
        ),
        on="stream",
        frees=False,
        message=REASON,
        scripted={"kind": "error", "after": 1, "status": 529, "message": REASON},
    ),
    "cut in mid-stream": Fault(
        "broken",
        lambda upstream, _: begun(upstream, Drop()),
        on="stream",
        scripted={"kind": "cut", "after": 1},
    ),
    "cut within an event": Fault("broken", _within_an_event, on="stream"),
    "no terminal event": Fault(
        "broken", lambda upstream, _: begun(upstream, LAST_CHUNK), on="stream", frees=False
    ),
    "stall in mid-stream": Fault(
        "broken",
        lambda upstream, _: begun(upstream, Hang()),
        outcome=Outcome.TIMEOUT,
        on="stream",
        scripted={"kind": "stall", "after": 1},
        timeouts={"idle": "200ms"},
    ),
    "garbled event": Fault("broken", _garbled_event, on="stream", frees=False),
    "garbled HTTP": Fault(
        "broken", lambda upstream, _: begun(upstream, b"this is no chunk size\r\n"), on="stream"
    ),
    "dropped after the end": Fault(
        "whole",
        lambda upstream, _: [stream_head(upstream) + chunk(b"".join(pieces(upstream))), Drop()],
        outcome=Outcome.OK,
        on="stream",
    ),
    WRONG_TYPE: Fault("refused", _wrong_type, 502, on="stream", frees=False),
    BODY: Fault(
        "whole",
        lambda upstream, _: whole_body(whole_of(upstream)),
        outcome=Outcome.OK,
        on="stream",
        frees=False,
    ),
}
