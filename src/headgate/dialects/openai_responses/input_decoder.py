"""Input items of a Responses request, read into neutral messages.

The wire has a flat list of items; neutral messages are turns. What the model produced in one go (reasoning, a
message, calls, hosted tools' items) becomes one assistant message, results that follow each other one tool
message. An item that no other dialect knows is an `Opaque` part of an assistant or a tool message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from headgate.core.messages import (
    JSON,
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from headgate.dialects.json_bodies import (
    MAX_ITEMS,
    Fields,
    bounded,
    missing,
    wrong_type,
    wrong_value,
)
from headgate.dialects.openai_responses.content import decode_content, decode_output, output_text
from headgate.dialects.openai_responses.vocabulary import (
    NAME,
    extended,
    own_id,
    settled,
    unseal_reasoning,
)

ROLES = ("user", "assistant", "system", "developer")

_OUTPUTS = {"function_call_output": "function", "custom_tool_call_output": "custom"}
_MADE_BY_MODEL = frozenset({"mcp_list_tools", "mcp_approval_request", "program", "compaction"})


def made_by_model(kind: str) -> bool:
    """An item of this type stands in an answer; others are the caller's."""
    return kind.endswith("_call") or kind in _MADE_BY_MODEL


class InputDecoder:
    """Reads items in order into `messages`.

    Args:
        stateful: part of the conversation is held by the server, so that results may belong to calls which
            are not among the items.
    """

    def __init__(self, stateful: bool) -> None:
        self.messages: list[Message] = []
        self._stateful = stateful
        self._run: list[Part] = []
        self._paths: list[str] = []
        self._role: Role = "assistant"
        self._calls: dict[str, str] = {}
        self._parts = 0

    def decode(self, value: object, path: str = "input") -> None:
        if value is None:
            return
        if isinstance(value, str):
            self.messages.append(Message("user", (Text(value),), path=path, part_paths=(path,)))
            return
        if not isinstance(value, list):
            raise wrong_type(path, "a string or an array of objects", value)
        for index, item in enumerate(bounded(value, path)):
            self._item(Fields.of(item, f"{path}[{index}]"))
            if self._parts > MAX_ITEMS:
                raise wrong_value(path, f"its items have more than {MAX_ITEMS:,} content parts in all")
        self._close()

    def _item(self, fields: Fields) -> None:
        kind = fields.text("type")
        if kind is None:
            if fields.peek("role") is None and fields.peek("id") is None:
                raise missing(fields.param("type"))
            kind = "item_reference" if fields.peek("role") is None else "message"
        match kind:
            case "message":
                self._message(fields)
            case "reasoning":
                for part in decode_reasoning(fields):
                    self._add("assistant", part, fields.path)
            case "function_call" | "custom_tool_call":
                self._call(fields, "custom" if kind == "custom_tool_call" else "function")
            case "function_call_output" | "custom_tool_call_output":
                self._result(fields, kind)
            case "image_generation_call" if fields.peek("id") and isinstance(fields.peek("result"), str):
                self._add("assistant", generated_image(fields), fields.path)
            case "item_reference":
                self._add("tool", Opaque(NAME, {"type": kind, "id": fields.required_text("id")}), fields.path)
                self._stateful = True
            case _:
                role: Role = "assistant" if made_by_model(kind) else "tool"
                self._add(role, Opaque(NAME, {"type": kind, **fields.rest()}), fields.path)

    def _message(self, fields: Fields) -> None:
        role = fields.word("role", ROLES)
        content = fields.take("content")
        if content is None:
            raise missing(fields.param("content"))
        path = fields.param("content")
        if role == "assistant":
            if self._run and isinstance(self._run[-1], Text | Refusal):
                self._close()
            for number, part in enumerate(assistant_content(content, path, settled(fields.rest()))):
                self._add("assistant", part, f"{path}[{number}]")
            return
        parts = decode_content(content, path)
        if not parts:
            raise wrong_value(path, "the array must hold at least one part")
        self._close()
        self._parts += len(parts)
        asking: Role = "user" if role == "user" else "system" if role == "system" else "developer"
        extensions = extended(settled(fields.rest()))
        self.messages.append(Message(asking, parts, extensions=extensions, path=fields.path))

    def _call(self, fields: Fields, kind: str) -> None:
        part = decode_call(fields, kind)
        self._calls[part.id] = kind
        self._add("assistant", part, fields.path)

    def _result(self, fields: Fields, kind: str) -> None:
        call_id = fields.required_text("call_id")
        output = fields.take("output")
        if output is None:
            raise missing(fields.param("output"))
        parts = decode_output(output, fields.param("output"))
        called = self._calls.get(call_id)
        if called is None and not self._stateful:
            raise wrong_value(
                fields.param("call_id"), "no tool call with this id stands before its output in 'input'"
            )
        rest = settled(fields.rest())
        if called != _OUTPUTS[kind] and (called is not None or _OUTPUTS[kind] == "custom"):
            rest["type"] = kind
        self._parts += len(parts)
        self._add("tool", ToolResult(call_id, parts, extensions=extended(rest)), fields.path)

    def _add(self, role: Role, part: Part, path: str) -> None:
        if role != self._role:
            self._close()
        self._role = role
        self._run.append(part)
        self._paths.append(path)
        self._parts += 1

    def _close(self) -> None:
        if self._run:
            word = "output" if self._role == "tool" else "content"
            parts, paths = tuple(self._run), tuple(self._paths)
            self.messages.append(Message(self._role, parts, path=paths[0], content=word, part_paths=paths))
            self._run.clear()
            self._paths.clear()


