"""Metrics that keep the calls they count, for tests to wait for and look at."""

from __future__ import annotations

import threading

from typing_extensions import override

from headgate.core.call import Call
from headgate.observe.metrics import Metrics


class EndedCalls(Metrics):
    """Each call once, when it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._by_model: dict[str, list[Call]] = {}
        self._by_id: dict[str, list[Call]] = {}
        self._more = threading.Condition()

    @override
    def call_finished(self, call: Call) -> None:
        super().call_finished(call)
        with self._more:
            self._by_model.setdefault(call.model, []).append(call)
            self._by_id.setdefault(call.id, []).append(call)
            self._more.notify_all()

    def of(self, model: str) -> Call:
        """The only call to `model`, once it has ended."""
        return self._only(self._by_model, model)

    def by_id(self, request: str) -> Call:
        """The call of that id, once it has ended."""
        return self._only(self._by_id, request)

    def _only(self, calls: dict[str, list[Call]], key: str) -> Call:
        with self._more:
            assert self._more.wait_for(lambda: key in calls, 10), f"{key} did not end"
            (call,) = calls[key]
            return call
