"""Neutral parts, written as content parts of requests and answers."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from headgate.core.errors import InvalidRequest, StreamBroken
from headgate.core.loss import Loss
from headgate.core.messages import (
    CacheHint,
    Extensions,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from headgate.dialects.gemini.vocabulary import (
    NAME,
    foreign_losses,
    is_made,
    kind_of,
    own,
    raw_object,
    sealed_signature,
)

Wire = dict[str, Any]


class PartEncoder:
    """Writes parts one by one. A signature waits for the part that it belongs to; `flush` ends the row.

    Args:
        losses: added to.
        names: of functions, by the id of their call, for the results.
        for_caller: a caller gets other vendors' opaque data sealed; an upstream gets only its own.
    """

    def __init__(self, losses: list[Loss], names: Mapping[str, str], *, for_caller: bool) -> None:
        self._losses = losses
        self._names = names
        self._for_caller = for_caller
        self.signature: str | None = None
        """What the next part is to be signed with."""
        self.list_word = "content"
        """What the caller calls the list of a tool result's parts."""

    def encode(self, part: Part, path: str) -> list[Wire]:
        """The wire's parts for one neutral part.

        Raises:
            InvalidRequest: the result of a tool whose name nobody knows (for an upstream).
            StreamBroken: tool arguments that are no JSON object (for a caller).
        """
        if isinstance(part, Reasoning):
            return self._reasoning(part, path)
        wire = self._part(part, path)
        if wire is None:
            return []
        if self.signature is not None:
            wire["thoughtSignature"] = self.signature
            self.signature = None
        return [wire]

    def flush(self) -> list[Wire]:
        """A signature that nothing follows goes with an empty text, as the vendor itself sends it."""
        if self.signature is None:
            return []
        signature, self.signature = self.signature, None
        return [{"text": "", "thoughtSignature": signature}]

    def _reasoning(self, part: Reasoning, path: str) -> list[Wire]:
        self._foreign(part.extensions, path)
        signature = self._signature(part, path)
        marks = own(part.extensions)
        if signature is not None and not part.text and part.origin == NAME:
            if "text" in marks:  # it stood alone
                return [*self.flush(), {**marks, "thoughtSignature": signature}]
            waiting = self.flush()
            self.signature = signature
            return waiting
        if not part.text and signature is None and not marks:
            return []
        wire: Wire = {"text": part.text, "thought": True, **marks}
        if signature is not None:
            wire["thoughtSignature"] = signature
        return [wire]

    def _signature(self, part: Reasoning, path: str) -> str | None:
        if part.signature is None and part.data is None:
            return None
        if self._for_caller:
            signature = sealed_signature(part)
            if signature is None:
                self._lose(path, "opaque reasoning that does not say whose it is")
            return signature
        if part.origin == NAME and part.signature is not None:
            return part.signature
        maker = part.origin or "an unknown vendor"
        what = "a signature" if part.signature is not None else "encrypted reasoning"
        self._lose(f"{path}.signature" if part.text else path, f"{what} of use only to {maker}")
        return None

    def _part(self, part: Part, path: str) -> Wire | None:
        match part:
            case Text():
                self._annotated(part.extensions, part.cache, path)
                if part.citations and not self._for_caller:
                    self._lose(f"{path}.citations", "the dialect takes no citations back")
                return {"text": part.text, **own(part.extensions)}
            case Media():
                self._annotated(part.extensions, part.cache, path)
                return self._media(part, path)
            case ToolCall():
                self._annotated(part.extensions, part.cache, path)
                return self._call(part, path)
            case ToolResult():
                self._annotated(part.extensions, part.cache, path)
                return self._result(part, path)
            case Refusal():
                self._lose(path, "sent as plain text: the dialect has no refusals")
                return {"text": part.text}
            case Opaque(dialect=dialect, value=value) if dialect == NAME and isinstance(value, dict):
                return dict(value)
            case Opaque(dialect=dialect):
                self._lose(path, f"a block that only {dialect} understands")
                return None
            case _:
                raise AssertionError(kind_of(part))

    def _media(self, part: Media, path: str) -> Wire | None:
        outer = own(part.extensions)
        if part.detail is not None and part.detail != "auto":
            self._lose(f"{path}.detail", "the dialect sets no detail for single images")
        mime = part.mime or _guessed(part.url or part.name)
        if part.data is not None:
            kind, body = "inlineData", {"mimeType": mime or "application/octet-stream", "data": part.data}
        elif part.url is not None:
            kind, body = "fileData", {"fileUri": part.url} | ({} if mime is None else {"mimeType": mime})
        else:
            self._lose(path, "a file id is known only to the vendor that gave it")
            return None
        if part.name is not None:
            body["displayName"] = part.name
        inner = outer.pop(kind, None)
        return {kind: body | inner if isinstance(inner, dict) else body, **outer}

    def _call(self, part: ToolCall, path: str) -> Wire:
        outer = own(part.extensions)
        inner = outer.pop("functionCall", None)
        body: Wire = {} if not part.id or is_made(part.id) else {"id": part.id}
        body |= {"name": part.name, "args": self._arguments(part, path)}
        return {"functionCall": body | inner if isinstance(inner, dict) else body, **outer}

    def _arguments(self, part: ToolCall, path: str) -> msgspec.Raw | dict[str, str]:
        if part.kind != "function":
            self._lose(path, "sent as a function call: the dialect has no free-form tools")
            return {"input": part.arguments}
        if not part.arguments.strip():
            return {}
        raw = raw_object(part.arguments)
        if raw is not None:
            return raw
        if self._for_caller:
            raise bad_arguments(part.name)
        self._lose(f"{path}.arguments", "not a JSON object: sent as text, as the field 'arguments' of one")
        return {"arguments": part.arguments}

    def _result(self, part: ToolResult, path: str) -> Wire | None:
        if self._for_caller:
            self._lose(path, "an answer holds no results of tools in this dialect")
            return None
        outer = own(part.extensions)
        inner = outer.pop("functionResponse", None)
        rest = dict(inner) if isinstance(inner, dict) else {}
        name = rest.pop("name", None) or self._names.get(part.call_id)
        if not name:
            raise InvalidRequest(
                f"'{path}' holds the result of a tool call that is not in the conversation; the target needs "
                "the call before its result.",
                param=path,
                code="invalid_value",
            )
        body: Wire = {} if not part.call_id or is_made(part.call_id) else {"id": part.call_id}
        body |= {"name": name, "response": _response(part)}
        if media := self._result_media(part, path):
            body["parts"] = media
        return {"functionResponse": body | rest, **outer}

    def _result_media(self, part: ToolResult, path: str) -> list[Wire]:
        wires: list[Wire] = []
        for index, item in enumerate(part.parts):
            inner = f"{path}.{self.list_word}[{index}]"
            if isinstance(item, Text):
                self._annotated(item.extensions, item.cache, inner)
                if item.citations:
                    self._lose(f"{inner}.citations", "the dialect takes no citations back")
            elif (wire := self._part(item, inner)) is not None:
                wires.append(wire)
        return wires

    def _annotated(self, extensions: Extensions, cache: CacheHint | None, path: str) -> None:
        if extensions:
            self._foreign(extensions, path)
        if cache is not None:
            self._lose(f"{path}.cache_control", "the target caches prompts by itself")

    def _foreign(self, extensions: Extensions, path: str) -> None:
        if not self._for_caller:  # of an answer's, `answer_losses` tells
            self._losses += foreign_losses(extensions, path)

    def _lose(self, path: str, reason: str) -> None:
        loss = Loss(path, reason)
        if loss not in self._losses[-4:]:
            self._losses.append(loss)


def bad_arguments(name: str) -> StreamBroken:
    """For callers, who must not be handed a call with other arguments than the model wrote."""
    return StreamBroken(
        f"The model called '{name}' with arguments that are not a JSON object.", code="invalid_tool_arguments"
    )


def _response(part: ToolResult) -> msgspec.Raw | dict[str, str]:
    """A JSON object as it is; any other text as the documented `output`, or `error`."""
    texts = [item.text for item in part.parts if isinstance(item, Text)]
    if not texts and not part.is_error:
        return {}
    text = texts[0] if len(texts) == 1 else "\n".join(texts)
    if part.is_error:
        return {"error": text}
    raw = raw_object(text)
    return {"output": text} if raw is None else raw


def _guessed(address: str | None) -> str | None:
    """MIME type by a file's name: the API asks for one."""
    if address is None:
        return None
    try:
        return mimetypes.guess_type(urlsplit(address).path)[0]
    except ValueError:
        return None
