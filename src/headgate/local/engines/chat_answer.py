"""An answer of xllamacpp's, chunk by chunk, in OpenAI's shape: streamed as it comes, or folded into one."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

from headgate.core.errors import ContextLengthExceeded, HeadgateError, Internal, InvalidRequest, Overloaded
from headgate.local.engines.chat_request import ChatJob
from headgate.local.engines.tool_calls import may_become_call, parse_calls

_FIELD = re.compile(r"Field '(\w+)': ")
_JSON_PREFIX = re.compile(r"\[json\.exception\.[^\]]*\] ")
_PAYLOAD = re.compile(r"[{\[\"\n]|; messages = ")
"""Where llama.cpp's messages begin to quote the request."""


class Answer:
    """One answer with its choices; every chunk of it carries the same id."""

    def __init__(self, job: ChatJob, fingerprint: str) -> None:
        self.job = job
        self._envelope = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": job.model,
            "system_fingerprint": fingerprint,
        }
        self._choices: list[Choice] = []

    def choice(self) -> Choice:
        """Begin the next choice."""
        self._choices.append(Choice(len(self._choices), self.job))
        return self._choices[-1]

    def chunk(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        chunk = {**self._envelope, "object": "chat.completion.chunk", "choices": [choice]}
        return {**chunk, "usage": None} if self.job.include_usage else chunk

    def usage_chunk(self) -> dict[str, Any]:
        return {**self._envelope, "object": "chat.completion.chunk", "choices": [], "usage": self.usage}

    def complete(self) -> dict[str, Any]:
        choices = [choice.complete() for choice in self._choices]
        return {**self._envelope, "object": "chat.completion", "choices": choices, "usage": self.usage}

    @property
    def usage(self) -> dict[str, Any]:
        """The prompt counts once, what each choice wrote is added up."""
        reports = [choice.usage for choice in self._choices]
        prompt = reports[0].get("prompt_tokens", 0)
        written = sum(report.get("completion_tokens", 0) for report in reports)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": reports[0].get("prompt_tokens_details", {"cached_tokens": 0}),
        }


class Choice:
    """One choice of an answer. `feed()` gives the choice objects to stream; they are folded on the way."""

    def __init__(self, index: int, job: ChatJob) -> None:
        self.usage: Mapping[str, Any] = {}
        self._index = index
        self._job = job
        self._begun = False
        self._text = ""
        self._held: list[dict[str, Any]] | None = [] if job.tool_names else None
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._logprobs: list[Any] = []
        self._finish_reason: str | None = None

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Take one of the engine's chunks. Raises HeadgateError for an error of the engine."""
        if "error" in chunk:
            raise engine_error(chunk["error"])
        if "usage" in chunk:
            self.usage = chunk["usage"]
        if "prompt_progress" in chunk:
            return
        for given in chunk.get("choices", ()):
            if not self._begun:
                self._begun = True
                yield self._made({"role": "assistant", "content": ""})
            delta = {name: value for name, value in given["delta"].items() if name != "role" and value}
            if delta:
                yield from self._pass_or_hold(self._noted(self._made(delta, given.get("logprobs"))))
            if given.get("finish_reason"):
                yield from self._finish(given["finish_reason"])

    def complete(self) -> dict[str, Any]:
        """The choice of a plain answer."""
        content = "".join(self._content)
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
            message["content"] = content or None
        logprobs = None if self._job.top_logprobs is None else {"content": self._logprobs, "refusal": None}
        return {
            "index": self._index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": self._finish_reason,
        }

    def _made(self, delta: Mapping[str, Any], logprobs: Any = None) -> dict[str, Any]:
        made = {"index": self._index, "delta": delta, "logprobs": None, "finish_reason": None}
        top = self._job.top_logprobs
        if logprobs and top is not None:
            made["logprobs"] = {"content": [_entry(e, top) for e in logprobs["content"]], "refusal": None}
        return made

    def _noted(self, made: dict[str, Any]) -> dict[str, Any]:
        delta = made["delta"]
        self._content.append(delta.get("content", ""))
        if "reasoning_content" in delta:
            self._reasoning.append(delta["reasoning_content"])
        for call in delta.get("tool_calls", ()):
            self._note_call(call)
        if made["logprobs"]:
            self._logprobs += made["logprobs"]["content"]
        return made

    def _note_call(self, call: Mapping[str, Any]) -> None:
        known = self._calls.get(call["index"])
        if known is None:
            known = {"type": "function", **{k: v for k, v in call.items() if k != "index"}}
            known["function"] = {"name": "", "arguments": "", **call.get("function", {})}
            self._calls[call["index"]] = known
        else:
            known["function"]["arguments"] += call.get("function", {}).get("arguments", "")

    def _pass_or_hold(self, made: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Keep back what may turn out to be a tool call; the rest goes on."""
        if self._held is None or "content" not in made["delta"]:
            yield made
            return
        self._text += made["delta"]["content"]
        self._held.append(made)
        if not self._job.forced_call and not may_become_call(self._text):
            yield from self._held
            self._held = None

    def _finish(self, reason: str) -> Iterator[dict[str, Any]]:
        calls = parse_calls(self._text, self._job.tool_names) if self._held else None
        if calls:
            self._content, self._logprobs = [], []
            calls = calls[:1] if self._job.one_call else calls
            indexed = [{"index": index, **call} for index, call in enumerate(calls)]
            yield self._noted(self._made({"tool_calls": indexed}))
            reason = "tool_calls"
        else:
            yield from self._held or ()
        self._held = None
        self._finish_reason = reason
        yield {**self._made({}), "finish_reason": reason}


def _entry(entry: Mapping[str, Any], top: int) -> dict[str, Any]:
    """A log probability in OpenAI's shape: no token id, `top` alternatives."""
    plain = {name: entry[name] for name in ("token", "logprob", "bytes")}
    alternatives = entry.get("top_logprobs", [])[:top]
    return {**plain, "top_logprobs": [{n: a[n] for n in ("token", "logprob", "bytes")} for a in alternatives]}


def engine_error(error: Mapping[str, Any]) -> HeadgateError:
    """An error object of llama.cpp's as one of ours."""
    if error.get("type") == "exceed_context_size_error":
        return ContextLengthExceeded(
            f"the prompt has {error.get('n_prompt_tokens')} tokens and this model's context holds "
            f"{error.get('n_ctx')}: shorten the messages, or serve the model with a larger n_ctx",
            param="messages",
        )
    code = error.get("code")
    message = str(error.get("message", ""))
    if code == 400:
        return refused(message)
    if code in (429, 503):
        return Overloaded("the engine is busy: try again shortly", retry_after=1)
    return Internal(f"the engine failed: {_without_payload(message)}")


def refused(message: str) -> InvalidRequest:
    """llama.cpp did not take the request: its own words, less what they quote of it."""
    found = _FIELD.search(message)
    reason = _without_payload(_JSON_PREFIX.sub("", message))
    return InvalidRequest(f"the engine refused the request: {reason}", param=found and found.group(1))


def _without_payload(message: str) -> str:
    return _PAYLOAD.split(message, maxsplit=1)[0].strip(" :,;")[:200] or "no reason given"
