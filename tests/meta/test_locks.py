"""Lock files: complete, consistent, pinned by hash, and silent about where they were made."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.meta.tree import ROOT, SOURCE, files, named, python_files

LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
DOCUMENT = (ROOT / "docs" / "dependencies.md").read_text()


def pins(name: str) -> list[Requirement]:
    """Each pinned package; one may come several times, for different platforms or Pythons."""
    found = []
    for entry in (ROOT / "requirements" / name).read_text().replace("\\\n", " ").splitlines():
        if entry and not entry.lstrip().startswith("#"):
            requirement, *hashes = entry.split("--hash=")
            assert hashes, f"{name}: {requirement} has no hash"
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", one) for one in hashes)
            found.append(Requirement(requirement))
    return found


def version(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "==", f"{pin} is not pinned"
    return only.version


def missing(declared: list[str], name: str) -> list[str]:
    """What is declared and not in the lock file, or there in a version that does not fit."""
    locked: dict[str, list[str]] = {}
    for pin in pins(name):
        locked.setdefault(canonicalize_name(pin.name), []).append(version(pin))
    found = []
    for text in declared:
        wanted = Requirement(text)
        versions = locked.get(canonicalize_name(wanted.name), [])
        own = canonicalize_name(wanted.name) == "headgate"
        if not own and not (versions and all(one in wanted.specifier for one in versions)):
            found.append(f"{text} (locked: {versions or 'not at all'}; `make lock` writes it anew)")
    return found


def test_the_files_that_there_should_be() -> None:
    assert [path.name for path in LOCKS] == [
        "all.txt",
        "build.txt",
        "langchain.txt",
        "lock.txt",
        "run.txt",
        "test.txt",
    ]


@pytest.mark.parametrize("path", LOCKS, ids=named)
def test_a_lock_names_no_place(path: Path) -> None:
    assert pins(path.name)
    for line in path.read_text().splitlines():
        words = line.split("#")[0].split()
        assert not [word for word in words if "/" in word or "@" in word], line
        assert not line.startswith("-"), line
        assert "://" not in line, line
        # A comment may say which file of ours wants the package.
        assert not re.search(r"(^|\s)(/|[A-Za-z]:\\|~)", line.replace(" \\", "")), line


def test_locks_hold_what_the_project_declares() -> None:
    core: list[str] = PROJECT["project"]["dependencies"]
    extras = [text for texts in EXTRAS.values() for text in texts]
    group: list[str] = PROJECT["dependency-groups"]["test"]
    assert missing(core, "run.txt") == []
    assert missing([*core, *extras], "all.txt") == []
    assert missing([*core, *extras, *group], "test.txt") == []
    assert missing(PROJECT["build-system"]["requires"], "build.txt") == []


@pytest.mark.parametrize("name", ["run.txt", "test.txt", "build.txt"])
def test_locks_agree(name: str) -> None:
    reference = "test.txt" if name == "build.txt" else "all.txt"
    versions: dict[str, set[str]] = {}
    for pin in pins(reference):
        versions.setdefault(pin.name, set()).add(version(pin))
    for pin in pins(name):
        if pin.name in versions:
            assert version(pin) in versions[pin.name], f"{pin} is another version in {reference}"


def test_a_core_without_weight() -> None:
    assert len(pins("run.txt")) <= 25
    heavy = {"numpy", "pandas", "torch", "onnxruntime", "httpx", "requests", "openai", "xllamacpp"}
    assert not heavy & {pin.name for pin in pins("run.txt")}


def test_the_environment_is_what_was_locked() -> None:
    """A suite that passes with other versions says little: `make test` sets up the locked ones."""
    other = []
    for pin in pins("test.txt"):
        if pin.marker is None or pin.marker.evaluate():
            try:
                present = installed(pin.name)
            except PackageNotFoundError:
                present = "not installed"
            if present != version(pin):
                other.append(f"{pin.name}: {present}, locked {version(pin)}")
    assert other == []


def test_every_import_is_declared() -> None:
    """What source imports comes from a package that the project declares, or from one that is part of it."""
    by_contract = dict.fromkeys(("starlette", "pydantic", "pydantic_core", "typing_extensions"), "fastapi")
    modules = {"yaml": "pyyaml", "sklearn": "scikit-learn"}
    texts = [*PROJECT["project"]["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]
    declared = {canonicalize_name(Requirement(text).name) for text in texts} | {"headgate"}
    pattern = re.compile(r"^\s*(?:import|from) ([a-zA-Z_]\w*)", re.M)
    undeclared = set()
    for path in python_files("src"):
        for name in pattern.findall(path.read_text()):
            package = canonicalize_name(modules.get(name, by_contract.get(name, name)))
            known = name in sys.stdlib_module_names or any(
                package == one or one.startswith(f"{package}-") for one in declared
            )
            if not known:
                undeclared.add(name)
    assert undeclared == set()


def rows(title: str) -> dict[str, list[str]]:
    """The table under a heading of docs/dependencies.md, by its first cell."""
    section = DOCUMENT.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row for row in cells}


def test_every_core_dependency_is_justified() -> None:
    names = [canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["dependencies"]]
    assert sorted(rows("Core")) == sorted(names)
    for row in rows("Core").values():
        assert len(row) == 5
        assert all(row), f"{row[0]}: a cell is empty"
        assert re.match(r"\d+(\.\d+)?", row[4]), f"{row[0]}: no weight"


def test_every_extra_is_justified() -> None:
    table = rows("Extras")
    assert list(table) == list(EXTRAS)
    for extra, texts in EXTRAS.items():
        packages = table[extra][1].lower()
        for requirement in map(Requirement, texts):
            names = requirement.extras if requirement.name == "headgate" else {requirement.name}
            for name in names:
                assert canonicalize_name(name) in packages, f"{extra}: {name} is not in the table"


def test_every_development_dependency_is_named() -> None:
    section = DOCUMENT.split("## For development\n")[1].split("\n## ")[0].lower()
    for requirement in map(Requirement, PROJECT["dependency-groups"]["test"]):
        assert requirement.name.lower() in section


def test_every_extra_that_an_error_names_exists() -> None:
    pattern = re.compile(r"headgate\[([a-z,]+)\]|MissingExtra\([^)]*?\"([a-z]+)\"\)", re.S)
    for path in [*python_files("src"), *(path for path in files() if path.suffix == ".md")]:
        for several, one in pattern.findall(path.read_text()):
            for name in (several or one).split(","):
                assert name in EXTRAS, f"{named(path)} names the extra {name!r}, which there is not"


def test_the_version_has_its_changes() -> None:
    match = re.search(r'__version__ = "(.+)"', (SOURCE / "__init__.py").read_text())
    assert match is not None
    assert re.search(rf"^## {re.escape(match[1])}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)
