"""Tables and progress, on a terminal and in a log."""

from __future__ import annotations

import io
import re

import click
from typing_extensions import override

from headgate.cli.output import ProgressDisplay, table
from headgate.local.cache import Progress


def test_table() -> None:
    assert table(("A", "B"), [("x", ""), ("long", "y")]) == "A     B\nx\nlong  y"


class Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal() -> None:
    terminal = Terminal()
    with ProgressDisplay(terminal) as display:
        for file in ("a", "b"):
            for done in (10_000, 50_000, 100_000):
                display(Progress(done, 100_000, file))
    shown = click.unstyle(terminal.getvalue())
    assert re.search(r"a .*#.*100%", shown)
    assert re.search(r"b .*#.*100%", shown)


def test_progress_without_a_known_total_counts_megabytes() -> None:
    log = io.StringIO()
    with ProgressDisplay(log) as display:
        for done in range(0, 120_000_000, 10_000_000):
            display(Progress(done, None, "a"))
    assert log.getvalue() == "  a: 50.0 MB\n  a: 100.0 MB\n"
