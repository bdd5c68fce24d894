"""Neutral messages, written as those of a Chat Completions request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from headgate.core.loss import Loss
from headgate.core.messages import (
    CacheHint,
    Extensions,
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
from headgate.dialects import foreign
from headgate.dialects.json_bodies import join
from headgate.dialects.openai_chat.caching import FIELD, hint_to_wire
from headgate.dialects.openai_chat.message_decoder import AUDIO_TYPES
from headgate.dialects.openai_chat.profile import Profile
from headgate.dialects.openai_chat.thinking_encoder import ThinkingEncoder
from headgate.dialects.openai_chat.vocabulary import NAME, own
from headgate.dialects.openai_shared import VENDOR

_AUDIO_FORMATS = {mime: form for form, mime in AUDIO_TYPES.items()}


class MessageEncoder:
    """Writes messages one by one, as the upstream's profile has them, and adds to `losses`."""

    def __init__(self, losses: list[Loss], profile: Profile) -> None:
        self._losses = losses
        self._profile = profile

    def encode(self, message: Message, index: int) -> list[dict[str, Any]]:
        """The wire messages of one neutral message: each tool result is a message of its own, and first."""
        path = message.place(index)
        self._foreign(message.extensions, path)
        if message.name is not None and not self._profile.names:
            self._lose(f"{path}.name", "the target takes no names")
            message = replace(message, name=None)
        written: list[dict[str, Any]] = []
        remaining: list[tuple[Part, str]] = []
        for number, part in enumerate(message.parts):
            part_path = message.place_of(index, number)
            if isinstance(part, ToolResult):
                written.append(self._result(message, part, part_path))
            else:
                remaining.append((part, part_path))
        if message.role == "assistant":
            written += self._assistant(message, remaining)
        elif message.role != "tool":
            written += self._plain(message, remaining)
        else:
            for part, part_path in remaining:
                self._lose(part_path, f"a {_kind(part)} part has no place in a tool message")
        return written

    def _plain(self, message: Message, parts: list[tuple[Part, str]]) -> list[dict[str, Any]]:
        content = self._content(parts)
        if content is None:
            return []
        renamed = message.role == "developer" and not self._profile.developer_role
        wire: dict[str, Any] = {"role": "system" if renamed else message.role, "content": content}
        if message.name is not None:
            wire["name"] = message.name
        return [wire | own(message.extensions)]

    def _assistant(self, message: Message, parts: list[tuple[Part, str]]) -> list[dict[str, Any]]:
        wire: dict[str, Any] = {"role": "assistant"}
        thinking = ThinkingEncoder([part for part, _ in parts], self._profile)
        content: list[tuple[Part, str]] = []
        for index, (part, path) in enumerate(parts):
            match part:
                case Reasoning():
                    self._foreign_reasoning(part, path)
                    self._losses += thinking.add(index, path)
                case ToolCall() if "function_call" in own(part.extensions):
                    marked = own(part.extensions)["function_call"]
                    wire["function_call"] = {"name": part.name, "arguments": part.arguments, **marked}
                case ToolCall():
                    self._foreign(part.extensions, path)
                    hint = hint_fields(part.cache, self._profile, path, self._losses)
                    wire.setdefault("tool_calls", []).append(thinking.signed(encode_call(part) | hint))
                case _:
                    content.append((part, path))
        match content:
            case [(Refusal(text=text, extensions=extensions), _)] if not extensions:
                wire |= {"content": None, "refusal": text}
            case _:
                wire["content"] = self._content(content)
        wire |= thinking.fields()
        if message.name is not None:
            wire["name"] = message.name
        wire.update(own(message.extensions))
        meant = wire["content"] is not None or wire.keys() - {"role", "content", "name"}
        return [wire] if meant else []

    def _foreign_reasoning(self, part: Reasoning, path: str) -> None:
        """What the upstream that made the thoughts wants back with their signature goes where that goes."""
        others = {key: value for key, value in part.extensions.items() if key != part.origin}
        self._foreign(others, path)

    def _result(self, message: Message, part: ToolResult, path: str) -> dict[str, Any]:
        self._foreign(part.extensions, path)
        legacy = own(message.extensions).get("role") == "function"
        kept: list[tuple[Part, str]] = []
        for index, item in enumerate(part.parts):
            inner = f"{path}.{message.content}[{index}]"
            if isinstance(item, Media):
                self._lose(inner, f"a tool message can't hold {item.kind}s")
            else:
                kept.append((item, inner))
        if part.is_error:
            self._lose(f"{path}.is_error", "a tool message can't be marked as an error")
        if part.cache is not None and not self._profile.cache_control:
            self._lose(f"{path}.{FIELD}", "the target takes no cache hints")
        elif part.cache is not None:
            last, last_path = kept.pop() if kept else (None, path)
            if isinstance(last, Text):
                kept.append((replace(last, cache=last.cache or part.cache), last_path))
            else:
                kept += [(last, last_path)] if last is not None else []
                self._lose(f"{path}.{FIELD}", "a tool message can be marked for caching only at its text")
        content = self._content(kept)
        if legacy:
            return {"role": "function", "name": message.name, "content": content, **own(message.extensions)}
        wire: dict[str, Any] = {
            "role": "tool",
            "tool_call_id": part.call_id,
            "content": "" if content is None else content,
        }
        if message.name is not None:
            wire["name"] = message.name
        return wire | own(message.extensions)

    def _content(self, parts: Iterable[tuple[Part, str]]) -> str | list[dict[str, Any]] | None:
        """A string for a single plain text, a list otherwise, None for nothing."""
        written = [wire for part, path in parts if (wire := self._part(part, path)) is not None]
        if not written:
            return None
        if len(written) == 1 and written[0].keys() == {"type", "text"} and written[0]["type"] == "text":
            text = written[0]["text"]
            assert isinstance(text, str)
            return text
        return written

    def _part(self, part: Part, path: str) -> dict[str, Any] | None:
        match part:
            case Text():
                self._foreign(part.extensions, path)
                if part.citations:
                    self._lose(f"{path}.citations", "a request's text parts have no annotations")
                hint = hint_fields(part.cache, self._profile, path, self._losses)
                return {"type": "text", "text": part.text, **hint, **own(part.extensions)}
            case Refusal():
                return {"type": "refusal", "refusal": part.text, **own(part.extensions)}
            case Media():
                self._foreign(part.extensions, path)
                media = self._media(part, path)
                return media and media | hint_fields(part.cache, self._profile, path, self._losses)
            case Opaque(dialect=dialect, value=value) if dialect == NAME and isinstance(value, dict):
                return value
            case Opaque():
                self._lose(path, f"a block that only {part.dialect} understands")
            case _:
                self._lose(path, f"a {_kind(part)} part has no place in this message")
        return None

    def _media(self, part: Media, path: str) -> dict[str, Any] | None:
        match part:
            case Media(kind="image" | "video"):
                link = _link(part)
                if link is not None:
                    return _nest(f"{part.kind}_url", link, part.extensions)
            case Media(kind="audio", data=str(data)):
                mime = part.mime or "audio/wav"
                sound = {"data": data, "format": _AUDIO_FORMATS.get(mime, mime.removeprefix("audio/"))}
                return _nest("input_audio", sound, part.extensions)
            case Media(kind="file"):
                file = _file(part)
                if file is not None:
                    return _nest("file", file, part.extensions)
        how = "by URL" if part.url is not None else "by file id"
        self._lose(path, f"the dialect takes no {part.kind} {how}")
        return None

    def _foreign(self, extensions: Extensions, path: str) -> None:
        self._losses += foreign_losses(extensions, path)

    def _lose(self, path: str, reason: str) -> None:
        self._losses.append(Loss(path, reason))


