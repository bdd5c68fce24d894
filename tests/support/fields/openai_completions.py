"""Legacy Completions, as the openai SDK types it."""

from __future__ import annotations

from typing import Any

from openai.types import completion_create_params

from tests.support.fields.openai_chat import USES_USAGE
from tests.support.fields.row import Body, Caller, Row, keys

BASE: Body = {"model": "m", "prompt": "hi"}


def setting(name: str, value: Any, implied: str | None = None, **beside: Any) -> Row:
    return Row("request", name, {**BASE, **beside, name: value}, {**BASE, **beside}, implied)


ROWS = (
    setting("model", "n", "the target's own name for the model is sent"),
    setting("prompt", "hello"),
    setting("best_of", 2),
    setting("echo", True),
    setting("frequency_penalty", 0.5),
    setting("logit_bias", {"42": 5}),
    setting("logprobs", 2),
    setting("max_tokens", 9),
    setting("n", 2),
    setting("presence_penalty", 0.5),
    setting("seed", 7),
    setting("stop", "x"),
    setting("stream", True, "the route says it"),
    setting("stream_options", {"include_usage": True}, USES_USAGE, stream=True),
    setting("suffix", "end"),
    setting("temperature", 0.5),
    setting("top_k", 40),
    setting("top_p", 0.5),
    setting("user", "u"),
)

CALLER = Caller(
    "openai_completions",
    ROWS,
    sdk={"request": keys(completion_create_params.CompletionCreateParamsBase) | {"stream"}},
)
