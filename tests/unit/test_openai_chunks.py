"""What streams of chunks have in common, whether of chat or of legacy completions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.core.errors import HeadgateError, UpstreamError
from headgate.core.events import Failed, PartCited, PartDelta, PartEnded, PartStarted, Started
from headgate.core.messages import Citation, Opaque, Text
from headgate.dialects import sse
from headgate.dialects.answer_losses import MAX_NOTED
from headgate.dialects.dialect import AnswerOptions, ChatDialect
from headgate.dialects.openai_chat import OPENAI_CHAT
from headgate.dialects.openai_completions import OPENAI_COMPLETIONS
from tests.unit.openai_chunks import DONE

both = pytest.mark.parametrize("dialect", [OPENAI_CHAT, OPENAI_COMPLETIONS], ids=lambda each: each.name)


def text(dialect: ChatDialect, content: str, finish: str | None = None, **fields: Any) -> bytes:
    said = {"delta": {"content": content}} if dialect is OPENAI_CHAT else {"text": content}
    choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish}
    head = {"id": "c1", "object": "chunk", "created": 7, "model": "m", "choices": [choice]}
    return sse.encode(json.dumps(head | fields).encode())


@both
def test_fields_that_come_late_are_written_once_in_the_last_chunk(dialect: ChatDialect) -> None:
    decoder, encoder = dialect.stream_decoder(sse.CONTENT_TYPE), dialect.stream_encoder(AnswerOptions())
    wire = [text(dialect, "Hi", system_fingerprint="fp"), text(dialect, "", "stop", x_groq={"id": 1}), DONE]
    events = [event for data in wire for event in decoder.feed(data)]
    out = b"".join(map(encoder.encode, events))
    *chunks, last, done = sse.Decoder().feed(out)
    assert json.loads(last.data)["x_groq"] == {"id": 1}
    assert json.loads(last.data)["choices"][0]["finish_reason"] == "stop"
    assert all(json.loads(chunk.data)["system_fingerprint"] == "fp" for chunk in chunks)
    assert not any(b"x_groq" in chunk.data for chunk in chunks)
    assert done.data == b"[DONE]"


@both
def test_several_chunks_of_a_known_form_in_one_read_are_told_apart(dialect: ChatDialect) -> None:
    decoder = dialect.stream_decoder(sse.CONTENT_TYPE)
    decoder.feed(text(dialect, "first"))
    decoder.feed(text(dialect, "second"))
    events = decoder.feed(text(dialect, "a") + text(dialect, 'say "b"') + text(dialect, "c"))
    assert [event.delta for event in events if isinstance(event, PartDelta)] == ["a", 'say "b"', "c"]
    events = decoder.feed(text(dialect, "d") + text(dialect, "e"))
    assert [event.delta for event in events if isinstance(event, PartDelta)] == ["d", "e"]


@both
def test_of_thousands_of_losses_the_first_are_told(dialect: ChatDialect) -> None:
    encoder = dialect.stream_encoder(AnswerOptions())
    encoder.encode(Started("c1", "m", 7))
    for index in range(5000):
        encoder.encode(PartStarted(index, Opaque("gemini", {"a": 1})))
        encoder.encode(PartEnded(index))
    assert len(encoder.losses) == MAX_NOTED
    assert encoder.losses[0].path == "choices[0].parts[0]"


@both
def test_losses_are_told_of_what_is_nested_deeply(dialect: ChatDialect) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = {"usage": deep}
    start = Started("c1", "m", 7, {"gemini": deep})
    cited = PartCited(0, Citation("url", "https://a", extensions={"gemini": deep}))
    encoder = dialect.stream_encoder(AnswerOptions())
    for event in (start, PartStarted(0, Text("")), cited, PartEnded(0)):
        encoder.encode(event)
    assert any(loss.path.startswith("usage.usage") for loss in encoder.losses)


@both
@pytest.mark.parametrize("key", ["status", "code", "status_code"])
def test_an_error_in_mid_stream_may_name_its_status(dialect: ChatDialect, key: str) -> None:
    decoder = dialect.stream_decoder(sse.CONTENT_TYPE)
    decoder.feed(text(dialect, "Hi"))
    (event,) = decoder.feed(sse.encode(json.dumps({"error": {"message": "slow down", key: 429}}).encode()))
    assert isinstance(event, Failed)
    assert isinstance(event.error, UpstreamError)
    assert (event.error.status, event.error.message) == (429, "slow down")
    assert decoder.feed(text(dialect, "more")) == decoder.end() == []


@both
@pytest.mark.parametrize(
    ("detail", "status"),
    [
        ({"type": "tokens", "code": "rate_limit_exceeded"}, 429),
        ({"type": "server_error", "code": None}, 500),
        ({"type": "invalid_request_error", "code": "model_not_found"}, 404),
        ({"code": "context_length_exceeded"}, 400),
        ({"code": "something_new"}, 502),
        ({"code": True}, 502),
    ],
)
def test_an_error_in_mid_stream_is_known_by_its_words(
    dialect: ChatDialect, detail: dict[str, Any], status: int
) -> None:
    decoder = dialect.stream_decoder(sse.CONTENT_TYPE)
    (event,) = decoder.feed(sse.encode(json.dumps({"error": {"message": "no", **detail}}).encode()))
    assert isinstance(event, Failed)
    assert (event.error.status, event.error.message) == (status, "no")
    with pytest.raises(HeadgateError) as caught:
        dialect.decode_result(json.dumps({"error": {"message": "no", **detail}}).encode())
    assert caught.value.status == status