def assistant_content(content: object, path: str, item: Mapping[str, Any]) -> list[Part]:
    """Parts of an assistant's message. The first holds the message's own fields under `item`."""
    if isinstance(content, str):
        content = [{"type": "output_text", "text": content}]
    if not isinstance(content, list):
        raise wrong_type(path, "a string or an array of objects", content)
    parts = [_output_part(each, f"{path}[{index}]") for index, each in enumerate(bounded(content, path))]
    if not parts:
        parts = [Text("")]
    first = parts[0]
    if item and isinstance(first, Opaque) and isinstance(first.value, dict):
        parts[0] = Opaque(NAME, {**first.value, **item})
    elif item and isinstance(first, Text | Refusal):
        kept = {**first.extensions.get(NAME, {}), "item": dict(item)}
        parts[0] = replace(first, extensions={NAME: kept})
    return parts


def _output_part(value: object, path: str) -> Part:
    fields = Fields.of(value, path)
    kind = fields.required_text("type")
    match kind:
        case "output_text" | "input_text":
            return output_text(fields)
        case "refusal":
            return Refusal(fields.required_text("refusal"), extensions=extended(fields.rest()))
        case _:
            content: list[JSON] = [{"type": kind, **fields.rest()}]
            return Opaque(NAME, {"type": "message", "role": "assistant", "content": content})


def decode_call(fields: Fields, kind: str) -> ToolCall:
    """A `function_call` or `custom_tool_call` item, its `type` taken already."""
    call_id, name = fields.required_text("call_id"), fields.required_text("name")
    arguments = fields.required_text("input" if kind == "custom" else "arguments")
    return ToolCall(call_id, name, arguments, kind, extensions=extended(settled(fields.rest())))


def decode_reasoning(fields: Fields) -> list[Reasoning]:
    """One part for each text of a `reasoning` item, its `type` taken already; all but the first `continued`.

    The last one holds what is encrypted. The item's own fields are in the first one's extensions.
    """
    encrypted = fields.text("encrypted_content")
    minted = fields.peek("id") is not None and own_id(fields.peek("id")) is None
    texts: list[tuple[str, str]] = []
    for place, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
        for index, item in enumerate(fields.items(place) or ()):
            each = Fields.of(item, f"{fields.param(place)}[{index}]")
            each.word("type", (kind,))
            texts.append((place, each.required_text("text")))
    item = settled(fields.rest())
    opaque = {} if encrypted is None else unseal_reasoning(encrypted)
    origin = opaque.get("origin", None if minted else NAME)
    parts: list[Reasoning] = []
    for number, (place, text) in enumerate(texts or [("summary", "")]):
        marks = reasoning_marks(item if number == 0 else {}, place, number > 0)
        parts.append(Reasoning(text, origin=origin, extensions=extended(marks)))
    if opaque:
        last = parts[-1]
        parts[-1] = Reasoning(last.text, **opaque, extensions=last.extensions)
    return parts


def reasoning_marks(item: Mapping[str, Any], place: str, continued: bool) -> dict[str, Any]:
    """Extensions of one text of a reasoning item; none for the usual one."""
    marks = dict(item)
    if place == "content":
        marks["place"] = place
    if continued:
        marks["continued"] = True
    return marks


def generated_image(fields: Fields) -> Media:
    """An `image_generation_call` item with its image, its `type` taken already."""
    data, form = fields.required_text("result"), fields.text("output_format")
    mime = f"image/{form or 'png'}"
    rest = settled(fields.rest())
    if form is not None:
        rest["output_format"] = form
    return Media("image", mime, data, extensions=extended(rest))
