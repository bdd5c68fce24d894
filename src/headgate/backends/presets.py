"""Vendors that differ by configuration only: one row of data each.

Addresses, names of keys and routes are those of the vendors' API references. Local servers have the address
that they listen on when nobody says otherwise. Where a vendor speaks several dialects for one operation, the
first is what others are translated into.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headgate.backends.remote import Endpoint, Preset, remote
from headgate.core.call import Operation
from headgate.dialects.openai_chat import profile as profiles
from headgate.dialects.openai_chat.profile import Profile


def chat(profile: Profile, *, path: str | None = None) -> Endpoint:
    """OpenAI's chat dialect with a vendor's quirks."""
    return Endpoint("openai_chat", path, {"profile": profile}, usage_when_asked=profile.stream_options)


def completions(profile: Profile) -> Endpoint:
    return Endpoint(
        "openai_completions", encoding={"profile": profile}, usage_when_asked=profile.stream_options
    )


def embeddings(path: str | None = None, **encoding: Any) -> Endpoint:
    return Endpoint("openai_embeddings", path, encoding)


RESPONSES = Endpoint(
    "openai_responses", anywhere=False, keeps=frozenset({"store", "background", "conversation"})
)
_RERANK = Endpoint("jina_rerank")
_SERVER = {
    Operation.CHAT: (chat(profiles.COMPATIBLE), completions(profiles.COMPATIBLE)),
    Operation.EMBED: (embeddings(),),
}

OPENAI = remote(
    Preset(
        "openai",
        {
            Operation.CHAT: (chat(profiles.OPENAI), completions(profiles.OPENAI), RESPONSES),
            Operation.EMBED: (embeddings(),),
        },
        base_url="https://api.openai.com/v1",
        key_env="OPENAI_API_KEY",
    )
)
OPENAI_COMPATIBLE = remote(
    Preset(
        "openai-compatible",
        {
            **_SERVER,
            Operation.CHAT: (*_SERVER[Operation.CHAT], RESPONSES),
            Operation.RERANK: (_RERANK,),
        },
    )
)
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
            Operation.CHAT: (
                Endpoint("gemini"),
                replace(chat(profiles.GOOGLE, path="/openai/chat/completions"), anywhere=False),
            ),
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
MISTRAL = remote(
    Preset(
        "mistral",
        {
            Operation.CHAT: (chat(profiles.MISTRAL),),
            Operation.EMBED: (
                embeddings(encoding_format=None, dimensions_field="output_dimension", takes_user=False),
            ),
        },
        base_url="https://api.mistral.ai/v1",
        key_env="MISTRAL_API_KEY",
    )
)
GROQ = remote(
    Preset(
        "groq",
        {Operation.CHAT: (chat(profiles.GROQ),)},
        base_url="https://api.groq.com/openai/v1",
        key_env="GROQ_API_KEY",
    )
)
DEEPSEEK = remote(
    Preset(
        "deepseek",
        {Operation.CHAT: (chat(profiles.DEEPSEEK),)},
        base_url="https://api.deepseek.com/v1",
        key_env="DEEPSEEK_API_KEY",
    )
)
XAI = remote(
    Preset(
        "xai",
        # It keeps answers, but works on none in the background.
        {Operation.CHAT: (chat(profiles.XAI), replace(RESPONSES, keeps=frozenset({"store"})))},
        base_url="https://api.x.ai/v1",
        key_env="XAI_API_KEY",
    )
)
OPENROUTER = remote(
    Preset(
        "openrouter",
        {
            Operation.CHAT: (chat(profiles.OPENROUTER), completions(profiles.OPENROUTER)),
            Operation.EMBED: (embeddings(),),
        },
        base_url="https://openrouter.ai/api/v1",
        key_env="OPENROUTER_API_KEY",
    )
)
TOGETHER = remote(
    Preset(
        "together",
        {**_SERVER, Operation.RERANK: (_RERANK,)},
        base_url="https://api.together.xyz/v1",
        key_env="TOGETHER_API_KEY",
    )
)
FIREWORKS = remote(
    Preset(
        "fireworks",
        _SERVER,
        base_url="https://api.fireworks.ai/inference/v1",
        key_env="FIREWORKS_API_KEY",
    )
)
COHERE = remote(
    Preset(
        "cohere",
        {
            Operation.CHAT: (chat(profiles.COHERE, path="/compatibility/v1/chat/completions"),),
            Operation.EMBED: (
                Endpoint("cohere_embed"),
                embeddings("/compatibility/v1/embeddings", encoding_format="float", takes_user=False),
            ),
            Operation.RERANK: (Endpoint("cohere_rerank"),),
        },
        base_url="https://api.cohere.com",
        key_env="CO_API_KEY",
    )
)
NVIDIA_NIM = remote(
    Preset(
        "nvidia-nim",
        _SERVER,
        base_url="https://integrate.api.nvidia.com/v1",
        key_env="NVIDIA_API_KEY",
    )
)
JINA = remote(
    Preset(
        "jina",
        {
            Operation.EMBED: (embeddings(encoding_format=None, takes_user=False),),
            Operation.RERANK: (_RERANK,),
        },
        base_url="https://api.jina.ai/v1",
        key_env="JINA_API_KEY",
    )
)
OLLAMA = remote(Preset("ollama", _SERVER, base_url="http://127.0.0.1:11434/v1"))
VLLM = remote(Preset("vllm", {**_SERVER, Operation.RERANK: (_RERANK,)}, base_url="http://127.0.0.1:8000/v1"))
LLAMA_CPP = remote(
    Preset("llama-cpp", {**_SERVER, Operation.RERANK: (_RERANK,)}, base_url="http://127.0.0.1:8080/v1")
)
LM_STUDIO = remote(Preset("lm-studio", _SERVER, base_url="http://127.0.0.1:1234/v1"))
TEI = remote(
    Preset(
        "tei",
        {
            Operation.EMBED: (Endpoint("tei_embed"), embeddings("/v1/embeddings")),
            Operation.RERANK: (Endpoint("tei_rerank"),),
        },
        base_url="http://127.0.0.1:3000",
    )
)
