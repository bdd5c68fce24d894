"""What a request asks of a model beyond text, so that a target which can't give it is not tried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from headgate.core.call import Need
from headgate.core.messages import ChatRequest, Media, Part, ToolCall, ToolResult

_OF_MEDIA = {"image": Need.IMAGES, "file": Need.FILES, "audio": Need.AUDIO, "video": Need.FILES}


def needs_of(request: ChatRequest) -> frozenset[Need]:
    """Tools that are offered or were used, media anywhere in the conversation, a form for the answer."""
    found = {need for message in request.messages for need in _of_parts(message.parts)}
    if request.tools:
        found.add(Need.TOOLS)
    if request.response_format is not None and request.response_format.kind == "json_schema":
        found.add(Need.STRUCTURED_OUTPUT)
    return frozenset(found)


def _of_parts(parts: Iterable[Part]) -> Iterator[Need]:
    for part in parts:
        if isinstance(part, Media):
            yield _OF_MEDIA[part.kind]
        elif isinstance(part, ToolCall):
            yield Need.TOOLS
        elif isinstance(part, ToolResult):
            yield Need.TOOLS
            yield from _of_parts(part.parts)
