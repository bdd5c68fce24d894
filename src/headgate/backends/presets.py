"""Vendors that differ by configuration only: one row of data each."""

from __future__ import annotations

from headgate.backends.remote import Endpoint, Preset, remote
from headgate.core.call import Operation

_OPENAI_ENDPOINTS = {
    Operation.CHAT: (Endpoint("openai_chat"),),
    Operation.EMBED: (Endpoint("openai_embeddings"),),
}

OPENAI = remote(
    Preset("openai", _OPENAI_ENDPOINTS, base_url="https://api.openai.com/v1", key_env="OPENAI_API_KEY")
)
OPENAI_COMPATIBLE = remote(Preset("openai-compatible", _OPENAI_ENDPOINTS))
ANTHROPIC = remote(
    Preset(
        "anthropic",
        {
            Operation.CHAT: (Endpoint("anthropic"),),
            Operation.COUNT_TOKENS: (Endpoint("anthropic_count"),),
        },
        base_url="https://api.anthropic.com",
        version="/v1",
        key_env="ANTHROPIC_API_KEY",
        auth_header="x-api-key",
        auth_scheme="",
    )
)
GEMINI = remote(
    Preset(
        "gemini",
        {
            Operation.CHAT: (Endpoint("gemini"),),
            Operation.COUNT_TOKENS: (Endpoint("gemini_count"),),
            Operation.EMBED: (Endpoint("gemini_embed_batch"), Endpoint("gemini_embed")),
        },
        base_url="https://generativelanguage.googleapis.com",
        version="/v1beta",
        key_env="GEMINI_API_KEY",
        auth_header="x-goog-api-key",
        auth_scheme="",
    )
)
