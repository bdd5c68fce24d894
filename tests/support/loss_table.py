"""docs/dialects/losses.md, from the codecs themselves: what becomes of each field of each caller's request at
an upstream of each dialect. `python -m tests.support.loss_table > docs/dialects/losses.md` writes it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from headgate.core.errors import InvalidRequest
from headgate.core.loss import Loss
from headgate.dialects import openai_chat
from headgate.dialects.dialect import ChatDialect, EmbedDialect, RerankDialect
from headgate.dialects.openai_chat.profile import OPENAI
from headgate.dialects.registry import dialect
from headgate.dialects.terms import in_callers_terms
from tests.support.fields import (
    anthropic,
    converse,
    embeddings,
    gemini,
    invoke,
    openai_completions,
    openai_responses,
    rerank,
)
from tests.support.fields import openai_chat as chat
from tests.support.fields.row import Body, Caller, Row

Encoded = tuple[bytes, list[Loss]]
Encode = Callable[..., Encoded]


@dataclass(frozen=True, slots=True)
class Upstream:
    """A dialect as one of its upstreams has it; `model` is what is asked for there."""

    dialect: str
    model: str
    encode: Encode | None = None

    def encoded(self, request: Any) -> Encoded:
        encode = self.encode or _record(self.dialect).encode_request
        return encode(request, model=self.model)


@dataclass(frozen=True, slots=True)
class Cell:
    word: str
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    callers: Sequence[Caller]
    upstreams: Sequence[Upstream]


CHAT = Section(
    "Chat",
    (
        chat.CALLER,
        openai_responses.CALLER,
        anthropic.CALLER,
        gemini.CALLER,
        converse.CALLER,
        openai_completions.CALLER,
    ),
    (
        Upstream("openai_chat", "gpt-4.1", partial(openai_chat.encode_request, profile=OPENAI)),
        Upstream("openai_responses", "gpt-5"),
        Upstream("anthropic", "claude-opus-4-8"),
        Upstream("gemini", "gemini-2.5-pro"),
        Upstream("converse", converse.MODEL),
        Upstream("openai_completions", "m"),
    ),
)
INVOKE_UPSTREAMS = (
    Upstream("invoke_anthropic", "anthropic.claude-opus-4-8"),
    *(Upstream(each.dialect, each.model) for each in invoke.CALLERS),
)
INVOKE = Section(
    "Chat, from bodies of InvokeModel", invoke.CALLERS, (*CHAT.upstreams[:-1], *INVOKE_UPSTREAMS)
)
TO_INVOKE = Section("Chat, to bodies of InvokeModel", CHAT.callers, INVOKE_UPSTREAMS)
EMBED_CALLERS = (*embeddings.CALLERS, *invoke.EMBED_CALLERS)
EMBEDDINGS = Section(
    "Embeddings", EMBED_CALLERS, [Upstream(each.dialect, each.model) for each in EMBED_CALLERS]
)
RERANK = Section("Rerank", rerank.CALLERS, [Upstream(each.dialect, "m") for each in rerank.CALLERS])
SECTIONS = (CHAT, INVOKE, TO_INVOKE, EMBEDDINGS, RERANK)


def _record(name: str) -> ChatDialect | EmbedDialect | RerankDialect:
    found = dialect(name)
    assert isinstance(found, ChatDialect | EmbedDialect | RerankDialect)
    return found


def decoded(caller: Caller, body: Body) -> Any:
    codec = _record(caller.dialect)
    wire = json.dumps(body).encode()
    if isinstance(codec, RerankDialect):
        return codec.decode_request(wire)
    if codec.model_in_body:
        return codec.decode_request(wire)
    return codec.decode_request(wire, model=caller.model)


def cell(caller: Caller, row: Row, upstream: Upstream) -> Cell:
    """What becomes of the field. `vanished` is a defect: it left no trace, and no loss tells."""
    try:
        bare, known = upstream.encoded(decoded(caller, row.without))
        body, losses = upstream.encoded(decoded(caller, row.asked))
    except InvalidRequest as error:
        return Cell("refused", (error.message.partition("'")[0].strip() or error.message,))
    new = [loss for loss in losses if loss not in known]
    why = tuple(dict.fromkeys(loss.reason for loss in in_callers_terms(new, caller.dialect)))
    if not new:
        if body != bare:
            return Cell("kept")
        if held := _covering(in_callers_terms(known, caller.dialect), row):
            return Cell("lost", held)
        return Cell("vanished") if row.implied is None else Cell("needless", (row.implied,))
    return Cell("lost" if body == bare else "changed", why)


def _covering(known: Sequence[Loss], row: Row) -> tuple[str, ...]:
    """Why what holds the field is lost, where it is lost with that."""
    place = _difference(row.asked, row.without)
    held = [
        loss for loss in known if place == loss.path or place.startswith((f"{loss.path}.", f"{loss.path}["))
    ]
    return tuple(dict.fromkeys(loss.reason for loss in held))


def _difference(asked: Any, without: Any, path: str = "") -> str:
    """Where two requests differ first."""
    if isinstance(asked, dict) and isinstance(without, dict):
        for key, value in asked.items():
            inner = f"{path}.{key}" if path else key
            if key not in without:
                return inner
            if value != without[key]:
                return _difference(value, without[key], inner)
    if isinstance(asked, list) and isinstance(without, list):
        for index, value in enumerate(asked):
            if index >= len(without) or value != without[index]:
                inner = f"{path}[{index}]"
                return inner if index >= len(without) else _difference(value, without[index], inner)
    return path


def vanished() -> Iterator[str]:
    """Fields that are gone without a word."""
    for section in SECTIONS:
        for caller in section.callers:
            for row in caller.rows:
                for upstream in section.upstreams:
                    if cell(caller, row, upstream).word == "vanished":
                        yield f"{caller.dialect} {row.group} {row.name} -> {upstream.dialect}"


HEAD = """# What each dialect can't take from another

