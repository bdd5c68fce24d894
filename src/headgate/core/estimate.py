"""How many tokens a request may have, by rule of thumb: no tokenizer of the upstream's is at hand.

English prose has about four characters to a token, other scripts one to two. The estimate is meant for
choosing between context sizes and for callers who ask before they send; it may be a fifth off either way.
"""

from __future__ import annotations

from headgate.core.messages import (
    ChatRequest,
    Media,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)

_MEDIA_TOKENS = {"image": 1_000, "audio": 500, "video": 5_000, "file": 1_500}
_PER_MESSAGE = 4


def estimate_tokens(request: ChatRequest) -> int:
    """Tokens of the whole prompt: messages, tools and a schema for the answer."""
    count = sum(_PER_MESSAGE + sum(_of_part(part) for part in each.parts) for each in request.messages)
    for tool in request.tools:
        count += _of_text(tool.name) + _of_text(tool.description or "") + _of_json(tool.parameters)
    if request.response_format is not None:
        count += _of_json(request.response_format.schema)
    return count


def _of_part(part: Part) -> int:
    match part:
        case Text(text=text) | Reasoning(text=text) | Refusal(text=text):
            return _of_text(text)
        case ToolCall():
            return _of_text(part.name) + _of_text(part.arguments)
        case ToolResult():
            return sum(_of_part(inner) for inner in part.parts)
        case Media():
            return _MEDIA_TOKENS[part.kind]
        case Opaque():
            return _of_json(part.value)


def _of_text(text: str) -> int:
    ascii_count = len(text) if text.isascii() else sum(character < "\x80" for character in text)
    return -(-ascii_count // 4) + -(-2 * (len(text) - ascii_count) // 3)


def _of_json(value: object) -> int:
    """Without recursion: a caller decides how deep it is nested."""
    count = 0
    left = [value]
    while left:
        match left.pop():
            case None | bool() | int() | float():
                count += 1
            case str() as text:
                count += 1 + _of_text(text)
            case dict() as fields:
                count += sum(1 + _of_text(str(key)) for key in fields)
                left += fields.values()
            case list() | tuple() as items:
                count += 1
                left += items
    return count
