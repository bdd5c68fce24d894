"""What the drill has shown: who served what and why, and whether both sides' accounts agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from examples.failover.clients import Reply
from examples.failover.dialects import Tokens
from examples.failover.drill import Chapter, Story
from examples.failover.gateway import TargetAccount
from examples.failover.upstreams import Books, Mood

UNREACHABLE = "upstream_unreachable"
BROKEN = "upstream_broken"
WORDS = {
    UNREACHABLE: "connection refused",
    BROKEN: "cut off",
    "first_event_timeout": "silent",
    "idle_timeout": "stuck in mid-stream",
}
"""Types of errors of attempts; each other one is the upstream's own word for 429 here."""


@dataclass(frozen=True)
class Line:
    """One thing that two parties have counted.

    Args:
        ours: by Headgate.
        theirs: by the upstream, or by the callers.
    """

    title: str
    ours: int
    theirs: int

    @property
    def agrees(self) -> bool:
        return self.ours == self.theirs


def compare(account: TargetAccount, books: Books) -> list[Line]:
    """Headgate's account of one upstream beside the upstream's own."""
    errors = account.errors
    timeouts = sum(count for kind, count in errors.items() if kind.endswith("_timeout"))
    limited = account.attempts - errors[""] - errors[UNREACHABLE] - errors[BROKEN] - timeouts
    return [
        Line("requests that reached it", account.attempts - errors[UNREACHABLE], books.received),
        Line("answered, to the end", account.outcomes["ok"], books.answered),
        Line("refused with 429", limited, books.limited),
        Line("cut off by its death", errors[BROKEN], books.cut),
        Line("given up on, as it was silent", timeouts, books.given_up),
        Line("input tokens", account.tokens.input, books.tokens.input),
        Line("output tokens", account.tokens.output, books.tokens.output),
    ]


def compare_callers(story: Story) -> list[Line]:
    """Headgate's metrics and header fields beside what the callers got."""
    replies, account = story.replies, story.account
    served = _served(replies)
    tokens = sum((reply.tokens for reply in replies), Tokens())
    attempts = sum(target.attempts for target in account.targets.values())
    well = account.calls["ok"]
    return [
        Line("calls that ended well", well, sum(reply.complaint is None for reply in replies)),
        Line(
            "calls that did not",
            account.calls.total() - well,
            sum(reply.complaint is not None for reply in replies),
        ),
        Line("attempts (x-headgate-attempts)", attempts, sum(reply.attempts for reply in replies)),
        *(
            Line(
                f"answers by {name} (x-headgate-target)",
                sum(reply.target == target for reply in replies),
                served[name],
            )
            for target, name in sorted(story.names.items())
        ),
        Line("input tokens", account.call_tokens.input, tokens.input),
        Line("output tokens", account.call_tokens.output, tokens.output),
    ]


def complaints(story: Story) -> list[str]:
    """Whatever is not as it should be; nothing: all callers are satisfied and all accounts agree."""
    found = [f"a caller ({reply.sdk}): {reply.complaint}" for reply in story.replies if reply.complaint]
    for name, account in story.account.targets.items():
        lines = compare(account, story.books[name])
        found += [
            f"{line.title}: {line.ours} by Headgate, {line.theirs} by {name}"
            for line in lines
            if not line.agrees
        ]
    found += [
        f"{line.title}: {line.ours} by Headgate, {line.theirs} by the callers"
        for line in compare_callers(story)
        if not line.agrees
    ]
    return found


