"""Parts, written as content blocks of Converse."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from headgate.core.loss import Loss
from headgate.core.messages import (
    CacheHint,
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
from headgate.dialects.answer_losses import FREE_FORM
from headgate.dialects.bedrock.citations import citation_to_wire
from headgate.dialects.bedrock.media import DocumentNames, media_block
from headgate.dialects.bedrock.vocabulary import (
    NAME,
    foreign_losses,
    merged,
    own,
    sealed_redaction,
    sealed_signature,
)

_TOOL_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")


class ContentEncoder:
    """Writes parts one by one and notes what is lost.

    Args:
        losses: added to.
        for_caller: the blocks are an answer, so that reasoning of any origin is handed out, sealed where it
            is not Bedrock's own; for an upstream only its own goes back.
        documents: they have a place.
    """

    def __init__(self, losses: list[Loss], for_caller: bool = False, *, documents: bool = True) -> None:
        self._losses = losses
        self._for_caller = for_caller
        self._documents = documents
        self._names = DocumentNames()
        self._list_word = "content"

    def blocks(self, parts: Iterable[tuple[str, Part]], list_word: str = "content") -> list[dict[str, Any]]:
        """The blocks of parts with their paths, a cache point behind each that has a hint.

        Args:
            parts: as `placed` or `numbered` gives them.
            list_word: what the caller calls the list of a tool result's parts.
        """
        self._list_word = list_word
        written: list[dict[str, Any]] = []
        for path, part in parts:
            block = self.block(part, path)
            if block is not None:
                written.append(block)
            hint = None if isinstance(part, Reasoning | Refusal | Opaque) else part.cache
            if isinstance(part, ToolResult):
                hint = self._hoisted(part, hint, path)
            if hint is not None and written:
                written.append(cache_point(hint))
            elif hint is not None:
                self._lose(f"{path}.cache_control", "there is nothing before it to cache")
        return written

    def block(self, part: Part, path: str) -> dict[str, Any] | None:
        """One block; None for what says nothing or, with a loss, has no form."""
        if isinstance(part, Opaque):
            if part.dialect == NAME and isinstance(part.value, dict):
                return part.value
            self._lose(path, f"a block that only {part.dialect} understands")
            return None
        if not self._for_caller:  # of an answer's, `answer_losses` tells
            self._losses += foreign_losses(part.extensions, path)
        match part:
            case Text():
                return self._text(part, path)
            case Media():
                return self._media(part, path)
            case ToolCall():
                return self._call(part, path)
            case ToolResult():
                return self._result(part, path)
            case Reasoning():
                return self._reasoning(part, path)
            case Refusal():
                self._lose(path, "a refusal is told as plain text")
                return {"text": part.text} if part.text else None

    def _text(self, part: Text, path: str) -> dict[str, Any] | None:
        extra = own(part.extensions)
        guard, cited = extra.pop("guardContent", None), extra.pop("citationsContent", None)
        citations = self._citations(part, path)
        if isinstance(guard, dict):
            block: dict[str, Any] = {"guardContent": merged({"text": {"text": part.text}}, guard)}
        elif citations or isinstance(cited, dict):
            body: dict[str, Any] = {"content": [{"text": part.text}]}
            if citations:
                body["citations"] = citations
            body = merged(body, cited or {})
            block = {"citationsContent": {key: value for key, value in body.items() if value is not None}}
        elif not part.text and not extra:
            return None  # Bedrock refuses blank texts, and there is nothing in this one
        else:
            block = {"text": part.text}
        return merged(block, extra)

    def _citations(self, part: Text, path: str) -> list[dict[str, Any]]:
        written: list[dict[str, Any]] = []
        for index, citation in enumerate(part.citations):
            where = f"{path}.citations[{index}]"
            if self._for_caller or NAME in citation.extensions:
                written.append(citation_to_wire(citation, where, self._losses))
            else:
                self._lose(where, "the target takes back only citations that it made itself")
        return written

    def _media(self, part: Media, path: str) -> dict[str, Any] | None:
        if part.kind == "file" and not self._documents:
            self._lose(path, "the dialect has no documents")
            return None
        block = media_block(part, path, self._names, self._losses)
        if block is None:
            return None
        extra = own(part.extensions)
        guard = extra.pop("guardContent", None)
        for kind in block:
            extra.pop(kind, None)  # put back by media_block
        return merged({"guardContent": merged(block, guard)} if isinstance(guard, dict) else block, extra)

    def _call(self, part: ToolCall, path: str) -> dict[str, Any]:
        value = _json(part.arguments or "{}")
        if part.kind != "function" and self._for_caller:
            self._lose(path, FREE_FORM)
            value = {"input": part.arguments}
        elif value is _NO_JSON:
            self._lose(f"{path}.arguments", "they are not JSON: sent as a text under the name 'input'")
            value = {"input": part.arguments}
        use = {"toolUseId": self._id(part.id), "name": part.name, "input": value}
        return merged({"toolUse": use}, own(part.extensions))

    def _result(self, part: ToolResult, path: str) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        for index, item in enumerate(part.parts):
            where = f"{path}.{self._list_word}[{index}]"
            block = self._json_result(item, where) or self.block(item, where)
            if block is not None:
                content.append(block)
        result: dict[str, Any] = {"toolUseId": self._id(part.call_id), "content": content}
        if part.is_error:
            result["status"] = "error"
        return merged({"toolResult": result}, own(part.extensions))

    def _json_result(self, item: Part, path: str) -> dict[str, Any] | None:
        """A result that a caller of this dialect gave as JSON."""
        if not isinstance(item, Text) or own(item.extensions).get("json") is not True:
            return None
        value = _json(item.text)
        self._losses += foreign_losses(item.extensions, path)
        return None if value is _NO_JSON else own(item.extensions) | {"json": value}

    def _hoisted(self, part: ToolResult, hint: CacheHint | None, path: str) -> CacheHint | None:
        """The hint of a result, or else of a part within it, where no cache point can stand."""
        for index, item in enumerate(part.parts):
            if not isinstance(item, Opaque) and item.cache is not None:
                where = f"{path}.{self._list_word}[{index}].cache_control"
                self._lose(where, "moved to the end of the tool result")
                hint = hint or item.cache
        return hint

    def _reasoning(self, part: Reasoning, path: str) -> dict[str, Any] | None:
        if not self._for_caller and part.origin != NAME:
            self._lose(path, "the target takes back only reasoning that it signed itself")
            return None
        if part.redacted and part.data is not None and not part.text:
            block: dict[str, Any] = {"redactedContent": sealed_redaction(part)}
        else:
            signature = sealed_signature(part)
            if not part.text and signature is None:
                return None
            body = {"text": part.text}
            block = {"reasoningText": body if signature is None else {**body, "signature": signature}}
        return merged({"reasoningContent": block}, own(part.extensions))

    def _id(self, identity: str) -> str:
        """A tool call's id as an upstream takes it; the same text gives the same id, in call and result."""
        if self._for_caller or _TOOL_ID.fullmatch(identity):
            return identity
        return "tooluse_" + hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def _lose(self, path: str, reason: str) -> None:
        self._losses.append(Loss(path, reason))


def cache_point(hint: CacheHint) -> dict[str, Any]:
    point = {"type": "default"}
    return {"cachePoint": point if hint.ttl is None else {**point, "ttl": hint.ttl}}


def numbered(parts: Sequence[Part], path: str) -> list[tuple[str, Part]]:
    """Parts with their paths: `messages[2].content` gives `messages[2].content[0]` and so on."""
    return [(f"{path}[{index}]", part) for index, part in enumerate(parts)]


def placed(message: Message, index: int) -> list[tuple[str, Part]]:
    """A request's parts with the caller's places of them."""
    return [(message.place_of(index, number), part) for number, part in enumerate(message.parts)]


def has_tool_blocks(parts: Iterable[Part]) -> bool:
    return any(isinstance(part, ToolCall | ToolResult) for part in parts)


_NO_JSON = object()


def _json(text: str) -> Any:
    """The value that `text` holds; a mark if it is not JSON."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return _NO_JSON
