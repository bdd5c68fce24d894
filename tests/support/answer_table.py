"""docs/dialects/answers.md, from the codecs themselves: what becomes of each field of each upstream's answer
for a caller of each dialect. `python -m tests.support.answer_table > docs/dialects/answers.md` writes it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from headgate.core.backend import RawHeaders
from headgate.core.errors import HeadgateError
from headgate.core.events import ChatEvent, Failed, Stop
from headgate.core.fold import fold
from headgate.core.loss import Loss
from headgate.core.result import ChatResult
from headgate.dialects.answer_losses import note_fields
from headgate.dialects.dialect import AnswerOptions, ChatDialect, EmbedDialect, RerankDialect
from headgate.dialects.registry import dialect
from tests.support.answers import (
    anthropic,
    converse,
    gemini,
    openai_chat,
    openai_completions,
    openai_responses,
    small,
)
from tests.support.answers.row import COMMON, Body, Sample, Vendor
from tests.support.answers.small import Small

VENDORS: Sequence[Vendor] = (
    openai_chat.VENDOR,
    openai_responses.VENDOR,
    anthropic.VENDOR,
    gemini.VENDOR,
    converse.VENDOR,
    openai_completions.VENDOR,
)
NAMES = [vendor.dialect for vendor in VENDORS]
FORMS = (
    "invoke_anthropic",
    "invoke_nova",
    "invoke_chat",
    "invoke_cohere",
    "invoke_titan",
    "invoke_llama",
    "invoke_mistral",
)
"""Of InvokeModel's bodies: its callers are told of any upstream's answer."""
CALLERS = [*NAMES, *FORMS]
BY_NAME = {vendor.dialect: vendor for vendor in VENDORS}
OPTIONS = AnswerOptions(include_usage=True, created=1, model="m", now=lambda: 2)
"""As the server's lanes have them: the model's name is the caller's own, the time the gateway's."""
_SEALS = (b"hgs1.", b"aGdzMS")
"""How sealed text begins, and how its base64 does."""


@dataclass(frozen=True, slots=True)
class Cell:
    word: str
    why: tuple[str, ...] = ()


def codec(name: str) -> ChatDialect:
    found = dialect(name)
    assert isinstance(found, ChatDialect)
    return found


def events_of(name: str, stream: bytes, content_type: str) -> list[ChatEvent]:
    """A stream, read by the codec of its dialect. Raises the error that ended it."""
    decoder = codec(name).stream_decoder(content_type)
    events = [*decoder.feed(stream), *decoder.end()]
    if isinstance(events[-1], Failed):
        raise events[-1].error
    return events


def streamed_to(caller: str, events: Sequence[ChatEvent]) -> tuple[bytes, list[Loss]]:
    """The events as a stream for a caller. Raises the error that ends it."""
    encoder = codec(caller).stream_encoder(OPTIONS)
    body = b"".join([encoder.encode(event) for event in events])
    events_of(caller, body, "text/event-stream")
    return body, encoder.losses


@cache
def _told(caller: str, vendor: str, wire: bytes, stream: bool) -> tuple[bytes, list[Loss]]:
    if not stream:
        return codec(caller).encode_result(codec(vendor).decode_result(wire), OPTIONS)
    return streamed_to(caller, events_of(vendor, wire, BY_NAME[vendor].content_type))


def told(caller: str, vendor: Vendor, body: Body, stream: bool) -> tuple[bytes, list[Loss]]:
    """What a caller gets of an answer. Raises the error that it gets instead."""
    return _told(caller, vendor.dialect, wire(vendor, body, stream), stream)


def told_in_head(caller: str, vendor: Vendor, body: Body, stream: bool) -> RawHeaders:
    """What a caller gets of a whole answer beside its body: in header fields."""
    fields = codec(caller).usage_headers
    usage = None if stream else answer_of(vendor, body, stream).usage
    return fields.write(usage) if fields is not None and usage is not None else []


def wire(vendor: Vendor, body: Body, stream: bool) -> bytes:
    return vendor.streamed(body) if stream else json.dumps(body).encode()


def cell(caller: str, vendor: Vendor, sample: Sample, stream: bool) -> Cell | None:
    """What becomes of the field; None where such a stream does not have it. `vanished` is a defect: it left
    no trace, and no loss tells."""
    if wire(vendor, sample.told, stream) == wire(vendor, sample.without, stream):
        return None
    bare, known = told(caller, vendor, sample.without, stream)
    try:
        body, losses = told(caller, vendor, sample.told, stream)
    except HeadgateError as error:
        return Cell("failed", (error.message.replace("'f'", "a tool"),))
    new = [loss for loss in losses if loss not in known]
    same = body == bare or (stream and reread(caller, body, stream) == reread(caller, bare, stream))
    if same and not new and sample.within is not None:
        new = [loss for loss in known if sample.within in loss.path]
    if not new and same:
        heads = [told_in_head(caller, vendor, each, stream) for each in (sample.told, sample.without)]
        same = heads[0] == heads[1]
    if new:
        return Cell("lost" if same else "changed", tuple(dict.fromkeys(loss.reason for loss in new)))
    if same:
        return Cell("vanished") if sample.implied is None else Cell("needless", (sample.implied,))
    if any(seal in body and seal not in bare for seal in _SEALS):
        return Cell("sealed")
    return Cell("kept")


def vanished() -> Iterator[str]:
    """Fields that are gone without a word."""
    for vendor in VENDORS:
        for name, sample in vendor.samples():
            for caller in CALLERS:
                for stream in (False, True):
                    found = cell(caller, vendor, sample, stream)
                    if found is not None and found.word == "vanished":
                        how = " (streamed)" if stream else ""
                        yield f"{vendor.dialect} {name} -> {caller}{how}"


def small_vanished() -> Iterator[str]:
    """Fields of embeddings and rankings that are gone without a word."""
    for vendors in (small.EMBEDDINGS, small.RANKINGS):
        for vendor in vendors:
            for name, sample in vendor.samples.items():
                for caller in vendors:
                    if caller is not vendor and small_cell(caller.dialect, vendor, sample).word == "vanished":
                        yield f"{vendor.dialect} {name} -> {caller.dialect}"


# Embeddings and rankings.


def small_told(caller: str, vendor: Small, body: Body) -> tuple[object, list[Loss]]:
    """What a caller reads of vectors or a ranking, and the losses, as the server's lane has them."""
    to, by = dialect(caller), dialect(vendor.dialect)
    losses: list[Loss] = []
    found = json.dumps(body).encode()
    if isinstance(to, EmbedDialect):
        assert isinstance(by, EmbedDialect)
        vectors = replace(by.decode_result(found), model="m")
        note_fields(vectors.extensions, caller, losses)
        return to.decode_result(to.encode_result(small.EMBED, vectors)), losses
    assert isinstance(to, RerankDialect) and isinstance(by, RerankDialect)
    ranking = replace(by.decode_result(found), model="m")
    note_fields(ranking.extensions, caller, losses)
    return to.decode_result(to.encode_result(small.RERANK, ranking)), losses


