"""Requests of Cohere's Command R models, both ways.

There are no ids of tool calls: a result holds the call that it answers. The turn under way is `message` with,
once tools were called for it, `tool_results`; what was before is `chat_history`.

Source: Amazon Bedrock user guide, "Cohere Command R and Command R+ models"; Cohere API reference, "Chat"
(v1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, TypeAlias

import msgspec

from headgate.core.errors import InvalidRequest
from headgate.core.loss import Loss
from headgate.core.messages import (
    JSON,
    ChatRequest,
    Extensions,
    Message,
    Part,
    Refusal,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from headgate.dialects import foreign
from headgate.dialects.bedrock.parameter_definitions import definitions_from_schema, schema_from_definitions
from headgate.dialects.json_bodies import (
    MAX_ITEMS,
    Fields,
    decode_object,
    encode,
    missing,
    wrong_type,
    wrong_value,
)

NAME = "invoke_cohere"

_SETTINGS: Mapping[str, str] = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "p",
    "top_k": "k",
    "seed": "seed",
    "stop": "stop_sequences",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_ROLES: Mapping[Role, str] = {
    "user": "USER",
    "assistant": "CHATBOT",
    "system": "SYSTEM",
    "developer": "SYSTEM",
    "tool": "TOOL",
}
_NO_SETTING = "the model has no such setting"
_NO_PLACE = ("response_format", "reasoning", "user", "metadata", "service_tier")


def decode_request(body: bytes, *, model: str | None = None, stream: bool | None = None) -> ChatRequest:
    """Read a request body. Calls get ids by their order; what has no neutral place goes to the extensions.

    Raises:
        InvalidRequest: with `param` naming the field ("chat_history[2].message").
    """
    fields = Fields(decode_object(body))
    if not model:
        raise missing("modelId")
    conversation = _Conversation()
    if preamble := fields.text("preamble"):
        conversation.add("system", [(Text(preamble), "preamble")], "preamble")
    for index, item in enumerate(fields.items("chat_history") or ()):
        conversation.take(Fields.of(item, f"chat_history[{index}]"))
    asked = fields.required_text("message")
    results = fields.items("tool_results") or []
    if not asked and not results:
        raise wrong_value("message", "it must hold a text")
    if asked:
        conversation.add("user", [(Text(asked), "message")], "message")
    if results:
        conversation.results(results, "tool_results", new=bool(asked))
    tools = tuple(
        _tool(Fields.of(item, f"tools[{index}]")) for index, item in enumerate(fields.items("tools") or ())
    )
    sampling = _sampling(fields)
    extra = {key: value for key, value in fields.rest().items() if value is not None}
    return ChatRequest(
        model=model,
        messages=tuple(conversation.messages),
        tools=tools,
        sampling=sampling,
        stream=bool(stream),
        include_usage=bool(stream),  # Bedrock always tells
        extensions={NAME: extra} if extra else {},
    )


class _Conversation:
    """Messages as they are read, and the calls that wait for their results."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._numbers = count()
        self._open: dict[tuple[str, bytes], list[ToolCall]] = {}
        self._parts = 0

    def add(
        self,
        role: Role,
        placed: Sequence[tuple[Part, str]],
        path: str,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._parts += len(placed)
        if self._parts > MAX_ITEMS:
            raise wrong_value("chat_history", f"it has more than {MAX_ITEMS:,} parts in all")
        extensions: Extensions = {NAME: dict(extra)} if extra else {}
        parts, places = tuple(part for part, _ in placed), tuple(place for _, place in placed)
        self.messages.append(Message(role, parts, extensions=extensions, path=path, part_paths=places))

    def take(self, fields: Fields) -> None:
        """One entry of the history."""
        role = fields.word("role", ("USER", "CHATBOT", "SYSTEM", "TOOL"))
        text = fields.text("message")
        if role == "TOOL":
            results = fields.items("tool_results")
            if results is None:
                raise missing(fields.param("tool_results"))
            self.results(results, fields.param("tool_results"), new=False)
            return
        if text is None and role != "CHATBOT":
            raise missing(fields.param("message"))
        placed: list[tuple[Part, str]] = [(Text(text), fields.param("message"))] if text else []
        if role == "CHATBOT":
            calls = fields.items("tool_calls") or []
            for index, item in enumerate(calls):
                path = f"{fields.param('tool_calls')}[{index}]"
                call, key = self._call(Fields.of(item, path))
                self._open.setdefault(key, []).append(call)
                placed.append((call, path))
        name: Role = "assistant" if role == "CHATBOT" else "system" if role == "SYSTEM" else "user"
        self.add(name, placed, fields.path, fields.rest())

    def _call(self, fields: Fields) -> tuple[ToolCall, tuple[str, bytes]]:
        """A call, and by what a result finds it."""
        name, parameters = fields.required_text("name"), fields.mapping("parameters") or {}
        call = ToolCall(f"call_{next(self._numbers)}", name, encode(parameters).decode())
        return call, (name, msgspec.json.encode(parameters, order="deterministic"))

    def results(self, items: Sequence[Any], path: str, *, new: bool) -> None:
        """Results, each for a call that waits for it; else, or where all are `new`, for one of its own."""
        if new:
            self._open.clear()
        calls: list[tuple[Part, str]] = []
        results: list[tuple[Part, str]] = []
        for index, item in enumerate(items):
            fields = Fields.of(item, f"{path}[{index}]")
            inner = fields.required_fields("call")
            call, key = self._call(inner)
            if waiting := self._open.get(key):
                call = waiting.pop(0)
            else:
                calls.append((call, inner.path))
            outputs = fields.items("outputs")
            if outputs is None:
                raise missing(fields.param("outputs"))
            parts = tuple(
                _output(output, f"{fields.param('outputs')}[{number}]")
                for number, output in enumerate(outputs)
            )
            results.append((ToolResult(call.id, parts), fields.path))
        if calls:
            self.add("assistant", calls, path)
        self.add("tool", results, path)


def _output(value: object, path: str) -> Text:
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    match value:
        case {"text": str(text)} if len(value) == 1:
            return Text(text)
        case _:
            return Text(encode(value).decode())


def _tool(fields: Fields) -> Tool:
    name, description = fields.required_text("name"), fields.text("description")
    path = fields.param("parameter_definitions")
    definitions = fields.mapping("parameter_definitions")
    parameters, rest = schema_from_definitions(definitions or {}, path)
    extra = fields.rest() | ({"parameter_definitions": rest} if rest else {})
    extensions: Extensions = {NAME: extra} if extra else {}
    return Tool(name, description, parameters, extensions=extensions, path=fields.path)


def _sampling(fields: Fields) -> Sampling:
    stop = fields.items("stop_sequences") or []
    for index, item in enumerate(stop):
        if not isinstance(item, str):
            raise wrong_type(f"stop_sequences[{index}]", "a string", item)
    top_k = fields.number("k")
    if top_k is not None and (top_k < 0 or top_k != int(top_k)):
        raise wrong_value("k", "it must be a whole number of 0 or more")
    return Sampling(
        max_tokens=fields.integer("max_tokens", 0),
        temperature=fields.number("temperature"),
        top_p=fields.number("p"),
        top_k=None if top_k is None else int(top_k),
        seed=fields.integer("seed"),
        stop=tuple(stop),
        presence_penalty=fields.number("presence_penalty"),
        frequency_penalty=fields.number("frequency_penalty"),
    )


# Writing.

Entry: TypeAlias = dict[str, Any]


def encode_request(request: ChatRequest, *, model: str | None = None) -> tuple[bytes, list[Loss]]:
    """The request body, and what had no place in it.

    Raises:
        InvalidRequest: the conversation ends with the model's own words, or a result answers no call.
    """
    losses = _foreign(request.extensions, "")
    wire = _Writer(losses).write(request.messages)
    _put_tools(request, wire, losses)
    losses += [Loss(key, _NO_SETTING) for key in _NO_PLACE if getattr(request, key) is not None]
    if request.parallel_tool_calls is False:
        losses.append(Loss("parallel_tool_calls", "the dialect can't forbid parallel calls"))
    for key in Sampling.__dataclass_fields__:
        value = getattr(request.sampling, key)
        if value is None or value == () or (key == "n" and value == 1) or (key, value) == ("logprobs", False):
            continue
        if key in _SETTINGS:
            wire[_SETTINGS[key]] = list(value) if key == "stop" else value
        else:
            losses.append(Loss(key, _NO_SETTING))
    own: dict[str, Any] = dict(request.extensions.get(NAME, {}))
    return encode(wire | own), losses


class _Writer:
    """Messages, split into what was before and the turn under way."""

    def __init__(self, losses: list[Loss]) -> None:
        self._losses = losses
        self._calls: dict[str, ToolCall] = {}

    def write(self, messages: Sequence[Message]) -> Entry:
        asked = self._asked(messages)
        preamble: list[str] = []
        history: list[Entry] = []
        wire: Entry = {}
        results: list[Entry] = []
        leading = True
        for index, message in enumerate(messages):
            is_system = message.role in ("system", "developer")
            leading = leading and is_system
            entry = self._entry(message, index)
            if leading:
                preamble.append(entry["message"])
            elif index == asked:
                wire["message"] = entry["message"]
            elif index < asked or is_system:
                if index > asked:
                    self._lose(message.place(index), "moved before the user's last message")
                history += [entry] if any(entry[key] for key in entry if key != "role") else []
            else:
                results += self._under_way(entry, message, index)
        if preamble:
            wire["preamble"] = "\n\n".join(preamble)
        if history:
            wire["chat_history"] = history
        if results:
            wire["tool_results"] = results
        return wire

    def _asked(self, messages: Sequence[Message]) -> int:
        """Which message is the user's last."""
        last = len(messages) - 1
        if last >= 0 and messages[last].role == "assistant":
            raise InvalidRequest(
                "The target takes a user's message or the results of tools last, not the model's own words.",
                param=messages[last].place(last),
            )
        found = next((index for index in range(last, -1, -1) if messages[index].role == "user"), None)
        if found is None:
            raise InvalidRequest("The target needs a user's message.", param="messages")
        return found

    def _under_way(self, entry: Entry, message: Message, index: int) -> list[Entry]:
        """The results for the user's last message. They hold the calls; nothing else has a place."""
        if entry.get("message"):
            path = next(
                message.place_of(index, number)
                for number, part in enumerate(message.parts)
                if isinstance(part, Text | Refusal)
            )
            self._lose(path, "there is no place for words beside the calls that are answered")
        found: list[Entry] = entry.get("tool_results", [])
        return found

    def _entry(self, message: Message, index: int) -> Entry:
        path = message.place(index)
        self._losses += _foreign(message.extensions, path)
        if message.name is not None:
            self._lose(f"{path}.name", "messages have no name in this dialect")
        texts: list[str] = []
        calls: list[Entry] = []
        results: list[Entry] = []
        for number, part in enumerate(message.parts):
            where = message.place_of(index, number)
            match part:
                case ToolCall():
                    self._hints(part, where)
                    self._calls[part.id] = part
                    calls.append(self._call(part, where))
                case ToolResult():
                    results.append(self._result(part, where, message.content))
                case _:
                    texts.append(self._text(part, where))
        if message.role == "tool":
            return {"role": _ROLES["tool"], "tool_results": results}
        entry: Entry = {"role": _ROLES[message.role], "message": "".join(texts)}
        if calls:
            entry["tool_calls"] = calls
        return entry | dict(message.extensions.get(NAME, {}))

    def _call(self, part: ToolCall, path: str) -> Entry:
        try:
            parameters = msgspec.json.decode(part.arguments or "{}")
        except (ValueError, RecursionError):
            parameters = None
        if not isinstance(parameters, dict):
            self._lose(f"{path}.arguments", "they are no JSON object: sent as a text under the name 'input'")
            parameters = {"input": part.arguments}
        return {"name": part.name, "parameters": parameters}

    def _result(self, part: ToolResult, path: str, list_word: str) -> Entry:
        self._hints(part, path)
        call = self._calls.get(part.call_id)
        if call is None:
            raise InvalidRequest("This tool result answers no call of the conversation.", param=path)
        if part.is_error:
            self._lose(f"{path}.is_error", "results are not marked as errors in this dialect")
        outputs = [
            _object(text)
            for number, item in enumerate(part.parts)
            if (text := self._text(item, f"{path}.{list_word}[{number}]"))
        ]
        return {"call": self._silently(call), "outputs": outputs}

    def _silently(self, call: ToolCall) -> Entry:
        """The call again; what it lost was told where it stood first."""
        return _Writer([])._call(call, "")

    def _text(self, part: Part, path: str) -> str:
        if not isinstance(part, Text | Refusal):
            self._lose(path, f"{type(part).__name__.lower()} parts have no place in this dialect")
            return ""
        self._hints(part, path)
        if isinstance(part, Refusal):
            self._lose(path, "a refusal is told as plain text")
        elif part.citations:
            self._lose(f"{path}.citations", "the target takes no citations back")
        return part.text

    def _hints(self, part: Text | Refusal | ToolCall | ToolResult, path: str) -> None:
        self._losses += _foreign(part.extensions, path)
        if not isinstance(part, Refusal) and part.cache is not None:
            self._lose(f"{path}.cache_control", "the target takes no cache hints")

    def _lose(self, path: str, reason: str) -> None:
        self._losses.append(Loss(path, reason))


def _object(text: str) -> Entry:
    """An output of a tool is an object."""
    try:
        value: JSON = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"text": text}


