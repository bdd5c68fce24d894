"""Bodies of InvokeModel, as Amazon's user guides document them for each family of models.

Those for Claude have Anthropic's own fields: see there.
"""

from __future__ import annotations

from typing import Any

from tests.support.fields import converse
from tests.support.fields.embeddings import IN_OUR_FORM
from tests.support.fields.row import PNG, SCHEMA, Body, Caller, Row

TITAN: Body = {"inputText": "hi"}
PROMPT: Body = {"prompt": "hi"}
CHAT: Body = {"messages": [{"role": "user", "content": "hi"}]}
COMMAND_R: Body = {"message": "hi"}
TITAN_EMBED: Body = {"inputText": "hi"}
COHERE_EMBED: Body = {"texts": ["hi"], "input_type": "search_document"}

FUNCTION: Body = {"name": "f", "description": "d", "parameters": SCHEMA}
CALL = {"id": "c1", "function": {"name": "f", "arguments": '{"a":"b"}'}}
R_TOOL: Body = {
    "name": "f",
    "description": "d",
    "parameter_definitions": {"a": {"type": "str", "description": "x", "required": True}},
}
R_CALL = {"name": "f", "parameters": {"a": "b"}}
R_RESULTS = [{"call": R_CALL, "outputs": [{"text": "done"}]}]
HISTORY = [{"role": "USER", "message": "a"}, {"role": "CHATBOT", "message": "b"}]

_OWN = {"system", "messages", "inferenceConfig", "toolConfig"}
"""Fields that Nova's bodies share with Converse."""


def row(base: Body, name: str, value: Any, implied: str | None = None, group: str = "request") -> Row:
    return Row(group, name, base | {name: value}, base, implied)


def _config(name: str, value: Any) -> Row:
    return Row("textGenerationConfig", name, TITAN | {"textGenerationConfig": {name: value}}, TITAN)


def _nova(group: str, name: str, value: Any) -> Row:
    return Row(group, name, converse.BASE | {group: {name: value}}, converse.BASE)


def _said(name: str, *messages: Body) -> Row:
    asked = CHAT["messages"][0]
    return Row("messages", name, {"messages": [asked, *messages, asked]}, {"messages": [asked, asked]})


def _history(name: str, *entries: Body) -> Row:
    return Row(
        "chat_history",
        name,
        COMMAND_R | {"chat_history": [*HISTORY, *entries], "tools": [R_TOOL]},
        COMMAND_R | {"chat_history": HISTORY, "tools": [R_TOOL]},
    )


