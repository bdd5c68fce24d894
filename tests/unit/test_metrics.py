"""Metrics: what a call counts into, bounded labels, and pages that Prometheus' own parsers read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from headgate import __version__
from headgate.core.backend import Status
from headgate.core.call import Attempt, Call, Operation, Outcome, Usage
from headgate.observe.gauges import CIRCUITS, Budgets, TargetState
from headgate.observe.metrics import OTHER, UNKNOWN_MODEL, Metrics, attempt_outcome
from headgate.routing.health import Circuit

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def samples(metrics: Metrics) -> Samples:
    page, _ = metrics.render(None)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(page.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def names(metrics: Metrics) -> set[str]:
    return {name for name, _ in samples(metrics)}


def a_call(**changes: object) -> Call:
    call = Call("req_1", "gpt-4o", Operation.CHAT, "openai_chat", started=100.0)
    call.outcome, call.status, call.ended = Outcome.OK, 200, 102.0
    for name, changed in changes.items():
        setattr(call, name, changed)
    return call


def counted(call: Call, metrics: Metrics | None = None) -> Metrics:
    metrics = metrics or Metrics(["gpt-4o"], {"eu": "azure.ai.openai"})
    metrics.call_started(call)
    metrics.call_finished(call)
    return metrics


GENAI = {"gen_ai_operation_name": "chat", "gen_ai_request_model": "gpt-4o"}


def test_a_call_is_counted_with_its_outcome() -> None:
    metrics = counted(a_call())
    counted(a_call(outcome=Outcome.TIMEOUT, status=504), metrics)
    counted(a_call(), metrics)
    labels = {"operation": "chat", "model": "gpt-4o", "dialect": "openai_chat"}
    assert value(metrics, "headgate_requests_total", **labels, outcome="ok", status="200") == 2
    assert value(metrics, "headgate_requests_total", **labels, outcome="timeout", status="504") == 1


def test_duration_goes_into_the_bucket_that_holds_it() -> None:
    metrics = counted(a_call(ended=100.64))  # a boundary is inside: le
    labels = {**GENAI, "gen_ai_provider_name": "headgate", "error_type": ""}
    name = "gen_ai_server_request_duration_seconds"
    assert value(metrics, f"{name}_bucket", **labels, le="0.32") == 0
    assert value(metrics, f"{name}_bucket", **labels, le="1.28") == 1
    assert value(metrics, f"{name}_bucket", **labels, le="+Inf") == 1
    assert value(metrics, f"{name}_count", **labels) == 1
    assert value(metrics, f"{name}_sum", **labels) == pytest.approx(0.64)


def test_a_value_on_a_boundary_and_one_above_all() -> None:
    metrics = Metrics(["gpt-4o"])
    for ended in (100.0 + 0.5, 1000.0):
        counted(a_call(started=100.0, ended=ended), metrics)
    counted(a_call(started=0.0, ended=0.01), metrics)
    labels = {**GENAI, "gen_ai_provider_name": "headgate", "error_type": ""}
    name = "gen_ai_server_request_duration_seconds_bucket"
    assert value(metrics, name, **labels, le="0.01") == 1
    assert value(metrics, name, **labels, le="81.92") == 2
    assert value(metrics, name, **labels, le="+Inf") == 3


def test_provider_is_that_of_the_last_target_and_errors_have_a_type() -> None:
    call = a_call(outcome=Outcome.UPSTREAM_ERROR, status=502)
    call.attempts = [Attempt("local", 100.0, 100.5, status=500), Attempt("eu", 100.5, 101.0, status=502)]
    metrics = counted(call)
    duration = "gen_ai_server_request_duration_seconds_count"
    labels = {**GENAI, "gen_ai_provider_name": "azure.ai.openai"}
    assert value(metrics, duration, **labels, error_type="upstream_error") == 1
    attempts = "gen_ai_client_operation_duration_seconds_sum"
    assert value(metrics, attempts, **labels, error_type="502") == 0.5
    assert value(metrics, attempts, **GENAI, gen_ai_provider_name="headgate", error_type="500") == 0.5


def test_tokens_and_their_times_of_a_stream() -> None:
    metrics = counted(a_call(stream=True, first_event=100.5, usage=Usage(12, 4)))
    labels = {**GENAI, "gen_ai_provider_name": "headgate"}
    tokens = "gen_ai_client_token_usage_sum"
    assert value(metrics, tokens, **labels, gen_ai_token_type="input") == 12
    assert value(metrics, tokens, **labels, gen_ai_token_type="output") == 4
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_sum", **labels) == 0.5
    assert value(metrics, "gen_ai_server_time_per_output_token_seconds_sum", **labels) == 0.5  # 1.5 s / 3


@pytest.mark.parametrize(
    "changes",
    [
        {"stream": False, "first_event": 100.5, "usage": Usage(1, 5)},
        {"stream": True, "first_event": 100.5, "outcome": Outcome.CANCELLED, "usage": Usage(1, 5)},
        {"stream": True, "first_event": None, "usage": Usage(1, 5)},
    ],
)
def test_only_successful_streams_tell_about_token_times(changes: dict[str, object]) -> None:
    metrics = counted(a_call(**changes))
    labels = {**GENAI, "gen_ai_provider_name": "headgate"}
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_count", **labels) == 0
    assert value(metrics, "gen_ai_server_time_per_output_token_seconds_count", **labels) == 0
    assert value(metrics, "gen_ai_client_token_usage_sum", **labels, gen_ai_token_type="output") == 5


def test_usage_that_nobody_reported_is_not_counted_as_zero() -> None:
    metrics = counted(a_call(usage=Usage(input_tokens=3)))
    labels = {**GENAI, "gen_ai_provider_name": "headgate"}
    assert value(metrics, "gen_ai_client_token_usage_count", **labels, gen_ai_token_type="input") == 1
    assert value(metrics, "gen_ai_client_token_usage_count", **labels, gen_ai_token_type="output") == 0


@pytest.mark.parametrize(
    ("attempts", "overhead"),
    [
        ([(100.25, 101.75)], 0.5),
        ([(100.0, 100.5), (101.0, 102.0)], 0.5),
        ([(100.0, 101.5), (101.0, 101.75)], 0.25),  # hedged: they overlap
        ([(100.0, 102.0), (100.5, 101.0)], 0.0),  # one inside the other
        ([(100.5, None)], 0.5),  # under way to the end
        ([(99.0, 103.0)], 0.0),
    ],
)
def test_overhead_is_what_no_target_took(attempts: list[tuple[float, float | None]], overhead: float) -> None:
    call = a_call()
    call.attempts = [Attempt("eu", since, until, status=200) for since, until in attempts]
    metrics = counted(call)
    labels = {"operation": "chat", "model": "gpt-4o"}
    assert value(metrics, "headgate_overhead_seconds_sum", **labels) == overhead
    assert value(metrics, "headgate_overhead_seconds_count", **labels) == 1


def test_overhead_leaves_out_calls_that_reached_no_target() -> None:
    metrics = counted(a_call(outcome=Outcome.REFUSED, status=429))
    assert value(metrics, "headgate_overhead_seconds_count", operation="chat", model="gpt-4o") == 0


@pytest.mark.parametrize(
    ("attempt", "outcome"),
    [
        (Attempt("eu", 0.0, 1.0, status=200), Outcome.OK),
        (Attempt("eu", 0.0, 1.0), Outcome.OK),
        (Attempt("eu", 0.0), Outcome.CANCELLED),
        (Attempt("eu", 0.0, 1.0, error="client_closed_request"), Outcome.CANCELLED),
        (Attempt("eu", 0.0, 1.0, status=400), Outcome.CLIENT_ERROR),
        (Attempt("eu", 0.0, 1.0, status=404, error="not_found"), Outcome.CLIENT_ERROR),
        (Attempt("eu", 0.0, 1.0, status=429), Outcome.UPSTREAM_ERROR),
        (Attempt("eu", 0.0, 1.0, status=503, error="unavailable"), Outcome.UPSTREAM_ERROR),
        (Attempt("eu", 0.0, 1.0, error="upstream_unreachable"), Outcome.UPSTREAM_ERROR),
        (Attempt("eu", 0.0, 1.0, error="connect_timeout"), Outcome.TIMEOUT),
        (Attempt("eu", 0.0, 1.0, error="deadline_exceeded"), Outcome.TIMEOUT),
        (Attempt("eu", 0.0, 1.0, status=200, error="upstream_broken"), Outcome.UPSTREAM_ERROR),
    ],
)
def test_attempt_outcomes(attempt: Attempt, outcome: Outcome) -> None:
    assert attempt_outcome(attempt) is outcome
    call = a_call()
    call.attempts = [attempt]
    metrics = counted(call)
    assert value(metrics, "headgate_upstream_attempts_total", target="eu", outcome=outcome.value) == 1


def test_operations_have_the_conventions_names() -> None:
    metrics = counted(a_call(operation=Operation.EMBED))
    counted(a_call(operation=Operation.PREDICT), metrics)
    seen = {
        dict(labels)["gen_ai_operation_name"]
        for name, labels in samples(metrics)
        if name == "gen_ai_server_request_duration_seconds_count"
    }
    assert seen == {"embeddings", "predict"}


def test_clients_make_no_series() -> None:
    metrics = Metrics(["gpt-4o"])
    for number in range(50):
        counted(a_call(model=f"guess-{number}", outcome=Outcome.CLIENT_ERROR, status=404), metrics)
    models = {dict(labels).get("model") for _, labels in samples(metrics)}
    assert models == {None, "gpt-4o", UNKNOWN_MODEL}
    labels = {"operation": "chat", "dialect": "openai_chat", "outcome": "client_error", "status": "404"}
    assert value(metrics, "headgate_requests_total", **labels, model=UNKNOWN_MODEL) == 50


def test_upstreams_make_a_bounded_number_of_error_types() -> None:
    metrics = Metrics(["gpt-4o"])
    for number in range(200):
        call = a_call(outcome=Outcome.UPSTREAM_ERROR, status=502)
        call.attempts = [Attempt("eu", 100.0, 101.0, error=f"word-{number}")]
        counted(call, metrics)
    long = a_call(outcome=Outcome.UPSTREAM_ERROR, status=502)
    long.attempts = [Attempt("eu", 100.0, 101.0, error="x" * 1000)]
    counted(long, metrics)
    types = {
        dict(labels)["error_type"]
        for name, labels in samples(metrics)
        if name == "gen_ai_client_operation_duration_seconds_count"
    }
    assert len(types) == 65
    assert OTHER in types
    assert value(metrics, "headgate_upstream_attempts_total", target="eu", outcome="upstream_error") == 201


def test_in_flight_goes_up_and_down_and_never_below_zero() -> None:
    metrics = Metrics(["gpt-4o"])
    calls = [a_call(), a_call(), a_call(model="other")]
    for call in calls:
        metrics.call_started(call)
    assert value(metrics, "headgate_requests_in_flight", model="gpt-4o") == 2
    metrics.declare(["gpt-4o", "other"], {})
    for call in calls:
        metrics.call_finished(call)
    assert value(metrics, "headgate_requests_in_flight", model="gpt-4o") == 0
    assert value(metrics, "headgate_requests_in_flight", model="other") == 0


def test_a_refused_call_is_counted_and_was_never_in_flight() -> None:
    metrics = Metrics(["gpt-4o"])
    metrics.call_started(a_call())
    metrics.call_refused(a_call(outcome=Outcome.REFUSED, status=503))
    labels = {"operation": "chat", "model": "gpt-4o", "dialect": "openai_chat"}
    assert value(metrics, "headgate_requests_total", **labels, outcome="refused", status="503") == 1
    assert value(metrics, "headgate_requests_in_flight", model="gpt-4o") == 1


def test_a_reload_takes_new_names_and_keeps_counts() -> None:
    metrics = counted(a_call())
    metrics.declare(["gpt-4o", "claude"], {"us": "anthropic"})
    call = a_call(model="claude")
    call.attempts = [Attempt("us", 100.0, 101.0, status=200)]
    counted(call, metrics)
    counted(a_call(), metrics)
    labels = {"operation": "chat", "dialect": "openai_chat", "outcome": "ok", "status": "200"}
    assert value(metrics, "headgate_requests_total", **labels, model="gpt-4o") == 2
    assert value(metrics, "headgate_requests_total", **labels, model="claude") == 1
    duration = "gen_ai_server_request_duration_seconds_count"
    claude = {"gen_ai_operation_name": "chat", "gen_ai_request_model": "claude"}
    assert value(metrics, duration, **claude, gen_ai_provider_name="anthropic", error_type="") == 1


def test_watched_queues_and_models() -> None:
    metrics = Metrics()
    waiting = [3]
    metrics.gauges.watch_queue("smollm2", lambda: waiting[0])
    metrics.gauges.watch_models(lambda: {"smollm2": Status("restarting", "killed")})
    assert value(metrics, "headgate_queue_depth", model="smollm2") == 3
    waiting[0] = 0
    assert value(metrics, "headgate_queue_depth", model="smollm2") == 0
    assert value(metrics, "headgate_model_state", model="smollm2", state="restarting") == 1
    assert value(metrics, "headgate_model_state", model="smollm2", state="ready") == 0


def test_a_gauge_that_raises_does_not_take_the_page_down(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> int:
        raise RuntimeError("no queue")

    def broken_models() -> Mapping[str, Status]:
        raise RuntimeError("no models")

    metrics = counted(a_call())
    metrics.gauges.watch_queue("smollm2", broken)
    metrics.gauges.watch_queue("minilm", lambda: 1)
    metrics.gauges.watch_models(broken_models)
    with caplog.at_level(logging.ERROR):
        seen = names(metrics)
    assert "headgate_requests_total" in seen
    assert len(caplog.records) == 2
    assert value(metrics, "headgate_queue_depth", model="minilm") == 1


def test_tokens_of_each_attempt_count_for_its_target() -> None:
    call = a_call(usage=Usage(5, 7))
    call.attempts = [
        Attempt("us", 100.0, 100.5, status=200, error="upstream_broken", usage=Usage(5, 3)),
        Attempt("eu", 100.5, 101.0, status=200, usage=Usage(5, 7)),
        Attempt("none", 100.5, 101.0, status=500),
    ]
    metrics = counted(call)
    counted(call, metrics)
    tokens = "headgate_upstream_tokens_total"
    assert value(metrics, tokens, target="us", type="input") == 10
    assert value(metrics, tokens, target="us", type="output") == 6
    assert value(metrics, tokens, target="eu", type="output") == 14
    assert value(metrics, tokens, target="none", type="input") is None


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"status": 200}, "won"),
        ({"error": "hedged"}, "lost"),
        ({"error": "hedged", "status": 200}, "lost"),
        ({"error": "cancelled"}, "cancelled"),
        ({"status": 500}, "failed"),
        ({"error": "connect_timeout"}, "failed"),
        ({"status": 400, "error": "word"}, "failed"),
    ],
)
def test_hedges_are_counted_by_what_became_of_them(changes: dict[str, Any], result: str) -> None:
    call = a_call()
    call.attempts = [
        Attempt("us", 100.0, 101.0, status=200),
        Attempt("eu", 100.5, 101.0, hedge=True, **changes),
    ]
    metrics = counted(call)
    found = {labels: count for (name, labels), count in samples(metrics).items() if "hedges_total" in name}
    assert found == {frozenset({("model", "gpt-4o"), ("result", result)}): 1}


def test_the_circuits_are_those_of_routing() -> None:
    assert set(CIRCUITS) == {circuit.value for circuit in Circuit}


def test_watched_targets_and_budgets() -> None:
    metrics = Metrics()
    states = [TargetState("a", "closed", 3, 0.0, False), TargetState("b", "half_open", 0, 2.5, True)]
    metrics.gauges.watch_targets(lambda: states)
    metrics.gauges.watch_budgets(lambda: {"m": Budgets(9.5, 0.25)})
    assert value(metrics, "headgate_target_circuit", target="a", state="closed") == 1
    assert value(metrics, "headgate_target_circuit", target="a", state="open") == 0
    assert value(metrics, "headgate_target_circuit", target="b", state="half_open") == 1
    assert value(metrics, "headgate_target_in_flight", target="a") == 3
    assert value(metrics, "headgate_target_cooldown_seconds", target="b") == 2.5
    assert value(metrics, "headgate_target_drained", target="b") == 1
    assert value(metrics, "headgate_retry_budget", model="m") == 9.5
    assert value(metrics, "headgate_hedge_budget", model="m") == 0.25
    states.pop()
    assert value(metrics, "headgate_target_in_flight", target="b") is None


def test_http_requests() -> None:
    metrics = Metrics()
    metrics.http_request("GET", "/v1/models/{id}", 200, 0.25)
    metrics.http_request("GET", "/v1/models/{id}", 200, 0.25)
    metrics.http_request("GET", None, 404, 0.25)
    for number in range(30):
        metrics.http_request(f"VERB{number}", None, 405, 0.25)
    name = "headgate_http_requests_total"
    assert value(metrics, name, method="GET", route="/v1/models/{id}", status="200") == 2
    assert value(metrics, name, method="GET", route="_unmatched", status="404") == 1
    assert value(metrics, name, method=OTHER, route="_unmatched", status="405") == 30
    duration = "headgate_http_request_duration_seconds_sum"
    assert value(metrics, duration, method="GET", route="/v1/models/{id}") == 0.5


def test_build_and_process() -> None:
    metrics = Metrics()
    builds = [dict(labels) for name, labels in samples(metrics) if name == "headgate_build_info"]
    assert [build["version"] for build in builds] == [__version__]
    assert "process_resident_memory_bytes" in names(metrics)


@pytest.mark.parametrize(
    "accept", [None, "*/*", "text/plain", "application/json", "", "text/plain;version=nonsense"]
)
def test_prometheus_text_is_the_default(accept: str | None) -> None:
    page, kind = counted(a_call()).render(accept)
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert list(parse_text(page.decode()))


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.2",
        "Application/OpenMetrics-Text; version=abc",
    ],
)
def test_openmetrics_when_asked_for(accept: str) -> None:
    call = a_call(usage=Usage(1, 2), first_event=100.1, stream=True)
    call.attempts = [Attempt("eu", 100.0, 101.0, status=200)]
    metrics = counted(call)
    metrics.gauges.watch_models(lambda: {"gpt-4o": Status("ready")})
    page, kind = metrics.render(accept)
    assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert page.endswith(b"# EOF\n")
    parsed = parse_openmetrics(page.decode())  # type: ignore[no-untyped-call]
    families = {family.name for family in parsed}
    assert {"headgate_requests", "gen_ai_client_token_usage", "headgate_build"} <= families


def test_two_apps_in_one_process_count_apart() -> None:
    one, other = Metrics(["gpt-4o"]), Metrics(["gpt-4o"])
    counted(a_call(), one)
    assert "headgate_requests_total" in names(one)
    assert "headgate_requests_total" not in names(other)


def test_rendering_in_another_thread_while_series_are_made() -> None:
    metrics = Metrics(["gpt-4o"])
    failures: list[BaseException] = []
    done = threading.Event()

    def render() -> None:
        try:
            while not done.is_set():
                list(parse_text(metrics.render(None)[0].decode()))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=render)
    thread.start()
    for number in range(3000):
        counted(a_call(dialect=f"dialect-{number % 500}"), metrics)
    done.set()
    thread.join()
    assert not failures
