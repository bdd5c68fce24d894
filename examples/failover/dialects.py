"""What the three mock upstreams say, in their vendors' own dialects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

_TEXT = (
    "This is {name}. A gate stands at the head of the river. Who comes to it is let through by one arm of the"
    " water or by another, and does not ask which one is dry today. This was {name}."
)


def text_of(name: str) -> str:
    """What the upstream of this name answers, always: nobody else says it, and nobody says a part of it."""
    return _TEXT.format(name=name)


@dataclass(frozen=True)
class Tokens:
    """As an upstream tells them of one answer."""

    input: int = 0
    output: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.input + other.input, self.output + other.output)


@dataclass(frozen=True)
class Event:
    """One event of a stream, and the tokens that the client knows of when it has read it."""

    data: bytes
    told: Tokens


class Dialect(Protocol):
    name: str

    def streams(self, path: str, body: dict[str, Any]) -> bool: ...

    def whole(self, tokens: Tokens) -> bytes:
        """A plain answer."""
        ...

    def events(self, tokens: Tokens) -> Iterator[Event]:
        """A streamed answer, one word an event."""
        ...

    def limited(self) -> bytes:
        """The body of a 429."""
        ...


def _sse(content: Any, name: str | None = None) -> bytes:
    kind = f"event: {name}\n" if name is not None else ""
    return f"{kind}data: {content if isinstance(content, str) else json.dumps(content)}\n\n".encode()


def _words(name: str) -> list[str]:
    return [word if number == 0 else f" {word}" for number, word in enumerate(text_of(name).split(" "))]


class OpenAI:
    """Chat Completions. Tells the tokens of a stream in its last chunk only."""

    name = "openai"

    def streams(self, path: str, body: dict[str, Any]) -> bool:
        return bool(body.get("stream"))

    def whole(self, tokens: Tokens) -> bytes:
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": text_of(self.name)},
        }
        return json.dumps(self._top("chat.completion", [choice], tokens)).encode()

    def events(self, tokens: Tokens) -> Iterator[Event]:
        for number, piece in enumerate(_words(self.name)):
            delta = {"content": piece} | ({"role": "assistant"} if number == 0 else {})
            yield Event(self._chunk([{"index": 0, "delta": delta, "finish_reason": None}]), Tokens())
        yield Event(self._chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]), Tokens())
        yield Event(self._chunk([], tokens) + _sse("[DONE]"), tokens)

    def limited(self) -> bytes:
        error = {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}
        return json.dumps({"error": error}).encode()

    def _chunk(self, choices: list[Any], tokens: Tokens | None = None) -> bytes:
        return _sse(self._top("chat.completion.chunk", choices, tokens))

    def _top(self, kind: str, choices: list[Any], tokens: Tokens | None) -> dict[str, Any]:
        usage = tokens and {
            "prompt_tokens": tokens.input,
            "completion_tokens": tokens.output,
            "total_tokens": tokens.input + tokens.output,
        }
        top = {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "gpt-5", "choices": choices}
        return {**top, "usage": usage}


class Anthropic:
    """Messages. Tells the prompt's tokens in its first event, the answer's near the end (before: a guess)."""

    name = "anthropic"

    def streams(self, path: str, body: dict[str, Any]) -> bool:
        return bool(body.get("stream"))

    def whole(self, tokens: Tokens) -> bytes:
        return json.dumps(
            self._message([{"type": "text", "text": text_of(self.name)}], "end_turn", tokens)
        ).encode()

    def events(self, tokens: Tokens) -> Iterator[Event]:
        begun = Tokens(tokens.input)
        message = self._message([], None, Tokens(tokens.input, 1))
        yield Event(self._event("message_start", message=message), begun)
        block = {"type": "text", "text": ""}
        yield Event(self._event("content_block_start", index=0, content_block=block), begun)
        for piece in _words(self.name):
            delta: dict[str, Any] = {"type": "text_delta", "text": piece}
            yield Event(self._event("content_block_delta", index=0, delta=delta), begun)
        yield Event(self._event("content_block_stop", index=0), begun)
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        usage = {"output_tokens": tokens.output}
        last = self._event("message_delta", delta=delta, usage=usage) + self._event("message_stop")
        yield Event(last, tokens)

    def limited(self) -> bytes:
        error = {"type": "rate_limit_error", "message": "This would exceed your rate limit"}
        return json.dumps({"type": "error", "error": error}).encode()

    def _event(self, name: str, **fields: Any) -> bytes:
        return _sse({"type": name, **fields}, name)

    def _message(self, content: list[Any], stop: str | None, tokens: Tokens) -> dict[str, Any]:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-opus-4-5",
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {"input_tokens": tokens.input, "output_tokens": tokens.output},
        }


class Gemini:
    """generateContent. Tells the tokens so far in every chunk."""

    name = "gemini"

    def streams(self, path: str, body: dict[str, Any]) -> bool:
        return ":streamGenerateContent" in path

    def whole(self, tokens: Tokens) -> bytes:
        return json.dumps(self._answer(text_of(self.name), tokens, "STOP")).encode()

    def events(self, tokens: Tokens) -> Iterator[Event]:
        pieces = _words(self.name)
        for number, piece in enumerate(pieces, 1):
            last = number == len(pieces)
            told = tokens if last else Tokens(tokens.input, min(number, tokens.output))
            yield Event(_sse(self._answer(piece, told, "STOP" if last else None)), told)

    def limited(self) -> bytes:
        error = {"code": 429, "message": "Resource has been exhausted", "status": "RESOURCE_EXHAUSTED"}
        return json.dumps({"error": error}).encode()

    def _answer(self, text: str, tokens: Tokens, finish: str | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}
        if finish is not None:
            candidate["finishReason"] = finish
        usage = {
            "promptTokenCount": tokens.input,
            "candidatesTokenCount": tokens.output,
            "totalTokenCount": tokens.input + tokens.output,
        }
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-3-pro"}