NOVA_CALLER = Caller(
    "invoke_nova",
    [
        *(
            each
            for each in converse.ROWS
            if each.asked.keys() | each.without.keys() <= _OWN and "document" not in each.name
        ),
        row(converse.BASE, "schemaVersion", "messages-v1", "there is but one"),
        _nova("inferenceConfig", "topK", 40),
        row(converse.BASE, "reasoningConfig", {"type": "enabled", "maxReasoningEffort": "low"}),
    ],
    model="amazon.nova-pro-v1:0",
)
TITAN_CALLER = Caller(
    "invoke_titan",
    [
        row(TITAN, "inputText", "hello"),
        _config("temperature", 0.5),
        _config("topP", 0.5),
        _config("maxTokenCount", 9),
        _config("stopSequences", ["x"]),
    ],
    model="amazon.titan-text-express-v1",
)
LLAMA_CALLER = Caller(
    "invoke_llama",
    [
        row(PROMPT, "prompt", "hello"),
        row(PROMPT, "max_gen_len", 9),
        row(PROMPT, "temperature", 0.5),
        row(PROMPT, "top_p", 0.5),
        row(PROMPT, "images", [PNG]),
    ],
    model="meta.llama3-1-8b-instruct-v1:0",
)
MISTRAL_CALLER = Caller(
    "invoke_mistral",
    [
        row(PROMPT, "prompt", "hello"),
        row(PROMPT, "max_tokens", 9),
        row(PROMPT, "stop", ["x"]),
        row(PROMPT, "temperature", 0.5),
        row(PROMPT, "top_p", 0.5),
        row(PROMPT, "top_k", 40),
    ],
    model="mistral.mistral-7b-instruct-v0:2",
)
CHAT_CALLER = Caller(
    "invoke_chat",
    [
        row(CHAT, "messages", [{"role": "user", "content": "hello"}]),
        row(CHAT, "max_tokens", 9),
        row(CHAT, "temperature", 0.5),
        row(CHAT, "top_p", 0.5),
        row(CHAT, "stop", ["x"]),
        row(CHAT, "tools", [{"type": "function", "function": FUNCTION}]),
        Row(
            "request",
            "tool_choice",
            CHAT | {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "any"},
            CHAT | {"tools": [{"type": "function", "function": FUNCTION}]},
        ),
        _said("role system", {"role": "system", "content": "be brief"}),
        _said("role assistant", {"role": "assistant", "content": "ho"}),
        _said(
            "tool_calls, role tool",
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
        ),
        _said(
            "image_url",
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}],
            },
        ),
    ],
    model="mistral.mistral-large-2407-v1:0",
)
COMMAND_R_CALLER = Caller(
    "invoke_cohere",
    [
        row(COMMAND_R, "message", "hello"),
        row(COMMAND_R, "chat_history", HISTORY),
        row(COMMAND_R, "preamble", "be brief"),
        row(COMMAND_R, "documents", [{"title": "t", "snippet": "s"}]),
        row(COMMAND_R, "search_queries_only", True),
        row(COMMAND_R, "max_tokens", 9),
        row(COMMAND_R, "temperature", 0.5),
        row(COMMAND_R, "p", 0.5),
        row(COMMAND_R, "k", 40),
        row(COMMAND_R, "prompt_truncation", "OFF"),
        row(COMMAND_R, "frequency_penalty", 0.5),
        row(COMMAND_R, "presence_penalty", 0.5),
        row(COMMAND_R, "seed", 7),
        row(COMMAND_R, "return_prompt", True),
        row(COMMAND_R, "stop_sequences", ["x"]),
        row(COMMAND_R, "raw_prompting", True),
        row(COMMAND_R, "tools", [R_TOOL]),
        row(COMMAND_R | {"tools": [R_TOOL]}, "tool_results", R_RESULTS),
        _history("SYSTEM", {"role": "SYSTEM", "message": "be brief"}),
        _history(
            "tool_calls, TOOL",
            {"role": "USER", "message": "c"},
            {"role": "CHATBOT", "message": "", "tool_calls": [R_CALL]},
            {"role": "TOOL", "tool_results": R_RESULTS},
        ),
        Row(
            "tools",
            "parameter_definitions List[str]",
            COMMAND_R | {"tools": [R_TOOL | {"parameter_definitions": {"a": {"type": "List[str]"}}}]},
            COMMAND_R | {"tools": [R_TOOL]},
        ),
    ],
    model="cohere.command-r-plus-v1:0",
)
CALLERS = (
    NOVA_CALLER,
    CHAT_CALLER,
    COMMAND_R_CALLER,
    TITAN_CALLER,
    LLAMA_CALLER,
    MISTRAL_CALLER,
)
EMBED_CALLERS = (
    Caller(
        "invoke_titan_embed",
        [
            row(TITAN_EMBED, "inputText", "hello"),
            row(TITAN_EMBED, "dimensions", 8),
            row(TITAN_EMBED, "normalize", False),
            row(TITAN_EMBED, "embeddingTypes", ["float"], IN_OUR_FORM),
            row(TITAN_EMBED, "embeddingConfig", {"outputEmbeddingLength": 8}),
        ],
        model="amazon.titan-embed-text-v2:0",
    ),
    Caller(
        "invoke_cohere_embed",
        [
            row(COHERE_EMBED, "texts", ["hello"]),
            row(COHERE_EMBED, "input_type", "search_query"),
            row(COHERE_EMBED, "embedding_types", ["float"], IN_OUR_FORM),
            row(COHERE_EMBED, "output_dimension", 8),
            row(COHERE_EMBED, "truncate", "END"),
            row(COHERE_EMBED, "max_tokens", 9),
            Row(
                "request",
                "inputs",
                {
                    "inputs": [{"content": [{"type": "text", "text": "hello"}]}],
                    "input_type": "search_document",
                },
                COHERE_EMBED,
            ),
        ],
        model="cohere.embed-v4:0",
    ),
)
