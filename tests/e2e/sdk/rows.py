"""A row of the registry for an upstream that speaks the Responses API and nothing else: no vendor's does."""

from __future__ import annotations

from headgate.backends.remote import Endpoint, Preset, remote
from headgate.core.call import Operation

RESPONSES = remote(Preset("scripted-responses", {Operation.CHAT: (Endpoint("openai_responses"),)}))