def as_json(story: Story) -> str:
    """Every reply and every count."""
    account = story.account
    content: dict[str, Any] = {
        "complaints": complaints(story),
        "phases": [
            {
                "title": chapter.phase.title,
                "upstreams": {
                    name: {
                        "is": _mood(chapter, name),
                        "failures": dict(chapter.failures[name]),
                        **asdict(verdict),
                    }
                    for name, verdict in chapter.verdicts.items()
                },
                "replies": [asdict(reply) for reply in chapter.replies],
            }
            for chapter in story.chapters
        ],
        "upstreams": {name: asdict(books) for name, books in story.books.items()},
        "headgate": {
            "calls": dict(account.calls),
            "call_tokens": asdict(account.call_tokens),
            "targets": {
                name: {
                    "outcomes": dict(target.outcomes),
                    "errors": dict(target.errors),
                    "tokens": asdict(target.tokens),
                }
                for name, target in account.targets.items()
            },
        },
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def as_markdown(story: Story) -> str:
    """Four tables, aligned, so that they can be read on a terminal too."""
    names = list(story.books)
    callers = [
        [line.title, f"{line.ours:,}", f"{line.theirs:,}", _mark([line])] for line in compare_callers(story)
    ]
    why = [["phase", "upstream", "is", "served", "failed attempts", "at the end of the phase"]]
    why += [row for chapter in story.chapters for row in _why(chapter, names)]
    return "\n\n".join(
        (
            "## What the callers got",
            _table(_progress(story, names)),
            "## Why",
            _table(why),
            "## Headgate's metrics / the upstreams' own books",
            _table(_books(story, names)),
            "## Headgate's metrics and headers / the callers' counts",
            _table([["", "Headgate", "callers", ""], *callers]),
            _conclusion(story) + "\n",
        )
    )


def _served(replies: Sequence[Reply]) -> Counter[str]:
    return Counter(reply.speaker for reply in replies)


def _mood(chapter: Chapter, name: str) -> str:
    return chapter.phase.moods.get(name, Mood.WELL).value


def _progress(story: Story, names: Sequence[str]) -> list[list[str]]:
    head = ["phase", "calls", "streamed", "failed", *(f"by {name}" for name in names), "after a 2nd attempt"]
    rows = [_summary(chapter.phase.title, chapter.replies, names) for chapter in story.chapters]
    return [[*head, "median s", "slowest s"], *rows, _summary("all", story.replies, names)]


def _summary(title: str, replies: Sequence[Reply], names: Sequence[str]) -> list[str]:
    served, times = _served(replies), [reply.seconds for reply in replies] or [0.0]
    counts = [
        len(replies),
        sum(reply.stream for reply in replies),
        sum(reply.complaint is not None for reply in replies),
        *(served[name] for name in names),
        sum(reply.attempts > 1 for reply in replies),
    ]
    return [title, *(f"{count:,}" for count in counts), f"{median(times):.2f}", f"{max(times):.2f}"]


def _why(chapter: Chapter, names: Sequence[str]) -> list[list[str]]:
    served = _served(chapter.replies)
    return [
        [
            chapter.phase.title if name == names[0] else "",
            name,
            _mood(chapter, name),
            str(served[name]),
            _failures(chapter.failures[name]),
            f"{'not asked' if verdict.place is None else 'asked'}: {verdict.reason}",
        ]
        for name in names
        for verdict in [chapter.verdicts[name]]
    ]


def _failures(errors: Mapping[str, int]) -> str:
    return ", ".join(f"{count} × {WORDS.get(error, '429')}" for error, count in sorted(errors.items())) or "–"


def _books(story: Story, names: Sequence[str]) -> list[list[str]]:
    targets = [story.account.targets[name] for name in names]
    columns = [compare(story.account.targets[name], story.books[name]) for name in names]
    rows = [
        ["", *names, ""],
        ["attempts", *(f"{target.attempts:,}" for target in targets), ""],
        ["… connections refused", *(f"{target.errors[UNREACHABLE]:,}" for target in targets), ""],
    ]
    compared = [
        [lines[0].title, *(f"{line.ours:,} / {line.theirs:,}" for line in lines), _mark(lines)]
        for lines in zip(*columns, strict=True)
    ]
    return rows + compared


def _mark(lines: Sequence[Line]) -> str:
    return "✓" if all(line.agrees for line in lines) else "✗ differ"


def _conclusion(story: Story) -> str:
    found = complaints(story)
    if found:
        return "\n".join(["**Not as it should be:**", "", *(f"- {complaint}" for complaint in found)])
    return (
        f"Each of {len(story.replies):,} calls got one whole answer, and Headgate's metrics agree with the"
        " upstreams' own books to the request and to the token."
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    # Figures to the right, words to the left.
    right = [any(column[1:]) and all(cell[:1].isdigit() for cell in column[1:]) for column in columns]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.rjust(width) if figures else cell.ljust(width)
            for cell, width, figures in zip(cells, widths, right, strict=True)
        ]
        return f"| {' | '.join(aligned)} |"

    rule = ["-" * (width - figures) + ":" * figures for width, figures in zip(widths, right, strict=True)]
    return "\n".join([line(rows[0]), f"| {' | '.join(rule)} |", *map(line, rows[1:])])
