"""Trace context over real sockets: into the upstream's request, and into spans where tracing is on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headgate.observe.metrics import Metrics
from headgate.observe.tracing import Tracing
from headgate.server.build import Observers
from tests.e2e.conftest import Play, Serve, remote
from tests.support.client import request
from tests.support.server import Running, settings_from
from tests.support.upstream import Seen, Step, completion, plain

CHAT = "/v1/chat/completions"
ASK = {"model": "gpt", "messages": [{"role": "user", "content": "hi"}]}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def answers(_: Seen) -> AsyncIterator[Step]:
    yield plain(200, completion())


def test_without_tracing_the_callers_context_is_passed_on(play: Play, serve: Serve) -> None:
    upstream = play(answers)
    server = serve(models={"gpt": remote(upstream)})
    request(server.port, "POST", CHAT, ASK, {"traceparent": PARENT, "tracestate": "a=1"})
    request(server.port, "POST", CHAT, ASK, {"traceparent": "garbage"})
    assert upstream.seen[0].headers["traceparent"] == PARENT
    assert upstream.seen[0].headers["tracestate"] == "a=1"
    assert "traceparent" not in upstream.seen[1].headers


def test_with_tracing_the_upstream_gets_a_child_of_the_callers_span(play: Play, tmp_path: Path) -> None:
    upstream = play(answers)
    spans = InMemorySpanExporter()
    observers = Observers(Metrics(), tracing=Tracing(SimpleSpanProcessor(spans)))
    settings = settings_from(tmp_path, {"models": {"gpt": remote(upstream)}})
    with Running(settings, observers=observers) as server:
        request(server.port, "POST", CHAT, ASK, {"traceparent": PARENT})
    sent = upstream.seen[0].headers["traceparent"].split("-")
    attempt, call = spans.get_finished_spans()
    assert call.parent is not None
    assert attempt.parent is not None
    assert call.context is not None
    assert sent[1] == PARENT.split("-")[1]
    assert f"{call.parent.span_id:016x}" == PARENT.split("-")[2]
    assert sent[2] == f"{call.context.span_id:016x}" == f"{attempt.parent.span_id:016x}"
    assert call.attributes is not None
    assert call.attributes["gen_ai.usage.input_tokens"] == 5
    assert call.attributes["gen_ai.provider.name"] == "openai"
