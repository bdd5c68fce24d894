"""The caller's side of an answer that is kept: with the caller there, or without."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from headgate.core.errors import HeadgateError
from headgate.server.client import Client, Ongoing
from headgate.server.responses.run import Run


class DetachedClient:
    """Stands for the caller of a response in the background: everything goes to the run alone."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self._run.answer(status, body)

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        self._run.feed(data)

    def write(self, data: bytes) -> None:
        self._run.feed(data)

    def end(self) -> None:
        self._run.end()

    def abort(self) -> None:
        self._run.end()


class RecordingClient(DetachedClient):
    """A caller whose answer is read along with."""

    def __init__(self, client: Client, run: Run) -> None:
        super().__init__(run)
        self._client = client

    @override
    def respond(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        super().respond(status, headers, body)
        self._client.respond(status, headers, body)

    @override
    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]], data: bytes) -> None:
        super().begin(status, headers, data)
        self._client.begin(status, headers, data)

    @override
    def write(self, data: bytes) -> None:
        super().write(data)
        self._client.write(data)

    @override
    def end(self) -> None:
        super().end()
        self._client.end()

    @override
    def abort(self) -> None:
        super().abort()
        self._client.abort()


class RecordedCall:
    """The call behind a `RecordingClient`, for its caller to stop: a caller that leaves ends the run too."""

    def __init__(self, call: Ongoing, run: Run) -> None:
        self._call = call
        self._run = run

    def pause(self) -> None:
        self._call.pause()

    def resume(self) -> None:
        self._call.resume()

    def cancel(self) -> None:
        self._call.cancel()
        self._run.cancel()

    def abandon(self, error: HeadgateError) -> None:
        self._call.abandon(error)
        self._run.fail(error)
