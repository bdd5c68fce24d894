"""Traces: W3C trace context in and out, and spans through OpenTelemetry where the `otel` extra is installed.

Without tracing a caller's valid `traceparent` still reaches the upstream, unchanged: `passthrough`.

Sources: W3C Trace Context, level 2 (headers); OpenTelemetry semantic conventions for generative AI and HTTP
(span names and attributes).
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from headgate import __version__
from headgate.core.backend import RawHeaders
from headgate.core.call import Attempt, Call, Outcome, Usage
from headgate.core.errors import MissingExtra
from headgate.observe.metrics import OPERATION_NAMES, OWN_PROVIDER, attempt_outcome

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

# Section 3.2.2: version, trace-id, parent-id, trace-flags. Later versions may append fields.
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x21-\x7e]*)?")
# Section 3.3.1.3, one list member.
_MEMBER = re.compile(
    rb"(?:[a-z0-9][a-z0-9_\-*/@]{0,255})"
    rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MAX_MEMBERS = 32
_MAX_HEADER = 8192
_MAX_TEXT = 256  # of a value that a client chose

_SWITCHES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def passthrough(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The trace context to hand on to an upstream, as it came; nothing where it is not valid.

    A `tracestate` that is wrong is dropped alone; without a `traceparent` it means nothing.
    """
    parents = [value for name, value in headers if name == b"traceparent"]
    if len(parents) != 1 or not valid_traceparent(parents[0]):
        return []
    found = [(b"traceparent", parents[0])]
    state = b",".join(value for name, value in headers if name == b"tracestate")
    if state and _valid_tracestate(state):
        found.append((b"tracestate", state))
    return found


def valid_traceparent(value: bytes) -> bool:
    match = _TRACEPARENT.fullmatch(value) if len(value) <= _MAX_HEADER else None
    if match is None:
        return False
    version, trace_id, parent_id, _, rest = match.groups()
    if version == b"ff" or (version == b"00" and rest is not None):
        return False
    return trace_id.strip(b"0") != b"" and parent_id.strip(b"0") != b""


def _valid_tracestate(value: bytes) -> bool:
    if len(value) > _MAX_HEADER:
        return False
    members = [member for part in value.split(b",") if (member := part.strip(b" \t"))]
    keys = {member.partition(b"=")[0] for member in members}
    if not 0 < len(members) <= _MAX_MEMBERS or len(keys) != len(members):
        return False
    return all(map(_MEMBER.fullmatch, members))


