"""The hot routes: paths whose requests are relayed, each with its operation and dialect."""

from __future__ import annotations

from headgate.core.call import Operation
from headgate.dialects.openai_chat import OPENAI_CHAT
from headgate.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from headgate.server.gateway import Endpoint

CHAT = Endpoint("/v1/chat/completions", Operation.CHAT, OPENAI_CHAT)
EMBEDDINGS = Endpoint("/v1/embeddings", Operation.EMBED, OPENAI_EMBEDDINGS)

HOT_ENDPOINTS = (CHAT, EMBEDDINGS)
