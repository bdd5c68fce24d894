"""What the command line prints: tables, progress on a terminal and in a log, keys."""

from __future__ import annotations

import io
import re

import click
import pytest
import yaml
from typing_extensions import override

from headgate.cli.exits import Exit
from headgate.cli.main import main
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


def test_key_prints_what_the_configuration_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", 'ci "2"']) == 0
    captured = capsys.readouterr()
    secret, line = captured.out.splitlines()
    assert re.fullmatch(r"hg-[\w-]{32}", secret)
    (entry,) = yaml.safe_load(line)
    assert entry["name"] == 'ci "2"'
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", entry["hash"])
    assert secret not in captured.err


@pytest.mark.parametrize("name", ["", " ", "a\nb"])
def test_key_refuses_a_bad_name(name: str) -> None:
    assert main(["key", name]) == Exit.CONFIGURATION