def hint_fields(hint: CacheHint | None, profile: Profile, path: str, losses: list[Loss]) -> dict[str, Any]:
    """`cache_control` for an upstream that knows it; elsewhere a loss."""
    if hint is None:
        return {}
    if not profile.cache_control:
        losses.append(Loss(join(path, FIELD), "the target takes no cache hints"))
        return {}
    return hint_to_wire(hint)


def foreign_losses(extensions: Extensions, path: str) -> list[Loss]:
    """One loss for each field that belongs to another dialect."""
    return foreign.foreign_losses(extensions, path, NAME, VENDOR)


def encode_call(part: ToolCall) -> dict[str, Any]:
    """One entry of `tool_calls`."""
    kind, arguments = ("custom", "input") if part.kind == "custom" else ("function", "arguments")
    body = {"name": part.name, arguments: part.arguments}
    return {"id": part.id, "type": kind} | _nest(kind, body, part.extensions, typed=False)


def _nest(key: str, body: Mapping[str, Any], extensions: Extensions, typed: bool = True) -> dict[str, Any]:
    """`{"type": key, key: body}` with the unknown fields of both levels put back."""
    outer = own(extensions)
    inner = outer.pop(key, None)
    wire: dict[str, Any] = {"type": key} if typed else {}
    wire[key] = {**body, **inner} if isinstance(inner, dict) else dict(body)
    return wire | outer


def _link(part: Media) -> dict[str, Any] | None:
    if part.data is not None:
        url = f"data:{part.mime or 'application/octet-stream'};base64,{part.data}"
    elif part.url is not None:
        url = part.url
    else:
        return None
    return {"url": url} if part.detail is None else {"url": url, "detail": part.detail}


def _file(part: Media) -> dict[str, Any] | None:
    if part.file_id is not None:
        file = {"file_id": part.file_id}
    elif part.data is not None:
        file = {"file_data": part.data if part.mime is None else f"data:{part.mime};base64,{part.data}"}
    else:
        return None
    return file if part.name is None else {**file, "filename": part.name}


def _kind(part: Part) -> str:
    return type(part).__name__.lower()
