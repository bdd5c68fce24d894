"""The official clients read streams whose events carry ids."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai

from tests.e2e.test_resumable_streams import ASK, WORDS, resumable
from tests.support.server import Running, settings_from
from tests.support.upstream import DONE, SSE_HEAD, Seen, Step, Upstream, chunk, delta, event


async def speaks_with_comments(_: Seen) -> AsyncIterator[Step]:
    """As OpenRouter does."""
    yield SSE_HEAD + chunk(b": PROCESSING\n\n")
    for word in WORDS:
        yield event(delta(word)) + chunk(b": PROCESSING\n\n")
    yield event(delta(finish="stop")) + DONE


@pytest.mark.parametrize("fast", [True, False])
def test_official_clients_read_numbered_streams(tmp_path: Path, fast: bool) -> None:
    with Upstream(speaks_with_comments) as upstream:
        settings = settings_from(tmp_path, {"models": {"gpt": resumable(upstream)}})
        with Running(settings, fast=fast) as server:
            everyone_reads(server)


def everyone_reads(server: Running) -> None:
    text = "".join(WORDS)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as sdk:
        messages: Any = ASK["messages"]
        chunks = list(sdk.chat.completions.create(model="gpt", messages=messages, stream=True))
        assert "".join(each.choices[0].delta.content or "" for each in chunks) == text
        events = list(sdk.responses.create(model="gpt", input="hi", stream=True))
        assert events[-1].type == "response.completed"
    with (
        anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as claude,
        claude.messages.stream(model="gpt", max_tokens=9, messages=messages) as stream,
    ):
        assert "".join(stream.text_stream) == text
    options = genai.types.HttpOptions(base_url=server.url)
    with genai.Client(api_key="none", http_options=options) as google:
        pieces = google.models.generate_content_stream(model="gpt", contents="hi")
        assert "".join(piece.text or "" for piece in pieces) == text
