"""Amazon's own SDK as the judge of what we write, and builders of what Bedrock sends."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Iterator
from typing import Any

from headgate.core.events import ChatEvent
from headgate.dialects import eventstream
from headgate.dialects.dialect import StreamDecoder

FRAMES = "application/vnd.amazon.eventstream"
SSE = "text/event-stream"


@functools.cache
def service() -> Any:
    loaders = importlib.import_module("botocore.loaders")
    model = importlib.import_module("botocore.model")
    return model.ServiceModel(loaders.Loader().load_service_model("bedrock-runtime", "service-2"))


def complaints(body: dict[str, Any], operation: str = "Converse") -> str:
    """What the SDK finds wrong with a request: unknown members, wrong types, missing members."""
    validate = importlib.import_module("botocore.validate")
    report = validate.ParamValidator().validate(
        {"modelId": "m", **body}, service().operation_model(operation).input_shape
    )
    return str(report.generate_report())


def parsed_answer(body: bytes, operation: str = "Converse") -> dict[str, Any]:
    """An answer as the SDK hands it to its user."""
    parser = importlib.import_module("botocore.parsers").create_parser("rest-json")
    shape = service().operation_model(operation).output_shape
    response = {"status_code": 200, "headers": {}, "body": body}
    return dict(parser.parse(response, shape))


class _Raw:
    def __init__(self, wire: bytes) -> None:
        self._wire = wire

    def stream(self) -> Iterator[bytes]:
        yield self._wire


def parsed_stream(wire: bytes, operation: str = "ConverseStream") -> list[dict[str, Any]]:
    """The events of a stream as the SDK hands them to its user. Raises botocore's EventStreamError."""
    parser = importlib.import_module("botocore.parsers").create_parser("rest-json")
    shape = service().operation_model(operation).output_shape
    context = {"operation_name": operation}
    response = {"status_code": 200, "headers": {}, "body": _Raw(wire), "context": context}
    return list(parser.parse(response, shape)[shape.serialization["payload"]])


def frame(name: str, payload: Any, kind: str = "event") -> bytes:
    """A frame as Bedrock sends it."""
    headers: dict[str, eventstream.HeaderValue] = {
        f":{kind}-type": name,
        ":content-type": "application/json",
        ":message-type": kind,
    }
    return eventstream.encode(headers, json.dumps(payload).encode())


def frames(*events: tuple[str, Any]) -> bytes:
    return b"".join(frame(name, payload) for name, payload in events)


def lines(*events: tuple[str, Any]) -> bytes:
    """The same events as server-sent ones."""
    return b"".join(b"data: " + json.dumps({name: payload}).encode() + b"\n\n" for name, payload in events)


def python_lines(*events: tuple[str, Any]) -> bytes:
    """As SAP AI Core writes them: Python dictionaries with single quotes."""
    return b"".join(b"data: " + repr({name: payload}).encode() + b"\n\n" for name, payload in events)


def feed(decoder: StreamDecoder, wire: bytes, *cuts: int) -> list[ChatEvent]:
    events: list[ChatEvent] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        events += decoder.feed(wire[start:end])
    return events + decoder.end()
