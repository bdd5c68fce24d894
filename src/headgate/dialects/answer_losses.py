"""What an upstream's answer says that a caller of another dialect has no place for.

What an encoder can't write of neutral parts it notes itself. What has no neutral form stands in extensions,
of the answer, its parts and its citations: that only one dialect has it is the same for all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from headgate.core.events import (
    ChatEvent,
    Finished,
    FinishReason,
    PartCited,
    PartStarted,
    Started,
    Stop,
    UsageReported,
)
from headgate.core.fold import unfold
from headgate.core.loss import Loss
from headgate.core.messages import (
    Citation,
    Extensions,
    Media,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from headgate.core.result import ChatResult
from headgate.dialects.json_bodies import join
from headgate.dialects.openai_shared import DIALECTS, VENDOR

MAX_NOTED = 100
"""Losses of one answer. An upstream may send any number of fields; nobody reads more than so many names."""

_DEPTH = 4
"""Levels of objects whose fields are named one by one."""
_HOLDERS = frozenset(
    {
        *("usage", "prompt_tokens_details", "completion_tokens_details"),
        *("input_tokens_details", "output_tokens_details", "usageMetadata"),
        *("choices", "candidates", "logprobsResult", "groundingMetadata", "item", "document"),
        *("meta", "billed_units"),
    }
)
"""Objects of answers whose fields are named one by one."""
_COUNTED = frozenset(
    {
        *("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
        *("thinking_tokens", "createTime", "metrics", "citationMetadata"),
        *("groundingChunks", "groundingSupports", "stop_reason"),
    }
)
"""Fields that have a neutral form as well, and stand in extensions for callers of their own dialect; and how
long an upstream took, which the gateway measures itself."""
_ENVELOPE = frozenset(
    {
        *("id", "index", "type", "format", "output_format"),
        *("place", "continued", "thought", "told"),
    }
)
"""What names and numbers the pieces of an answer, or says how they were written: each dialect has its own."""
_CITED = frozenset(
    {
        *("type", "url", "uri", "title", "filename", "source", "text", "cited_text", "sourceContent"),
        *("start_index", "end_index", "startIndex", "endIndex", "document_title", "document_index"),
        *("domain", "search_result_index", "documentIndex", "searchResultIndex", "groundingChunkIndices"),
    }
)
"""Fields of citations that have a neutral form."""
_UNSAID: Mapping[str, tuple[object, ...]] = {
    "service_tier": ("auto", "default", "standard"),
    "serviceTier": ({"type": "default"},),
    "trafficType": ("ON_DEMAND",),
    "inference_geo": ("global", "not_available"),
    "speed": ("standard",),
}
"""What nearly every answer says: it may go without saying."""
_PLAIN = frozenset(
    {
        *("stop", "end_turn", "STOP", "completed"),
        *("length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_context_window_exceeded"),
        *("tool_calls", "tool_use", "function_call", "pause_turn"),
        *("content_filter", "content_filtered", "SAFETY", "refusal"),
        *("FINISH", "FINISHED", "COMPLETE", "LENGTH", "CONTENT_FILTERED"),
    }
)
"""Words for the end of an answer that say no more than the neutral reason."""


_KINDS: Mapping[type[Part], str] = {
    Media: "media",
    Reasoning: "reasoning",
    ToolCall: "tool calls",
    ToolResult: "results of tools",
}


def note(event: ChatEvent, dialect: str, losses: list[Loss], *, keeps_thoughts: bool = False) -> None:
    """Add to `losses`, once each, what the event holds that only a dialect other than `dialect` has.

    Args:
        event: any but a delta, which holds no such thing.
        dialect: the caller's.
        losses: those of the answer so far.
        keeps_thoughts: the encoder hands out reasoning with the fields of its origin.
    """
    match event:
        case Started() | UsageReported() | Finished():
            found = _of_answer(event.extensions, dialect)
        case PartStarted(part=part):
            found = _of_part(part, place(dialect, event), dialect, keeps_thoughts)
        case PartCited():
            found = _of_citation(event.citation, place(dialect, event), dialect)
        case _:
            return
    add(found, losses)


def place(dialect: str, event: PartStarted | PartCited) -> str:
    """The path of a part, as the caller's dialect would have it."""
    match dialect:
        case "anthropic":
            return f"content[{event.index}]"
        case "gemini":
            return f"candidates[{event.choice}].content.parts[{event.index}]"
        case _:
            return f"choices[{event.choice}].parts[{event.index}]"


def note_fields(extensions: Extensions, dialect: str, losses: list[Loss]) -> None:
    """As `note`, for the fields of an answer that is no chat."""
    add(_of_answer(extensions, dialect), losses)