def small_cell(caller: str, vendor: Small, sample: Sample) -> Cell:
    bare, known = small_told(caller, vendor, sample.without)
    read, losses = small_told(caller, vendor, sample.told)
    why = tuple(dict.fromkeys(loss.reason for loss in losses if loss not in known))
    if why:
        return Cell("lost" if read == bare else "changed", why)
    if read != bare:
        return Cell("kept")
    return Cell("vanished") if sample.implied is None else Cell("needless", (sample.implied,))


# Why an answer ended.


@dataclass(frozen=True, slots=True)
class Ending:
    """`word` is what the caller reads, `meant` why the upstream ended; `losses` those of that."""

    word: str
    read: Stop
    meant: Stop
    losses: tuple[str, ...]


def ending(caller: str, vendor: Vendor, body: Body, stream: bool) -> Ending:
    answer = answer_of(vendor, body, stream)
    out, losses = told(caller, vendor, body, stream)
    read = reread(caller, out, stream).choices[0].stop
    found = tuple(loss.reason for loss in losses if loss.path.endswith(".stop"))
    return Ending(read.native or "", read, answer.choices[0].stop, found)


def answer_of(vendor: Vendor, body: Body, stream: bool) -> ChatResult:
    found = wire(vendor, body, stream)
    if stream:
        return fold(events_of(vendor.dialect, found, vendor.content_type))
    return codec(vendor.dialect).decode_result(found)


def reread(caller: str, body: bytes, stream: bool) -> ChatResult:
    """What a caller reads in what it gets."""
    if stream:
        return fold(events_of(caller, body, "text/event-stream"))
    return codec(caller).decode_result(body)


# The page.

