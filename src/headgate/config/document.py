"""A YAML file (JSON is YAML too) as plain data, with the line that each setting stands on.

PyYAML composes the tree of nodes; values are made from the nodes here, for two reasons: nodes know
their lines, and YAML 1.1 reads `no` as false and `1:30` as 90. Scalars follow the YAML 1.2 core schema.
Tags are refused, so that no file can name a Python type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from headgate.config.interpolation import InterpolationError, interpolate
from headgate.config.problems import Problems, SettingPath
from headgate.core.errors import ConfigError

_LARGEST_FILE = 4_000_000
_MOST_NODES = 200_000

_NULL, _BOOL = "tag:yaml.org,2002:null", "tag:yaml.org,2002:bool"
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_STR, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class _Composer(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2 in place of those of YAML 1.1."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  PyYAML reads it from the class


def _scalar(tag: str, pattern: str, first: str) -> None:
    _Composer.add_implicit_resolver(tag, re.compile(rf"(?:{pattern})\Z"), ["", *first])


_scalar(_NULL, r"~|null|Null|NULL|", "~nN")
_scalar(_BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF")
_scalar(_INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789")
_scalar(_FLOAT, r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_scalar(_FLOAT, r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.")
_scalar(_MERGE, "<<", "<")


@dataclass(slots=True)
class Document:
    """A configuration before it is checked: plain data and where each part of it came from.

    `files`: those that were read for it, or would have been were they there.
    """

    data: Any
    problems: Problems
    base_dir: Path = field(default_factory=Path)
    files: set[Path] = field(default_factory=set)


def read(path: Path, *, environ: Mapping[str, str], files: set[Path] | None = None) -> Document:
    """The document at `path`, references followed. Mistakes that leave it readable are in `problems`.

    Args:
        files: becomes the document's; filled as far as the reading comes, also where it fails.

    Raises:
        ConfigError: the file can't be read, is not UTF-8, or is not one YAML document.
    """
    lines: dict[SettingPath, int] = {}
    files = files if files is not None else set()
    files.add(path.absolute())
    document = Document(None, Problems(str(path), lines), path.absolute().parent, files)
    root = _compose(_text(path), str(path))
    _Values(document, lines, environ).fill(root)
    return document


def read_plain(path: Path) -> Any:
    """Another server's file at `path`, as that server reads it: YAML 1.1, no references followed.

    Raises ConfigError as `read` does.
    """
    text = _text(path)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise ConfigError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, not a configuration; name the file in it") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: can't be read: {(error.strerror or type(error).__name__).lower()}"
        ) from None
    if len(data) > _LARGEST_FILE:
        raise ConfigError(f"{path}: is larger than 4 MB: not a configuration")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text; save it in that encoding") from None


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        return _Composer(text).get_single_node()
    except RecursionError:
        raise ConfigError(f"{source}: is nested too deeply") from None
    except (ValueError, OverflowError):  # PyYAML does not check what an escape like \UFFFFFFFF stands for
        raise ConfigError(f"{source}: not YAML: an escape (\\U…) stands for no character") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        context = f"{error.context}: " if error.context else ""
        hint = _syntax_hint(text, line)
        raise ConfigError(f"{source}:{line}: not YAML: {context}{error.problem}{hint}") from None
    except yaml.YAMLError as error:  # a character that YAML forbids; the error knows only its position
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        raise ConfigError(f"{source}:{line}: not YAML: holds a control character") from None


def _syntax_hint(text: str, line: int) -> str:
    content = text.splitlines()[line - 1] if line <= len(text.splitlines()) else ""
    if re.search(r"[{\[].*(?<![\"'\w])\$\{", content):
        return '; inside { } and [ ] put references in quotes: "${NAME}"'
    if content.startswith("\t") or re.match(r" *\t", content):
        return "; indent with spaces, not with tabs"
    return ""


class _Values:
    """Turns nodes into plain data, noting lines, following references and refusing what is not plain."""

    def __init__(self, document: Document, lines: dict[SettingPath, int], environ: Mapping[str, str]) -> None:
        self._document = document
        self._problems = document.problems
        self._lines = lines
        self._environ = environ
        self._open: set[int] = set()
        self._nodes = 0

    def fill(self, root: yaml.Node | None) -> None:
        if root is not None:
            try:
                self._document.data = self._value(root, ())
            except RecursionError:
                raise ConfigError(f"{self._problems.source}: is nested too deeply") from None

    def _value(self, node: yaml.Node, path: SettingPath) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(path, line)
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise ConfigError(
                f"{self._problems.source}: holds more than {_MOST_NODES} values, aliases included"
            )
        if id(node) in self._open:
            raise ConfigError(f"{self._problems.source}:{line}: an alias (*name) that contains itself")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.ScalarNode):
                return self._scalar(node, path)
            if node.tag not in _COLLECTIONS:
                return self._refuse_tag(node, path)
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _scalar(self, node: yaml.ScalarNode, path: SettingPath) -> Any:
        if node.tag in _SCALARS:
            try:
                return _SCALARS[node.tag](node.value)
            except ValueError:  # an explicit tag on a text that does not fit: `!!int x`
                return self._refuse_tag(node, path)
        if node.tag not in (_STR, _MERGE):
            return self._refuse_tag(node, path)
        if "$" not in node.value:
            return node.value
        self._problems.private.add(path)
        try:
            return interpolate(
                node.value,
                environ=self._environ,
                base_dir=self._document.base_dir,
                files=self._document.files,
            )
        except InterpolationError as error:
            self._problems.add(path, str(error), line=node.start_mark.line + 1)
            self._problems.broken.add(path)
            return None

    def _mapping(self, node: yaml.MappingNode, path: SettingPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                merged = {**self._merged(value, path, key.start_mark.line + 1), **merged}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._problems.add(path, "a name must be plain text, not a list or a mapping", line=line)
            elif key.tag == _MERGE:
                continue
            elif key.value in values:
                first = self._lines[(*path, key.value)]
                message = f"set twice, first on line {first}; remove one"
                self._problems.add((*path, key.value), message, line=line)
            else:
                self._lines[(*path, key.value)] = line
                values[key.value] = self._value(value, (*path, key.value))
        return {**merged, **values}

    def _merged(self, node: yaml.Node, path: SettingPath, line: int) -> dict[str, Any]:
        """What `<<: *name` or `<<: [*first, *second]` adds; earlier ones win, as YAML's merge key says."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                self._problems.add(path, "<< must be given a mapping (*name), or a list of them", line=line)
            else:
                merged = {**self._value(part, path), **merged}
        return merged

    def _refuse_tag(self, node: yaml.Node, path: SettingPath) -> None:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        self._problems.broken.add(path)
        self._problems.add(path, f"tags like {tag} are not taken; remove it", line=node.start_mark.line + 1)


def _integer(text: str) -> int | str:
    digits = text.lstrip("+-")
    if len(digits) > 100:  # int() has a limit of its own, and no setting is that large
        return text
    return int(text, 8 if digits.startswith("0o") else 16 if digits.startswith("0x") else 10)


def _floating(text: str) -> float:
    lowered = text.lower()
    if lowered.endswith("inf"):
        return -math.inf if lowered.startswith("-") else math.inf
    return float(lowered.removeprefix(".") if lowered == ".nan" else lowered)


_SCALARS: dict[str, Callable[[str], Any]] = {
    _NULL: lambda _: None,
    _BOOL: lambda text: text.lower() == "true",
    _INT: _integer,
    _FLOAT: _floating,
}
