"""Rows of the registry for scripted upstreams that speak one dialect and no other."""

from __future__ import annotations

from headgate.backends.remote import Endpoint, Preset, remote
from headgate.core.call import Operation

CONVERSE = remote(Preset("scripted-converse", {Operation.CHAT: (Endpoint("converse"),)}))
GEMINI = remote(
    Preset(
        "scripted-gemini",
        {Operation.CHAT: (Endpoint("gemini"),), Operation.COUNT_TOKENS: (Endpoint("gemini_count"),)},
        version="/v1beta",
        auth_header="x-goog-api-key",
        auth_scheme="",
    )
)
RESPONSES = remote(Preset("scripted-responses", {Operation.CHAT: (Endpoint("openai_responses"),)}))
