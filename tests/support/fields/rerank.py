"""Rerank, as Jina, Cohere and TEI document it."""

from __future__ import annotations

from tests.support.fields.embeddings import OUR_MODEL, row
from tests.support.fields.row import Body, Caller

ASKED: Body = {"model": "m", "query": "q", "documents": ["a", "b"]}
TEI: Body = {"query": "q", "texts": ["a", "b"]}
FROM_THE_REQUEST = "documents in the answer are taken from the request"
CUT_HERE = "the best are taken from the upstream's answer"

CALLERS = (
    Caller(
        "jina_rerank",
        (
            row(ASKED, "model", "n", OUR_MODEL),
            row(ASKED, "query", "other"),
            row(ASKED, "documents", ["c"]),
            row(ASKED, "top_n", 1, CUT_HERE),
            row(ASKED, "return_documents", False, FROM_THE_REQUEST),
            row(ASKED, "max_chunk_per_doc", 3),
            row(ASKED, "truncate_prompt_tokens", 9),
        ),
    ),
    Caller(
        "cohere_rerank",
        (
            row(ASKED, "model", "n", OUR_MODEL),
            row(ASKED, "query", "other"),
            row(ASKED, "documents", ["c"]),
            row(ASKED, "top_n", 1, CUT_HERE),
            row(ASKED, "return_documents", True, FROM_THE_REQUEST),
            row(ASKED, "max_tokens_per_doc", 99),
            row(ASKED, "priority", 1),
        ),
    ),
    Caller(
        "tei_rerank",
        (
            row(TEI, "query", "other"),
            row(TEI, "texts", ["c"]),
            row(TEI, "raw_scores", True),
            row(TEI, "return_text", True, FROM_THE_REQUEST),
            row(TEI, "truncate", True),
            row(TEI, "truncation_direction", "Left"),
        ),
    ),
)
