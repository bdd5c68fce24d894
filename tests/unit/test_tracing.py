"""Tracing: W3C headers in and out, and what the spans say."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from typing_extensions import override

from headgate.core.call import Attempt, Call, Operation, Outcome, Principal, Usage
from headgate.core.errors import MissingExtra
from headgate.observe.tracing import Tracing, configure, passthrough

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{PARENT_ID}-01".encode()
HEADERS = [(b"host", b"x"), (b"traceparent", PARENT)]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SERVICE_NAME"),
        *("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER", "OTEL_RESOURCE_ATTRIBUTES"),
    ):
        monkeypatch.delenv(name, raising=False)


class Recorder:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(SimpleSpanProcessor(self.exporter), {"us": "openai"})

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    asyncio.run(recorder.tracing.close())


def a_call() -> Call:
    call = Call("req_1", "gpt-4o", Operation.CHAT, "openai_chat", started=100.0, stream=True)
    call.principal = Principal("ci")
    return call


def finished(call: Call, outcome: Outcome = Outcome.OK, status: int = 200) -> Call:
    call.outcome, call.status, call.ended = outcome, status, 102.0
    return call


# Headers


@pytest.mark.parametrize(
    "value",
    [
        PARENT,
        f"00-{TRACE_ID}-{PARENT_ID}-00".encode(),
        f"00-{TRACE_ID}-{PARENT_ID}-ff".encode(),
        f"01-{TRACE_ID}-{PARENT_ID}-01".encode(),
        f"cc-{TRACE_ID}-{PARENT_ID}-01-what-will-be".encode(),
    ],
)
def test_a_valid_traceparent_passes_unchanged(value: bytes) -> None:
    assert passthrough([(b"host", b"x"), (b"traceparent", value)]) == [(b"traceparent", value)]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        f"00-{'0' * 32}-{PARENT_ID}-01".encode(),
        f"00-{TRACE_ID}-{'0' * 16}-01".encode(),
        f"ff-{TRACE_ID}-{PARENT_ID}-01".encode(),
        f"00-{TRACE_ID.upper()}-{PARENT_ID}-01".encode(),
        f"00-{TRACE_ID}-{PARENT_ID}-01-more".encode(),
        f"00-{TRACE_ID}-{PARENT_ID}-1".encode(),
        f"00-{TRACE_ID}-{PARENT_ID}-01\n".encode(),
        f"00-{TRACE_ID[:-1]}g-{PARENT_ID}-01".encode(),
        f"cc-{TRACE_ID}-{PARENT_ID}-01.what".encode(),
        f"cc-{TRACE_ID}-{PARENT_ID}-01-{'x' * 9000}".encode(),
    ],
)
def test_an_invalid_traceparent_is_dropped_with_its_state(value: bytes) -> None:
    assert passthrough([(b"traceparent", value), (b"tracestate", b"a=b")]) == []


def test_two_traceparents_are_none() -> None:
    assert passthrough([*HEADERS, (b"traceparent", PARENT)]) == []
    assert passthrough([]) == []


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        ([b"rojo=00f067aa0ba902b7"], b"rojo=00f067aa0ba902b7"),
        ([b"a=1", b"tenant@system=2,c=3"], b"a=1,tenant@system=2,c=3"),
        ([b"a=1 , ,b=2"], b"a=1 , ,b=2"),
        ([b"a=1,a=2"], None),
        ([b"A=1"], None),
        ([b"a"], None),
        ([b"a=b=c"], None),
        ([b"a=\xff"], None),
        ([b","], None),
        ([b",".join(b"k%d=v" % number for number in range(33))], None),
        ([b"a=" + b"x" * 300], None),
        ([b"a=1," + b" " * 9000], None),
    ],
)
def test_tracestate_is_kept_whole_or_dropped_alone(states: list[bytes], kept: bytes | None) -> None:
    found = passthrough([*HEADERS, *((b"tracestate", state) for state in states)])
    assert found[0] == (b"traceparent", PARENT)
    assert dict(found).get(b"tracestate") == kept


# Spans


def test_a_calls_span_continues_the_callers_trace(recorder: Recorder) -> None:
    call = a_call()
    recorder.tracing.start(call, [*HEADERS, (b"tracestate", b"rojo=1")])
    injected = dict(recorder.tracing.inject(call))
    recorder.tracing.finish(finished(call))
    span = recorder.spans["chat gpt-4o"]
    assert span.context is not None and span.parent is not None
    assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" == f"{TRACE_ID}-{PARENT_ID}"
    assert span.kind is SpanKind.SERVER
    assert injected == {
        b"traceparent": f"00-{TRACE_ID}-{span.context.span_id:016x}-01".encode(),
        b"tracestate": b"rojo=1",
    }
    assert passthrough(list(injected.items()))


def test_without_a_valid_parent_a_trace_begins(recorder: Recorder) -> None:
    call = a_call()
    recorder.tracing.start(call, [(b"traceparent", b"nonsense"), (b"tracestate", b"a=b")])
    injected = recorder.tracing.inject(call)
    recorder.tracing.finish(finished(call))
    span = recorder.spans["chat gpt-4o"]
    assert span.parent is None
    assert [name for name, _ in injected] == [b"traceparent"]
    assert TRACE_ID not in injected[0][1].decode()


def test_a_caller_that_is_not_sampled_stays_so(recorder: Recorder) -> None:
    call = a_call()
    recorder.tracing.start(call, [(b"traceparent", PARENT[:-2] + b"00")])
    injected = recorder.tracing.inject(call)
    recorder.tracing.finish(finished(call))
    assert recorder.spans == {}
    assert injected[0][1].startswith(f"00-{TRACE_ID}-".encode())
    assert injected[0][1].endswith(b"-00")


def test_what_a_span_says(recorder: Recorder) -> None:
    call = a_call()
    recorder.tracing.start(call, [])
    call.attempts = [Attempt("us", 100.25, 101.75, first_event=100.75, status=200)]
    call.usage = Usage(12, 34, cached_tokens=5, reasoning_tokens=6)
    call.first_event, call.finish_reason = 100.5, "stop"
    recorder.tracing.finish(finished(call))
    span = recorder.spans["chat gpt-4o"]
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.provider.name": "openai",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 34,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 6,
        "headgate.dialect": "openai_chat",
        "headgate.outcome": "ok",
        "headgate.principal": "ci",
        "headgate.request_id": "req_1",
        "http.response.status_code": 200,
    }
    assert span.status.status_code is StatusCode.UNSET


def test_attempts_are_client_spans_in_the_calls(recorder: Recorder) -> None:
    call = a_call()
    recorder.tracing.start(call, [])
    call.attempts = [
        Attempt("eu", 100.0, 100.5, status=503, error="unavailable"),
        Attempt("us", 100.5, 102.0, first_event=100.75, status=200),
    ]
    recorder.tracing.finish(finished(call))
    server, failed, good = (recorder.spans[name] for name in ("chat gpt-4o", "chat eu", "chat us"))
    assert server.context is not None and failed.parent is not None and good.parent is not None
    assert failed.parent.span_id == good.parent.span_id == server.context.span_id
    assert failed.kind is good.kind is SpanKind.CLIENT
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] == "unavailable"
    assert (failed.attributes or {})["gen_ai.provider.name"] == "headgate"
    assert good.status.status_code is StatusCode.UNSET
    assert (good.attributes or {})["gen_ai.response.time_to_first_chunk"] == 0.25
    assert good.start_time is not None and good.end_time is not None
    assert good.end_time - good.start_time == pytest.approx(1.5e9, abs=5e7)


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (Outcome.CLIENT_ERROR, 404, StatusCode.UNSET),
        (Outcome.REFUSED, 429, StatusCode.UNSET),
        (Outcome.CANCELLED, 499, StatusCode.UNSET),
        (Outcome.UPSTREAM_ERROR, 502, StatusCode.ERROR),
        (Outcome.TIMEOUT, 504, StatusCode.ERROR),
        (Outcome.INTERNAL_ERROR, 200, StatusCode.ERROR),
    ],
)
def test_errors(recorder: Recorder, outcome: Outcome, status: int, code: StatusCode) -> None:
    call = a_call()
    recorder.tracing.start(call, [])
    recorder.tracing.finish(finished(call, outcome, status))
    span = recorder.spans["chat gpt-4o"]
    assert span.status.status_code is code
    assert (span.attributes or {})["error.type"] == outcome.value


def test_two_calls_with_one_id_keep_apart(recorder: Recorder) -> None:
    one, other = a_call(), a_call()
    recorder.tracing.start(one, [])
    recorder.tracing.start(other, [])
    assert one.traceparent != other.traceparent
    recorder.tracing.finish(finished(one))
    recorder.tracing.finish(finished(other))
    recorder.tracing.finish(other)  # a second time, or without a start: nothing
    assert len(recorder.exporter.get_finished_spans()) == 2


def test_a_reload_brings_new_providers(recorder: Recorder) -> None:
    recorder.tracing.declare({"eu": "azure.ai.openai"})
    call = a_call()
    recorder.tracing.start(call, [])
    call.attempts = [Attempt("eu", 100.0, 101.0, status=200)]
    recorder.tracing.finish(finished(call))
    assert (recorder.spans["chat gpt-4o"].attributes or {})["gen_ai.provider.name"] == "azure.ai.openai"


def test_the_service_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def service() -> object:
        recorder = Recorder()
        call = a_call()
        recorder.tracing.start(call, [])
        recorder.tracing.finish(finished(call))
        return recorder.spans["chat gpt-4o"].resource.attributes["service.name"]

    assert service() == "headgate"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gate-eu")
    assert service() == "gate-eu"


# Settings


def test_tracing_is_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configure() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert configure() is None
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert configure("http://127.0.0.1:9") is None


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtra, match=r"pip install 'headgate\[otel\]'"):
        configure("http://127.0.0.1:9")
    with pytest.raises(MissingExtra, match=r"pip install 'headgate\[otel\]'"):
        Tracing(SimpleSpanProcessor(InMemorySpanExporter()))
    assert passthrough(HEADERS) == [(b"traceparent", PARENT)]


@pytest.mark.parametrize("by_environment", [False, True])
def test_spans_reach_a_collector(monkeypatch: pytest.MonkeyPatch, by_environment: bool) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        @override
        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        if by_environment:
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        tracing = configure(None if by_environment else url)
        assert tracing is not None
        call = a_call()
        tracing.start(call, [])
        tracing.finish(finished(call))
        asyncio.run(tracing.close())
        server.shutdown()
        thread.join()
    ((path, body),) = received
    assert path == "/v1/traces"
    assert b"chat gpt-4o" in body
