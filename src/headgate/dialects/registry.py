"""Dialects by name, imported when first used: a server speaks few of them, and each takes its time."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import cast

from headgate.dialects.dialect import Dialect

DIALECTS: Mapping[str, str] = {
    "openai_chat": "headgate.dialects.openai_chat:OPENAI_CHAT",
    "anthropic": "headgate.dialects.anthropic:ANTHROPIC",
    "anthropic_count": "headgate.dialects.anthropic:ANTHROPIC_COUNT",
    "gemini": "headgate.dialects.gemini:GEMINI",
    "gemini_count": "headgate.dialects.gemini:GEMINI_COUNT",
    "gemini_embed": "headgate.dialects.gemini:GEMINI_EMBED",
    "gemini_embed_batch": "headgate.dialects.gemini:GEMINI_EMBED_BATCH",
    "converse": "headgate.dialects.bedrock:CONVERSE",
    "invoke_anthropic": "headgate.dialects.bedrock.invoke_anthropic:INVOKE_ANTHROPIC",
    "invoke_nova": "headgate.dialects.bedrock.invoke_nova:INVOKE_NOVA",
    "invoke_titan": "headgate.dialects.bedrock.invoke_prompts:INVOKE_TITAN",
    "invoke_llama": "headgate.dialects.bedrock.invoke_prompts:INVOKE_LLAMA",
    "invoke_mistral": "headgate.dialects.bedrock.invoke_prompts:INVOKE_MISTRAL",
    "invoke_chat": "headgate.dialects.bedrock.invoke_chat:INVOKE_CHAT",
    "invoke_cohere": "headgate.dialects.bedrock.invoke_cohere:INVOKE_COHERE",
    "invoke_titan_embed": "headgate.dialects.bedrock.invoke_embeddings:INVOKE_TITAN_EMBED",
    "invoke_cohere_embed": "headgate.dialects.bedrock.invoke_embeddings:INVOKE_COHERE_EMBED",
    "openai_completions": "headgate.dialects.openai_completions:OPENAI_COMPLETIONS",
    "openai_responses": "headgate.dialects.openai_responses:OPENAI_RESPONSES",
    "openai_embeddings": "headgate.dialects.openai_embeddings:OPENAI_EMBEDDINGS",
    "cohere_embed": "headgate.dialects.cohere:COHERE_EMBED",
    "cohere_rerank": "headgate.dialects.cohere:COHERE_RERANK",
    "jina_rerank": "headgate.dialects.jina:JINA_RERANK",
    "tei_embed": "headgate.dialects.tei:TEI_EMBED",
    "tei_rerank": "headgate.dialects.tei:TEI_RERANK",
}


@cache
def dialect(name: str) -> Dialect:
    """Raises KeyError for an unknown name."""
    module, _, attribute = DIALECTS[name].partition(":")
    return cast("Dialect", getattr(importlib.import_module(module), attribute))
