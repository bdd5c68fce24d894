"""What the hot routes take and give, for the API page: schemas and examples, written by hand.

The routes read their own bytes; FastAPI sees neither request nor answer, and costs them nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from headgate.server.endpoints import Endpoint

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Description:
    summary: str
    text: str
    tag: str
    operation_id: str
    request_body: Schema
    responses: dict[int | str, Schema]


ERROR_SCHEMA: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def _error(message: str, code: str, kind: str = "invalid_request_error", param: str | None = None) -> Schema:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


_NOT_FOUND = _error(
    "The model 'smolm2' does not exist; did you mean 'smollm2'?", "model_not_found", param="model"
)


def _failure(description: str, example: Schema) -> Schema:
    return {
        "description": description,
        "content": {"application/json": {"schema": ERROR_SCHEMA, "example": example}},
    }


FAILURES: dict[int | str, Schema] = {
    400: _failure(
        "The request is wrong; `param` names the field.",
        _error("temperature must be a number", "invalid_request", param="temperature"),
    ),
    401: _failure("No key, or a wrong one.", _error("Incorrect API key provided", "invalid_api_key")),
    404: _failure("No such model.", _NOT_FOUND),
    413: _failure(
        "The body is over the limit.", _error("The request body is over the limit", "payload_too_large")
    ),
    415: _failure(
        "Not JSON.", _error("Content-Type 'text/xml' is not supported here", "unsupported_media_type")
    ),
    429: _failure(
        "Too many requests; see Retry-After.",
        _error("Rate limited", "rate_limit_exceeded", "rate_limit_error"),
    ),
    503: _failure(
        "The model can't answer now; see Retry-After.", _error("restarting", "unavailable", "server_error")
    ),
}

_CHAT_REQUEST: Schema = {
    "type": "object",
    "required": ["model", "messages"],
    "additionalProperties": True,
    "properties": {
        "model": {"type": "string", "description": "A name from GET /v1/models."},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role"],
                "properties": {
                    "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
                    "content": {
                        "description": "Text, or a list of content parts.",
                        "anyOf": [
                            {"type": "string"},
                            {"type": "array", "items": {"type": "object"}},
                            {"type": "null"},
                        ],
                    },
                    "name": {"type": "string"},
                    "tool_calls": {"type": "array", "items": {"type": "object"}},
                    "tool_call_id": {"type": "string"},
                },
            },
        },
        "stream": {"type": "boolean", "default": False},
        "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
        "max_completion_tokens": {"type": "integer", "minimum": 1},
        "max_tokens": {"type": "integer", "minimum": 1, "description": "The older name of the same limit."},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "minimum": 0, "maximum": 1},
        "n": {"type": "integer", "minimum": 1},
        "seed": {"type": "integer"},
        "stop": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 4}]
        },
        "presence_penalty": {"type": "number"},
        "frequency_penalty": {"type": "number"},
        "logprobs": {"type": "boolean"},
        "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
        "response_format": {"type": "object"},
        "tools": {"type": "array", "items": {"type": "object"}},
        "tool_choice": {"anyOf": [{"type": "string"}, {"type": "object"}]},
        "user": {"type": "string"},
    },
}

_USAGE = {"prompt_tokens": 23, "completion_tokens": 8, "total_tokens": 31}

CHAT = Description(
    summary="Chat completion",
    text=(
        "OpenAI Chat Completions. Where the model's target speaks this dialect too, the request passes"
        " through as it is but for the model's name; otherwise every field is honoured, reported as lost or"
        " refused. With `stream: true` the answer is a stream of server-sent events that ends in"
        " `data: [DONE]`; a stream that breaks ends in an error event instead."
    ),
    tag="Chat",
    operation_id="create_chat_completion",
    request_body={
        "required": True,
        "content": {
            "application/json": {
                "schema": _CHAT_REQUEST,
                "examples": {
                    "plain": {
                        "summary": "One answer",
                        "value": {
                            "model": "smollm2",
                            "messages": [{"role": "user", "content": "Say hello."}],
                        },
                    },
                    "stream": {
                        "summary": "A stream, with usage at its end",
                        "value": {
                            "model": "smollm2",
                            "stream": True,
                            "stream_options": {"include_usage": True},
                            "messages": [
                                {"role": "system", "content": "Answer in one sentence."},
                                {"role": "user", "content": "What is a gateway?"},
                            ],
                        },
                    },
                },
            }
        },
    },
    responses={
        200: {
            "description": "The answer, or its stream.",
            "content": {
                "application/json": {
                    "example": {
                        "id": "chatcmpl-1",
                        "object": "chat.completion",
                        "created": 1763600000,
                        "model": "smollm2",
                        "choices": [
                            {
                                "index": 0,
                                "message": {"role": "assistant", "content": "Hello!"},
                                "finish_reason": "stop",
                            }
                        ],
                        "usage": _USAGE,
                    }
                },
                "text/event-stream": {
                    "example": (
                        'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":'
                        '[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}]}\n\ndata: [DONE]\n\n'
                    )
                },
            },
        },
        **FAILURES,
    },
)

EMBEDDINGS = Description(
    summary="Embeddings",
    text="OpenAI embeddings: one vector for each input, in order, as numbers or as base64 of float32.",
    tag="Embeddings",
    operation_id="create_embeddings",
    request_body={
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model", "input"],
                    "properties": {
                        "model": {"type": "string"},
                        "input": {
                            "description": "A text, texts, token ids, or lists of token ids.",
                            "anyOf": [
                                {"type": "string"},
                                {"type": "array", "items": {"type": "string"}},
                                {"type": "array", "items": {"type": "integer"}},
                                {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
                            ],
                        },
                        "encoding_format": {"enum": ["float", "base64"], "default": "float"},
                        "dimensions": {"type": "integer", "minimum": 1},
                        "user": {"type": "string"},
                    },
                },
                "example": {"model": "minilm", "input": ["a red wine", "a white wine"]},
            }
        },
    },
    responses={
        200: {
            "description": "The vectors.",
            "content": {
                "application/json": {
                    "example": {
                        "object": "list",
                        "data": [{"object": "embedding", "index": 0, "embedding": [0.012, -0.034]}],
                        "model": "minilm",
                        "usage": {"prompt_tokens": 5, "total_tokens": 5},
                    }
                }
            },
        },
        **FAILURES,
    },
)


_OBJECT: Schema = {"type": "object"}


def _described(
    summary: str,
    tag: str,
    operation_id: str,
    request: Schema,
    answer: object,
    *,
    text: str = "",
    stream: tuple[str, str] | None = None,
) -> Description:
    """A route of another vendor's dialect: its own documentation has the fields, here stand examples."""
    content: Schema = {"application/json": {"example": answer}}
    if stream is not None:
        content = {stream[0]: {"example": stream[1]}}
    return Description(
        summary,
        text or "The vendor's own form; any model answers, whatever its upstream speaks.",
        tag,
        operation_id,
        {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}, "example": request}},
        },
        {200: {"description": "The answer.", "content": content}},
    )


