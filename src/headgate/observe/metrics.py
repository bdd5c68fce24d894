"""Prometheus metrics, in the names of OpenTelemetry's GenAI semantic conventions where one exists.

The conventions: open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md (names, attributes,
bucket boundaries), written as Prometheus does: dots become underscores, the unit is appended.

`call_*` and `http_request` must be called from one thread, the event loop's (see `series`); `render` too,
where what is watched belongs to that thread.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import InfoMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from typing_extensions import override

from headgate import __version__
from headgate.core.call import Attempt, Call, Operation, Outcome, Usage
from headgate.observe.gauges import Gauges
from headgate.observe.series import Counter, Counters, Histogram, Histograms

UNKNOWN_MODEL = "_unknown"
"""Label of calls for models that are not declared: clients must not be able to make series."""
OTHER = "_OTHER"
"""What the conventions put where a value is outside of the known ones."""
OWN_PROVIDER = "headgate"
"""Provider of what Headgate runs itself, and of calls that reached no target."""

OPERATION_NAMES: Mapping[Operation, str] = {Operation.EMBED: "embeddings"}
"""Where the conventions' `gen_ai.operation.name` differs from ours."""

DURATION_BOUNDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1),
    *(0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
OUTPUT_TOKEN_BOUNDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKEN_BOUNDS = tuple(float(4**power) for power in range(14))
OVERHEAD_BOUNDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_MAX_ERROR_TYPES = 64


class _CallSeries:
    """Everything that a finished call of one kind counts into, looked up once."""

    __slots__ = ("duration", "first_token", "input", "ok", "output", "output_token", "overhead", "requests")

    def __init__(
        self,
        requests: Counter,
        duration: Histogram,
        overhead: Histogram,
        first_token: Histogram,
        output_token: Histogram,
        input: Histogram,
        output: Histogram,
        ok: bool,
    ) -> None:
        self.requests = requests
        self.duration = duration
        self.overhead = overhead
        self.first_token = first_token
        self.output_token = output_token
        self.input = input
        self.output = output
        self.ok = ok


_CallKey = tuple[str, Operation, str, Outcome | None, int | None, str]
_AttemptKey = tuple[str, Operation, str, int | None, str | None]

_GENAI = ("gen_ai_operation_name", "gen_ai_request_model", "gen_ai_provider_name")


class Metrics:
    """Counts of one app, in a registry of its own: several apps in one process don't clash.

    Args:
        models: the declared model names; others are counted as `_unknown`.
        providers: target name -> `gen_ai.provider.name`; targets left out are `headgate`.
    """

    def __init__(self, models: Iterable[str] = (), providers: Mapping[str, str] | None = None) -> None:
        self._in_flight: dict[str, Counter] = {}
        self._providers: Mapping[str, str] = {}
        self._call_series: dict[_CallKey, _CallSeries] = {}
        self._attempt_series: dict[_AttemptKey, tuple[Counter, Histogram]] = {}
        self._http_series: dict[tuple[str, str | None, int], tuple[Counter, Histogram]] = {}
        self._token_counters: dict[str, tuple[Counter, Counter]] = {}
        self._error_types: set[str] = set()
        self.gauges = Gauges()
        self._make_call_families()
        self._make_target_families()
        self._make_http_families()
        self.declare(models, providers or {})
        self._registry = CollectorRegistry()
        self._registry.register(_AppCollector(self._collect))
        ProcessCollector(registry=self._registry)

    def _make_call_families(self) -> None:
        own = ("operation", "model")
        self._requests = Counters(
            "headgate_requests_total",
            "Model calls that ended.",
            (*own, "dialect", "outcome", "status"),
        )
        self._duration = Histograms(
            "gen_ai_server_request_duration_seconds",
            "Time from a request's arrival to the last byte of its answer.",
            (*_GENAI, "error_type"),
            DURATION_BOUNDS,
        )
        self._first_token = Histograms(
            "gen_ai_server_time_to_first_token_seconds",
            "Time to the first event of a successful streamed answer.",
            _GENAI,
            FIRST_TOKEN_BOUNDS,
        )
        self._output_token = Histograms(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time for each output token after the first, of successful streamed answers.",
            _GENAI,
            OUTPUT_TOKEN_BOUNDS,
        )
        self._tokens = Histograms(
            "gen_ai_client_token_usage",
            "Tokens of a call, as the model reported them.",
            (*_GENAI, "gen_ai_token_type"),
            TOKEN_BOUNDS,
        )
        self._overhead = Histograms(
            "headgate_overhead_seconds",
            "Time of a call that was not spent waiting for a target; calls that reached one.",
            own,
            OVERHEAD_BOUNDS,
        )
        self._running = Counters(
            "headgate_requests_in_flight", "Model calls that have not ended.", ("model",), gauge=True
        )

    def _make_target_families(self) -> None:
        self._attempt_duration = Histograms(
            "gen_ai_client_operation_duration_seconds",
            "Time of one attempt at one target.",
            (*_GENAI, "error_type"),
            DURATION_BOUNDS,
        )
        self._attempts = Counters(
            "headgate_upstream_attempts_total", "Attempts at targets that ended.", ("target", "outcome")
        )
        self._target_tokens = Counters(
            "headgate_upstream_tokens_total",
            "Tokens that targets reported, those of answers included that no caller got.",
            ("target", "type"),
        )
        self._hedges = Counters(
            "headgate_hedges_total",
            "Second attempts beside a slow one, by what became of them.",
            ("model", "result"),
        )

    def _make_http_families(self) -> None:
        self._http_requests = Counters(
            "headgate_http_requests_total",
            "Requests on routes other than model calls.",
            ("method", "route", "status"),
        )
        self._http_duration = Histograms(
            "headgate_http_request_duration_seconds",
            "Time of requests on routes other than model calls.",
            ("method", "route"),
            DURATION_BOUNDS,
        )

    def declare(self, models: Iterable[str], providers: Mapping[str, str]) -> None:
        """Take over a configuration, at the start or after a reload.

        What was counted stays, and names that were declared before keep their series.
        """
        for model in models:
            self._in_flight.setdefault(model, self._running.child(model))
        self._providers = dict(providers)
        self._call_series.clear()
        self._attempt_series.clear()

    def call_started(self, call: Call) -> None:
        running = self._in_flight.get(call.model)
        # A call for an unknown model is refused at once; it is never in flight.
        if running is not None:
            running.value += 1

    def call_finished(self, call: Call) -> None:
        """Count a call whose `outcome`, `status` and `ended` are set. Once for each `call_started`."""
        running = self._in_flight.get(call.model)
        if running is not None and running.value:  # 0: its model was declared after the call had started
            running.value -= 1
        self.call_refused(call)

    def call_refused(self, call: Call) -> None:
        """Count a call that ended before it started: no such model, no key, no room."""
        model = call.model if call.model in self._in_flight else UNKNOWN_MODEL
        attempts = call.attempts
        target = attempts[-1].target if attempts else ""
        key = (model, call.operation, call.dialect, call.outcome, call.status, target)
        series = self._call_series.get(key)
        if series is None:
            series = self._call_series[key] = self._make_call_series(*key)
        ended = call.ended
        if ended is None:
            ended = call.started
        total = ended - call.started
        series.requests.value += 1
        series.duration.observe(total)
        if attempts:
            waited = self._count_attempts(call, model, attempts, ended) + call.queued
            series.overhead.observe(max(total - waited, 0.0))
        usage = call.usage
        if usage is not None:
            if usage.input_tokens is not None:
                series.input.observe(usage.input_tokens)
            if usage.output_tokens is not None:
                series.output.observe(usage.output_tokens)
        first = call.first_event
        if first is not None and call.stream and series.ok:
            series.first_token.observe(first - call.started)
            if usage is not None and usage.output_tokens is not None and usage.output_tokens > 1:
                series.output_token.observe((ended - first) / (usage.output_tokens - 1))

    def _count_attempts(self, call: Call, model: str, attempts: list[Attempt], ended: float) -> float:
        """Count each attempt; seconds in which at least one was under way (hedged ones overlap)."""
        waited = 0.0
        reached = call.started
        for attempt in attempts:
            until = ended if attempt.ended is None else attempt.ended
            since = attempt.started
            key = (model, call.operation, attempt.target, attempt.status, attempt.error)
            series = self._attempt_series.get(key)
            if series is None:
                series = self._make_attempt_series(key, attempt)
            series[0].value += 1
            series[1].observe(until - since)
            if attempt.usage is not None:
                self._count_tokens(attempt.target, attempt.usage)
            if attempt.hedge:
                self._hedges.child(model, _hedge_result(attempt)).value += 1
            # Attempts are listed in the order of their starts.
            if until > reached:
                waited += until - (since if since > reached else reached)
                reached = until
        return waited

    def _count_tokens(self, target: str, usage: Usage) -> None:
        counters = self._token_counters.get(target)
        if counters is None:
            tokens = self._target_tokens
            counters = self._token_counters[target] = (
                tokens.child(target, "input"),
                tokens.child(target, "output"),
            )
        counters[0].value += usage.input_tokens or 0
        counters[1].value += usage.output_tokens or 0

    def http_request(self, method: str, route: str | None, status: int, duration: float) -> None:
        """Count a request on a route other than a model call.

        Args:
            route: the route's template (`/v1/models/{id}`), None where nothing matched. Never the path.
            duration: seconds.
        """
        key = (method, route, status)
        series = self._http_series.get(key)
        if series is None:
            verb = method if method in _METHODS else OTHER
            path = route if route is not None else "_unmatched"
            series = (
                self._http_requests.child(verb, path, _status(status)),
                self._http_duration.child(verb, path),
            )
            if verb is method:
                self._http_series[key] = series
        series[0].value += 1
        series[1].observe(duration)

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """Body and content type: OpenMetrics 1.0 where `Accept` names it, otherwise Prometheus text 0.0.4."""
        if accept is not None and "application/openmetrics-text" in accept.lower():
            page: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return page, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def _make_call_series(
        self,
        model: str,
        operation: Operation,
        dialect: str,
        outcome: Outcome | None,
        status: int | None,
        target: str,
    ) -> _CallSeries:
        ok = outcome is Outcome.OK
        ended_as = (outcome or Outcome.INTERNAL_ERROR).value
        name = OPERATION_NAMES.get(operation, operation.value)
        genai = (name, model, self._providers.get(target, OWN_PROVIDER))
        return _CallSeries(
            requests=self._requests.child(operation.value, model, dialect, ended_as, _status(status)),
            duration=self._duration.child(*genai, "" if ok else ended_as),
            overhead=self._overhead.child(operation.value, model),
            first_token=self._first_token.child(*genai),
            output_token=self._output_token.child(*genai),
            input=self._tokens.child(*genai, "input"),
            output=self._tokens.child(*genai, "output"),
            ok=ok,
        )

    def _make_attempt_series(self, key: _AttemptKey, attempt: Attempt) -> tuple[Counter, Histogram]:
        model, operation, target, _, error = key
        outcome = attempt_outcome(attempt)
        error_type = "" if outcome is Outcome.OK else self._error_type(attempt)
        name = OPERATION_NAMES.get(operation, operation.value)
        provider = self._providers.get(target, OWN_PROVIDER)
        series = (
            self._attempts.child(target, outcome.value),
            self._attempt_duration.child(name, model, provider, error_type),
        )
        # An upstream's own error words could be endless; only bounded ones are remembered.
        if error is None or error in self._error_types:
            self._attempt_series[key] = series
        return series

    def _error_type(self, attempt: Attempt) -> str:
        if attempt.error is None:
            return _status(attempt.status)
        if attempt.error in self._error_types:
            return attempt.error
        if len(self._error_types) < _MAX_ERROR_TYPES and len(attempt.error) <= 64:
            self._error_types.add(attempt.error)
            return attempt.error
        return OTHER

    def _collect(self) -> Iterator[Metric]:
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("headgate_build", "What runs here.", value=build)
        for counters in (
            self._requests,
            self._running,
            self._attempts,
            self._target_tokens,
            self._hedges,
            self._http_requests,
        ):
            yield counters.collect()
        for histograms in (
            self._duration,
            self._first_token,
            self._output_token,
            self._tokens,
            self._attempt_duration,
            self._overhead,
            self._http_duration,
        ):
            yield histograms.collect()
        yield from self.gauges.collect()


class _AppCollector(Collector):
    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    @override
    def collect(self) -> Iterator[Metric]:
        return self._collect()


def attempt_outcome(attempt: Attempt) -> Outcome:
    """How an attempt ended, from its status and error; one without an end was cancelled."""
    if attempt.error is None:
        if attempt.ended is None:
            return Outcome.CANCELLED
        if attempt.status is None or attempt.status < 400:
            return Outcome.OK
    elif attempt.error == "deadline_exceeded" or attempt.error.endswith("timeout"):
        return Outcome.TIMEOUT
    elif attempt.error in ("cancelled", "client_closed_request", "hedged"):
        return Outcome.CANCELLED
    status = attempt.status
    if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
        return Outcome.CLIENT_ERROR
    return Outcome.UPSTREAM_ERROR


def _hedge_result(attempt: Attempt) -> str:
    """`won`: its answer came first. `lost`: the other one's did. `failed`, or `cancelled` by the caller."""
    if attempt.error == "hedged":
        return "lost"
    outcome = attempt_outcome(attempt)
    return "won" if outcome is Outcome.OK else "cancelled" if outcome is Outcome.CANCELLED else "failed"


def _status(status: int | None) -> str:
    if status is None:
        return ""
    return str(status) if 100 <= status <= 599 else OTHER
