"""Embeddings and rankings, as OpenAI, Google, Cohere, Jina and TEI document them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headgate.core.operations import EmbedRequest, RerankRequest
from tests.support.answers.row import HERS, Body, Sample

EMBED = EmbedRequest(model="m", inputs=("hi",))
RERANK = RerankRequest(model="m", query="q", documents=("a", "b"))
MADE = "every caller gets an id that is made for it, where its dialect has one"
ECHOED = "texts in the answer are taken from the request"
SAID = "the route says it"
UNCOUNTED = "where the dialect counts no tokens, none are asked for"


@dataclass(frozen=True, slots=True)
class Small:
    """A dialect as upstreams answer in it."""

    dialect: str
    samples: Mapping[str, Sample]


def fields(base: Any, told: Mapping[str, Any], implied: Mapping[str, str]) -> dict[str, Sample]:
    return {name: Sample({**base, name: value}, base, implied.get(name)) for name, value in told.items()}


def nested(base: Body, name: str, told: Mapping[str, Any], implied: Mapping[str, str]) -> dict[str, Sample]:
    inner = base.get(name, {})
    return {
        f"{name}.{key}": Sample({**base, name: {**inner, key: value}}, base, implied.get(key))
        for key, value in told.items()
    }


VECTOR = [0.5, 0.25]
OPENAI: Body = {
    "object": "list",
    "model": "m",
    "data": [{"object": "embedding", "index": 0, "embedding": VECTOR}],
    "usage": {"prompt_tokens": 2, "total_tokens": 2},
}
GEMINI: Body = {"embeddings": [{"values": VECTOR}]}
COHERE: Body = {"id": "e1", "embeddings": {"float": [VECTOR]}}
RANKED: Body = {"id": "r1", "results": [{"index": 1, "relevance_score": 0.5}]}
_TEI: Any = [VECTOR]
_OTHER: Any = [[1.0, 1.0]]
_SCORED: Any = [{"index": 1, "score": 0.5}]
_RESCORED: Any = [{"index": 0, "score": 0.5}]
_META = {
    "api_version": {"version": "2"},
    "tokens": {"input_tokens": 7},
    "billed_units": {"search_units": 1},
    "warnings": ["deprecated"],
}
_OF_META = {"api_version": SAID, "tokens": UNCOUNTED}


EMBEDDINGS: Sequence[Small] = (
    Small(
        "openai_embeddings",
        {
            "data": Sample(
                OPENAI, {**OPENAI, "data": [{"object": "embedding", "index": 0, "embedding": [1.0, 1.0]}]}
            ),
            "usage": Sample(OPENAI, {**OPENAI, "usage": {"prompt_tokens": 9, "total_tokens": 9}}, UNCOUNTED),
            **fields(OPENAI, {"model": "n", "id": "e1", "created": 5}, {**HERS, "id": MADE}),
            **fields(OPENAI, {"metadata": {"a": "b"}}, {}),
        },
    ),
    Small(
        "gemini_embed_batch",
        {
            "embeddings": Sample(GEMINI, {"embeddings": [{"values": [1.0, 1.0]}]}),
            "embeddings[].statistics": Sample(
                {"embeddings": [{"values": VECTOR, "statistics": {"truncated": True, "tokenCount": 2}}]},
                GEMINI,
            ),
            **nested(
                GEMINI | {"usageMetadata": {"promptTokenCount": 2}},
                "usageMetadata",
                {
                    "promptTokenCount": 9,
                    "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 2}],
                },
                {"promptTokenCount": UNCOUNTED},
            ),
        },
    ),
    Small(
        "cohere_embed",
        {
            "embeddings": Sample(COHERE, {**COHERE, "embeddings": {"float": [[1.0, 1.0]]}}),
            **fields(
                COHERE,
                {"id": "e2", "texts": ["hi"], "response_type": "embeddings_by_type"},
                {"id": MADE, "texts": ECHOED, "response_type": SAID},
            ),
            **nested(COHERE, "meta", _META, _OF_META),
        },
    ),
    Small("tei_embed", {"vectors": Sample(_TEI, _OTHER)}),
)
RANKINGS: Sequence[Small] = (
    Small(
        "jina_rerank",
        {
            "results": Sample(RANKED, {**RANKED, "results": [{"index": 0, "relevance_score": 0.5}]}),
            "results[].document": Sample(
                {**RANKED, "results": [{**RANKED["results"][0], "document": {"text": "b"}}]}, RANKED, ECHOED
            ),
            **fields(
                RANKED,
                {"id": "r2", "model": "n", "object": "list", "usage": {"total_tokens": 9}, "detail": "x"},
                {**HERS, "id": MADE, "object": SAID, "usage": UNCOUNTED},
            ),
        },
    ),
    Small(
        "cohere_rerank",
        {
            "results": Sample(RANKED, {**RANKED, "results": [{"index": 0, "relevance_score": 0.5}]}),
            **fields(RANKED, {"id": "r2"}, {"id": MADE}),
            **nested(RANKED, "meta", _META, _OF_META),
        },
    ),
    Small("tei_rerank", {"results": Sample(_SCORED, _RESCORED)}),
)
