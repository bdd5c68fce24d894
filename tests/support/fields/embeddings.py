"""Embeddings, as the openai and google-genai SDKs type them, and as Cohere and TEI document them."""

from __future__ import annotations

from typing import Any

from google.genai import types
from openai.types import embedding_create_params

from tests.support.fields.row import Body, Caller, Row, camel, keys

CONTENT = {"parts": [{"text": "hi"}]}
OPENAI: Body = {"model": "m", "input": ["hi"]}
COHERE: Body = {"model": "m", "texts": ["hi"]}
TEI: Body = {"inputs": ["hi"]}
GEMINI: Body = {"content": CONTENT}
GEMINI_BATCH: Body = {"requests": [{"model": "models/m", "content": CONTENT}]}

IN_OUR_FORM = "every caller gets the vectors in the form that it wants"
OUR_MODEL = "the target's own name for the model is sent"


def row(base: Body, name: str, value: Any, implied: str | None = None) -> Row:
    return Row("request", name, base | {name: value}, base, implied)


def batched(name: str, value: Any) -> Row:
    request = GEMINI_BATCH["requests"][0]
    return Row("request", f"requests[].{name}", {"requests": [request | {name: value}]}, GEMINI_BATCH)


_GEMINI_ONLY: dict[str, Any] = {
    "taskType": "RETRIEVAL_QUERY",
    "title": "t",
    "autoTruncate": True,
    "mimeType": "text/plain",
    "documentOcr": True,
    "audioTrackExtraction": True,
}

CALLERS = (
    Caller(
        "openai_embeddings",
        (
            row(OPENAI, "model", "n", OUR_MODEL),
            row(OPENAI, "input", "hello"),
            row(OPENAI, "dimensions", 8),
            row(OPENAI, "encoding_format", "float", IN_OUR_FORM),
            row(OPENAI, "user", "u"),
            Row("request", "input of token ids", OPENAI | {"input": [[1, 2]]}, OPENAI),
        ),
        sdk={"request": keys(embedding_create_params.EmbeddingCreateParams)},
    ),
    Caller(
        "gemini_embed",
        (
            row(GEMINI, "content", {"parts": [{"text": "hello"}]}),
            row(GEMINI, "outputDimensionality", 8),
            *(row(GEMINI, name, value) for name, value in _GEMINI_ONLY.items()),
        ),
        sdk={"request": camel(keys(types.EmbedContentConfigDict))},
        unasked=frozenset({"httpOptions"}),
    ),
    Caller(
        "gemini_embed_batch",
        (
            batched("content", {"parts": [{"text": "hello"}]}),
            batched("outputDimensionality", 8),
            batched("taskType", "RETRIEVAL_QUERY"),
            batched("title", "t"),
        ),
    ),
    Caller(
        "cohere_embed",
        (
            row(COHERE, "model", "n", OUR_MODEL),
            row(COHERE, "texts", ["hello"]),
            Row(
                "request",
                "inputs",
                {"model": "m", "inputs": [{"content": [{"type": "text", "text": "hello"}]}]},
                COHERE,
            ),
            row(COHERE, "input_type", "search_query"),
            row(COHERE, "embedding_types", ["float"], IN_OUR_FORM),
            row(COHERE, "output_dimension", 8),
            row(COHERE, "truncate", "END"),
            row(COHERE, "max_tokens", 9),
            row(COHERE, "priority", 1),
        ),
    ),
    Caller(
        "tei_embed",
        (
            row(TEI, "inputs", "hello"),
            row(TEI, "dimensions", 8),
            row(TEI, "normalize", False),
            row(TEI, "truncate", True),
            row(TEI, "truncation_direction", "Left"),
            row(TEI, "prompt_name", "query"),
            Row("request", "inputs of token ids", {"inputs": [[1, 2]]}, TEI),
        ),
    ),
)
