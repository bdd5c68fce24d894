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
