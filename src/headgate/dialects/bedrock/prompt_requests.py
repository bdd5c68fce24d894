"""Requests of the forms that take one prompt: its template read into messages, and messages put into it."""

from __future__ import annotations

from typing import Any

from headgate.core.errors import InvalidRequest
from headgate.core.loss import Loss
from headgate.core.messages import ChatRequest, Extensions, Message, Part, Refusal, Sampling, Text
from headgate.dialects import foreign
from headgate.dialects.bedrock.prompt_forms import Form
from headgate.dialects.bedrock.prompt_templates import Speaker, Template, Turn
from headgate.dialects.json_bodies import (
    MAX_ITEMS,
    Fields,
    decode_object,
    encode,
    missing,
    wrong_type,
    wrong_value,
)

_NO_SETTING = "the model has no such setting"
_NO_PLACE = (
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning",
    "user",
    "metadata",
    "service_tier",
)


def decode_request(
    body: bytes, *, model: str | None = None, stream: bool | None = None, form: Form
) -> ChatRequest:
    """Read a request body. A prompt in the model's own template becomes messages, any other a user's.

    What has no neutral place goes to the extensions of the form's dialect.

    Raises:
        InvalidRequest: with `param` naming the field.
    """
    fields = Fields(decode_object(body))
    if not model:
        raise missing("modelId")
    prompt = fields.required_text(form.prompt)
    if not prompt.strip():
        raise wrong_value(form.prompt, "it must hold a text")
    settings = (fields.fields(form.nest) or Fields({}, form.nest)) if form.nest else fields
    sampling = _sampling(settings, form)
    extra = {key: value for key, value in fields.rest().items() if value is not None}
    if form.nest and (rest := settings.rest()):
        extra[form.nest] = rest
    return ChatRequest(
        model=model,
        messages=_messages(prompt, form, model),
        sampling=sampling,
        stream=bool(stream),
        include_usage=bool(stream),  # Bedrock always tells
        extensions={form.name: extra} if extra else {},
    )


def _messages(prompt: str, form: Form, model: str) -> tuple[Message, ...]:
    templates = dict.fromkeys([form.template(model), *(template for _, template in form.templates)])
    found = (template.parse(prompt) for template in templates)
    turns = next((turns for turns in found if turns), [Turn("user", prompt)])
    if len(turns) > MAX_ITEMS:
        raise wrong_value(form.prompt, f"it has more than {MAX_ITEMS:,} turns")
    return tuple(
        Message(turn.role, (Text(turn.text),), path=form.prompt, part_paths=(form.prompt,)) for turn in turns
    )


def _sampling(fields: Fields, form: Form) -> Sampling:
    found: dict[str, Any] = {}
    for key, name in form.settings.items():
        if key == "stop":
            found[key] = _texts(fields, name)
        elif key in ("max_tokens", "top_k"):
            found[key] = fields.integer(name, 0)
        else:
            found[key] = fields.number(name)
    return Sampling(**found)


def _texts(fields: Fields, key: str) -> tuple[str, ...]:
    items = fields.items(key) or []
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise wrong_type(f"{fields.param(key)}[{index}]", "a string", item)
    return tuple(items)


def encode_request(request: ChatRequest, *, model: str | None = None, form: Form) -> tuple[bytes, list[Loss]]:
    """The request body, and what had no place in it: there is nothing but text.

    Args:
        request: what to ask.
        model: the upstream's name for the model; it tells the template.

    Raises:
        InvalidRequest: no message holds a text.
    """
    losses = _foreign(request.extensions, "", form)
    turns = _Turns(form, form.template(model or request.model), losses).read(request.messages)
    losses += [
        Loss(tool.place(index), "the model takes no tools") for index, tool in enumerate(request.tools)
    ]
    losses += [Loss(key, _NO_SETTING) for key in _NO_PLACE if getattr(request, key) is not None]
    settings = _settings(request.sampling, form, losses)
    own: dict[str, Any] = dict(request.extensions.get(form.name, {}))
    wire: dict[str, Any] = {form.prompt: form.template(model or request.model).render(turns)}
    if form.nest:
        more = own.pop(form.nest, {})
        settings |= more if isinstance(more, dict) else {}
        settings = {form.nest: settings} if settings else {}
    return encode(wire | settings | own), losses


class _Turns:
    """The texts of messages as turns of alternating roles."""

    def __init__(self, form: Form, template: Template, losses: list[Loss]) -> None:
        self._form = form
        self._template = template
        self._losses = losses
        self._turns: list[Turn] = []

    def read(self, messages: tuple[Message, ...]) -> list[Turn]:
        for index, message in enumerate(messages):
            path = message.place(index)
            self._losses += _foreign(message.extensions, path, self._form)
            if message.name is not None:
                self._lose(f"{path}.name", "a prompt has no names")
            texts = [
                self._text(part, message.place_of(index, number)) for number, part in enumerate(message.parts)
            ]
            if text := "".join(texts):
                self._add(self._role(message, path), text)
        if not self._turns:
            raise InvalidRequest("The target takes text only, and no message holds any.", param="messages")
        return self._turns

    def _role(self, message: Message, path: str) -> Speaker:
        match message.role:
            case "assistant":
                return "assistant"
            case "system" | "developer":
                pass
            case _:
                return "user"
        leading = all(turn.role == "system" for turn in self._turns)
        if self._template.leads and not leading:
            self._lose(path, "moved to the user's text: a system prompt stands first here")
            return "user"
        if not self._template.names_system:
            self._lose(
                f"{path}.role", "the prompt has no place for a system prompt: put before the user's text"
            )
        return "system"

    def _add(self, role: Speaker, text: str) -> None:
        if self._turns and self._turns[-1].role == role:
            text = f"{self._turns.pop().text}\n\n{text}"
        self._turns.append(Turn(role, text))

    def _text(self, part: Part, path: str) -> str:
        if not isinstance(part, Text | Refusal):
            self._lose(path, f"{type(part).__name__.lower()} parts have no place in a prompt")
            return ""
        self._losses += _foreign(part.extensions, path, self._form)
        if isinstance(part, Refusal):
            self._lose(path, "a refusal is told as plain text")
        else:
            if part.citations:
                self._lose(f"{path}.citations", "a prompt has no annotations")
            if part.cache is not None:
                self._lose(f"{path}.cache_control", "the target takes no cache hints")
        marks = self._template.marks
        if marks is None or marks.search(part.text) is None:
            return part.text
        self._lose(path, "marks of the model's prompt template were taken out of the text")
        return marks.sub(" ", part.text)

    def _lose(self, path: str, reason: str) -> None:
        self._losses.append(Loss(path, reason))


def _settings(sampling: Sampling, form: Form, losses: list[Loss]) -> dict[str, Any]:
    wire: dict[str, Any] = {}
    for key in Sampling.__dataclass_fields__:
        value = getattr(sampling, key)
        if value is None or value == () or (key == "n" and value == 1) or (key, value) == ("logprobs", False):
            continue
        name = form.settings.get(key)
        if name is None:
            losses.append(Loss(key, "the model gives one answer" if key == "n" else _NO_SETTING))
        elif key == "temperature" and value > 1:
            losses.append(Loss(key, "sent as 1, where the model's range ends"))
            wire[name] = 1
        else:
            wire[name] = list(value) if key == "stop" else value
    return wire


def _foreign(extensions: Extensions, path: str, form: Form) -> list[Loss]:
    return foreign.foreign_losses(extensions, path, form.name)