What becomes of each field of a caller's request at an upstream of each dialect. This page is written from the
codecs by `python -m tests.support.loss_table`: each field is sent with and without, and the two requests and
their reported losses compared. A test fails where the page and the code differ.

- **kept**: the upstream is asked the same, in its own words.
- **changed**: it is asked something less, and the loss says what.
- **lost**: it does not hear of it, and the loss says so.
- **needless**: it does not hear of it, and need not.
- **refused**: a request with it can't be put to such an upstream: 400.

Losses go to the header `x-headgate-loss` and the log; a strict model refuses them (400).
"""


def page() -> str:
    blocks = [HEAD]
    for section in SECTIONS:
        blocks.append(f"## {section.title}\n")
        if section in (CHAT, INVOKE, TO_INVOKE):
            named = ", ".join(f"`{each.dialect}` (`{each.model}`)" for each in section.upstreams)
            blocks.append(f"Upstreams: {named}. Other models and compatible vendors may take less or more.\n")
        blocks += [_table(caller, section) for caller in section.callers]
    return "\n".join(blocks)


def _table(caller: Caller, section: Section) -> str:
    notes: dict[str, int] = {}
    lines = [
        f"### Callers of `{caller.dialect}`\n",
        *([f"{caller.note}\n"] if caller.note else []),
        f"| | Field | {' | '.join(f'`{each.dialect}`' for each in section.upstreams)} |",
        "|---|---|" + "---|" * len(section.upstreams),
    ]
    group = ""
    for row in caller.rows:
        cells = [_shown(cell(caller, row, upstream), notes) for upstream in section.upstreams]
        lines.append(f"| {row.group if row.group != group else ''} | `{row.name}` | {' | '.join(cells)} |")
        group = row.group
    lines.append("")
    lines += [f"{number}. {why}" for why, number in notes.items()]
    return "\n".join(lines) + "\n"


def _shown(found: Cell, notes: dict[str, int]) -> str:
    numbers = [str(notes.setdefault(why, len(notes) + 1)) for why in found.why]
    return f"{found.word} <sup>{', '.join(numbers)}</sup>" if numbers else found.word


if __name__ == "__main__":
    sys.stdout.write(page())
