"""Documents: links lead somewhere, commands exist, and nothing tells of the machine it was written on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from headgate.cli.main import cli
from tests.meta.tree import ROOT, documents, files, named

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.M | re.S)


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", documents(), ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for match in LINK.finditer(prose(path)):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            assert target.startswith(("https://", "mailto:", "http://127.0.0.1")), f"{target} is not https"
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), f"{named(path)}: {target} leads nowhere"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{named(path)}: {target} has no such heading"


def test_the_documents_that_there_should_be() -> None:
    have = {named(path) for path in documents()}
    for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "SECURITY", "CHANGELOG", "docs/dependencies"):
        assert f"{name}.md" in have
    assert (ROOT / "LICENSE").exists()


@pytest.mark.parametrize("path", [path for path in documents() if path.parent.name == "docs"], ids=named)
def test_every_page_can_be_found(path: Path) -> None:
    """From the README, an index of the docs, or another page."""
    assert any(path.name in other.read_text() for other in documents() if other != path)


def shell_lines(path: Path) -> Iterator[str]:
    """Lines of unmarked and of shell code blocks, and inline code."""
    text = path.read_text()
    for block in re.findall(r"^```(?:sh|bash|shell|console)?\n(.*?)^```", text, re.M | re.S):
        yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", prose(path))


@pytest.mark.parametrize("path", documents(), ids=named)
def test_commands_in_documents_exist(path: Path) -> None:
    assert isinstance(cli, click.Group)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in shell_lines(path):
        command = re.sub(r"^\s*\$?\s*(?:[A-Z_]+=\S*\s+)*(?:\.venv/bin/)?", "", line)
        if made := re.match(r"make ([a-z-]+)", command):
            assert made[1] in targets, f"{named(path)}: `{line.strip()}`: no such target"
        if ran := re.match(r"headgate ([a-z]+)(?: |$)(.*)", command):
            assert ran[1] in cli.commands, f"{named(path)}: `{line.strip()}`: no such command"
            options = {
                option
                for param in cli.commands[ran[1]].params
                for option in (*param.opts, *param.secondary_opts)
            }
            for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", ran[2].split("#")[0]):
                assert option in options | {"--help"}, f"{named(path)}: `{line.strip()}`: no {option}"


def test_make_help_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", text, re.M)
    assert phony is not None
    described = set(re.findall(r"^([a-z-]+):.* ## ", text, re.M))
    assert set(phony[1].split()) == described


# Written in two halves, so that this file is none of those it looks for.
TELLTALES = (
    *(
        "".join(halves)
        for halves in (
            ("py", "pi.org"),
            ("python", "hosted.org"),
            ("registry.", "npmjs"),
            ("--index", "-url"),
            ("--extra-index", "-url"),
            ("--find", "-links"),
            ("file:///", "opt"),
            ("/home", "/"),
            ("/root", "/"),
        )
    ),
    f"{ROOT}/",  # where this checkout is
)


@pytest.mark.parametrize("path", files(), ids=named)
def test_no_file_tells_of_a_machine_or_an_index(path: Path) -> None:
    data = path.read_bytes()
    if b"\0" in data:
        return
    text = data.decode(errors="replace")
    found = [word for word in TELLTALES if word in text]
    assert not found
