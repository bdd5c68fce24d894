"""A neutral request, written as a Responses request for an upstream."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import (
    ChatRequest,
    Message,
    Opaque,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolChoice,
)
from headgate.dialects.conversation import check_results, empty_conversation
from headgate.dialects.foreign import UNPADDED
from headgate.dialects.json_bodies import encode
from headgate.dialects.openai_chat.effort import effort_to_tell, is_meant_anyway
from headgate.dialects.openai_chat.profile import EFFORT, OPENAI_FAMILIES
from headgate.dialects.openai_chat.profile import Profile as Models
from headgate.dialects.openai_responses.input_encoder import InputEncoder
from headgate.dialects.openai_responses.vocabulary import ENCRYPTED, LOGPROBS, NAME, foreign_losses, own
from headgate.dialects.openai_shared import shared_fields


@dataclass(frozen=True, slots=True)
class Profile:
    """In what one upstream differs from the next within this dialect; a row of the registry fills it in.

    cache_breakpoints: input parts may be marked as ends of a cached prefix (OpenAI's newest models).
    models: what each takes, told by its name, as in Chat Completions; but efforts beside tools as well.
    """

    cache_breakpoints: bool = False
    models: Models = field(default_factory=lambda: Models(families=OPENAI_FAMILIES))


COMPATIBLE = Profile()

_SAMPLING = ("temperature", "top_p", "logprobs", "top_logprobs")
"""What some models refuse of it, of that which the dialect has."""


def encode_request(
    request: ChatRequest, *, model: str | None = None, profile: Profile = COMPATIBLE
) -> tuple[bytes, list[Loss]]:
    """The request body, and what had no place in it.

    The upstream is asked to keep nothing (`store: false`) unless the caller's own request said otherwise, and
    to hand out what it needs to go on thinking in the next turn.

    Args:
        request: what to ask.
        model: the upstream's name for the model, where it differs from the request's.
        profile: what this upstream takes.

    Raises:
        InvalidRequest: no message, or a tool's result without its call before it, where the upstream does not
            hold what came before.
    """
    if not _is_held(request):
        if not request.messages:
            raise empty_conversation()
        check_results(request.messages)
    losses = foreign_losses(request.extensions, "")
    name = model or request.model
    effort = effort_to_tell(request, name, profile.models, losses, beside_tools=True)
    models = profile.models.for_model(name, effort)
    wire: dict[str, Any] = {"model": name}
    encoder = InputEncoder(losses, profile.cache_breakpoints)
    for index, message in enumerate(request.messages):
        if index == 0 and (instructions := _instructions(message)) is not None:
            wire["instructions"] = instructions
        else:
            encoder.encode(message, index)
    wire["input"] = encoder.items
    _put_tools(request, wire, losses)
    extra = own(request.extensions)
    shared = {key: value for key, value in shared_fields(request.extensions).items() if value is not None}
    text = _object(extra.pop("text", None))
    if "verbosity" in shared:
        text["verbosity"] = shared.pop("verbosity")
    _put_text(request.response_format, text, wire, losses)
    if "prompt_cache_options" in extra:
        extra["prompt_cache_options"] = shared.pop("prompt_cache_options", {}) | extra["prompt_cache_options"]
    sampling = _taken(request.sampling, models, losses)
    _put_sampling(sampling, wire, losses)
    words = _object(extra.pop("reasoning", None)) | _reasoning(request.reasoning, effort, models, losses)
    if words:
        wire["reasoning"] = words
    if include := _include(request, sampling, models, extra.pop("include", None)):
        wire["include"] = include
    if request.stream:
        wire["stream"] = True
    if _object(extra.get("stream_options")).get("include_obfuscation"):
        losses.append(UNPADDED)
    for key in ("user", "metadata", "service_tier"):
        if (value := getattr(request, key)) is not None:
            wire[key] = value
    return encode(wire | {"store": False} | extra | shared), losses


def _is_held(request: ChatRequest) -> bool:
    """Part of the conversation is with the upstream, by the caller's own word."""
    if own(request.extensions).keys() & {"previous_response_id", "conversation", "prompt"}:
        return True
    opaque = (part for message in request.messages for part in message.parts if isinstance(part, Opaque))
    return any(_object(part.value).get("type") == "item_reference" for part in opaque if part.dialect == NAME)


def _object(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _instructions(message: Message) -> str | None:
    match message:
        case Message(role="system", parts=(Text(text=text, citations=(), cache=None) as part,), name=None):
            return None if part.extensions or message.extensions else text
        case _:
            return None


def _include(request: ChatRequest, sampling: Sampling, models: Models, kept: object) -> list[str]:
    words = list(kept) if isinstance(kept, list) else []
    if sampling.logprobs:
        words.append(LOGPROBS)
    thinks = request.reasoning is not None and request.reasoning.effort != "none"
    thinks = thinks or any(_encrypted(message) for message in request.messages)
    if thinks and EFFORT not in models.refuses:
        words.append(ENCRYPTED)
    return words


def _encrypted(message: Message) -> bool:
    return any(
        isinstance(part, Reasoning) and part.origin == NAME and bool(part.data or part.signature)
        for part in message.parts
    )


def _put_sampling(sampling: Sampling, wire: dict[str, Any], losses: list[Loss]) -> None:
    if sampling.max_tokens is not None:
        wire["max_output_tokens"] = sampling.max_tokens
    for key in ("temperature", "top_p", "top_logprobs"):
        if (value := getattr(sampling, key)) is not None:
            wire[key] = value
    unknown = ("top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias")
    losses += [
        Loss(key, "the dialect has no such setting") for key in unknown if getattr(sampling, key) is not None
    ]
    if sampling.stop:
        losses.append(Loss("stop", "the dialect has no stop sequences"))
    if sampling.n is not None and sampling.n != 1:
        losses.append(Loss("n", "the dialect gives one answer"))


def _taken(sampling: Sampling, models: Models, losses: list[Loss]) -> Sampling:
    """Without what the model refuses."""
    refused = [key for key in _SAMPLING if key in models.refuses and getattr(sampling, key) is not None]
    losses += [
        Loss(key, "the model takes its default only")
        for key in refused
        if getattr(sampling, key) != models.refuses[key]
    ]
    left: dict[str, Any] = dict.fromkeys(refused)
    return replace(sampling, **left)


def _reasoning(
    options: ReasoningOptions | None, effort: str | None, models: Models, losses: list[Loss]
) -> dict[str, Any]:
    words: dict[str, Any] = {} if effort is None else {"effort": effort}
    if options is None or is_meant_anyway(options, models):
        return words
    if options.budget_tokens is not None:
        why = "the model takes no budget" if effort is None else f"sent as the effort '{effort}'"
        losses.append(Loss("reasoning.budget_tokens", why))
    if options.enabled is not None and (effort is None or options.enabled is (effort == "none")):
        losses.append(Loss("reasoning.enabled", "the model's reasoning can't be switched so"))
    if options.summary is not None:
        if EFFORT in models.refuses:
            losses.append(Loss("reasoning.summary", "the model does not reason"))
        else:
            words["summary"] = options.summary
    return words


def _put_text(
    wanted: ResponseFormat | None, text: dict[str, Any], wire: dict[str, Any], losses: list[Loss]
) -> None:
    if wanted is not None:
        losses += foreign_losses(wanted.extensions, "response_format")
        form: dict[str, Any] = {"type": wanted.kind}
        if wanted.kind == "json_schema":
            form |= {"name": wanted.name or "answer", "schema": wanted.schema or {}}
            for key in ("description", "strict"):
                if (value := getattr(wanted, key)) is not None:
                    form[key] = value
        text["format"] = form | own(wanted.extensions)
    if text:
        wire["text"] = text


def _put_tools(request: ChatRequest, wire: dict[str, Any], losses: list[Loss]) -> None:
    tools = []
    for index, tool in enumerate(request.tools):
        path = tool.place(index)
        if tool.kind not in ("function", "custom") and NAME not in tool.extensions:
            losses.append(Loss(path, "another vendor's own kind of tool"))
            continue
        losses += foreign_losses(tool.extensions, path)
        if tool.cache is not None:
            losses.append(Loss(f"{path}.cache_control", "only input parts can be marked for the cache"))
        tools.append(_tool(tool))
    if tools:
        wire["tools"] = tools
    if request.tool_choice is not None:
        losses += foreign_losses(request.tool_choice.extensions, "tool_choice")
        wire["tool_choice"] = _tool_choice(request.tool_choice, request.tools)
    if request.parallel_tool_calls is not None:
        wire["parallel_tool_calls"] = request.parallel_tool_calls


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.kind not in ("function", "custom"):
        return {"type": tool.kind, **own(tool.extensions)}
    wire: dict[str, Any] = {"type": tool.kind, "name": tool.name}
    if tool.description is not None:
        wire["description"] = tool.description
    if tool.kind == "function":
        # Left out, it would mean true here, and false to everybody else.
        wire |= {"parameters": tool.parameters, "strict": bool(tool.strict)}
    return wire | own(tool.extensions)


def _tool_choice(choice: ToolChoice, tools: tuple[Tool, ...]) -> str | dict[str, Any]:
    kept = own(choice.extensions)
    if choice.mode != "tool":
        return {"type": "allowed_tools", "mode": choice.mode} | kept if "tools" in kept else choice.mode
    if "type" in kept:
        named = {} if choice.name in (None, kept["type"]) else {"name": choice.name}
        return kept | named
    kind = next((tool.kind for tool in tools if tool.name == choice.name), "function")
    return {"type": kind if kind == "custom" else "function", "name": choice.name} | kept