HEAD = """# What callers are told of an answer

What becomes of each field of an upstream's answer for a caller of each dialect. This page is written from
the codecs by `python -m tests.support.answer_table`: each answer is read and written with the field and
without, whole and as a stream, and what the caller gets and the reported losses are compared. A test fails
where the page and the code differ.

- **kept**: the caller gets it, in its own dialect's words.
- **sealed**: it is of use only to the upstream that made it. The caller gets it with the name of its
  origin, in its dialect's place for such data, and it goes back where it came from with the next request.
- **changed**: the caller gets something less, and the loss says what.
- **lost**: the caller does not hear of it, and the loss says so.
- **needless**: the caller does not hear of it, and need not.
- **failed**: the caller gets an error in place of the answer.
- –: the upstream never says it. Where a stream differs from a whole answer, both are told.

Losses of a whole answer go to the header `x-headgate-loss` and the log, those of a stream to the log. Where
caller and upstream speak the same dialect, bytes pass through, and what these tables say of that pair holds
only for the few answers that are translated all the same. A whole answer of InvokeModel tells its usage in
header fields too (`x-amzn-bedrock-input-token-count` and the like): of some forms only there.
"""


def page() -> str:
    blocks = [HEAD, "## Fields, by the caller's dialect\n"]
    blocks += [_table(caller) for caller in CALLERS]
    blocks += ["## Why an answer ended\n", ENDINGS]
    blocks += [_endings(vendor) for vendor in VENDORS]
    blocks.append("## Fields that only one dialect has\n")
    blocks += [_own(vendor) for vendor in VENDORS]
    blocks += ["## Embeddings\n", *(_small(vendor, small.EMBEDDINGS) for vendor in small.EMBEDDINGS)]
    blocks += ["## Rerank\n", *(_small(vendor, small.RANKINGS) for vendor in small.RANKINGS)]
    return "\n".join(blocks)


def _small(vendor: Small, callers: Sequence[Small]) -> str:
    notes: dict[str, int] = {}
    others = [each.dialect for each in callers if each is not vendor]
    lines = [
        f"### Answers of `{vendor.dialect}`\n",
        f"| Field | {' | '.join(f'`{name}`' for name in others)} |",
        "|---|" + "---|" * len(others),
    ]
    for name, sample in vendor.samples.items():
        cells = [_noted(small_cell(caller, vendor, sample), notes) for caller in others]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_notes(notes)]) + "\n"


def _table(caller: str) -> str:
    notes: dict[str, int] = {}
    lines = [
        f"### Callers of `{caller}`\n",
        f"| | Field of the answer | {' | '.join(f'`{name}`' for name in NAMES)} |",
        "|---|---|" + "---|" * len(NAMES),
    ]
    for group, names in COMMON.items():
        for number, name in enumerate(names):
            cells = [_shown(caller, vendor, vendor.common.get(name), notes) for vendor in VENDORS]
            lines.append(f"| {'' if number else group} | {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_notes(notes)]) + "\n"


def _own(vendor: Vendor) -> str:
    notes: dict[str, int] = {}
    lines = [
        f"### Answers of `{vendor.dialect}`\n",
        f"| Field | {' | '.join(f'`{name}`' for name in CALLERS)} |",
        "|---|" + "---|" * len(CALLERS),
    ]
    for name, sample in vendor.own.items():
        cells = [_shown(caller, vendor, sample, notes) for caller in CALLERS]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_notes(notes)]) + "\n"


def _notes(notes: dict[str, int]) -> list[str]:
    return [f"{number}. {why}" for why, number in notes.items()]


def _shown(caller: str, vendor: Vendor, sample: Sample | None, notes: dict[str, int]) -> str:
    if sample is None:
        return "–"
    whole, stream = (cell(caller, vendor, sample, each) for each in (False, True))
    assert whole is not None
    if stream is None or stream.word == whole.word:
        return _noted(whole, notes)
    return f"{_noted(whole, notes)}; streamed: {_noted(stream, notes)}"


def _noted(found: Cell, notes: dict[str, int]) -> str:
    numbers = [str(notes.setdefault(why, len(notes) + 1)) for why in found.why]
    return f"{found.word} <sup>{', '.join(numbers)}</sup>" if numbers else found.word


ENDINGS = """The word that the caller reads for each word of the upstream. In *italics*: it is the nearest
that the dialect has, and says less; a loss names the upstream's.
"""


def _endings(vendor: Vendor) -> str:
    lines = [
        f"### Words of `{vendor.dialect}`\n",
        f"| Word | {' | '.join(f'`{name}`' for name in CALLERS)} |",
        "|---|" + "---|" * len(CALLERS),
    ]
    for word, body in vendor.words.items():
        cells = [_ended(caller, vendor, body) for caller in CALLERS]
        lines.append(f"| `{word}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _ended(caller: str, vendor: Vendor, body: Body) -> str:
    found, stream = (ending(caller, vendor, body, each) for each in (False, True))
    assert (found.word, found.losses) == (stream.word, stream.losses), (caller, vendor.dialect, body)
    return f"*`{found.word}`*" if found.losses else f"`{found.word}`"


if __name__ == "__main__":
    sys.stdout.write(page())
