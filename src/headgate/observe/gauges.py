"""What is read at each scrape rather than counted: queues, states of models and targets, budgets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from headgate.core.backend import State, Status

log = logging.getLogger(__name__)

CIRCUITS = ("closed", "open", "half_open")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TargetState:
    """How a target is now.

    Args:
        circuit: one of CIRCUITS.
        in_flight: attempts under way.
        cooldown: seconds until quota and circuit let a call through again; 0: they do.
    """

    name: str
    circuit: str
    in_flight: int
    cooldown: float
    drained: bool


@dataclass(frozen=True, slots=True)
class Budgets:
    """Extra attempts that a model's calls may make at this moment."""

    retries: float
    hedges: float


class Gauges:
    """Asks those who know. One that raises is logged and left out, and takes nothing else down."""

    def __init__(self) -> None:
        self._queues: dict[str, Callable[[], int]] = {}
        self._models: Callable[[], Mapping[str, Status]] = dict
        self._targets: Callable[[], Sequence[TargetState]] = tuple
        self._budgets: Callable[[], Mapping[str, Budgets]] = dict

    def watch_queue(self, model: str, depth: Callable[[], int]) -> None:
        """Report `depth()` as the number of requests that wait for `model`."""
        self._queues[model] = depth

    def forget_queues(self) -> None:
        self._queues.clear()

    def watch_models(self, states: Callable[[], Mapping[str, Status]]) -> None:
        """Report the status of each model, by name."""
        self._models = states

    def watch_targets(self, states: Callable[[], Sequence[TargetState]]) -> None:
        self._targets = states

    def watch_budgets(self, budgets: Callable[[], Mapping[str, Budgets]]) -> None:
        """Report the budgets of each model, by name."""
        self._budgets = budgets

    def collect(self) -> Iterator[Metric]:
        yield self._collect_queues()
        yield self._collect_models()
        yield from self._collect_targets()
        yield from self._collect_budgets()

    def _collect_queues(self) -> Metric:
        family = _gauge("queue_depth", "Requests that wait for their turn at a model.", "model")
        for model, depth in list(self._queues.items()):
            waiting = _asked(depth, f"queue depth of model {model!r}")
            if waiting is not None:
                family.add_metric([model], waiting)
        return family

    def _collect_models(self) -> Metric:
        family = _gauge("model_state", "1 for the state a model is in, 0 for the others.", "model", "state")
        for model, status in (_asked(self._models, "models' states") or {}).items():
            for state in get_args(State):
                family.add_metric([model, state], float(status.state == state))
        return family

    def _collect_targets(self) -> Iterator[Metric]:
        circuit = _gauge(
            "target_circuit", "1 for the state a target's circuit is in, 0 for the others.", "target", "state"
        )
        in_flight = _gauge("target_in_flight", "Attempts at a target that have not ended.", "target")
        cooldown = _gauge(
            "target_cooldown_seconds",
            "Until quota and circuit let a call through again.",
            "target",
        )
        drained = _gauge("target_drained", "1 for a target that an operator has drained.", "target")
        for target in _asked(self._targets, "targets' states") or ():
            for state in CIRCUITS:
                circuit.add_metric([target.name, state], float(target.circuit == state))
            in_flight.add_metric([target.name], target.in_flight)
            cooldown.add_metric([target.name], target.cooldown)
            drained.add_metric([target.name], float(target.drained))
        yield from (circuit, in_flight, cooldown, drained)

    def _collect_budgets(self) -> Iterator[Metric]:
        retries = _gauge("retry_budget", "Second tries that a model's calls may make now.", "model")
        hedges = _gauge("hedge_budget", "Hedges that a model's calls may make now.", "model")
        for model, budgets in (_asked(self._budgets, "budgets") or {}).items():
            retries.add_metric([model], budgets.retries)
            hedges.add_metric([model], budgets.hedges)
        yield from (retries, hedges)


def _gauge(name: str, help: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"headgate_{name}", help, labels=labels)


def _asked(ask: Callable[[], T], what: str) -> T | None:
    try:
        return ask()
    except Exception:
        log.exception("the %s can't be read", what)
        return None