_MESSAGES = {
    "model": "smollm2",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Say hello."}],
}
_CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}
_CONVERSE = {"messages": [{"role": "user", "content": [{"text": "Say hello."}]}]}
_GEMINI_ANSWER = {
    "candidates": [
        {"content": {"role": "model", "parts": [{"text": "Hello!"}]}, "finishReason": "STOP", "index": 0}
    ],
    "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6},
}
_FRAMES = (
    "application/vnd.amazon.eventstream",
    "binary frames; server-sent events where Accept asks for them",
)
_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "smollm2",
    "content": [{"type": "text", "text": "Hello!"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 4, "output_tokens": 2},
}

_RERANK = {"model": "ranker", "query": "wine", "documents": ["a red wine", "a car"], "top_n": 1}
_RANKED = {"model": "ranker", "results": [{"index": 0, "relevance_score": 0.98}]}
_RERANK_TEXT = "As Jina and vLLM have it: the documents by their relevance to the query, best first."

_FORMS = (
    "Bodies of Anthropic, Amazon Nova and Titan, Meta Llama, Mistral and Cohere, known by the model's id or"
    " by the fields that they have; any model answers, whatever its upstream speaks."
)
_BY_PATH: Mapping[str, Description] = {
    "/v1/chat/completions": CHAT,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/responses": _described(
        "Response",
        "Responses",
        "create_response",
        {"model": "smollm2", "input": "Say hello.", "stream": False},
        {"id": "resp_0123", "object": "response", "status": "completed", "model": "smollm2", "output": []},
        text=(
            "OpenAI's Responses API over any model: kept unless `store` is false, continued with"
            " `previous_response_id`, made without its caller with `background`. Where the model's upstream"
            " keeps its answers itself, requests, answers and ids pass through as they are."
        ),
    ),
    "/v1/completions": _described(
        "Text completion (legacy)",
        "Chat",
        "create_completion",
        {"model": "smollm2", "prompt": "Once upon a time", "max_tokens": 20},
        {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1763600000,
            "model": "smollm2",
            "choices": [{"index": 0, "text": " there was", "finish_reason": "length", "logprobs": None}],
            "usage": _USAGE,
        },
        text="OpenAI's older form. Models that only chat answer the prompt as one user message.",
    ),
    "/v2/embed": _described(
        "Cohere embeddings",
        "Embeddings",
        "cohere_embed",
        {"model": "minilm", "texts": ["a red wine"], "input_type": "search_document"},
        {"id": "e1", "embeddings": {"float": [[0.01, -0.03]]}, "texts": ["a red wine"]},
    ),
    "/embed": _described(
        "Embeddings as Text Embeddings Inference has them",
        "Embeddings",
        "tei_embed",
        {"inputs": ["a red wine"]},
        [[0.01, -0.03]],
    ),
    "/v1/rerank": _described("Rerank", "Rerank", "rerank", _RERANK, _RANKED, text=_RERANK_TEXT),
    "/rerank": _described("Rerank", "Rerank", "rerank_short", _RERANK, _RANKED, text=_RERANK_TEXT),
    "/v2/rerank": _described("Cohere rerank", "Rerank", "cohere_rerank", _RERANK, _RANKED),
    "tei:/rerank": _described(
        "Rerank as Text Embeddings Inference has it",
        "Rerank",
        "tei_rerank",
        {"query": "wine", "texts": ["a red wine", "a car"]},
        [{"index": 0, "score": 0.98}, {"index": 1, "score": 0.02}],
    ),
    "/v1/messages": _described("Anthropic message", "Anthropic", "create_message", _MESSAGES, _MESSAGE),
    "/v1/messages/count_tokens": _described(
        "Count a prompt's tokens",
        "Anthropic",
        "count_message_tokens",
        {key: _MESSAGES[key] for key in ("model", "messages")},
        {"input_tokens": 4},
        text="Counted by the upstream where it can; otherwise estimated, and `x-headgate-loss` says so.",
    ),
    ":generateContent": _described("Gemini content", "Gemini", "generate_content", _CONTENTS, _GEMINI_ANSWER),
    ":streamGenerateContent": _described(
        "Gemini content, streamed",
        "Gemini",
        "stream_generate_content",
        _CONTENTS,
        [_GEMINI_ANSWER],
        text="Server-sent events with `alt=sse`, otherwise one JSON array whose elements come one by one.",
    ),
    ":countTokens": _described(
        "Count a prompt's tokens", "Gemini", "count_tokens", _CONTENTS, {"totalTokens": 4}
    ),
    ":embedContent": _described(
        "Gemini embedding",
        "Gemini",
        "embed_content",
        {"content": {"parts": [{"text": "a red wine"}]}},
        {"embedding": {"values": [0.01, -0.03]}},
    ),
    ":batchEmbedContents": _described(
        "Gemini embeddings",
        "Gemini",
        "batch_embed_contents",
        {"requests": [{"model": "models/minilm", "content": {"parts": [{"text": "a red wine"}]}}]},
        {"embeddings": [{"values": [0.01, -0.03]}]},
    ),
    "/converse": _described(
        "Bedrock Converse",
        "Bedrock",
        "converse",
        _CONVERSE,
        {
            "output": {"message": {"role": "assistant", "content": [{"text": "Hello!"}]}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 4, "outputTokens": 2, "totalTokens": 6},
            "metrics": {"latencyMs": 120},
        },
    ),
    "/converse-stream": _described(
        "Bedrock Converse, streamed", "Bedrock", "converse_stream", _CONVERSE, None, stream=_FRAMES
    ),
    "/invoke": _described(
        "Bedrock InvokeModel",
        "Bedrock",
        "invoke_model",
        {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": _MESSAGES["messages"]},
        _MESSAGE,
        text=_FORMS,
    ),
    "/invoke-with-response-stream": _described(
        "Bedrock InvokeModel, streamed",
        "Bedrock",
        "invoke_model_with_response_stream",
        {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": _MESSAGES["messages"]},
        None,
        text=_FORMS,
        stream=_FRAMES,
    ),
}


def describe_endpoint(endpoint: Endpoint) -> Description:
    """By its path, or by what follows the model's name in it; unique ids where an API has two versions."""
    before, named, after = endpoint.path.partition("{model}")
    prefix = "tei:" if endpoint.speaks == "tei_rerank" else ""
    found = _BY_PATH[prefix + after if named else endpoint.path]
    version = before.split("/")[1] if named else ""
    if version.startswith("v"):
        found = replace(found, operation_id=f"{found.operation_id}_{version}")
    return found
