"""One answer under way that is to be kept: reads its bytes, holds its events, knows its state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

import msgspec

from headgate.core.errors import HeadgateError, StreamBroken
from headgate.core.events import Failed
from headgate.dialects import sse
from headgate.dialects.dialect import AnswerOptions
from headgate.dialects.openai_errors import decode_error
from headgate.dialects.openai_responses import StreamEncoder
from headgate.dialects.openai_responses.vocabulary import error_to_wire, error_within
from headgate.server.responses.draft import Draft

_DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":'
"""How our own encoder begins the events that nearly every answer consists of."""
TERMINAL = frozenset({"completed", "incomplete", "failed", "cancelled"})

_LIFECYCLE = {
    "response.created": None,
    "response.queued": None,
    "response.in_progress": None,
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}


class _Told(msgspec.Struct):
    """What matters of an event; the rest is skipped unread. An object that is not there is empty."""

    type: str = ""
    sequence_number: int | None = None
    response: msgspec.Raw = msgspec.Raw()
    item: msgspec.Raw = msgspec.Raw()
    output_index: int = 0


class _Plain(msgspec.Struct):
    status: str = "completed"


_TOLD = msgspec.json.Decoder(_Told)
_PLAIN = msgspec.json.Decoder(_Plain)


class Copy(Protocol):
    """Where the events go besides."""

    def feed(self, data: bytes) -> None: ...

    def end(self) -> None: ...


class Run:
    """Made by `ResponseBook.begin`. Fed from the event loop's thread with what goes to the caller.

    Args:
        draft: the request.
        max_events: bytes of events that are held for replay; an answer with more is kept without them.
        ended: called once, when the answer has its last state.
    """

    def __init__(self, draft: Draft, max_events: int, ended: Callable[[Run], None]) -> None:
        self.draft = draft
        self.status = "in_progress"
        self.events: list[tuple[int, bytes]] = []
        self.overflowed = False
        self.on_cancel: Callable[[], None] | None = None
        """Stops the work; set by whoever started it."""
        self._max_events = max_events
        self._held = 0
        self._ended = ended
        self._sse = sse.Decoder()
        self._response: bytes = b""
        self._output: dict[int, msgspec.Raw] = {}
        self._error: HeadgateError | None = None
        self._followers: set[asyncio.Event] = set()
        self._copy: Copy | None = None
        if draft.background:
            opening, response = draft.opening()
            self.feed(opening)
            self.status = "queued"
            self._response = msgspec.json.encode(response)

    @property
    def done(self) -> bool:
        return self.status in TERMINAL

    @property
    def response(self) -> bytes:
        """The response object as it is now, as JSON."""
        return self._response

    def feed(self, data: bytes) -> None:
        """Bytes of a streamed answer, at any split."""
        if self.done:
            return
        if self._sse.idle and data.startswith(_DELTA) and data.find(b"\n\n") == len(data) - 2:
            number = data[len(_DELTA) : data.find(b",", len(_DELTA))]
            if number.isdigit() and len(number) < 16:
                self._keep(int(number), data)
                self._notify()
                return
        try:
            for event in self._sse.feed(data):
                self._event(event)
        except StreamBroken as error:
            self._error = error
            self.end()
        self._notify()

    def answer(self, status: int, body: bytes) -> None:
        """A plain answer, or the error that the call ended with."""
        if self.done:
            return
        if status >= 400:
            self.fail(decode_error(status, (), body))
            return
        try:
            told = _PLAIN.decode(body).status
        except (ValueError, RecursionError):
            self.fail(StreamBroken("The answer is not a response."))
            return
        self._response = body
        self._finish(told if told in TERMINAL else "completed")

    def fail(self, error: HeadgateError) -> None:
        """The call ended without an answer."""
        if not self.done:
            self._settle("failed", {"error": error_to_wire(error)})
            number = self.events[-1][0] + 1 if self.events else 0
            wire = {"type": "response.failed", "sequence_number": number}
            data = msgspec.json.encode(wire | {"response": msgspec.Raw(self._response)})
            self._keep(number, sse.encode(data, "response.failed"))
            self._finish("failed")

    def end(self) -> None:
        """Nothing more comes. An answer without its terminal event has failed."""
        if not self.done:
            for event in self._sse.end():
                self._event(event)
        if not self.done:
            self.fail(self._error or StreamBroken("The answer ended before it was complete."))

    def cancel(self) -> None:
        """Stop the work, if it goes on; what was complete of the answer stays."""
        if self.done:
            return
        self._settle("cancelled", {})
        self._finish("cancelled")
        if self.on_cancel is not None:
            self.on_cancel()

    def copy_to(self, copy: Copy) -> None:
        """Have what is read, and was read before, written there as well."""
        self._copy = copy
        for _, data in self.events:
            copy.feed(data)

    async def follow(self, after: int = -1) -> AsyncGenerator[bytes, None]:
        """Events with numbers above `after`: those that were, then those that come, until the end."""
        changed = asyncio.Event()
        self._followers.add(changed)
        position = 0
        try:
            while True:
                while position < len(self.events):
                    number, data = self.events[position]
                    position += 1
                    if number > after:
                        yield data
                if self.overflowed:
                    error = StreamBroken("The answer is too long to be replayed; fetch it without 'stream'.")
                    yield StreamEncoder(AnswerOptions()).encode(Failed(error))
                    return
                if self.done:
                    return
                await changed.wait()
                changed.clear()
        finally:
            self._followers.discard(changed)

    def _event(self, event: sse.ServerSentEvent) -> None:
        if self.done:
            return
        try:
            told = _TOLD.decode(event.data)
        except (ValueError, RecursionError):
            return
        last = self.events[-1][0] if self.events else -1
        number = last + 1 if told.sequence_number is None else told.sequence_number
        self._keep(number, sse.encode(event.data, event.event))
        if told.type in _LIFECYCLE and bytes(told.response):
            self._response = bytes(told.response)
            status = _LIFECYCLE[told.type]
            if status is not None:
                self._finish(status)
            elif told.type == "response.in_progress":
                self.status = "in_progress"
        elif told.type == "response.output_item.done" and bytes(told.item):
            self._output[told.output_index] = told.item.copy()
        elif told.type == "error":
            self._error = error_within(msgspec.json.decode(event.data))

    def _keep(self, number: int, data: bytes) -> None:
        if self._copy is not None:
            self._copy.feed(data)
        if self.overflowed:
            return
        self._held += len(data)
        if self._held > self._max_events:
            self.overflowed = True
            self.events.clear()
            return
        self.events.append((number, data))

    def _settle(self, status: str, details: dict[str, Any]) -> None:
        """The response object that nobody sent."""
        known: dict[str, Any] = {}
        if self._response:
            known = msgspec.json.decode(self._response)
        else:
            _, known = self.draft.opening()
        output = [self._output[index] for index in sorted(self._output)]
        self._response = msgspec.json.encode(known | {"status": status, "output": output} | details)

    def _finish(self, status: str) -> None:
        self.status = status
        self._output.clear()
        self._notify()
        if self._copy is not None:
            self._copy.end()
        self._ended(self)

    def _notify(self) -> None:
        for changed in self._followers:
            changed.set()
