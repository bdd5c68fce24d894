"""What callers of each dialect call the settings of a request: losses and refusals name them so.

Encoders report a loss by the neutral name of a setting (`sampling.top_k` as `top_k`), because they know
nothing of the caller. Places of messages, parts and tools are the caller's own already
(`headgate.core.messages`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from headgate.core.loss import Loss

_COMPLETIONS = {"messages": "prompt", "top_logprobs": "logprobs"}
_OPENAI_CHAT = {
    "reasoning.effort": "reasoning_effort",
    "response_format.name": "response_format.json_schema.name",
    "response_format.description": "response_format.json_schema.description",
    "response_format.strict": "response_format.json_schema.strict",
}
_OPENAI_RESPONSES = {
    "logprobs": "include",
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
}
_ANTHROPIC = {
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "reasoning": "thinking",
    "reasoning.effort": "output_config.effort",
    "reasoning.enabled": "thinking.type",
    "reasoning.summary": "thinking.display",
    "response_format": "output_config.format",
    "stop": "stop_sequences",
    "user": "metadata.user_id",
}
_GEMINI = {
    "frequency_penalty": "generationConfig.frequencyPenalty",
    "logprobs": "generationConfig.responseLogprobs",
    "max_tokens": "generationConfig.maxOutputTokens",
    "messages": "contents",
    "n": "generationConfig.candidateCount",
    "presence_penalty": "generationConfig.presencePenalty",
    "reasoning": "generationConfig.thinkingConfig",
    "reasoning.budget_tokens": "generationConfig.thinkingConfig.thinkingBudget",
    "reasoning.effort": "generationConfig.thinkingConfig.thinkingLevel",
    "reasoning.enabled": "generationConfig.thinkingConfig.thinkingBudget",
    "reasoning.summary": "generationConfig.thinkingConfig.includeThoughts",
    "response_format": "generationConfig.responseMimeType",
    "seed": "generationConfig.seed",
    "service_tier": "serviceTier",
    "stop": "generationConfig.stopSequences",
    "temperature": "generationConfig.temperature",
    "tool_choice": "toolConfig.functionCallingConfig",
    "top_k": "generationConfig.topK",
    "top_logprobs": "generationConfig.logprobs",
    "top_p": "generationConfig.topP",
}
_CONVERSE = {
    "max_tokens": "inferenceConfig.maxTokens",
    "metadata": "requestMetadata",
    "reasoning": "additionalModelRequestFields",
    "reasoning.effort": "outputConfig.effort",
    "response_format": "outputConfig.textFormat",
    "response_format.description": "outputConfig.textFormat.structure.jsonSchema.description",
    "service_tier": "serviceTier",
    "stop": "inferenceConfig.stopSequences",
    "temperature": "inferenceConfig.temperature",
    "tool_choice": "toolConfig.toolChoice",
    "tools": "toolConfig.tools",
    "top_k": "additionalModelRequestFields.top_k",
    "top_p": "inferenceConfig.topP",
}
_NOVA = {
    "max_tokens": "inferenceConfig.maxTokens",
    "reasoning": "reasoningConfig",
    "reasoning.effort": "reasoningConfig.maxReasoningEffort",
    "stop": "inferenceConfig.stopSequences",
    "temperature": "inferenceConfig.temperature",
    "tool_choice": "toolConfig.toolChoice",
    "tools": "toolConfig.tools",
    "top_k": "inferenceConfig.topK",
    "top_p": "inferenceConfig.topP",
}
_TITAN = {
    "max_tokens": "textGenerationConfig.maxTokenCount",
    "stop": "textGenerationConfig.stopSequences",
    "temperature": "textGenerationConfig.temperature",
    "top_p": "textGenerationConfig.topP",
}
_COMMAND_R = {"stop": "stop_sequences", "top_k": "k", "top_p": "p"}

_TERMS: Mapping[str, Mapping[str, str]] = {
    "openai_completions": _COMPLETIONS,
    "openai_chat": _OPENAI_CHAT,
    "openai_responses": _OPENAI_RESPONSES,
    "anthropic": _ANTHROPIC,
    "anthropic_count": _ANTHROPIC,
    "invoke_anthropic": _ANTHROPIC,
    "invoke_chat": _OPENAI_CHAT,
    "invoke_cohere": _COMMAND_R,
    "invoke_cohere_embed": {"dimensions": "output_dimension"},
    "invoke_llama": {"max_tokens": "max_gen_len"},
    "invoke_nova": _NOVA,
    "invoke_titan": _TITAN,
    "gemini": _GEMINI,
    "gemini_count": _GEMINI,
    "converse": _CONVERSE,
}


def in_callers_terms(losses: Iterable[Loss], dialect: str) -> list[Loss]:
    """The losses as a caller of the dialect would name them; other dialects call settings as we do."""
    terms = _TERMS.get(dialect)
    if not terms:
        return list(losses)
    return list(dict.fromkeys(replace(loss, path=_named(loss.path, terms)) for loss in losses))


def param_in_callers_terms(param: str | None, dialect: str) -> str | None:
    """The field that a request is refused for, as a caller of the dialect would name it."""
    return None if param is None else _named(param, _TERMS.get(dialect, {}))


def _named(path: str, terms: Mapping[str, str]) -> str:
    head, rest = path, ""
    while True:
        if head in terms:
            return terms[head] + rest
        head, dot, last = head.rpartition(".")
        if not dot:
            return path
        rest = f".{last}{rest}"