def configure(endpoint: str | None = None) -> Tracing | None:
    """Tracing as the settings and OpenTelemetry's own environment variables ask for it, or None.

    Args:
        endpoint: base URL of an OTLP/HTTP collector (`http://127.0.0.1:4318`); left out, the variables
            `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` decide. Headers,
            certificates, sampling and batching are set by the other `OTEL_*` variables.

    Raises:
        MissingExtra: traces are asked for and OpenTelemetry is not installed.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if endpoint is None:
        if os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
            return None
        if not any(map(os.environ.get, _SWITCHES)):
            return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise MissingExtra("tracing (an OpenTelemetry endpoint is set)", "otel") from None
    # Only a base URL from the environment gets its signal path from the exporter.
    url = f"{endpoint.rstrip('/')}/v1/traces" if endpoint is not None else None
    return Tracing(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))


class Tracing:
    """Spans of one app: a server span for each call, and a client span in it for each attempt.

    Every `start` needs its `finish`: spans that run are kept here in between.

    Args:
        processor: gets the spans that ended.
        providers: target name -> `gen_ai.provider.name`; targets left out are `headgate`.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
    """

    def __init__(self, processor: SpanProcessor, providers: Mapping[str, str] | None = None) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.context import Context
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise MissingExtra("tracing", "otel") from None
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        # Given in place of None, which would make a span of the surrounding task the parent.
        self._empty = Context()
        resource = Resource.create({"service.version": __version__})
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "headgate"}))
        # Not the global provider: an app that Headgate is mounted in may have set its own.
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("headgate", __version__)
        self._spans: dict[int, Span] = {}
        self._providers = dict(providers or {})

    def declare(self, providers: Mapping[str, str]) -> None:
        """Take over the targets of a configuration, at the start or after a reload."""
        self._providers = dict(providers)

    def start(self, call: Call, headers: RawHeaders) -> None:
        """Open the call's span, as a child of what the caller sent; sets `traceparent` and `tracestate`."""
        carrier = {name.decode(): value.decode() for name, value in passthrough(headers)}
        parent = self._propagator.extract(carrier, context=self._empty)
        operation = OPERATION_NAMES.get(call.operation, call.operation.value)
        model = call.model[:_MAX_TEXT]
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": model,
            "gen_ai.request.stream": call.stream,
            "headgate.dialect": call.dialect,
            "headgate.request_id": call.id,
            "headgate.principal": call.principal.name,
        }
        span = self._tracer.start_span(
            f"{operation} {model}", parent, kind=self._trace.SpanKind.SERVER, attributes=attributes
        )
        # By identity: ids may come from callers, who may send one twice.
        self._spans[id(call)] = span
        context = span.get_span_context()
        call.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        call.tracestate = context.trace_state.to_header() or None

    def inject(self, call: Call) -> list[tuple[bytes, bytes]]:
        """Headers that make an upstream's spans children of the call's."""
        headers: list[tuple[bytes, bytes]] = []
        if call.traceparent is not None:
            headers.append((b"traceparent", call.traceparent.encode()))
            if call.tracestate is not None:
                headers.append((b"tracestate", call.tracestate.encode()))
        return headers

    def finish(self, call: Call) -> None:
        """Close the call's span with its outcome, status and usage. Without a `start` it does nothing."""
        span = self._spans.pop(id(call), None)
        if span is None:
            return
        if not span.is_recording():
            span.end()
            return
        for attempt in call.attempts:
            self._record_attempt(call, attempt, span)
        span.set_attributes(_result_attributes(call))
        target = call.attempts[-1].target if call.attempts else ""
        span.set_attribute("gen_ai.provider.name", self._providers.get(target, OWN_PROVIDER))
        # HTTP conventions: for a server span the caller's own mistakes (4xx) are no errors.
        if call.outcome is Outcome.INTERNAL_ERROR or (call.status is not None and call.status >= 500):
            span.set_status(self._trace.StatusCode.ERROR, call.outcome.value if call.outcome else None)
        span.end()

    async def close(self) -> None:
        """Send what waits and stop. May take seconds where the collector does not answer."""
        await asyncio.to_thread(self._provider.shutdown)

    def _record_attempt(self, call: Call, attempt: Attempt, parent: Span) -> None:
        outcome = attempt_outcome(attempt)
        operation = OPERATION_NAMES.get(call.operation, call.operation.value)
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": self._providers.get(attempt.target, OWN_PROVIDER),
            "headgate.target": attempt.target,
        }
        if attempt.status is not None:
            attributes["http.response.status_code"] = attempt.status
        if attempt.first_event is not None and call.stream:
            attributes["gen_ai.response.time_to_first_chunk"] = attempt.first_event - attempt.started
        if outcome is not Outcome.OK:
            attributes["error.type"] = (attempt.error or outcome.value)[:_MAX_TEXT]
        span = self._tracer.start_span(
            f"{operation} {attempt.target}",
            self._trace.set_span_in_context(parent, self._empty),
            kind=self._trace.SpanKind.CLIENT,
            attributes=attributes,
            start_time=_wall_clock(call, attempt.started),
        )
        if outcome not in (Outcome.OK, Outcome.CANCELLED):
            span.set_status(self._trace.StatusCode.ERROR, outcome.value)
        ended = attempt.ended if attempt.ended is not None else call.ended
        span.end(_wall_clock(call, ended) if ended is not None else None)


def _wall_clock(call: Call, moment: float) -> int:
    """A moment on the event loop's clock as nanoseconds since 1970, given that the call ends now."""
    ago = (call.ended if call.ended is not None else moment) - moment
    return time.time_ns() - int(ago * 1e9)


def _result_attributes(call: Call) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {}
    if call.outcome is not None:
        attributes["headgate.outcome"] = call.outcome.value
        if call.outcome is not Outcome.OK:
            attributes["error.type"] = call.outcome.value
    if call.status is not None:
        attributes["http.response.status_code"] = call.status
    if call.finish_reason is not None:
        attributes["gen_ai.response.finish_reasons"] = [call.finish_reason]
    if call.stream and call.first_event is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = call.first_event - call.started
    usage = call.usage or Usage()
    tokens = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }
    return attributes | {name: count for name, count in tokens.items() if count is not None}
