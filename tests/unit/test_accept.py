"""What a remote API is told of the answer that is wanted, for each dialect, streamed or not."""

from __future__ import annotations

import pytest

from headgate.backends.pools import Pools
from headgate.backends.registry import BuildContext, Registry
from headgate.backends.remote import RemoteBackend, RemoteWire
from headgate.core.backend import Timeouts
from headgate.core.call import Operation

JSON = "application/json"
EVENTS = "text/event-stream, application/json"
FRAMES = "application/vnd.amazon.eventstream"


def accepted(backend: str, operation: Operation, dialect: str, **settings: object) -> tuple[str, str]:
    """The field as it goes out with a plain request, and with one for a stream."""
    row = Registry().row(backend)
    values = {"backend": backend, "base_url": "http://127.0.0.1:9", "api_key": "k", **settings}
    built = row.build(row.settings.model_validate(values), BuildContext("m", "m", Timeouts(), Pools()))
    assert isinstance(built, RemoteBackend)
    wire = built.wire(operation, dialect)
    assert isinstance(wire, RemoteWire)
    assert wire.dialect == dialect
    plain, stream = (
        [line for line in head.decode().split("\r\n") if line.startswith("accept: ")]
        for head in (wire._plain.head, wire._stream.head)
    )
    assert len(plain) == len(stream) == 1
    return plain[0].removeprefix("accept: "), stream[0].removeprefix("accept: ")


@pytest.mark.parametrize(
    ("backend", "operation", "dialect", "stream"),
    [
        ("openai-compatible", Operation.CHAT, "openai_chat", EVENTS),
        ("openai-compatible", Operation.CHAT, "openai_completions", EVENTS),
        ("anthropic", Operation.CHAT, "anthropic", EVENTS),
        ("gemini", Operation.CHAT, "gemini", EVENTS),
        ("bedrock", Operation.CHAT, "converse", FRAMES),
        ("bedrock", Operation.CHAT, "invoke_anthropic", FRAMES),
        ("openai-compatible", Operation.EMBED, "openai_embeddings", JSON),
        ("cohere", Operation.RERANK, "cohere_rerank", JSON),
        ("anthropic", Operation.COUNT_TOKENS, "anthropic_count", JSON),
    ],
)
def test_what_is_accepted(backend: str, operation: Operation, dialect: str, stream: str) -> None:
    settings = {"region": "eu-central-1"} if backend == "bedrock" else {}
    assert accepted(backend, operation, dialect, **settings) == (JSON, stream)


def test_the_operators_own_word_counts() -> None:
    own = {"Accept": "text/event-stream"}
    found = accepted("bedrock", Operation.CHAT, "converse", region="eu-central-1", headers=own)
    assert found == ("text/event-stream", "text/event-stream")
