"""An OpenAI chat request checked and turned into what xllamacpp takes.

Field by field after OpenAI's reference for `POST /v1/chat/completions`: honoured, or refused with 400 and
the field's name. Nothing is dropped in silence; fields that only label a request (`user`, `metadata`, …)
have nothing to change and are accepted. Sampling options of llama.cpp's own may be added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headgate.core.errors import InvalidRequest
from headgate.local.engines.fields import boolean, mapping, no_others, number, text, unsupported, whole, wrong
from headgate.local.engines.tool_calls import forced_call_schema

MOST_CHOICES = 128
MOST_TOKENS = 2**31 - 1
MOST_TOP_LOGPROBS = 20

LABELS = frozenset({"user", "safety_identifier", "metadata", "prompt_cache_key"})
"""Fields that say who asks or for what; the answer does not depend on them."""

LLAMA_SAMPLING = frozenset(
    {"top_k", "min_p", "typical_p", "top_n_sigma", "repeat_penalty", "repeat_last_n", "samplers"}
    | {"dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"}
    | {"xtc_probability", "xtc_threshold", "dynatemp_range", "dynatemp_exponent"}
    | {"mirostat", "mirostat_tau", "mirostat_eta", "grammar", "ignore_eos", "cache_prompt"}
    | {"chat_template_kwargs"}
)
"""llama.cpp's own options, handed on as they are."""

ONLY_DEFAULT: Mapping[str, tuple[Any, ...]] = {
    "store": (False,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "verbosity": ("medium",),
}
"""Fields of which this engine can do just what they say by default."""

NEVER: Mapping[str, str] = {
    "audio": "the model writes text only",
    "prediction": "predicted output is a service of OpenAI's",
    "web_search_options": "a local model has no web search",
    "moderation": "there is no moderation here",
    "prompt_cache_retention": "the prompt cache lasts as long as the engine",
    "prompt_cache_options": "the prompt cache lasts as long as the engine",
    "functions": "use tools",
    "function_call": "use tool_choice",
}

CHECKED = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "seed", "n"}
    | {"logprobs", "top_logprobs", "response_format", "tools", "tool_choice", "parallel_tool_calls"}
    | {"stream", "stream_options", "logit_bias", "presence_penalty", "frequency_penalty", "reasoning_effort"}
)

_MESSAGE_FIELDS: Mapping[str, frozenset[str]] = {
    "system": frozenset({"role", "content", "name"}),
    "developer": frozenset({"role", "content", "name"}),
    "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset({"role", "content", "name", "tool_calls", "refusal", "reasoning_content"}),
    "tool": frozenset({"role", "content", "name", "tool_call_id"}),
}


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the loaded model's chat template and vocabulary allow."""

    tools: bool
    names: bool
    reasoning_effort: bool
    n_vocab: int

    @classmethod
    def of(cls, template: str, n_vocab: int) -> Abilities:
        return cls(
            tools="tools" in template,
            names="message.name" in template or "message['name']" in template,
            reasoning_effort="reasoning_effort" in template,
            n_vocab=n_vocab,
        )


@dataclass(frozen=True, slots=True)
class ChatJob:
    """A checked request. `engine` is xllamacpp's request for one choice, without a seed."""

    model: str
    engine: Mapping[str, Any]
    n: int
    seed: int | None
    stream: bool
    include_usage: bool
    top_logprobs: int | None
    tool_names: frozenset[str]
    forced_call: bool
    one_call: bool

    def choice_request(self, index: int) -> dict[str, Any]:
        """The engine's request for choice `index`: choices of a seeded request have seeds of their own."""
        if self.seed is None:
            return dict(self.engine)
        return {**self.engine, "seed": (self.seed + index) % (2**32 - 1)}  # 2**32 - 1 means random


