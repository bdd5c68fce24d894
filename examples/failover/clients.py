"""The callers: the official SDKs of OpenAI and Anthropic, without retries of their own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import anthropic
import openai
from examples.failover.dialects import Tokens, text_of

MODEL = "assistant"
TIMEOUT = 30.0


@dataclass(frozen=True)
class Reply:
    """What one caller got.

    Args:
        speaker: the upstream whose text it is.
        target: that answered, and `attempts`: how many were made, by Headgate's header fields.
        complaint: None: the whole answer, well ended. Otherwise what the SDK raised, or what was wrong.
        seconds: until the end.
    """

    sdk: str
    stream: bool
    speaker: str
    target: str
    attempts: int
    tokens: Tokens
    seconds: float
    complaint: str | None = None


@dataclass(frozen=True)
class Said:
    """An answer as an SDK gives it."""

    text: str
    headers: Mapping[str, str]
    tokens: Tokens


class Client(Protocol):
    name: str

    async def ask(self, prompt: str, stream: bool) -> Said: ...

    async def close(self) -> None: ...


class OpenAIClient:
    name = "openai"

    def __init__(self, url: str) -> None:
        self._sdk = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=TIMEOUT)

    async def ask(self, prompt: str, stream: bool) -> Said:
        create = self._sdk.chat.completions.with_raw_response.create
        if not stream:
            raw = await create(model=MODEL, messages=[{"role": "user", "content": prompt}])
            answer = raw.parse()
            return Said(answer.choices[0].message.content or "", raw.headers, self._tokens(answer.usage))
        streamed = await create(
            model=MODEL,
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},
        )
        text, usage = "", None
        async for chunk in streamed.parse():
            usage = chunk.usage or usage
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
        return Said(text, streamed.headers, self._tokens(usage))

    async def close(self) -> None:
        await self._sdk.close()

    def _tokens(self, usage: openai.types.CompletionUsage | None) -> Tokens:
        return Tokens() if usage is None else Tokens(usage.prompt_tokens, usage.completion_tokens)


class AnthropicClient:
    name = "anthropic"

    def __init__(self, url: str) -> None:
        self._sdk = anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0, timeout=TIMEOUT)

    async def ask(self, prompt: str, stream: bool) -> Said:
        create = self._sdk.messages.with_raw_response.create
        if not stream:
            raw = await create(model=MODEL, max_tokens=500, messages=[{"role": "user", "content": prompt}])
            answer = await raw.parse()
            text = "".join(block.text for block in answer.content if block.type == "text")
            return Said(text, raw.headers, Tokens(answer.usage.input_tokens, answer.usage.output_tokens))
        streamed = await create(
            model=MODEL, max_tokens=500, messages=[{"role": "user", "content": prompt}], stream=True
        )
        text, tokens, ended = "", Tokens(), False
        async for event in await streamed.parse():
            if event.type == "message_start":
                tokens = Tokens(event.message.usage.input_tokens, event.message.usage.output_tokens)
            elif event.type == "content_block_delta" and event.delta.type == "text_delta":
                text += event.delta.text
            elif event.type == "message_delta":
                seen = event.usage.input_tokens
                tokens = Tokens(tokens.input if seen is None else seen, event.usage.output_tokens)
            ended = ended or event.type == "message_stop"
        return Said(text if ended else f"{text} (without an end)", streamed.headers, tokens)

    async def close(self) -> None:
        await self._sdk.close()


async def ask(client: Client, prompt: str, stream: bool, speakers: Iterable[str]) -> Reply:
    begun = time.monotonic()
    try:
        said = await client.ask(prompt, stream)
    except (openai.OpenAIError, anthropic.AnthropicError) as error:
        passed = time.monotonic() - begun
        return Reply(client.name, stream, "", "", 0, Tokens(), passed, f"{type(error).__name__}: {error}")
    speaker = next((name for name in speakers if said.text == text_of(name)), "")
    return Reply(
        sdk=client.name,
        stream=stream,
        speaker=speaker,
        target=said.headers.get("x-headgate-target", ""),
        attempts=int(said.headers.get("x-headgate-attempts", 0)),
        tokens=said.tokens,
        seconds=time.monotonic() - begun,
        complaint=None if speaker else f"not the whole answer: {said.text!r}",
    )