def note_all(result: ChatResult, dialect: str, losses: list[Loss], *, keeps_thoughts: bool = False) -> None:
    """As `note`, for a complete answer."""
    for event in unfold(result):
        note(event, dialect, losses, keeps_thoughts=keeps_thoughts)


def note_stop(stop: Stop, word: str, read: FinishReason, losses: list[Loss]) -> None:
    """Add a loss where a caller can't know why the answer ended.

    Args:
        stop: why it did.
        word: what the caller is told.
        read: what a reader of the caller's dialect makes of it, knowing the answer.
    """
    same = read == stop.reason or stop.reason == "stop"
    if same and (stop.native in (None, word) or stop.native in _PLAIN):
        return
    native = "" if stop.native is None else f" for the upstream's '{stop.native[:64]}'"
    add([Loss(f"choices[{stop.choice}].stop", f"'{word}' is the nearest word{native}")], losses)


def note_sequence(stop: Stop, losses: list[Loss]) -> None:
    """Add a loss where a stop sequence was hit: for dialects that do not tell which."""
    if stop.sequence is not None:
        path = f"choices[{stop.choice}].stop.sequence"
        add([Loss(path, "the dialect does not tell which stop sequence was hit")], losses)


def note_citation(
    citation: Citation, dialect: str, path: str, names: Sequence[str], losses: list[Loss]
) -> None:
    """Add what of another dialect's citation has no place in the caller's form of citations.

    Args:
        dialect: the caller's.
        path: of the part.
        names: the neutral fields that have no place there.
    """
    if dialect in citation.extensions:
        return
    for name in names:
        if getattr(citation, name) is not None:
            add([Loss(f"{path}.citations.{name}", "citations of the dialect have no such field")], losses)


FREE_FORM = "told as the call of a function, the only kind that the dialect has"


def unplaced(part: Part) -> str:
    """Why a part is lost where answers of the dialect hold no such thing."""
    if isinstance(part, Opaque):
        return f"a block that only {part.dialect} understands"
    return f"an answer has no {_KINDS.get(type(part), 'text')} in this dialect"


def untitled(citation: Citation) -> tuple[str, ...]:
    """What has no place where a citation has an address and a title, and a quote stands in for the latter."""
    return ("quote", "source") if citation.title else ("source",)


def add(found: Iterable[Loss], losses: list[Loss]) -> None:
    """Add to `losses`, once each and up to MAX_NOTED."""
    for loss in found:
        if len(losses) >= MAX_NOTED:
            return
        if loss not in losses:
            losses.append(loss)


def _of_answer(extensions: Extensions, dialect: str) -> Iterator[Loss]:
    for maker, values in extensions.items():
        if maker != dialect and not (maker == VENDOR and dialect in DIALECTS):
            yield from _named(values, "", maker, _COUNTED)


def _of_part(part: Part, path: str, dialect: str, keeps_thoughts: bool) -> Iterator[Loss]:
    if isinstance(part, Opaque):  # its encoder's to note
        return
    for maker, values in part.extensions.items():
        kept = keeps_thoughts and isinstance(part, Reasoning) and part.origin == maker
        if maker != dialect and not kept:
            yield from _named(values, path, maker, _ENVELOPE)
    for citation in part.citations if isinstance(part, Text) else ():
        yield from _of_citation(citation, path, dialect)


def _named(
    values: Mapping[str, Any], path: str, maker: str, known: frozenset[str], depth: int = _DEPTH
) -> Iterator[Loss]:
    for key, value in values.items():
        where = f"{path}[{key}]" if key.isdigit() else join(path, key)
        if key in known or value in _UNSAID.get(key, ()) or not _says(value):
            continue
        if isinstance(value, dict) and depth and (key in _HOLDERS or key.isdigit()):
            yield from _named(value, where, maker, known, depth - 1)
        else:
            yield Loss(where, f"only {maker} has this field")


def _of_citation(citation: Citation, path: str, dialect: str) -> Iterator[Loss]:
    for maker, form in citation.extensions.items():
        if maker != dialect:
            for name in _rest_of(form):
                yield Loss(f"{path}.citations.{name}", f"only {maker} has this field")


def _rest_of(form: Mapping[str, Any], depth: int = _DEPTH) -> Iterator[str]:
    for key, value in form.items():
        if key in _CITED:
            continue
        if isinstance(value, dict) and depth:
            yield from _rest_of(value, depth - 1)
        elif value not in (None, "", [], {}):
            yield key


def _says(value: object) -> bool:
    """Zeros, what is empty, and how many of the tokens are text where they nearly always are, say nothing."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += () if each.get("modality") == "TEXT" else each.values()
        elif isinstance(each, list):
            waiting += each
        elif each:
            return True
    return False
