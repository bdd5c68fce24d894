"""Neutral messages, written as the input items of a Responses request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import (
    Media,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from headgate.dialects.openai_responses.content import ContentEncoder
from headgate.dialects.openai_responses.vocabulary import NAME, foreign_losses, own


class InputEncoder:
    """Writes messages one by one into `items` and notes what is lost.

    Args:
        losses: added to.
        breakpoints: the target takes marks for its prompt cache.
    """

    def __init__(self, losses: list[Loss], breakpoints: bool) -> None:
        self.items: list[dict[str, Any]] = []
        self._losses = losses
        self._content = ContentEncoder(losses, breakpoints)
        self._custom: set[str] = set()

    def encode(self, message: Message, index: int) -> None:
        """Each tool result is an item of its own, and first; then the message and what else it holds."""
        path = message.place(index)
        places = [message.place_of(index, number) for number in range(len(message.parts))]
        self._losses += foreign_losses(message.extensions, path)
        if message.name is not None:
            self._lose(f"{path}.name", "messages have no name in this dialect")
        if message.role == "assistant":
            self._assistant(zip(message.parts, places, strict=True))
            return
        rest: list[tuple[Part, str]] = []
        for part, part_path in zip(message.parts, places, strict=True):
            if isinstance(part, ToolResult):
                self._result(part, part_path, message.content)
            elif message.role != "tool":
                rest.append((part, part_path))
            elif isinstance(part, Opaque) and part.dialect == NAME and isinstance(part.value, dict):
                self.items.append(part.value)
            else:
                self._lose(part_path, f"a {_kind(part)} part has no place beside tool results")
        if message.role != "tool" and (rest or not message.parts):
            self._plain(message, rest)

    def _plain(self, message: Message, parts: list[tuple[Part, str]]) -> None:
        content = self._content.inputs(parts)
        if content or not parts:
            self.items.append(
                {"type": "message", "role": message.role, "content": content} | own(message.extensions)
            )

    def _assistant(self, parts: Iterable[tuple[Part, str]]) -> None:
        message: dict[str, Any] | None = None
        thought: dict[str, Any] | None = None
        first = len(self.items)
        for part, part_path in parts:
            match part:
                case Text() | Refusal():
                    thought = None
                    item = own(part.extensions).get("item")
                    if message is None or isinstance(item, dict):
                        message = _message(item if isinstance(item, dict) else {})
                        self.items.append(message)
                    message["content"].append(self._content.output(part, part_path))
                    continue
                case Reasoning():
                    message = None
                    thought = self._reasoning(part, part_path, thought)
                    continue
                case ToolCall():
                    self._call(part, part_path)
                case Opaque(dialect=dialect, value=value) if dialect == NAME and isinstance(value, dict):
                    self.items.append(value)
                case Media():
                    self._image(part, part_path)
                case Opaque():
                    self._lose(part_path, f"a block that only {part.dialect} understands")
                case _:
                    self._lose(part_path, f"a {_kind(part)} part has no place in an assistant's message")
            message = thought = None
        self.items[first:] = [_shortened(item) for item in self.items[first:]]

    def _reasoning(self, part: Reasoning, path: str, thought: dict[str, Any] | None) -> dict[str, Any] | None:
        """The item that the part went to: of its own, or the one that it continues.

        The vendor takes back only what it made itself.
        """
        if part.origin != NAME:
            whose = f"of {part.origin}" if part.origin else "of unknown origin"
            if part.text or part.signature or part.data:
                self._lose(path, f"reasoning {whose}, which the target would refuse")
            return None
        self._losses += foreign_losses(part.extensions, path)
        marks = own(part.extensions)
        place, continued = marks.pop("place", "summary"), marks.pop("continued", False)
        if thought is None or not continued:
            thought = {"type": "reasoning", "summary": []} | marks
            self.items.append(thought)
        if part.text or continued:
            kind = "reasoning_text" if place == "content" else "summary_text"
            thought.setdefault(place, []).append({"type": kind, "text": part.text})
        encrypted = part.data or part.signature
        if encrypted is not None:
            thought["encrypted_content"] = encrypted
        return thought

    def _call(self, part: ToolCall, path: str) -> None:
        self._losses += foreign_losses(part.extensions, path)
        if part.cache is not None:
            self._lose(f"{path}.cache_control", "only input parts can be marked for the cache")
        if part.kind == "custom":
            self._custom.add(part.id)
        self.items.append(encode_call(part))

    def _result(self, part: ToolResult, path: str, list_word: str) -> None:
        self._content.foreign(part, path)
        if part.is_error:
            self._lose(f"{path}.is_error", "a tool's output can't be marked as an error")
        if part.cache is not None:
            self._lose(f"{path}.cache_control", "only input parts can be marked for the cache")
        kind = "custom_tool_call_output" if part.call_id in self._custom else "function_call_output"
        inner = [(item, f"{path}.{list_word}[{index}]") for index, item in enumerate(part.parts)]
        output = self._content.inputs(inner) or ""
        self.items.append({"type": kind, "call_id": part.call_id, "output": output} | own(part.extensions))

    def _image(self, part: Media, path: str) -> None:
        """A generated image goes back to the vendor that generated it."""
        extra = own(part.extensions)
        if part.kind != "image" or part.data is None or "id" not in extra:
            self._lose(path, f"the dialect takes no {part.kind} in an assistant's message")
            return
        self._losses += foreign_losses(part.extensions, path)
        self.items.append(encode_image(part, str(extra["id"])))

    def _lose(self, path: str, reason: str) -> None:
        self._losses.append(Loss(path, reason))


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    """An assistant's message; one that the vendor knows by its id comes with its status."""
    wire: dict[str, Any] = {"type": "message", "role": "assistant", "content": []}
    if "id" in item:
        wire["status"] = "completed"
    return wire | dict(item)


def _shortened(item: dict[str, Any]) -> dict[str, Any]:
    """A message of one plain text without an id has the form that the vendor's types allow: a string."""
    match item:
        case {"type": "message", "content": [{"type": "output_text", "text": str(text), **rest}]}:
            if "id" not in item and rest == {"annotations": []}:
                return item | {"content": text}
    return item


def encode_call(part: ToolCall) -> dict[str, Any]:
    """A call item, without an id if its upstream gave none."""
    custom = part.kind == "custom"
    wire = {
        "type": "custom_tool_call" if custom else "function_call",
        "call_id": part.id,
        "name": part.name,
        "input" if custom else "arguments": part.arguments,
    }
    return wire | own(part.extensions)


def encode_image(part: Media, item_id: str) -> dict[str, Any]:
    wire = {
        "type": "image_generation_call",
        "id": item_id,
        "status": "completed",
        "result": part.data,
    }
    extra = own(part.extensions)
    if part.mime is not None and "output_format" not in extra and part.mime != "image/png":
        wire["output_format"] = part.mime.removeprefix("image/")
    return wire | extra


def _kind(part: Part) -> str:
    return type(part).__name__.lower()
