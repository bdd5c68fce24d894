"""Which module may import which, and how big things may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.meta.tree import ROOT, SOURCE, named, python_files

LAYERS = (
    *("core", "dialects", "upstream", "policy", "observe", "config"),
    *("backends", "local", "routing", "server", "cli"),
)

MAX_FILE = 500
MAX_FUNCTION = 60
# Longer ones, each with its reason. Keep it short.
LONG_FUNCTIONS: dict[str, str] = {}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in python_files("src")}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of each import, those inside functions and for type checkers included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{named(path)}:{node.lineno} imports relatively; write the whole name"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield node.lineno, whole if whole in MODULES else node.module


def layer(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_the_layers_are_those_that_exist() -> None:
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(LAYERS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module: str) -> None:
    own = layer(module)
    for line, name in imported(MODULES[module]):
        other = layer(name) if name.startswith("headgate.") else ""
        if not own or not other:
            assert own or not other, f"the package itself must import nothing: line {line}"
            continue
        assert LAYERS.index(other) <= LAYERS.index(own), (
            f"{named(MODULES[module])}:{line} imports {name}: {other} is above {own}"
        )


@pytest.mark.parametrize("module", sorted(name for name in MODULES if layer(name) in ("", "core")))
def test_core_imports_only_the_standard_library(module: str) -> None:
    allowed = sys.stdlib_module_names | {"headgate"}
    foreign = {name for _, name in imported(MODULES[module]) if name.split(".")[0] not in allowed}
    assert not foreign


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {
        name: {other for _, other in imported(path) if other in MODULES and other != name}
        for name, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        if name in way:
            pytest.fail(" -> ".join([*way[way.index(name) :], name]))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


ALL_CODE = python_files("src", "tests", "bench", "examples")


@pytest.mark.parametrize("path", ALL_CODE, ids=named)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE, f"{named(path)} is longer than {MAX_FILE} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            name = f"{named(path)}:{node.name}"
            assert length <= MAX_FUNCTION or name in LONG_FUNCTIONS, f"{name} has {length} lines"


def test_most_functions_are_short() -> None:
    lengths = sorted(
        node.end_lineno - node.lineno + 1
        for path in python_files("src")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    )
    assert lengths[len(lengths) * 9 // 10] <= 30


def test_no_vague_module_names() -> None:
    vague = {"utils", "util", "helpers", "helper", "manager", "misc", "common"}
    assert not [named(path) for path in ALL_CODE if path.stem in vague or path.parent.name in vague]


LOADED = """
import sys
before = set(sys.modules)
import {module}
names = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(*sorted(names - sys.stdlib_module_names - {{"headgate"}}))
"""


@pytest.mark.parametrize("module", ["headgate", *sorted(name for name in MODULES if layer(name) == "core")])
def test_importing_loads_no_third_party(module: str) -> None:
    program = LOADED.format(module=module)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT / "src"
    )
    assert ran.stdout.split() == []


def test_the_package_imports_none_of_its_modules() -> None:
    program = "import sys, headgate; print(*[name for name in sys.modules if name.startswith('headgate.')])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