def _put_tools(request: ChatRequest, wire: Entry, losses: list[Loss]) -> None:
    tools: list[Entry] = []
    for index, tool in enumerate(request.tools):
        path = tool.place(index)
        if tool.kind != "function":
            losses.append(Loss(path, "another vendor's own kind of tool"))
            continue
        losses += _foreign(tool.extensions, path)
        if tool.strict is not None:
            losses.append(Loss(f"{path}.strict", "the dialect has no such setting"))
        if tool.cache is not None:
            losses.append(Loss(f"{path}.cache_control", "the target takes no cache hints"))
        own: dict[str, Any] = dict(tool.extensions.get(NAME, {}))
        definitions, whole = definitions_from_schema(tool.parameters or {})
        if not whole:
            losses.append(
                Loss(f"{path}.parameters", "of parameters only names, types and descriptions are taken")
            )
        definitions |= own.pop("parameter_definitions", {})
        written = {"name": tool.name, "description": tool.description or ""}
        tools.append(written | ({"parameter_definitions": definitions} if definitions else {}) | own)
    choice = request.tool_choice
    if choice is not None and choice.mode == "none":
        losses.append(Loss("tool_choice", "the dialect has no 'none': the tools were left out"))
        tools = []
    elif choice is not None and choice.mode != "auto":
        losses.append(Loss("tool_choice", "the model can't be told to call a tool"))
    if tools:
        wire["tools"] = tools


def _foreign(extensions: Extensions, path: str) -> list[Loss]:
    return foreign.foreign_losses(extensions, path, NAME)