def read_chat_request(body: Mapping[str, Any], abilities: Abilities) -> ChatJob:
    """Raises InvalidRequest or UnsupportedParameter, with `param` set."""
    given = {name: value for name, value in body.items() if value is not None}
    for name, why in NEVER.items():
        if name in given:
            raise unsupported(name, why)
    for name, allowed in ONLY_DEFAULT.items():
        if name in given and given[name] not in allowed:
            raise unsupported(name, f"only {allowed[0]!r} can be honoured")
    no_others(given, CHECKED | LABELS | LLAMA_SAMPLING | ONLY_DEFAULT.keys())
    engine: dict[str, Any] = {name: given[name] for name in given if name in LLAMA_SAMPLING}
    engine["messages"] = _messages(given.get("messages"), abilities)
    _sampling(given, engine, abilities)
    _reasoning(given, engine, abilities)
    _response_format(given, engine)
    tool_names, forced = _tools(given, engine, abilities)
    top_logprobs = _logprobs(given, engine)
    stream = boolean(given, "stream")
    options = mapping(given.get("stream_options", {}), "stream_options")
    no_others(options, {"include_usage", "include_obfuscation"}, "stream_options.")
    if options and not stream:
        raise InvalidRequest("stream_options is for requests with stream: true", param="stream_options")
    if boolean(options, "include_obfuscation", where="stream_options."):
        raise unsupported("stream_options.include_obfuscation", "chunks are sent as they are")
    engine |= {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
    return ChatJob(
        model=text(given, "model"),
        engine=engine,
        n=whole(given, "n", 1, MOST_CHOICES) or 1,
        seed=whole(given, "seed", -(2**63), 2**63 - 1),
        stream=stream,
        include_usage=boolean(options, "include_usage", where="stream_options."),
        top_logprobs=top_logprobs,
        tool_names=tool_names,
        forced_call=forced,
        one_call=not boolean(given, "parallel_tool_calls", default=True),
    )


def _sampling(given: Mapping[str, Any], engine: dict[str, Any], abilities: Abilities) -> None:
    limits = {
        "temperature": number(given, "temperature", 0, 2),
        "top_p": number(given, "top_p", 0, 1),
        "presence_penalty": number(given, "presence_penalty", -2, 2),
        "frequency_penalty": number(given, "frequency_penalty", -2, 2),
        "max_tokens": _max_tokens(given),
        "stop": _stop(given.get("stop")),
        "logit_bias": _logit_bias(given.get("logit_bias"), abilities.n_vocab),
    }
    engine.update({name: value for name, value in limits.items() if value is not None})


def _max_tokens(given: Mapping[str, Any]) -> int | None:
    old = whole(given, "max_tokens", 1, MOST_TOKENS)
    new = whole(given, "max_completion_tokens", 1, MOST_TOKENS)
    if old is not None and new is not None and old != new:
        raise InvalidRequest(
            "max_tokens and max_completion_tokens differ: send one of them", param="max_completion_tokens"
        )
    return new if new is not None else old


def _stop(value: Any) -> list[str] | None:
    if value is None:
        return None
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise wrong("stop", "a non-empty string or a list of them")
    return stops


def _logit_bias(value: Any, n_vocab: int) -> list[list[float]] | None:
    if value is None:
        return None
    pairs: list[list[float]] = []
    for token, bias in mapping(value, "logit_bias").items():
        if not (token.isascii() and token.isdigit() and int(token) < n_vocab):
            raise wrong("logit_bias", f"an object whose keys are token ids below {n_vocab}")
        if isinstance(bias, bool) or not isinstance(bias, int | float) or not -100 <= bias <= 100:
            raise wrong(f"logit_bias.{token}", "a number from -100 to 100")
        pairs.append([int(token), bias])
    return pairs


def _logprobs(given: Mapping[str, Any], engine: dict[str, Any]) -> int | None:
    """How many alternatives the answer lists; None without log probabilities."""
    top = whole(given, "top_logprobs", 0, MOST_TOP_LOGPROBS)
    if not boolean(given, "logprobs"):
        if top is not None:
            raise InvalidRequest("top_logprobs needs logprobs: true", param="top_logprobs")
        return None
    engine |= {"logprobs": True, "top_logprobs": max(1, top or 0)}
    return top or 0


def _reasoning(given: Mapping[str, Any], engine: dict[str, Any], abilities: Abilities) -> None:
    if "reasoning_effort" not in given:
        return
    effort = text(given, "reasoning_effort")
    if not abilities.reasoning_effort:
        raise unsupported("reasoning_effort", "its chat template has no such setting")
    own = mapping(engine.get("chat_template_kwargs", {}), "chat_template_kwargs")
    engine["chat_template_kwargs"] = {"reasoning_effort": effort, **own}


def _response_format(given: Mapping[str, Any], engine: dict[str, Any]) -> None:
    if "response_format" not in given:
        return
    value = mapping(given["response_format"], "response_format")
    match value.get("type"):
        case "text":
            return
        case "json_object":
            engine["response_format"] = {"type": "json_object"}
        case "json_schema":
            told = mapping(value.get("json_schema"), "response_format.json_schema")
            schema = mapping(told.get("schema"), "response_format.json_schema.schema")
            engine["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}
        case _:
            raise wrong("response_format.type", "text, json_object or json_schema")
    if "grammar" in given:
        raise InvalidRequest("response_format and grammar exclude each other", param="grammar")


def _tools(
    given: Mapping[str, Any], engine: dict[str, Any], abilities: Abilities
) -> tuple[frozenset[str], bool]:
    """The names that may be called, and whether one must be."""
    choice = given.get("tool_choice", "auto")
    tools = _tool_list(given.get("tools", []))
    if isinstance(choice, dict):
        tools = [_chosen(choice, tools)]
        choice = "required"
    if choice not in ("none", "auto", "required"):
        raise wrong("tool_choice", "none, auto, required or a function of tools")
    if not tools:
        if choice == "required":
            raise InvalidRequest("tool_choice needs tools", param="tool_choice")
        return frozenset(), False
    if not abilities.tools:
        raise unsupported("tools", "its chat template has no place for them; use a model made for tools")
    if choice == "none":
        return frozenset(), False
    if "grammar" in given:
        raise InvalidRequest("tools and grammar exclude each other", param="grammar")
    engine |= {"tools": tools, "parallel_tool_calls": boolean(given, "parallel_tool_calls", default=True)}
    if choice == "required":
        engine["response_format"] = {
            "type": "json_schema",
            "json_schema": {"schema": forced_call_schema(tools)},
        }
    else:
        _free_choice(tools, engine)
    return frozenset(tool["function"]["name"] for tool in tools), choice == "required"


def _free_choice(tools: Sequence[Mapping[str, Any]], engine: Mapping[str, Any]) -> None:
    if "response_format" in engine:
        raise unsupported("response_format", "together with tools it needs tool_choice none or required")
    for index, tool in enumerate(tools):
        if boolean(tool["function"], "strict", where=f"tools.{index}.function."):
            raise unsupported(
                f"tools.{index}.function.strict", "it needs tool_choice required or a chosen function"
            )


def _tool_list(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise wrong("tools", "a list")
    tools: list[Mapping[str, Any]] = []
    for index, tool in enumerate(value):
        where = f"tools.{index}"
        if mapping(tool, where).get("type") != "function":
            raise unsupported(f"{where}.type", "only function tools can be called")
        function = mapping(tool.get("function"), f"{where}.function")
        text(function, "name", f"{where}.function.")
        if function.get("parameters") is not None:
            mapping(function["parameters"], f"{where}.function.parameters")
        tools.append(tool)
    return tools


def _chosen(choice: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    if choice.get("type") != "function":
        raise unsupported("tool_choice.type", "only function can be chosen")
    name = mapping(choice.get("function"), "tool_choice.function").get("name")
    for tool in tools:
        if tool["function"]["name"] == name:
            return tool
    raise InvalidRequest("tool_choice names a function that tools does not have", param="tool_choice")


def _messages(value: Any, abilities: Abilities) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise wrong("messages", "a list with at least one message")
    return [
        _message(mapping(item, f"messages.{i}"), f"messages.{i}.", abilities) for i, item in enumerate(value)
    ]


def _message(value: Mapping[str, Any], where: str, abilities: Abilities) -> dict[str, Any]:
    role = value.get("role")
    if not isinstance(role, str) or role not in _MESSAGE_FIELDS:
        raise wrong(f"{where}role", "system, developer, user, assistant or tool")
    message = {name: item for name, item in value.items() if item is not None}
    no_others(message, _MESSAGE_FIELDS[role], where)
    if "name" in message and role != "tool" and not abilities.names:
        raise unsupported(f"{where}name", "its chat template has no place for it")
    if role == "tool":
        text(message, "tool_call_id", where)
    if not abilities.tools and (role == "tool" or message.get("tool_calls")):
        raise unsupported(f"{where}role", "its chat template has no place for tool calls and results")
    if role == "developer":
        message["role"] = "system"  # what newer OpenAI models call the system message
    if role == "assistant":
        _assistant(message, where)
    else:
        _content(message.get("content"), f"{where}content")
    return message


def _assistant(message: dict[str, Any], where: str) -> None:
    refusal = message.pop("refusal", None)
    if refusal and "content" not in message:
        message["content"] = refusal
    if "content" in message or not message.get("tool_calls"):
        _content(message.get("content"), f"{where}content")
    calls = message.get("tool_calls", [])
    if not isinstance(calls, list):
        raise wrong(f"{where}tool_calls", "a list")
    for index, call in enumerate(calls):
        path = f"{where}tool_calls.{index}"
        if mapping(call, path).get("type", "function") != "function":
            raise unsupported(f"{path}.type", "only function calls are known")
        function = mapping(call.get("function"), f"{path}.function")
        text(function, "name", f"{path}.function.")
        text(function, "arguments", f"{path}.function.")
    if not calls:
        message.pop("tool_calls", None)


def _content(value: Any, param: str) -> None:
    if isinstance(value, str):
        return
    if not isinstance(value, list) or not value:
        raise wrong(param, "a string or a list of parts")
    for index, part in enumerate(value):
        kind = mapping(part, f"{param}.{index}").get("type")
        if kind != "text":
            raise unsupported(f"{param}.{index}.type", "it takes text parts only")
        text(part, "text", f"{param}.{index}.")
