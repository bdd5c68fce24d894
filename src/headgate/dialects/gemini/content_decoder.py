"""`contents` of a request, read into messages."""

from __future__ import annotations

from dataclasses import replace

from headgate.core.messages import Extensions, Message, Part, Reasoning, Role, Text, ToolResult
from headgate.dialects.gemini.part_decoder import PartDecoder, ToolCalls
from headgate.dialects.gemini.vocabulary import NAME, ProtoFields, extended
from headgate.dialects.json_bodies import MAX_ITEMS, missing, wrong_value

_ROLES = ("user", "model", "function")


def decode_contents(items: list[object], path: str) -> list[Message]:
    """Messages of the conversation.

    Contents of the model that follow each other are one message, because clients keep a streamed answer chunk
    by chunk. Function responses become a tool message, and the rest of their content a user message behind
    it.

    Raises:
        InvalidRequest: with `param` below `path`.
    """
    decoder = PartDecoder(ToolCalls("request"))
    messages: list[Message] = []
    turn: _ModelTurn | None = None
    count = 0
    for index, item in enumerate(items):
        fields = ProtoFields.of(item, f"{path}[{index}]")
        role = "user" if fields.peek("role") is None else fields.word("role", _ROLES)
        fields.take("role")
        parts, paths = decode_parts(fields, decoder)
        count += len(parts)
        if count > MAX_ITEMS:
            raise wrong_value(path, f"they have more than {MAX_ITEMS:,} parts in all")
        extensions = extended(fields.rest())
        if turn is not None and (role != "model" or extensions):
            messages.append(turn.message())
            turn = None
        if role != "model":
            messages += _user(parts, paths, extensions, fields.path)
            continue
        if turn is None:
            turn = _ModelTurn(fields.path, extensions)
        turn.add(parts, paths)
    if turn is not None:
        messages.append(turn.message())
    return messages


def decode_parts(fields: ProtoFields, decoder: PartDecoder) -> tuple[list[Part], list[str]]:
    """Parts of one content, of which there must be some, and the path of each."""
    items = fields.repeated("parts")
    path = fields.param("parts")
    if items is None:
        raise missing(path)
    if not items:
        raise wrong_value(path, "the array must hold at least one part")
    parts: list[Part] = []
    paths: list[str] = []
    for number, item in enumerate(items):
        place = f"{path}[{number}]"
        for part in decoder.decode(item, place):
            parts.append(part)
            paths.append(place)
    return parts, paths


def _user(parts: list[Part], paths: list[str], extensions: Extensions, path: str) -> list[Message]:
    messages: list[Message] = []
    roles: tuple[Role, ...] = ("tool", "user")
    for role in roles:
        kept = [
            number for number, part in enumerate(parts) if isinstance(part, ToolResult) == (role == "tool")
        ]
        if not kept:
            continue
        messages.append(
            Message(
                role,
                tuple(parts[number] for number in kept),
                extensions={} if messages else extensions,
                path=path,
                content="functionResponse.parts" if role == "tool" else "parts",
                part_paths=tuple(paths[number] for number in kept),
            )
        )
    return messages


class _ModelTurn:
    """The parts of one turn of the model; the pieces in which its text and thoughts were streamed are joined.

    Nothing is joined to what this vendor signed: a signature is good only where it stood. Another vendor's
    signature comes at the end of the thought that it signs, in a thought without text.
    """

    def __init__(self, path: str, extensions: Extensions) -> None:
        self._path = path
        self._extensions = extensions
        self._parts: list[Part] = []
        self._paths: list[str] = []
        self._pieces: list[str] = []
        """Texts of the last part, where it can grow; the part itself holds the last of them."""

    def add(self, parts: list[Part], paths: list[str]) -> None:
        for part, path in zip(parts, paths, strict=True):
            last = self._parts[-1] if self._parts else None
            if not isinstance(part, Text | Reasoning) or part.extensions or _signs_next(last):
                self._settle()
                self._append(part, path)
            elif self._pieces and _continues(last, part):
                self._parts[-1] = part
                self._pieces.append(part.text)
            elif not _empty(part):
                self._settle()
                self._append(part, path)
                self._pieces = [part.text]

    def message(self) -> Message:
        self._settle()
        return Message(
            "assistant",
            tuple(self._parts) or (Text(""),),
            extensions=self._extensions,
            path=self._path,
            content="parts",
            part_paths=tuple(self._paths),
        )

    def _append(self, part: Part, path: str) -> None:
        self._parts.append(part)
        self._paths.append(path)

    def _settle(self) -> None:
        """The last part grows no more."""
        last = self._parts[-1] if self._parts else None
        if len(self._pieces) > 1 and isinstance(last, Text | Reasoning):
            self._parts[-1] = replace(last, text="".join(self._pieces))
        self._pieces = []


def _signs_next(part: Part | None) -> bool:
    return isinstance(part, Reasoning) and part.origin == NAME and not part.text and not part.extensions


def _empty(part: Part) -> bool:
    return isinstance(part, Text | Reasoning) and not part.text and getattr(part, "origin", None) is None


def _continues(before: Part | None, part: Text | Reasoning) -> bool:
    """The part is more of the one before, and ends it with its signature if it has one."""
    if not isinstance(before, Reasoning) or not isinstance(part, Reasoning):
        return isinstance(before, Text) and isinstance(part, Text)
    if before.origin is not None:
        return False
    return part.origin is None or (part.origin != NAME and not part.text and not part.redacted)
